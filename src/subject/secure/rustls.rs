//! TLS 1.3 by rustls on ring, as tonic's feature `tls-ring` has it.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, PeerMisbehaved, ServerConfig, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Either end.
pub(super) type TlsStream<IO> = tokio_rustls::TlsStream<IO>;

/// What the certificate is for.
const NAME: &str = "ladder.invalid";
/// HTTP/2, which is all that either end speaks.
const PROTOCOL: &[u8] = b"h2";

static SERVER: OnceLock<TlsAcceptor> = OnceLock::new();
static CLIENT: OnceLock<TlsConnector> = OnceLock::new();

/// Encrypts a client's connection.
///
/// # Errors
/// When the other end does not speak TLS.
pub(super) async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> io::Result<TlsStream<IO>> {
    let connector = CLIENT.get_or_init(|| TlsConnector::from(Arc::new(client())));
    let name = ServerName::try_from(NAME).expect("a name");
    Ok(connector.connect(name, io).await?.into())
}

/// Encrypts a server's connection.
///
/// # Errors
/// When the other end does not speak TLS.
pub(super) async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> io::Result<TlsStream<IO>> {
    let acceptor = SERVER.get_or_init(|| TlsAcceptor::from(Arc::new(server())));
    Ok(acceptor.accept(io).await?.into())
}

/// The socket below.
pub(super) fn below<IO>(io: &TlsStream<IO>) -> &IO {
    io.get_ref().0
}

fn server() -> ServerConfig {
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("ring makes keys");
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key of rcgen's");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring has its ciphers")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("the key is the certificate's");
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring has its ciphers")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider())))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes whatever certificate a server has, if the server has its key: what is measured tells nobody a secret.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
