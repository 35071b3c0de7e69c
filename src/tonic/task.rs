//! Which tokio tasks belong to connections, so that what they allocate outside any guard has a stage.

#[cfg(any(feature = "transport", feature = "axum"))]
use std::cell::Cell;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;

use crate::Stage;
use crate::method::Method;
use crate::stage::{self, Scope, Staged};

/// Slots of the task table: room for tens of thousands of connections, in memory that is not touched before it is used.
/// What finds no empty one among its neighbours takes that of a task that has ended, then the
/// oldest call's, then the oldest connection's: that task loses its stage until it is charged again.
const SLOTS: usize = 1 << 15;
/// Neighbouring slots a task may stand in: with half of all slots taken, one task in 256 finds none empty.
const PROBES: usize = 8;
const SCOPE_BITS: u32 = 16;
/// The entry is a connection's, which lives on where calls come and go. No scope has this bit.
const CONNECTION: u64 = 1 << 14;
/// The task has ended or is about to. No scope has this bit.
const ENDED: u64 = 1 << 15;
/// Nothing of ours has run in the task yet: it may be another's than it was taken for. No scope has this bit.
const GUESSED: u64 = 1 << 13;

const _: () = assert!(Scope::COUNT as u64 <= GUESSED);

/// `task id << 16 | flags | scope`, or 0. Two tasks that race for a slot may lose one entry, which leaves that task
/// without a stage, never with another task's.
static TASKS: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

/// Charges the running task's unguarded work to `scope` until the next charge: a call's, or whose task it may be.
pub(super) fn charge(scope: Scope) {
    enter(scope, 0);
}

/// As [`charge`], for a connection's task and others that live for long; returns the task's id, to [`end`] it by.
pub(super) fn charge_long(scope: Scope) -> Option<u64> {
    enter(scope, CONNECTION)
}

fn enter(scope: Scope, kind: u64) -> Option<u64> {
    if stage::UNSTAGED {
        return None;
    }
    stage::window::set_resolver(resolve);
    let id = current_id()?;
    note(id, kind, scope);
    Some(id)
}

fn note(id: u64, kind: u64, scope: Scope) {
    let own = slots(id).find(|slot| slot.load(Ordering::Relaxed) >> SCOPE_BITS == id);
    let known = own.map(|slot| slot.load(Ordering::Relaxed)).filter(|entry| entry & GUESSED == 0);
    // Once a connection, always one: its calls are made in it where a server spawns no tasks.
    let kind = kind | known.map_or(0, |entry| entry & CONNECTION);
    let slot = own.or_else(|| slots(id).min_by_key(|slot| worth(slot.load(Ordering::Relaxed))));
    let entry = id << SCOPE_BITS | kind | scope.index() as u64;
    slot.expect("there is at least one probe").store(entry, Ordering::Relaxed);
}

/// Charges the task that this thread spawns next to [`Stage::Transport`], before anything of ours runs in it; returns its
/// id, to [`forget_guess`] it by. For a connection's: h2 makes its buffers before it asks the socket below TLS anything.
///
/// NOTE: tokio numbers tasks one by one, and says that nobody shall count on it. So it is a guess, which another thread that
/// spawns at the same moment makes wrong too; until it is forgotten, that thread's task has the stage.
#[cfg(feature = "transport")]
pub(super) fn guess_next() -> Option<u64> {
    if stage::UNSTAGED {
        return None;
    }
    stage::window::set_resolver(resolve);
    // A number is drawn for a task that never runs.
    let _guard = Stage::Instrument.enter();
    let drawn = tokio::task::LocalSet::new().spawn_local(async {}).id();
    let next = (number(drawn) + 1) & ID_MAX;
    note(next, CONNECTION | GUESSED, Scope::new(Method::NONE, Stage::Transport));
    Some(next)
}

/// Takes the guess `id` back, unless something of ours has run in that task since.
#[cfg(feature = "transport")]
pub(super) fn forget_guess(id: u64) {
    for slot in slots(id) {
        let entry = slot.load(Ordering::Relaxed);
        if entry >> SCOPE_BITS == id && entry & GUESSED != 0 {
            let _ = slot.compare_exchange(entry, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// What to keep rather than lose. Task ids grow, so of the same kind the oldest is most likely to be gone.
fn worth(entry: u64) -> (u8, u64) {
    let class = match entry {
        0 => 0,
        _ if entry & ENDED != 0 => 1,
        _ if entry & CONNECTION == 0 => 2,
        _ => 3,
    };
    (class, entry >> SCOPE_BITS)
}

/// Frees the slot of the task `id`. What the task still does keeps its stage until then: the last
/// of what it drops comes after the last that can be seen of it.
pub(super) fn end(id: u64) {
    let slot = slots(id).find(|slot| slot.load(Ordering::Relaxed) >> SCOPE_BITS == id);
    if let Some(slot) = slot {
        let entry = slot.load(Ordering::Relaxed);
        // Another task may have taken the slot meanwhile.
        if entry >> SCOPE_BITS == id {
            let _ = slot.compare_exchange(entry, entry | ENDED, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// As [`end`], for the running task, unless it is a connection's.
pub(super) fn end_call() {
    if stage::UNSTAGED {
        return;
    }
    let Some(id) = current_id() else { return };
    let own = slots(id).map(|slot| slot.load(Ordering::Relaxed)).find(|entry| entry >> SCOPE_BITS == id);
    if own.is_some_and(|entry| entry & CONNECTION == 0) {
        end(id);
    }
}

/// Charges what the connection does next to `stage`: by the task table, or by a window where a guard is held. Returns the
/// task that is in the table.
pub(super) fn mark(stage: Stage) -> Option<u64> {
    if !stage::window::guarded() {
        return charge_long(Scope::new(Method::NONE, stage));
    }
    if stage == Stage::Transport {
        stage::window::close_window();
    } else {
        stage::window::open_window(stage);
    }
    None
}

/// Charges the running task's unguarded work to [`Stage::Transport`]: for a connection served without
/// [`ServerLayer`](super::ServerLayer), called once from its own task.
#[cfg(feature = "subject")]
pub(crate) fn charge_connection() {
    charge_long(Scope::new(Method::NONE, Stage::Transport));
}

#[cfg(any(feature = "transport", feature = "axum"))]
thread_local! {
    /// What this thread works for where it runs no task.
    static OUTSIDE: Cell<Scope> = const { Cell::new(Scope::NONE) };
}

/// Charges what this thread does outside any task and guard to [`Stage::Transport`], until [`accepting_is_over`]: for a
/// server that accepts its connections in `main`, where tokio gives nothing a number.
#[cfg(any(feature = "transport", feature = "axum"))]
pub(super) fn accepting() {
    if !stage::UNSTAGED {
        stage::window::set_resolver(resolve);
        OUTSIDE.set(Scope::new(Method::NONE, Stage::Transport));
    }
}

/// What was accepted has its task, and the next connection is waited for.
#[cfg(any(feature = "transport", feature = "axum"))]
pub(super) fn accepting_is_over() {
    OUTSIDE.set(Scope::NONE);
}

/// What a thread works for that runs no task.
fn outside() -> Scope {
    #[cfg(any(feature = "transport", feature = "axum"))]
    return OUTSIDE.get();
    #[cfg(not(any(feature = "transport", feature = "axum")))]
    Scope::NONE
}

/// Asked by the allocator: must not allocate, lock or panic.
fn resolve() -> Scope {
    let Some(id) = current_id() else { return outside() };
    slots(id)
        .map(|slot| slot.load(Ordering::Relaxed))
        .find(|entry| entry >> SCOPE_BITS == id)
        .map_or(Scope::NONE, |entry| Scope::from_index(entry as u16))
}

fn slots(id: u64) -> impl Iterator<Item = &'static AtomicU64> {
    // Ids are handed out one by one, so neighbours in time would fill neighbouring slots: spread them.
    let first = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (0..PROBES).map(move |probe| &TASKS[(first as usize + probe) % SLOTS])
}

/// The running tokio task's id.
pub(super) fn current_id() -> Option<u64> {
    tokio::task::try_id().map(number)
}

/// The largest id that an entry has room for: larger ones begin anew.
const ID_MAX: u64 = u64::MAX >> SCOPE_BITS;

/// A task's id as the number it is.
fn number(id: tokio::task::Id) -> u64 {
    /// Keeps the one integer that `tokio::task::Id` hashes itself as.
    struct Take(u64);
    impl Hasher for Take {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = self.0 << 8 | u64::from(*byte);
            }
        }
        fn write_u64(&mut self, id: u64) {
            self.0 = id;
        }
    }
    let mut take = Take(0);
    id.hash(&mut take);
    take.finish() & ID_MAX
}

/// `tokio::spawn` that carries the current stage and RPC method into the new task.
///
/// # Panics
/// Outside a tokio runtime, as `tokio::spawn` does.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(Staged::new(stage::window::outside_window(), future))
}

/// `tokio::task::spawn_blocking` that carries the current stage and RPC method onto the blocking thread.
///
/// Threads and tasks started in any other way carry nothing: enter a [`Scope`] there.
///
/// # Panics
/// Outside a tokio runtime, as `tokio::task::spawn_blocking` does.
pub fn spawn_blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let scope = stage::window::outside_window();
    tokio::task::spawn_blocking(move || {
        let _guard = scope.enter();
        work()
    })
}

/// Spawns a client's connection tasks in [`Stage::Transport`]: for `tonic::transport::Endpoint::executor`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransportExecutor;

impl<F> hyper::rt::Executor<F> for TransportExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Staged::new(Scope::new(Method::NONE, Stage::Transport), future));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spawned_task_works_for_the_call_and_not_for_an_open_window() {
        let scope = Scope::new(Method::register(crate::Side::Server, "/task.Test/Spawn"), Stage::Handler);
        let task = {
            let _guard = scope.enter();
            stage::window::open_window(Stage::ReceiveBuffer);
            spawn(async { stage::current() })
        };
        assert_eq!(task.await.expect("the task ends"), scope);
    }

    #[tokio::test]
    async fn a_task_keeps_its_charge_across_yields() {
        let task = tokio::spawn(async {
            assert_eq!(stage::current(), Scope::NONE);
            charge(Scope::new(Method::NONE, Stage::Transport));
            tokio::task::yield_now().await;
            assert_eq!(stage::current().stage(), Stage::Transport);
            mark(Stage::ReceiveBuffer);
            assert_eq!(stage::current().stage(), Stage::ReceiveBuffer);
            let _guard = Stage::Handler.enter();
            mark(Stage::ReceiveBuffer);
            assert_eq!(stage::current().stage(), Stage::ReceiveBuffer);
            mark(Stage::Transport);
            assert_eq!(stage::current().stage(), Stage::Handler);
        });
        task.await.expect("the task's assertions hold");
    }

    #[tokio::test]
    async fn a_blocking_thread_works_for_the_call() {
        let scope = Scope::new(Method::register(crate::Side::Server, "/task.Test/Spawn"), Stage::Handler);
        let task = {
            let _guard = scope.enter();
            stage::window::open_window(Stage::ReceiveBuffer);
            spawn_blocking(stage::current)
        };
        assert_eq!(task.await.expect("the thread ends"), scope);
    }

    #[cfg(feature = "transport")]
    #[tokio::test]
    async fn a_task_has_its_stage_before_it_runs_and_a_wrong_guess_is_taken_back() {
        let working = || async { (current_id().expect("a task"), stage::current()) };
        let (mut right, mut tries) = (0, 0);
        // As often as it takes: other tests of this process spawn tasks too.
        while right < 50 {
            tries += 1;
            assert!(tries < 100_000, "{right} of {tries}");
            let guessed = guess_next().expect("a number");
            // Not run before this one waits.
            let (task, scope) = tokio::spawn(working()).await.expect("no panic");
            // Another test may have spawned a task meanwhile.
            let expected = if task == guessed { Stage::Transport } else { Stage::Other };
            assert_eq!(scope.stage(), expected);
            right += u64::from(task == guessed);
            forget_guess(guessed);
        }

        // Another task has the number: it loses the stage when the guess is taken back, and keeps its own.
        for own in [None, Some(Stage::ReceiveBuffer)] {
            let guessed = guess_next().expect("a number");
            let (ask, asked) = tokio::sync::oneshot::channel::<()>();
            let other = tokio::spawn(async move {
                if let Some(stage) = own {
                    charge(Scope::new(Method::NONE, stage));
                }
                asked.await.expect("asked");
                stage::current().stage()
            });
            tokio::task::yield_now().await;
            forget_guess(guessed);
            ask.send(()).expect("it waits");
            assert_eq!(other.await.expect("no panic"), own.unwrap_or(Stage::Other));
        }
    }

    #[cfg(feature = "transport")]
    #[test]
    fn a_thread_that_accepts_works_for_the_connection_outside_tasks_alone() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            accepting();
            assert_eq!(stage::current().stage(), Stage::Transport);
            let other = tokio::spawn(async { stage::current() }).await.expect("no panic");
            assert_eq!(other, Scope::NONE);
            accepting_is_over();
            assert_eq!(stage::current(), Scope::NONE);
        });
    }

    /// Runs `work` in a task of its own, to its end.
    async fn short(work: impl FnOnce() + Send + 'static) {
        tokio::spawn(async move { work() }).await.expect("the task's assertions hold");
    }

    // One test: the table is the process's, and what fills it would push out the others' entries.
    #[tokio::test]
    async fn a_full_table_keeps_connections_and_gives_no_task_another_tasks_stage() {
        let transport = Scope::new(Method::NONE, Stage::Transport);
        let (ask, asked) = tokio::sync::oneshot::channel::<()>();
        let connection = tokio::spawn(async move {
            charge_long(transport);
            // Whatever is called in its own task.
            charge(transport);
            end_call();
            asked.await.expect("asked");
            stage::current()
        });
        // Calls, whether or not their ends are seen.
        for index in 0..4 * SLOTS {
            short(move || {
                charge(transport);
                assert_eq!(stage::current().stage(), Stage::Transport);
                if index % 2 == 0 {
                    end_call();
                    assert_eq!(stage::current().stage(), Stage::Transport, "what it drops last is still its own");
                }
            })
            .await;
        }
        // Connections that come and go.
        for _ in 0..4 * SLOTS {
            short(move || end(charge_long(transport).expect("a task"))).await;
        }
        short(|| assert_eq!(stage::current(), Scope::NONE)).await;
        ask.send(()).expect("the connection waits");
        assert_eq!(connection.await.expect("the task ends").stage(), Stage::Transport);
    }
}
