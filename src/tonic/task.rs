//! Which tokio tasks belong to connections, so that what they allocate outside any guard has a stage.

use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinHandle;

use crate::Stage;
use crate::method::Method;
use crate::stage::{self, Scope, Staged};

/// Slots of the task table: more connections and open calls than this lose their stage to the newest ones.
const SLOTS: usize = 4096;
/// Neighbouring slots a task may stand in.
const PROBES: usize = 8;
const SCOPE_BITS: u32 = 16;

/// `task id << 16 | scope`, or 0. Two tasks that race for a slot may lose one entry, which leaves that task without a
/// stage, never with another task's.
static TASKS: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

/// Charges the running task's unguarded work to `scope` until the next call.
///
/// The entry outlives its task, whose id no other task ever has, until a newer task needs the slot.
pub(super) fn charge(scope: Scope) {
    stage::set_resolver(resolve);
    let Some(id) = current_id() else { return };
    let entry = id << SCOPE_BITS | scope.index() as u64;
    let slot = slots(id)
        .find(|slot| slot.load(Ordering::Relaxed) >> SCOPE_BITS == id)
        // Task ids grow, and an empty slot reads as the smallest: the oldest, most likely of a task that is gone.
        .or_else(|| slots(id).min_by_key(|slot| slot.load(Ordering::Relaxed)));
    slot.expect("there is at least one probe").store(entry, Ordering::Relaxed);
}

/// Charges what the connection does next to `stage`: by the task table, or by a window where a guard is held.
pub(super) fn mark(stage: Stage) {
    if !stage::guarded() {
        charge(Scope::new(Method::NONE, stage));
    } else if stage == Stage::Transport {
        stage::close_window();
    } else {
        stage::open_window(stage);
    }
}

/// Charges the running task's unguarded work to [`Stage::Transport`]: for a connection served without
/// [`ServerLayer`](super::ServerLayer), called once from its own task.
#[cfg(feature = "grpc")]
pub(crate) fn charge_connection() {
    charge(Scope::new(Method::NONE, Stage::Transport));
}

/// Asked by the allocator: must not allocate, lock or panic.
fn resolve() -> Scope {
    let Some(id) = current_id() else { return Scope::NONE };
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

/// The running tokio task's id as the number it is.
fn current_id() -> Option<u64> {
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
    let id = tokio::task::try_id()?;
    let mut take = Take(0);
    id.hash(&mut take);
    Some(take.finish() & (u64::MAX >> SCOPE_BITS))
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
    tokio::spawn(Staged::new(stage::outside_window(), future))
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
            stage::open_window(Stage::ReceiveBuffer);
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
    async fn a_full_table_gives_no_task_another_tasks_stage() {
        for _ in 0..2 * SLOTS {
            tokio::spawn(async {
                charge(Scope::new(Method::NONE, Stage::Transport));
                assert_eq!(stage::current().stage(), Stage::Transport);
            })
            .await
            .expect("the task's assertion holds");
        }
        tokio::spawn(async { assert_eq!(stage::current(), Scope::NONE) }).await.expect("a new task has no stage");
    }
}
