//! A pprof profile of what was allocated: from sampled stacks where there are any, from the rows of counters otherwise.

use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use crate::sampled::{self, Frame, Profile};
use crate::wire::pprof::{Program, SourceLine, Writer};
use crate::{Side, Snapshot, Stage};

/// The longest `?seconds=`.
pub(super) const SECONDS_MAX: u32 = 300;

/// Which values a viewer shows first; both kinds carry all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything allocated.
    Allocs,
    /// What is live.
    Heap,
}

/// The names Go's own profiles have, so that what reads those reads these.
const VALUES: &[(&str, &str)] =
    &[("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];

/// Profiles taken at once, over HTTP and gRPC together: each holds two copies of the sampled stacks.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Why there is no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoProfile {
    /// As many as may be are being taken.
    Busy,
    /// The thread that writes it died.
    Failed,
}

impl NoProfile {
    pub(super) const fn message(self) -> &'static str {
        match self {
            NoProfile::Busy => "two profiles are being taken already: try again when one is done",
            NoProfile::Failed => "the profile could not be made",
        }
    }
}

/// Everything so far, or what happens in the next `seconds`.
pub(super) async fn take(kind: Kind, seconds: u32) -> Result<Vec<u8>, NoProfile> {
    let permit = AT_ONCE.try_acquire().map_err(|_| NoProfile::Busy)?;
    let before = if seconds == 0 { None } else { Some(Reading::now()) };
    if seconds > 0 {
        tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    }
    // Naming stacks may take seconds the first time, and goes on when whoever asked has gone away.
    let write = move || {
        let _permit = permit;
        let _guard = Stage::Instrument.enter();
        let reading = match before {
            None => Reading::now(),
            Some(before) => Reading::now().since(before),
        };
        reading.write(kind, Duration::from_secs(u64::from(seconds)))
    };
    tokio::task::spawn_blocking(write).await.map_err(|_| NoProfile::Failed)
}

enum Reading {
    Stacks(Profile),
    Rows(Box<Snapshot>),
}

impl Reading {
    fn now() -> Reading {
        match sampled::every_bytes() {
            Some(_) => Reading::Stacks(Profile::read()),
            None => Reading::Rows(Box::new(Snapshot::of_process())),
        }
    }

    fn since(self, before: Reading) -> Reading {
        match (self, before) {
            (Reading::Stacks(now), Reading::Stacks(before)) => Reading::Stacks(now.since(&before)),
            (Reading::Rows(now), Reading::Rows(before)) => Reading::Rows(Box::new(*now - *before)),
            // The sampler's first sample fell in between: there was nothing to subtract.
            (now, _) => now,
        }
    }

    fn write(self, kind: Kind, duration: Duration) -> Vec<u8> {
        let name = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let mut writer = Writer::new(VALUES, Program { name: &name, lines: true });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        writer.time(now.as_nanos() as i64, duration.as_nanos() as i64);
        writer.default_type(match kind {
            Kind::Allocs => "alloc_space",
            Kind::Heap => "inuse_space",
        });
        match self {
            Reading::Stacks(profile) => stacks(&mut writer, &profile),
            Reading::Rows(snapshot) => rows(&mut writer, &snapshot),
        }
        writer.finish(flate2::Compression::fast())
    }
}

fn rows(writer: &mut Writer, snapshot: &Snapshot) {
    writer.period("space", "bytes", 1);
    writer.comment("exact counts per side, RPC method and stage; frames are named after stages, not functions");
    writer.comment("inuse is allocated less freed in a row: negative where blocks of another row are freed");
    for row in snapshot.rows() {
        let stage = row.stage.name();
        let name = SourceLine { function: stage, file: "", line: 0 };
        let location = writer.location(row.stage as u64 + 1, [name]);
        let tally = row.tally;
        let values = [tally.blocks as i64, tally.bytes as i64, tally.live_blocks(), tally.live_bytes()];
        let side = row.method.side.map_or("", Side::name);
        writer.sample(vec![location], &values, &[("side", side), ("rpc", row.method.path), ("stage", stage)]);
    }
}

fn stacks(writer: &mut Writer, profile: &Profile) {
    let names = sampled::symbolise(profile.stacks.iter().flat_map(|stack| stack.frames.iter().copied()));
    writer.period("space", "bytes", profile.every_bytes as i64);
    for (what, estimate) in [("alloc", profile.allocated()), ("inuse", profile.live())] {
        writer.comment(&format!(
            "{what}: {:.0} bytes, standard error {:.0}; {:.0} blocks, standard error {:.0}; from {} samples, one byte in {}",
            estimate.bytes,
            estimate.bytes_error(),
            estimate.blocks,
            estimate.blocks_error(),
            estimate.samples,
            profile.every_bytes,
        ));
    }
    if profile.overflowed > 0 {
        writer.comment(&format!("{} samples are in rows without frames: too many stacks", profile.overflowed));
    }
    if profile.untracked > 0 {
        writer.comment(&format!("{} samples are missing from inuse: too many live samples", profile.untracked));
    }
    for stack in &profile.stacks {
        let mut locations = Vec::with_capacity(stack.frames.len() + 1);
        let mut plumbing = true;
        for pointer in &stack.frames {
            let frames = &names[pointer];
            if plumbing && frames.iter().all(is_plumbing) {
                continue;
            }
            // Only inlined plumbing is left at this address, if any: take it out, keep the code it was inlined into.
            let address = *pointer as u64;
            let first = if plumbing { frames.iter().take_while(|frame| is_plumbing(frame)).count() } else { 0 };
            plumbing = false;
            let lines = frames[first..].iter();
            let lines =
                lines.map(|frame| SourceLine { function: &frame.function, file: &frame.file, line: frame.line });
            locations.push(writer.location(address, lines));
        }
        if stack.frames.is_empty() {
            let name = SourceLine { function: "(more stacks than fit)", file: "", line: 0 };
            locations.push(writer.location(1, [name]));
        } else if stack.truncated {
            let name = SourceLine { function: "(outer frames cut)", file: "", line: 0 };
            locations.push(writer.location(2, [name]));
        }
        let (allocated, live) = (stack.allocated, stack.live);
        let values = [allocated.blocks, allocated.bytes, live.blocks, live.bytes].map(|value| value.round() as i64);
        let method = stack.scope.method().name();
        let side = method.side.map_or("", Side::name);
        let labels = [("side", side), ("rpc", method.path), ("stage", stack.scope.stage().name())];
        writer.sample(locations, &values, &labels);
    }
}

/// The sampler's own frames and the allocator's entry points, which every stack begins with.
fn is_plumbing(frame: &Frame) -> bool {
    const PREFIXES: &[&str] = &[
        "backtrace::",
        "alloc_ladder::sampled::",
        "<alloc_ladder::sampled::",
        "<alloc_ladder::alloc::",
        "__rust_",
        "__rustc::",
        "__rdl_",
        "alloc::alloc::",
        "<alloc::alloc::",
        "alloc::raw_vec::",
        "<alloc::raw_vec::",
    ];
    PREFIXES.iter().any(|prefix| frame.function.starts_with(prefix))
}
