//! Runs the cases of one target: within a time and a number, caught where they panic, given up where they hang.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use fastrand::Rng;

use super::engine::Engine;

/// A case that takes longer has failed.
pub(super) const CASE_TIME: Duration = Duration::from_secs(5);
/// How often the cases are looked at for one that hangs.
const LOOK: Duration = Duration::from_millis(200);
/// A target that failed in so many ways is left.
const KINDS_MAX: usize = 10;
/// Threads with such names belong to the servers that are tried: their panics are a case's own.
const THREADS: [&str; 3] = ["fuzz-", "alloc-ladder-live", "tokio-"];

/// What a reader made of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was read, or answered as asked.
    Accepted,
    /// It was refused in words.
    Refused,
}

/// An outcome, or how it is not what the target's oracle says.
pub(super) type Verdict = Result<Outcome, String>;

/// Tries one input. What a case chooses besides (how bytes are cut, which side reads) comes from `Rng`, whose seed is
/// the input's own: an input alone can be tried again.
pub(super) type Try = Box<dyn FnMut(&[u8], &mut Rng) -> Verdict>;

/// Makes a [`Try`], on the thread that will use it.
pub(super) type Start = fn() -> anyhow::Result<Try>;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) time: Duration,
    pub(super) cases: u64,
}

/// One way in which a target failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The case's number; its input can be made from that and the seed.
    pub(super) case: u64,
    pub(super) message: String,
    /// Where its input was saved.
    pub(super) file: PathBuf,
    /// Cases that failed alike.
    pub(super) times: u64,
}

/// What came of a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) cases: u64,
    pub(super) accepted: u64,
    pub(super) took: Duration,
    pub(super) failures: Vec<Failed>,
}

/// What the thread of the cases and the one that watches it share.
#[derive(Default)]
struct Shared {
    tally: Tally,
    /// The case that runs: its number, its input, and when it began.
    running: Option<(u64, Vec<u8>, Instant)>,
}

/// Runs cases until a limit. Inputs that fail are saved in `folder`.
///
/// # Errors
/// The target cannot start, or an input cannot be saved.
pub(super) fn run(start: Start, engine: Engine, limit: Limit, folder: &Path) -> anyhow::Result<Tally> {
    let seed = engine.seed;
    let shared = Arc::new(Mutex::new(Shared::default()));
    let (done, ended) = mpsc::channel();
    let (for_thread, into) = (Arc::clone(&shared), folder.to_owned());
    let began = Instant::now();
    std::thread::Builder::new()
        .name("fuzz".to_owned())
        // Readers that recurse are held to what a thread of a program has.
        .stack_size(2 << 20)
        .spawn(move || {
            // Whoever watches may have given this thread up.
            let _ = done.send(cases(start, &engine, limit, &into, &for_thread));
        })
        .context("cannot start a thread")?;
    loop {
        match ended.recv_timeout(LOOK) {
            Ok(result) => {
                result?;
                let mut tally = locked(&shared).tally.clone();
                tally.took = began.elapsed();
                return Ok(tally);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the thread of the cases ended without a word"),
        }
        let mut shared = locked(&shared);
        let hangs = shared.running.take_if(|(_, _, since)| since.elapsed() > CASE_TIME);
        if let Some((case, input, _)) = hangs {
            let file = save(folder, seed, case, &input)?;
            let message = format!("took more than {} s", CASE_TIME.as_secs());
            shared.tally.cases += 1;
            shared.tally.failures.push(Failed { case, message, file, times: 1 });
            shared.tally.took = began.elapsed();
            // A thread cannot be stopped. It ends with the process.
            return Ok(shared.tally.clone());
        }
    }
}

fn cases(start: Start, engine: &Engine, limit: Limit, folder: &Path, shared: &Mutex<Shared>) -> anyhow::Result<()> {
    let mut attempt = start()?;
    let began = Instant::now();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for case in 0..limit.cases {
        if began.elapsed() >= limit.time || kinds.len() >= KINDS_MAX {
            break;
        }
        let input = engine.case(case);
        locked(shared).running = Some((case, input.clone(), Instant::now()));
        let verdict = once(&mut attempt, &input, 0);
        let mut shared = locked(shared);
        if shared.running.take().is_none() {
            // It hung, and was given up.
            break;
        }
        let tally = &mut shared.tally;
        tally.cases += 1;
        match verdict {
            Ok(outcome) => tally.accepted += u64::from(outcome == Outcome::Accepted),
            Err(message) => {
                if let Some(known) = kinds.get(&kind(&message)) {
                    tally.failures[*known].times += 1;
                    continue;
                }
                kinds.insert(kind(&message), tally.failures.len());
                let file = save(folder, engine.seed, case, &input)?;
                tally.failures.push(Failed { case, message, file, times: 1 });
            }
        }
    }
    Ok(())
}

/// Tries one input, and catches what panics: here, or in a thread of a server that is tried. The same input and `draw`
/// are the same case.
pub(super) fn once(attempt: &mut Try, input: &[u8], draw: u64) -> Verdict {
    quiet();
    let mut rng = Rng::with_seed(seed_of(input).wrapping_add(draw));
    locked(&PANICS).clear();
    HERE.set(true);
    let verdict = catch_unwind(AssertUnwindSafe(|| attempt(input, &mut rng)));
    HERE.set(false);
    let panics = std::mem::take(&mut *locked(&PANICS));
    match (verdict, panics.into_iter().next()) {
        (_, Some(panic)) => Err(format!("panicked: {panic}")),
        (Err(_), None) => Err("panicked".to_owned()),
        (Ok(verdict), None) => verdict,
    }
}

/// FNV-1a: the same in every build, unlike the standard library's hash.
fn seed_of(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Failures that differ in their numbers alone are of one kind.
fn kind(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).take(120).collect()
}

fn save(folder: &Path, seed: u64, case: u64, input: &[u8]) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let file = folder.join(format!("seed-{seed}-case-{case}"));
    std::fs::write(&file, input).with_context(|| format!("cannot write `{}`", file.display()))?;
    Ok(file)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Panics since the case began.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From here on a panic of a case, or in one of [`THREADS`], is kept for the case rather than printed. Others print as
/// before.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            if HERE.get() || THREADS.iter().any(|ours| name.starts_with(ours)) {
                locked(&PANICS).push(told(info));
            } else {
                before(info);
            }
        }));
    });
}

thread_local! {
    /// This thread tries a case, whatever the thread is called.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

fn told(info: &PanicHookInfo<'_>) -> String {
    let said = info.payload();
    let literal = said.downcast_ref::<&str>().copied();
    let what = literal.or_else(|| said.downcast_ref::<String>().map(String::as_str));
    let what = what.unwrap_or("something that is not text");
    let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
    format!("{what}{place}")
}

/// Held by tests that try cases: a panic of a server is whoever's case runs.
#[cfg(test)]
pub(super) static ALONE: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::fuzz::engine::Shape;

    fn engine() -> Engine {
        Engine { seed: 3, shape: Shape::Text, words: &[b"crash"], corpus: vec![b"all is well 1\n".to_vec()] }
    }

    const CASES: Limit = Limit { time: Duration::from_secs(60), cases: 4000 };

    fn found(start: Start, limit: Limit) -> (Tally, tempfile::TempDir) {
        let _alone = locked(&ALONE);
        let folder = tempfile::tempdir().expect("a folder");
        (run(start, engine(), limit, folder.path()).expect("runs"), folder)
    }

    #[test]
    fn a_planted_panic_is_found_saved_and_found_again() {
        let start: Start = || {
            Ok(Box::new(|input, _| {
                assert!(!input.windows(5).any(|word| word == b"crash"), "planted in {} bytes", input.len());
                Ok(Outcome::Accepted)
            }))
        };
        let (tally, _folder) = found(start, CASES);
        assert_eq!(tally.cases, 4000, "it goes on behind a failure");
        let [failed] = &tally.failures[..] else { panic!("one kind, however many bytes: {:?}", tally.failures) };
        assert!(failed.message.starts_with("panicked: planted in") && failed.times > 1, "{failed:?}");
        assert_eq!(tally.accepted + failed.times, tally.cases);
        let input = std::fs::read(&failed.file).expect("saved");
        assert_eq!(input, engine().case(failed.case), "its number and seed make it again");
        let _alone = locked(&ALONE);
        let again = once(&mut start().expect("starts"), &input, 0).expect_err("fails again");
        assert_eq!(again, failed.message);
    }

    #[test]
    fn a_panic_in_a_server_s_thread_is_the_case_s() {
        let (tally, _folder) = found(
            || {
                Ok(Box::new(|_, _| {
                    let server = std::thread::Builder::new().name("tokio-rt-worker".to_owned());
                    let server = server.spawn(|| panic!("planted")).expect("a thread");
                    Ok(if server.join().is_err() { Outcome::Refused } else { Outcome::Accepted })
                }))
            },
            Limit { cases: 2, ..CASES },
        );
        assert!(tally.failures[0].message.starts_with("panicked: planted"), "{:?}", tally.failures);
        assert_eq!((tally.failures.len(), tally.failures[0].times, tally.accepted), (1, 2, 0));
    }

    #[test]
    fn a_case_that_hangs_is_given_up_and_saved() {
        let (tally, _folder) = found(
            || {
                Ok(Box::new(|_, _| {
                    loop {
                        std::thread::park();
                    }
                }))
            },
            CASES,
        );
        assert_eq!(tally.cases, 1);
        assert!(tally.failures[0].message.contains("took more than"), "{:?}", tally.failures);
        assert_eq!(std::fs::read(&tally.failures[0].file).expect("saved"), engine().corpus[0]);
    }

    #[test]
    fn an_oracle_s_word_is_a_failure_and_time_is_a_limit() {
        let limit = Limit { time: Duration::ZERO, cases: u64::MAX };
        let (tally, _folder) = found(|| Ok(Box::new(|_, _| Ok(Outcome::Refused))), limit);
        assert_eq!((tally.cases, tally.failures.len()), (0, 0));
        let (tally, _folder) = found(|| Ok(Box::new(|_, _| Err("not so".to_owned()))), Limit { cases: 1, ..CASES });
        assert_eq!(tally.failures[0].message, "not so");
    }
}
