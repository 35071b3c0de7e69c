//! A pprof profile of what was allocated: from sampled stacks where there are any, from the rows of counters otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;

use super::modules::{self, Module};
use crate::alloc::Switch;
use crate::alloc::aside::Aside;
use crate::sampled::exact::Exact;
use crate::sampled::{self, Frame, Profile};
use crate::stage::Scope;
use crate::wire::pprof::{self, SourceLine, Writer};
use crate::{Side, Snapshot};

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

/// Names that nobody asked for so long are forgotten.
const NAMES_LAST: Duration = Duration::from_secs(60);

/// Everything so far, or what happens in the next `seconds`: every stack of it where the allocator was asked for that.
pub(super) async fn take(kind: Kind, seconds: u32, exact: Option<Switch>) -> Result<Aside<Vec<u8>>, NoProfile> {
    let permit = AT_ONCE.try_acquire().map_err(|_| NoProfile::Busy)?;
    let now = if exact.is_some() { Reading::exact } else { Reading::now };
    let before = if seconds == 0 { None } else { Some(Aside::new(now)) };
    // Read before stacks are taken and again when they are not any more: a reading is not of one moment.
    let exactly = exact.map(Switch::exactly);
    if seconds > 0 {
        tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    }
    // Given back also where the client has gone meanwhile.
    drop(exactly);
    // Naming stacks may take seconds the first time, and goes on after the client has gone away.
    let write = move || {
        let _permit = permit;
        let duration = Duration::from_secs(u64::from(seconds));
        match before {
            None => Aside::new(|| Reading::now().write(kind, duration)),
            Some(before) => before.map(|before| now().since(before).write(kind, duration)),
        }
    };
    let written = tokio::task::spawn_blocking(write).await.map_err(|_| NoProfile::Failed);
    forget_names_later();
    written
}

/// Sees to it that names do not stay in memory, by one task at a time.
fn forget_names_later() {
    static ONE: Semaphore = Semaphore::const_new(1);
    let Ok(permit) = ONE.try_acquire() else { return };
    tokio::spawn(async move {
        let _permit = permit;
        let mut left = NAMES_LAST;
        loop {
            tokio::time::sleep(left).await;
            match sampled::forget_unused(NAMES_LAST) {
                Some(still) => left = still,
                None => return,
            }
        }
    });
}

enum Reading {
    Stacks(Profile),
    Rows(Box<Snapshot>),
    Exact(Exact),
}

impl Reading {
    fn exact() -> Reading {
        Reading::Exact(Exact::read())
    }

    fn now() -> Reading {
        match sampled::every_bytes() {
            Some(_) => Reading::Stacks(Profile::read()),
            None => Reading::Rows(Box::new(Snapshot::of_process())),
        }
    }

    fn since(self, before: Reading) -> Reading {
        match (self, before) {
            (Reading::Stacks(now), Reading::Stacks(before)) => Reading::Stacks(now.since(&before)),
            (Reading::Exact(now), Reading::Exact(before)) => Reading::Exact(now.since(&before)),
            (Reading::Rows(now), Reading::Rows(before)) => Reading::Rows(Box::new(*now - *before)),
            // The sampler's first sample fell in between: there was nothing to subtract.
            (now, _) => now,
        }
    }

    fn write(self, kind: Kind, duration: Duration) -> Vec<u8> {
        let modules = modules::of_process();
        let mut writer = Writer::with_modules(VALUES, modules.iter().map(Module::of_profile));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        writer.time(now.as_nanos() as i64, duration.as_nanos() as i64);
        writer.default_type(match kind {
            Kind::Allocs => "alloc_space",
            Kind::Heap => "inuse_space",
        });
        match self {
            Reading::Stacks(profile) => stacks(&mut writer, &profile, &modules),
            Reading::Rows(snapshot) => rows(&mut writer, &snapshot),
            Reading::Exact(exact) => every(&mut writer, &exact, &modules),
        }
        writer.finish(flate2::Compression::fast())
    }
}

impl Module {
    fn of_profile(&self) -> pprof::Module<'_> {
        let Module { start, limit, offset, file, build_id, stripped } = self;
        pprof::Module { addresses: (*start, *limit), offset: *offset, file, build_id, named: !stripped }
    }
}

fn rows(writer: &mut Writer, snapshot: &Snapshot) {
    writer.period("space", "bytes", 1);
    writer.comment("exact counts per side, RPC method and stage; frames are named after stages, not functions");
    writer.comment("inuse is allocated less freed in a row: negative where blocks of another row are freed");
    for row in snapshot.rows() {
        let stage = row.stage.name();
        let location = writer.named_location(stage);
        let tally = row.tally;
        let values = [tally.blocks as i64, tally.bytes as i64, tally.live_blocks(), tally.live_bytes()];
        let side = row.method.side.map_or("", Side::name);
        writer.sample(vec![location], &values, &[("side", side), ("rpc", row.method.path), ("stage", stage)]);
    }
}

fn stacks(writer: &mut Writer, profile: &Profile, modules: &[Module]) {
    let names = sampled::known_symbols(profile.stacks.iter().flat_map(|stack| stack.frames.iter().copied()));
    writer.period("space", "bytes", profile.every_bytes as i64);
    writer.drop_frames(SHIMS);
    comments(writer, profile);
    for comment in nameless(&names, modules) {
        writer.comment(&comment);
    }
    for stack in &profile.stacks {
        let locations = locations(writer, &stack.frames, stack.truncated, &names);
        let (allocated, live) = (stack.allocated, stack.live);
        let values = [allocated.blocks, allocated.bytes, live.blocks, live.bytes].map(|value| value.round() as i64);
        sample(writer, stack.scope, locations, values);
    }
}

/// Every stack of a window.
fn every(writer: &mut Writer, exact: &Exact, modules: &[Module]) {
    let names = sampled::known_symbols(exact.0.iter().flat_map(|row| row.frames.iter().copied()));
    writer.period("space", "bytes", 1);
    writer.drop_frames(SHIMS);
    writer.comment("every block that was allocated meanwhile, exactly; what was freed was not followed: inuse is 0");
    for comment in nameless(&names, modules) {
        writer.comment(&comment);
    }
    for row in &exact.0 {
        let locations = locations(writer, &row.frames, row.truncated, &names);
        sample(writer, row.scope, locations, [row.blocks as i64, row.bytes as i64, 0, 0]);
    }
}

/// The places of a stack, without what the allocator itself is.
fn locations(writer: &mut Writer, frames: &[usize], truncated: bool, names: &HashMap<usize, Arc<[Frame]>>) -> Vec<u64> {
    let named: Vec<(usize, &[Frame])> = frames.iter().map(|pointer| (*pointer, &*names[pointer])).collect();
    let mut locations: Vec<u64> = without_plumbing(&named)
        .map(|(pointer, frames)| {
            let lines = frames.iter().map(|frame| SourceLine {
                function: &frame.function,
                file: &frame.file,
                line: frame.line,
            });
            writer.location(call_address(pointer), lines)
        })
        .collect();
    if frames.is_empty() {
        locations.push(writer.named_location("(more stacks than fit)"));
    } else if truncated {
        locations.push(writer.named_location("(outer frames cut)"));
    }
    locations
}

fn sample(writer: &mut Writer, scope: Scope, locations: Vec<u64>, values: [i64; 4]) {
    let method = scope.method().name();
    let side = method.side.map_or("", Side::name);
    let labels = [("side", side), ("rpc", method.path), ("stage", scope.stage().name())];
    writer.sample(locations, &values, &labels);
}

/// Of the call that is returned from at `pointer`: the return address may lie in the next line, or function.
fn call_address(pointer: usize) -> u64 {
    (pointer as u64).saturating_sub(1)
}

fn comments(writer: &mut Writer, profile: &Profile) {
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
}

/// Which stripped files have functions without names, and how to name them.
fn nameless(names: &HashMap<usize, Arc<[Frame]>>, modules: &[Module]) -> Vec<String> {
    let comment = |module: &Module| {
        let own = names.iter().filter(|(pointer, _)| (module.start..module.limit).contains(&call_address(**pointer)));
        let (count, without) =
            own.fold((0, 0), |(count, without), (_, frames)| (count + 1, without + usize::from(frames.is_empty())));
        let Module { file, build_id, .. } = module;
        let build = if build_id.is_empty() { "no build id".to_owned() } else { format!("build id {build_id}") };
        (module.stripped && without > 0).then(|| {
            format!(
                "{file} is stripped ({build}): {without} of {count} addresses in it have no name; \
                 `go tool pprof UNSTRIPPED PROFILE` names them, with the same build before it was stripped; \
                 or build with `strip = false` and `debug = \"line-tables-only\"`"
            )
        })
    };
    modules.iter().filter_map(comment).collect()
}

/// The functions that Rust asks its allocator by, for readers that find names of their own: they leave these out, and what
/// these call. Newer compilers have them in a module.
const SHIMS: &str = "(__rustc::)?__rust_(alloc|alloc_zeroed|realloc)";

/// The frames of a stack without the sampler's and the allocator's, which every stack begins with; of an address where
/// such are inlined into other code, that code stays.
fn without_plumbing<'a>(stack: &'a [(usize, &'a [Frame])]) -> impl Iterator<Item = (usize, &'a [Frame])> + 'a {
    // Whatever an allocator calls to do its work is below the method by which it was asked.
    let asked = stack.iter().rposition(|(_, frames)| frames.iter().any(is_allocator)).unwrap_or(0);
    let mut plumbing = true;
    stack[asked..].iter().filter_map(move |(pointer, frames)| {
        if !plumbing {
            return Some((*pointer, *frames));
        }
        let inside = frames.iter().rposition(is_allocator).map_or(0, |last| last + 1);
        let outside = inside + frames[inside..].iter().take_while(|frame| is_plumbing(frame)).count();
        // An address without names is shown: nothing is known of it.
        if outside > 0 && outside == frames.len() {
            return None;
        }
        plumbing = false;
        Some((*pointer, &frames[outside..]))
    })
}

/// A method of an implementation of the allocator interface, whose author is anybody, or one that the interface has itself for
/// implementations that do not write it.
fn is_allocator(frame: &Frame) -> bool {
    frame.function.contains(" as core::alloc::global::GlobalAlloc>::")
        || frame.function.starts_with("core::alloc::global::GlobalAlloc::")
}

/// The sampler's own frames and the allocator's entry points.
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
    is_allocator(frame) || PREFIXES.iter().any(|prefix| frame.function.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<Frame> {
        let frame = |name: &&str| Frame { function: (*name).to_owned(), file: String::new(), line: 0 };
        names.iter().map(frame).collect()
    }

    fn left(stack: &[&[&str]]) -> Vec<String> {
        let stack: Vec<Vec<Frame>> = stack.iter().map(|names| frames(names)).collect();
        let stack: Vec<(usize, &[Frame])> = stack.iter().enumerate().map(|(at, frames)| (at, &frames[..])).collect();
        let name = |(at, frames): (usize, &[Frame])| match frames {
            [] => format!("at {at}"),
            frames => frames.iter().map(|frame| frame.function.as_str()).collect::<Vec<_>>().join(" < "),
        };
        without_plumbing(&stack).map(name).collect()
    }

    #[test]
    fn an_allocator_around_ours_is_plumbing_with_all_it_calls() {
        let outer = "<svc::Own<A> as core::alloc::global::GlobalAlloc>::realloc";
        let inner = "<alloc_ladder::sampled::SampledAlloc<A> as core::alloc::global::GlobalAlloc>::realloc";
        let vec = "<alloc::raw_vec::RawVecInner>::finish_grow";
        let stack: &[&[&str]] = &[
            &["backtrace::trace", "alloc_ladder::sampled::capture"],
            &[inner],
            &["svc::note"],
            &["std::thread::local::LocalKey<T>::with"],
            &[outer],
            &["__rust_realloc"],
            &[vec, "alloc::vec::Vec<T>::push", "svc::store"],
            &["svc::main"],
        ];
        assert_eq!(left(stack), ["alloc::vec::Vec<T>::push < svc::store", "svc::main"]);
        // Inlined as a whole.
        assert_eq!(left(&[&[inner, "svc::note", outer, "__rust_realloc", vec, "svc::store"]]), ["svc::store"]);
        // One that writes two of the four methods has the others from the interface.
        let inherited = "core::alloc::global::GlobalAlloc::realloc";
        let alloc = "<svc::Own<A> as core::alloc::global::GlobalAlloc>::alloc";
        assert_eq!(
            left(&[&[inner], &[alloc], &[inherited, "__rustc::__rust_realloc", vec, "svc::store"]]),
            ["svc::store"]
        );
        // A type that only speaks of the trait is not an allocator.
        let user = "svc::table::<dyn core::alloc::global::GlobalAlloc>::row";
        assert_eq!(left(&[&[inner], &["__rust_alloc"], &[user]]), [user]);
    }

    #[test]
    fn addresses_without_names_are_shown() {
        assert_eq!(left(&[&[], &["svc::main"]]), ["at 0", "svc::main"]);
        assert_eq!(left(&[&["__rust_alloc"], &[], &["svc::main"]]), ["at 1", "svc::main"]);
        assert!(left(&[]).is_empty());
    }

    #[test]
    fn what_is_stripped_is_said() {
        let module = Module {
            start: 100,
            limit: 200,
            file: "svc".into(),
            build_id: "2bc1".into(),
            stripped: true,
            ..Module::default()
        };
        let names: HashMap<usize, Arc<[Frame]>> = [(150, frames(&[])), (151, frames(&["main"])), (300, frames(&[]))]
            .map(|(at, frames)| (at, frames.into()))
            .into();
        let comments = nameless(&names, std::slice::from_ref(&module));
        assert_eq!(comments.len(), 1);
        assert!(comments[0].starts_with("svc is stripped (build id 2bc1): 1 of 2 addresses"), "{comments:?}");
        assert!(nameless(&names, &[Module { stripped: false, ..module }]).is_empty());
    }
}
