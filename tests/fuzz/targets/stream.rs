//! A stream without a socket: what the peer says is pushed into it, what is written to it can be looked at.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both ends share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream(pub(super) Rc<RefCell<State>>);

#[derive(Debug, Default)]
pub(super) struct State {
    /// To be read, in the pieces in which it arrives.
    pub(super) incoming: VecDeque<Vec<u8>>,
    /// Behind it the stream ends; otherwise there may be more later.
    pub(super) ends: bool,
    /// What was written.
    pub(super) written: Vec<u8>,
    /// Bytes that may still be written.
    pub(super) room: usize,
    /// All that was read.
    pub(super) read: Vec<u8>,
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        let Some(mut piece) = state.incoming.pop_front() else {
            return if state.ends { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        if !rest.is_empty() {
            state.incoming.push_front(rest);
        }
        state.read.extend_from_slice(&piece);
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.0.borrow_mut();
        let taken = bytes.len().min(state.room);
        if taken == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        state.room -= taken;
        state.written.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Cuts bytes into pieces of these lengths, over and over; without lengths they come at once.
pub(super) fn pieces(bytes: &[u8], lengths: &[usize]) -> VecDeque<Vec<u8>> {
    let (mut rest, mut pieces) = (bytes, VecDeque::new());
    for length in lengths.iter().cycle().map(|length| (*length).max(1)) {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        pieces.push_back(piece.to_vec());
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push_back(rest.to_vec());
    }
    pieces
}
