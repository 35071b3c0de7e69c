//! axum's listeners.

use std::future::Future;
use std::io;

use axum::serve::Listener;

use super::io::StagedIo;
use super::task;

/// A listener of axum's whose connections are each in a [`StagedIo`], for `axum::serve`: what a server that is axum's has
/// in place of [`incoming`](super::incoming()).
///
/// It goes around any listener. axum leaves `TCP_NODELAY` off unless it is asked:
///
/// ```no_run
/// use axum::serve::ListenerExt;
/// # async fn serve(router: axum::Router) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("[::1]:50051").await?.tap_io(|socket| {
///     let _ = socket.set_nodelay(true);
/// });
/// let router = router.layer(alloc_ladder::tonic::ServerLayer::new());
/// axum::serve(alloc_ladder::tonic::StagedListener::new(listener), router).await
/// # }
/// ```
///
/// `into_make_service_with_connect_info` knows axum's own listeners alone: a type of the service's own that implements
/// `Connected<IncomingStream<'_, StagedListener<…>>>` tells the peer's address.
///
/// Feature `axum`.
#[derive(Clone, Copy, Debug)]
pub struct StagedListener<L>(L);

impl<L> StagedListener<L> {
    /// Wraps a listener.
    pub fn new(listener: L) -> Self {
        StagedListener(listener)
    }

    /// The listener back.
    pub fn into_inner(self) -> L {
        self.0
    }
}

impl<L: Listener> Listener for StagedListener<L> {
    type Io = StagedIo<L::Io>;
    type Addr = L::Addr;

    fn accept(&mut self) -> impl Future<Output = (Self::Io, Self::Addr)> + Send {
        task::accepting_is_over();
        let accepted = self.0.accept();
        async {
            let (socket, peer) = accepted.await;
            // Until the next is asked for, axum spawns this one's task.
            task::accepting();
            (StagedIo::new(socket), peer)
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
