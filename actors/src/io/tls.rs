//! Syslog over TLS (RFC 5425): trust, identity, the handshake, and the transport that knows how many of its bytes the
//! peer's TCP has acknowledged.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Confirmation, DestinationConfig, TlsConfig};
use crate::io::certificate::{Attempt, Facts};
use crate::io::pem;
use crate::io::pin::PinVerifier;
use crate::io::probe::Seen;
use crate::io::relp::Wire;
use crate::io::tcp::{Acknowledged, poll_discard};
use crate::ports::{DialError, Look, Transport};

/// What the TLS layer buffers in each direction; larger ones are slower.
const BUFFER: usize = 64 * 1024;

/// Trust and identity, read from files once; each handshake takes a copy.
#[derive(Clone)]
pub(super) struct TlsSetup {
    config: Arc<ClientConfig>,
    verifier: Arc<dyn ServerCertVerifier>,
    server_name: ServerName<'static>,
    has_client_certificate: bool,
}

impl TlsSetup {
    /// Reads certificates and keys.
    pub(super) fn new(destination: &DestinationConfig) -> Result<Self, DialError> {
        let tls = &destination.tls;
        let name = tls.server_name.as_ref().unwrap_or(&destination.host);
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| DialError(format!("{name:?} can be in no certificate: set destination.tls.server_name")))?;
        // Explicit, because an application that embeds us may have installed another one.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match tls.pin_sha256 {
            Some(sha256) => Arc::new(PinVerifier { sha256, algorithms: provider.signature_verification_algorithms }),
            None => WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), Arc::clone(&provider))
                .build()
                .map_err(|error| DialError(format!("cannot check the receiver's certificate: {error}")))?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| DialError(format!("cannot set up TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match &tls.client {
            Some((chain, key)) => {
                builder.with_client_auth_cert(read_chain(chain)?, read_key(key)?).map_err(|error| {
                    DialError(format!(
                        "the client certificate {} and the key {} do not work together: {error}",
                        chain.display(),
                        key.display()
                    ))
                })?
            }
            None => builder.with_no_client_auth(),
        };
        // Connections live long, and one that is resumed would prove less: its peer's certificate is not checked again.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), verifier, server_name, has_client_certificate: tls.client.is_some() })
    }

    /// The handshake; `place` is the receiver as it is shown.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        place: String,
        level: Confirmation,
        seen: &mut Seen,
    ) -> Result<TlsTransport, DialError> {
        let Explained { stream, attempt } = self.connect(stream, place, level, seen).await?;
        Ok(TlsTransport { stream, attempt, plain: 0, confirmed: 0, acknowledged: 0, marks: VecDeque::new() })
    }

    /// The handshake, for a protocol of its own inside TLS.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        place: String,
        level: Confirmation,
        seen: &mut Seen,
    ) -> Result<Explained, DialError> {
        let mut attempt = Attempt {
            place,
            server_name: self.server_name.to_str().into_owned(),
            has_client_certificate: self.has_client_certificate,
            seen: None,
        };
        let chain = Arc::new(Mutex::new(Vec::new()));
        let mut config = ClientConfig::clone(&self.config);
        let recording = Recording { inner: Arc::clone(&self.verifier), chain: Arc::clone(&chain) };
        config.dangerous().set_certificate_verifier(Arc::new(recording));
        let acknowledged = Acknowledged::from_now(&stream, level)?;
        let counted = Counted { acknowledged, stream, written: 0 };
        let connected = TlsConnector::from(Arc::new(config))
            .connect_with(self.server_name.clone(), counted, |tls| tls.set_buffer_limit(Some(BUFFER)))
            .await;
        seen.chain = std::mem::take(&mut *chain.lock().unwrap_or_else(PoisonError::into_inner));
        attempt.seen = seen.chain.first().map(|der| Facts::of(der));
        match connected {
            Ok(stream) => {
                let session = stream.get_ref().1;
                seen.version = session.protocol_version();
                seen.cipher_suite = session.negotiated_cipher_suite().map(|suite| suite.suite());
                Ok(Explained { stream, attempt })
            }
            Err(error) => Err(DialError(attempt.explain(&error))),
        }
    }
}

/// The authorities to trust: the file's, or the system's.
fn roots(tls: &TlsConfig) -> Result<RootCertStore, DialError> {
    match &tls.ca_path {
        Some(path) => roots_from_file(path),
        None => {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            let (used, _) = roots.add_parsable_certificates(found.certs);
            if used == 0 {
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                return Err(DialError(format!(
                    "this system has no certificate authorities{why}: set destination.cert_path, or \
                     destination.tls.pin_sha256"
                )));
            }
            Ok(roots)
        }
    }
}

pub(super) fn roots_from_file(path: &Path) -> Result<RootCertStore, DialError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| {
            DialError(format!("{} holds a certificate that cannot be used: {error}", path.display()))
        })?;
    }
    Ok(roots)
}

pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let failed = |error: &dyn std::fmt::Display| {
        DialError(format!("cannot read certificates in PEM form from {}: {error}", path.display()))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&pem::problem(&error)))?;
    if chain.is_empty() { Err(failed(&"it holds none")) } else { Ok(chain) }
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, DialError> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| DialError(format!("cannot read the key {shown}: {error}")))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        if text.windows(b"ENCRYPTED".len()).any(|w| w == b"ENCRYPTED") {
            return DialError(format!(
                "the key {shown} is encrypted, and nobody is there to ask for its password: write it in the clear with \
                 openssl pkey -in {shown} -out key.pem, keep that file from others (chmod 600), and name it instead"
            ));
        }
        DialError(format!("{shown} holds no private key in PEM form: {}", pem::problem(&error)))
    })
}

/// Keeps the certificates that the peer showed, for what is said when TLS fails; decides nothing.
#[derive(Debug)]
struct Recording {
    inner: Arc<dyn ServerCertVerifier>,
    chain: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.to_vec()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A TLS connection.
pub(super) struct TlsTransport {
    stream: TlsStream<Counted>,
    attempt: Attempt,
    /// Bytes of frames taken.
    plain: u64,
    /// Bytes of frames known to be confirmed.
    confirmed: u64,
    /// Bytes of TLS that the peer had acknowledged at the last look.
    acknowledged: u64,
    /// Pushed at each flush: once the peer has acknowledged `cipher` bytes of ours, `plain` bytes are confirmed.
    marks: VecDeque<Mark>,
}

struct Mark {
    plain: u64,
    cipher: u64,
}

impl TlsTransport {
    fn explained(&self, error: io::Error) -> io::Error {
        explained(&self.attempt, error)
    }
}

/// An error of the TLS layer as one sentence; those of the socket stay what they are.
fn explained(attempt: &Attempt, error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => io::Error::new(io::ErrorKind::InvalidData, attempt.explain_tls(tls)),
        None => error,
    }
}

impl Transport for TlsTransport {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, frames)).map_err(|e| self.explained(e))?;
        self.plain += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|e| self.explained(e))?;
        // The TLS layer holds nothing back now: all that was taken is in the bytes counted below it.
        if self.plain > self.marks.back().map_or(self.confirmed, |mark| mark.plain) {
            self.marks.push_back(Mark { plain: self.plain, cipher: self.stream.get_ref().0.written });
        }
        Poll::Ready(Ok(()))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(poll_discard(&mut self.stream, cx)) {
            // Many receivers close without `close_notify`; for us, who only write, it is all the same.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => Poll::Ready(other.map_err(|e| self.explained(e))),
        }
    }

    fn look(&mut self) -> io::Result<Look> {
        let counted = self.stream.get_ref().0;
        let look = counted.acknowledged.look(&counted.stream, counted.written)?;
        self.acknowledged = look.confirmed;
        let mut next = [std::mem::MaybeUninit::uninit()];
        let open = match SockRef::from(&counted.stream).peek(&mut next) {
            Ok(0) => false,
            // Something waits to be read that may be an alert: nothing more counts before it was.
            Ok(_) => return Ok(Look { confirmed: self.confirmed, open: look.open, refused: false }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => look.open,
            Err(error) => return Err(error),
        };
        while let Some(mark) = self.marks.front().filter(|mark| mark.cipher <= look.confirmed) {
            self.confirmed = mark.plain;
            self.marks.pop_front();
        }
        Ok(Look { confirmed: self.confirmed, open, refused: false })
    }

    fn answers(&self) -> u64 {
        self.acknowledged
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A TLS connection as a stream whose errors are sentences, and which ends alike with and without `close_notify`.
pub(super) struct Explained {
    stream: TlsStream<Counted>,
    attempt: Attempt,
}

impl Wire for Explained {
    fn acknowledge_now(&self) {
        self.stream.get_ref().0.stream.acknowledge_now();
    }
}

impl AsyncRead for Explained {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            other => Poll::Ready(other.map_err(|e| explained(&self.attempt, e))),
        }
    }
}

impl AsyncWrite for Explained {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(written.map_err(|e| explained(&self.attempt, e)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(flushed.map_err(|e| explained(&self.attempt, e)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The socket below TLS: counts what is written to it, the handshake included.
#[derive(Debug)]
struct Counted {
    stream: TcpStream,
    acknowledged: Acknowledged,
    written: u64,
}

impl Counted {
    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &written {
            self.written += *n as u64;
        }
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
