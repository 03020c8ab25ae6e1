//! Ways into what is private, for those who feed it with bytes that nobody would send on purpose.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::{AlertDescription, CertificateError, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::certificate::{Attempt, Facts};
use crate::io::relp::{self, Wire};
use crate::ports::{DialError, Transport};
use crate::wire::format::{RenderSettings, Renderer};

pub use crate::model::ledger::Ledger;
pub use crate::model::session::trial::TrialTimes;
pub use crate::model::session::{Piece, Session, SessionTimes};

/// A renderer that takes the slow path for every log: what the fast path has to agree with.
pub fn careful_renderer(settings: RenderSettings) -> Renderer {
    Renderer::careful(settings)
}

/// Opens a RELP session over any stream, as the connections to a receiver do over TCP and TLS.
pub async fn open_relp<S>(stream: S, place: &str, window: usize) -> Result<Box<dyn Transport>, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    Ok(Box::new(relp::open(Bare(stream), place, window).await?))
}

/// All that people are told of a receiver's certificate, one sentence for each way in which TLS may have failed.
pub fn sentences_about_certificate(der: &[u8]) -> Vec<String> {
    let attempt = Attempt {
        place: "siem.example.com:6514".to_owned(),
        server_name: "siem.example.com".to_owned(),
        has_client_certificate: true,
        seen: Some(Facts::of(der)),
    };
    let certificate = [
        CertificateError::ApplicationVerificationFailure,
        CertificateError::NotValidForName,
        CertificateError::Expired,
        CertificateError::NotValidYet,
        CertificateError::UnknownIssuer,
        CertificateError::BadEncoding,
    ];
    let alerts = [AlertDescription::UnknownCA, AlertDescription::HandshakeFailure, AlertDescription::InternalError];
    let errors = certificate.map(Error::InvalidCertificate).into_iter().chain(alerts.map(Error::AlertReceived));
    errors.map(|error| attempt.explain_tls(&error)).collect()
}

/// A stream without a socket below it.
#[derive(Debug)]
struct Bare<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for Bare<S> {
    fn acknowledge_now(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for Bare<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bare<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
