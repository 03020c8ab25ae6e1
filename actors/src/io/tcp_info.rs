//! `TCP_INFO`: what the kernel knows of a connection. The only unsafe code of this crate, because no library has the call.

#![allow(unsafe_code, reason = "getsockopt(TCP_INFO) exists in no safe wrapper; see `read`")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What `TCP_INFO` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Whether the state is ESTABLISHED: neither side has closed.
    pub established: bool,
    /// Bytes that the peer has acknowledged; 1 right after connecting, because the SYN counts. `None` before Linux 4.1.
    pub bytes_acked: Option<u64>,
}

/// Reads it for a TCP socket.
#[cfg(target_os = "linux")]
pub fn read(socket: impl AsFd) -> io::Result<TcpInfo> {
    const ESTABLISHED: u8 = 1;
    // SAFETY: `tcp_info` is plain integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the length of the call, because `socket` borrows it; the kernel writes at most
    // `length` bytes to `info`, which has that many, and puts the number it wrote into `length`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // An older kernel fills less of the struct; the length tells.
    let acked_end = std::mem::offset_of!(libc::tcp_info, tcpi_bytes_acked) + size_of::<u64>();
    Ok(TcpInfo {
        established: info.tcpi_state == ESTABLISHED,
        bytes_acked: (length as usize >= acked_end).then_some(info.tcpi_bytes_acked),
    })
}

/// Reads it for a TCP socket: not available on this system.
#[cfg(not(target_os = "linux"))]
pub fn read(_socket: impl AsFd) -> io::Result<TcpInfo> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether this system counts acknowledged bytes, found by asking it for a socket that is not connected.
pub fn counts_acknowledged_bytes() -> bool {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .and_then(|socket| read(&socket))
        .is_ok_and(|info| info.bytes_acked.is_some())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn acknowledged_bytes_follow_what_the_peer_takes_and_its_close_is_seen() {
        assert!(counts_acknowledged_bytes());
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let mut ours = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (mut theirs, _) = listener.accept().expect("accept");
        let base = read(&ours).expect("TCP_INFO");
        assert_eq!(base, TcpInfo { established: true, bytes_acked: Some(1) });

        ours.write_all(&[b'x'; 1000]).expect("write");
        theirs.read_exact(&mut [0; 1000]).expect("read");
        wait_until(|| read(&ours).expect("TCP_INFO").bytes_acked == Some(1001));

        drop(theirs);
        wait_until(|| !read(&ours).expect("TCP_INFO").established);
    }

    #[test]
    fn what_is_no_tcp_socket_is_an_error() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        assert!(read(&udp).is_err());
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain");
            std::thread::yield_now();
        }
    }
}
