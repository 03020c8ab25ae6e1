//! Datagrams to the receiver (RFC 5426): one message each, nothing known of what becomes of them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::config::Framing;
use crate::counters::Counters;
use crate::ports::{Look, Transport};
use crate::wire::syslog::framing::next_frame;

/// Asked of the kernel, which may give less: room for a burst while the link is busy.
const SEND_BUFFER: usize = 4 << 20;
/// Datagrams in one go before others get their turn.
const BURST: usize = 32;
/// Time between two warnings of lost datagrams.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// A connected UDP socket. Takes whole octet-counted frames and sends each without its count.
#[derive(Debug)]
pub struct UdpTransport {
    socket: UdpSocket,
    handed_over: u64,
    shut: bool,
    counters: Arc<Counters>,
    logger: slog::Logger,
    warned_at: Option<Instant>,
}

impl UdpTransport {
    /// A socket that sends to `address` alone and hears of its refusals.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER)?;
        socket.connect(address).await?;
        Ok(socket)
    }

    /// Takes a connected socket.
    pub fn new(socket: UdpSocket, counters: Arc<Counters>, logger: slog::Logger) -> Self {
        Self { socket, handed_over: 0, shut: false, counters, logger, warned_at: None }
    }

    /// A refusal tells of an *earlier* datagram: nothing listens at the other end.
    fn note_refusal(&mut self) {
        self.counters.datagrams_refused.add(1);
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= WARNING_PAUSE) {
            self.warned_at = Some(now);
            slog::warn!(self.logger, "the receiver's machine refuses datagrams: nothing listens on destination.port, and messages are being lost";
                "code" => crate::event::Code::ReceiverDown.as_str());
        }
    }

    /// Sends one datagram; a refusal of an earlier one is noted and this one tried again.
    fn poll_send(&mut self, cx: &mut Context<'_>, message: &[u8]) -> Poll<io::Result<()>> {
        let mut refusals = 0;
        loop {
            match ready!(self.socket.poll_send(cx, message)) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && refusals < 3 => {
                    refusals += 1;
                    self.note_refusal();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Transport for UdpTransport {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let mut sent = 0;
        for _ in 0..BURST {
            if sent == frames.len() {
                break;
            }
            let Some((length, message)) = next_frame(Framing::OctetCounting, &frames[sent..]) else {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "not an octet-counted frame")));
            };
            match self.poll_send(cx, &frames[sent..][message]) {
                Poll::Ready(Ok(())) => sent += length,
                // What was sent before has to be told of first; the error, if it stays, comes with the next call.
                Poll::Pending | Poll::Ready(Err(_)) if sent > 0 => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        self.handed_over += sent as u64;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A refusal alone makes a socket writable, not readable: it has to be asked for.
        match self.socket.take_error()? {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.note_refusal(),
            Some(error) => return Poll::Ready(Err(error)),
            None => {}
        }
        let mut scratch = [0; 2048];
        for _ in 0..BURST {
            match self.socket.poll_recv(cx, &mut ReadBuf::new(&mut scratch)) {
                Poll::Pending if self.shut => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => self.note_refusal(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn look(&mut self) -> io::Result<Look> {
        Ok(Look { confirmed: self.handed_over, open: true, refused: false })
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}
