//! Our end of a connection to the simulated receiver: sockets that take what fits, plain or below a real RELP session.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

use super::{Behaviour, Dialing, Ending, LONGEST_MESSAGE, Link, SEND_BUFFER, State, Unconfirmed};
use crate::config::Confirmation;
use crate::io::relp;
use crate::ports::{Dial, DialError, Look, Transport};
use crate::testing::layers::{Over, TransportLayer};
use crate::wire::syslog::framing::Deframer;

pub(super) struct Dialer(pub(super) Rc<State>);

impl Dial for Dialer {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        let state = Rc::clone(&self.0);
        Box::pin(async move {
            let Behaviour { dialing, dial_takes, .. } = state.behaviour.borrow().clone();
            if dialing == Dialing::Silence || dial_takes >= state.dial_limit {
                sleep(state.dial_limit).await;
                return Err(DialError("nothing answers".into()));
            }
            sleep(dial_takes).await;
            if dialing == Dialing::Refuse {
                return Err(DialError("connection refused".into()));
            }
            let end = End { link: state.open(), state: Rc::clone(&state) };
            if state.level != Confirmation::AppAcked {
                return Ok(Box::new(Connection(end)) as Box<dyn Transport>);
            }
            let link = Rc::clone(&end.link);
            let opening = relp::open(end, "the receiver", state.relp_window.get());
            match timeout(state.dial_limit - dial_takes, opening).await {
                Ok(session) => Ok(Box::new(Over::new(Box::new(session?), Answered::new(state, link)))),
                Err(_) => Err(DialError("no RELP session was opened in time".into())),
            }
        })
    }
}

/// Our end of a connection.
struct End {
    state: Rc<State>,
    link: Rc<Link>,
}

impl End {
    /// Takes some of the bytes.
    fn poll_take(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &mut *self.link.wire.borrow_mut();
        match wire.peer {
            Some(Ending::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            // After a FIN our own TCP takes what we write; nobody reads it.
            Some(Ending::Fin) => {
                wire.written += bytes.len() as u64;
                return Poll::Ready(Ok(bytes.len()));
            }
            None => {}
        }
        let room = SEND_BUFFER.saturating_sub(wire.in_flight);
        if room == 0 {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room);
        // Sockets take what fits, which is seldom a whole message.
        let rng = &mut *self.state.rng.borrow_mut();
        let taken = if rng.u8(..4) == 0 { rng.usize(1..=taken) } else { taken };
        let due = Instant::now() + self.state.behaviour.borrow().acknowledges_after;
        wire.flight.push_back((due, bytes[..taken].to_vec()));
        wire.in_flight += taken;
        wire.written += taken as u64;
        self.link.changed.notify_one();
        Poll::Ready(Ok(taken))
    }

    fn shut(&self) {
        self.link.wire.borrow_mut().ours_closed = true;
        self.link.changed.notify_one();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let wire = &mut *self.link.wire.borrow_mut();
        wire.dropped = true;
        // Sometimes our own machine forgets what it has not sent yet, sometimes it goes on sending for a while.
        if self.state.rng.borrow_mut().bool() {
            wire.flight.clear();
            wire.in_flight = 0;
        }
        self.link.changed.notify_one();
    }
}

/// A connection whose confirmations are those of TCP.
struct Connection(End);

impl Transport for Connection {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(self.0.poll_take(cx, frames))?;
        let wire = &mut *self.0.link.wire.borrow_mut();
        if wire.peer.is_none() {
            wire.sent.push(&frames[..taken]);
            note_messages(&mut wire.sent, &mut wire.unconfirmed);
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.0.link.wire.borrow_mut();
        match wire.peer {
            Some(Ending::Fin) => Poll::Ready(Ok(())),
            Some(Ending::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                wire.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn look(&mut self) -> io::Result<Look> {
        let End { state, link } = &self.0;
        let wire = &mut *link.wire.borrow_mut();
        let open = wire.peer.is_none();
        let confirmed = if state.level == Confirmation::TcpAcked { wire.acknowledged } else { wire.written };
        if open {
            state.confirmed(link, &mut wire.unconfirmed, confirmed);
        }
        Ok(Look { confirmed, open, refused: false })
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shut();
        Poll::Ready(Ok(()))
    }
}

fn note_messages(sent: &mut Deframer, unconfirmed: &mut Unconfirmed) {
    while let Ok(Some(message)) = sent.next() {
        let message = message.to_vec();
        unconfirmed.push_back((sent.position(), message));
    }
}

/// Looks at what counts as confirmed in a real RELP session.
struct Answered {
    state: Rc<State>,
    link: Rc<Link>,
    sent: Deframer,
    unconfirmed: Unconfirmed,
}

impl Answered {
    fn new(state: Rc<State>, link: Rc<Link>) -> Self {
        let sent = Deframer::new(LONGEST_MESSAGE);
        Self { state, link, sent, unconfirmed: VecDeque::new() }
    }
}

impl TransportLayer for Answered {
    fn poll_write(
        &mut self,
        session: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(session.poll_write(cx, frames))?;
        self.sent.push(&frames[..taken]);
        note_messages(&mut self.sent, &mut self.unconfirmed);
        Poll::Ready(Ok(taken))
    }

    fn look(&mut self, session: &mut dyn Transport) -> io::Result<Look> {
        let look = session.look()?;
        self.state.confirmed(&self.link, &mut self.unconfirmed, look.confirmed);
        Ok(look)
    }
}

impl relp::Wire for End {
    fn acknowledge_now(&self) {}
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.link.wire.borrow_mut();
        let now = Instant::now();
        let has_ended = wire.peer.is_some();
        if let Some((_, answer)) = wire.answers.front_mut().filter(|(due, _)| has_ended || *due <= now) {
            let taken = answer.len().min(buffer.remaining());
            buffer.put_slice(&answer[..taken]);
            answer.drain(..taken);
            if answer.is_empty() {
                wire.answers.pop_front();
            }
            return Poll::Ready(Ok(()));
        }
        match wire.peer {
            Some(Ending::Fin) => Poll::Ready(Ok(())),
            Some(Ending::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                wire.reader = Some(cx.waker().clone());
                self.link.changed.notify_one();
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_take(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut();
        Poll::Ready(Ok(()))
    }
}
