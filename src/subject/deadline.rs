//! A call's deadline where tonic's `Server`, which keeps it, is not used.

use std::future::Future;
use std::time::Duration;

use tonic::Status;

/// What `answer` gives, or the status tonic's `Server` answers with when the call's `grpc-timeout` is over first.
///
/// As there, the deadline is for the response's beginning: a stream that has begun is the client's to reset.
///
/// # Errors
/// `CANCELLED` when the time is over.
pub async fn within<T>(timeout: Option<Duration>, answer: impl Future<Output = T>) -> Result<T, Status> {
    match timeout {
        None => Ok(answer.await),
        Some(timeout) => tokio::time::timeout(timeout, answer).await.map_err(|_| Status::cancelled("Timeout expired")),
    }
}
