//! A TCP connection to the receiver, with the kernel's word for what the peer has acknowledged.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::config::Confirmation;
use crate::io::tcp_info;
use crate::ports::{DialError, Look, Transport};

/// What is read at once of what a receiver says, which is thrown away.
const SCRATCH: usize = 4096;
/// Reads in one go before others get their turn.
const READS: usize = 16;

/// Connects and sets the socket up: no delay, keepalive well below the minutes after which balancers forget a silent
/// connection, and a limit for bytes that stay unacknowledged.
pub(super) async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
    #[cfg(target_os = "linux")]
    let keepalive = keepalive.with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(timeout))?;
    Ok(stream)
}

/// A plain TCP connection.
#[derive(Debug)]
pub struct TcpTransport {
    stream: TcpStream,
    acknowledged: Acknowledged,
    written: u64,
}

impl TcpTransport {
    /// Takes a connection on which nothing has been written yet; fails where the system cannot tell what `level` asks.
    pub fn new(stream: TcpStream, level: Confirmation) -> Result<Self, DialError> {
        let acknowledged = Acknowledged::from_now(&stream, level)?;
        Ok(Self { stream, acknowledged, written: 0 })
    }
}

impl Transport for TcpTransport {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, frames))?;
        self.written += n as u64;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_discard(&mut self.stream, cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        let counted = self.acknowledged.look(&self.stream, self.written)?;
        let open = counted.open && !has_ended(&self.stream)?;
        Ok(Look { confirmed: counted.confirmed, open, refused: false })
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Counts the bytes of one socket that its peer has acknowledged (rule C1).
#[derive(Debug)]
pub(super) struct Acknowledged {
    /// The kernel's count before our first byte; `None` where only *written* can be told.
    base: Option<u64>,
}

impl Acknowledged {
    /// Begins to count; to be called before the first byte is written. A level is never silently a weaker one: a kernel
    /// that does not count is an error.
    pub(super) fn from_now(stream: &TcpStream, level: Confirmation) -> Result<Self, DialError> {
        let acknowledged = || tcp_info::read(stream)?.bytes_acked.ok_or(io::Error::from(io::ErrorKind::Unsupported));
        let base = match level {
            Confirmation::TcpAcked => Some(acknowledged().map_err(|error| {
                DialError(format!("this system does not say what the receiver has acknowledged (TCP_INFO): {error}"))
            })?),
            Confirmation::Sent | Confirmation::Written | Confirmation::AppAcked => None,
        };
        Ok(Self { base })
    }

    /// Bytes of the `written` ones that are confirmed at the connection's level, and whether it is established.
    pub(super) fn look(&self, stream: &TcpStream, written: u64) -> io::Result<Look> {
        let Some(base) = self.base else { return Ok(Look { confirmed: written, open: true, refused: false }) };
        let info = tcp_info::read(stream)?;
        let acked = info.bytes_acked.ok_or(io::ErrorKind::Unsupported)?;
        // Our own FIN is acknowledged as one more byte.
        Ok(Look { confirmed: acked.saturating_sub(base).min(written), open: info.established, refused: false })
    }
}

/// Reads and throws away what the peer says, until the connection ends.
pub(super) fn poll_discard<S: AsyncRead + Unpin>(stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut scratch = [MaybeUninit::uninit(); SCRATCH];
    for _ in 0..READS {
        let mut buffer = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// One more read, past the runtime's idea of readiness, which may be older than the look at the counters: it finds FIN
/// and RST; what the peer says is thrown away.
fn has_ended(stream: &TcpStream) -> io::Result<bool> {
    let mut scratch = [MaybeUninit::uninit(); SCRATCH];
    for _ in 0..READS {
        match SockRef::from(stream).recv(&mut scratch) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
