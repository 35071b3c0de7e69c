//! Where this build has no TLS.

use std::io;

/// Never there.
pub(super) type TlsStream<IO> = IO;

/// # Errors
/// Always.
pub(super) async fn connect<IO>(_: IO) -> io::Result<TlsStream<IO>> {
    Err(missing())
}

/// # Errors
/// Always.
pub(super) async fn accept<IO>(_: IO) -> io::Result<TlsStream<IO>> {
    Err(missing())
}

/// The socket below.
pub(super) const fn below<IO>(io: &TlsStream<IO>) -> &IO {
    io
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this build has no TLS; build with the feature `tls`")
}
