//! Accepting connections.

use std::time::Duration;

/// Waits after a failed `accept`. A failure must not stop the server: pause, so that running out of file descriptors
/// does not become a busy loop.
pub async fn accept_failed() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}
