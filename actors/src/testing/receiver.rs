//! A simulated receiver behind [`Dial`] and [`Transport`], on tokio's clock, deterministic by its seed.
//!
//! A connection has three stations: *in flight* (written by us, not yet acknowledged), *unread* (acknowledged by the
//! peer's TCP, not yet read by its application) and *read*. What a message's fate is depends on how far it came when the
//! connection ends: a reset loses what is unread although it was acknowledged. Messages are complete, and recorded, when
//! the application has read their last byte.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Confirmation;
use crate::ports::{Dial, DialError, Look, Transport};
use crate::wire::syslog::framing::{Deframer, FrameError};

/// How a receiver behaves at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Whether connections are accepted.
    pub dialing: Dialing,
    /// Time that connecting takes.
    pub dial_takes: Duration,
    /// Bytes that the peer's TCP holds for its application.
    pub buffer: usize,
    /// Time from the writing of bytes to their acknowledgement.
    pub acknowledges_after: Duration,
    /// The application reads so many bytes, then rests so long; `None` if it does not read at all.
    pub reads: Option<(usize, Duration)>,
    /// Each new connection is closed this long after it opened, nothing read: a refusal that comes late, as that of a
    /// TLS 1.3 client certificate.
    pub refuses_after: Option<Duration>,
    /// The application ends a new connection, what it has not read unread, when it reads of a message longer than this.
    pub longest: Option<usize>,
}

/// What becomes of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialing {
    /// It succeeds.
    Accept,
    /// It is refused.
    Refuse,
    /// Nothing answers; the attempt fails when its time is over.
    Silence,
}

/// How the peer ends its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Politely: the application has read all that came until now.
    Fin,
    /// With a reset; what is in flight or unread is lost.
    Reset,
}

/// What somebody who looks on learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// A look found the connection open for long enough, with the whole message covered: the sender may count it as
    /// confirmed, whatever becomes of it.
    Confirmed,
    /// The application has read the whole message.
    Read,
}

/// Called with each sighting and the message.
pub type Witness = Box<dyn FnMut(Sighting, &[u8])>;

impl Behaviour {
    /// A receiver as one wishes it.
    pub fn healthy() -> Self {
        Self {
            dialing: Dialing::Accept,
            dial_takes: Duration::from_millis(1),
            buffer: 256 << 10,
            acknowledges_after: Duration::from_millis(1),
            reads: Some((64 << 10, Duration::from_millis(1))),
            refuses_after: None,
            longest: None,
        }
    }
}

/// A receiver; a clone is the same one.
#[derive(Clone)]
pub struct Receiver(Rc<State>);

struct State {
    behaviour: RefCell<Behaviour>,
    level: Confirmation,
    confirms_from: Duration,
    dial_limit: Duration,
    links: RefCell<Vec<Rc<Link>>>,
    accepted: mpsc::UnboundedSender<(Rc<State>, Rc<Link>)>,
    opened: Cell<usize>,
    read: RefCell<Vec<Vec<u8>>>,
    witness: RefCell<Option<Witness>>,
    broken: RefCell<Vec<String>>,
    rng: RefCell<fastrand::Rng>,
}

/// Bytes that our own socket holds until they are acknowledged.
const SEND_BUFFER: usize = 64 << 10;
/// Longest message that the receiver takes.
const LONGEST_MESSAGE: usize = 8 << 20;

impl Receiver {
    /// A healthy receiver whose connections confirm at `level`, and not before they have been open for
    /// `confirms_from`. An attempt to connect fails after `dial_limit`.
    ///
    /// Its side of the connections lives on the local task set on which it is made, so that it outlives a sender that
    /// lives on another one.
    pub fn new(seed: u64, level: Confirmation, confirms_from: Duration, dial_limit: Duration) -> Self {
        let (accepted, mut arrivals) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            while let Some((state, link)) = arrivals.recv().await {
                tokio::task::spawn_local(serve(state, link));
            }
        });
        Self(Rc::new(State {
            accepted,
            behaviour: RefCell::new(Behaviour::healthy()),
            level,
            confirms_from,
            dial_limit,
            links: RefCell::default(),
            opened: Cell::new(0),
            read: RefCell::default(),
            witness: RefCell::new(None),
            broken: RefCell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
        }))
    }

    /// Who learns of every message, in place of [`Receiver::messages`].
    pub fn watched_by(&self, witness: impl FnMut(Sighting, &[u8]) + 'static) {
        *self.0.witness.borrow_mut() = Some(Box::new(witness));
    }

    /// A way to connect to it.
    pub fn dialer(&self) -> Rc<dyn Dial> {
        Rc::new(Dialer(Rc::clone(&self.0)))
    }

    /// Behaves differently from now on; connections that are open notice it too.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.0.behaviour.borrow_mut() = behaviour;
        for link in self.0.links.borrow().iter() {
            link.changed.notify_one();
        }
    }

    /// How it behaves.
    pub fn behaviour(&self) -> Behaviour {
        self.0.behaviour.borrow().clone()
    }

    /// Ends all connections that are open.
    pub fn end_connections(&self, ending: Ending) {
        let links: Vec<_> = self.0.links.borrow().iter().cloned().collect();
        for link in links {
            self.0.end(&link, ending);
        }
    }

    /// Every message that the application has read, unless somebody else watches.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.0.read.borrow().clone()
    }

    /// Connections that were ever opened.
    pub fn connections_opened(&self) -> usize {
        self.0.opened.get()
    }

    /// What was wrong with the bytes that came: framing that breaks off or is none.
    pub fn broken(&self) -> Vec<String> {
        self.0.broken.borrow().clone()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("behaviour", &self.0.behaviour.borrow()).finish_non_exhaustive()
    }
}

/// One connection.
struct Link {
    opened_at: Instant,
    wire: RefCell<Wire>,
    changed: Notify,
}

struct Wire {
    written: u64,
    flight: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    acknowledged: u64,
    unread: VecDeque<u8>,
    app: Deframer,
    /// Where the messages end that were written and are not confirmed yet.
    sent: Deframer,
    unconfirmed: VecDeque<(u64, Vec<u8>)>,
    peer: Option<Ending>,
    /// We have closed our side: what was written before still arrives.
    ours_closed: bool,
    dropped: bool,
    next_read: Instant,
    writer: Option<Waker>,
    closer: Option<Waker>,
}

/// What the peer does next.
enum Next {
    At(Instant),
    WhenChanged,
    Done,
}

impl State {
    fn open(self: &Rc<Self>) -> Rc<Link> {
        let now = Instant::now();
        self.opened.set(self.opened.get() + 1);
        let link = Rc::new(Link {
            opened_at: now,
            wire: RefCell::new(Wire {
                written: 0,
                flight: VecDeque::new(),
                in_flight: 0,
                acknowledged: 0,
                unread: VecDeque::new(),
                app: Deframer::new(self.behaviour.borrow().longest.unwrap_or(LONGEST_MESSAGE)),
                sent: Deframer::new(LONGEST_MESSAGE),
                unconfirmed: VecDeque::new(),
                peer: None,
                ours_closed: false,
                dropped: false,
                next_read: now,
                writer: None,
                closer: None,
            }),
            changed: Notify::new(),
        });
        self.links.borrow_mut().push(Rc::clone(&link));
        // The other end lives as long as the receiver does.
        let _ = self.accepted.send((Rc::clone(self), Rc::clone(&link)));
        link
    }

    /// Moves bytes from station to station as far as the time allows.
    fn step(&self, link: &Link) -> Next {
        let now = Instant::now();
        let behaviour = self.behaviour.borrow().clone();
        if let Some(after) = behaviour.refuses_after
            && now >= link.opened_at + after
        {
            self.end(link, Ending::Reset);
        }
        let wire = &mut *link.wire.borrow_mut();
        if wire.peer.is_some() {
            return Next::Done;
        }
        wire.acknowledge(now, behaviour.buffer);
        let reads = behaviour.reads.filter(|_| behaviour.refuses_after.is_none());
        if let Some((bytes, rest)) = reads
            && now >= wire.next_read
            && !wire.unread.is_empty()
        {
            let bytes = bytes.max(1).min(wire.unread.len());
            let read: Vec<u8> = wire.unread.drain(..bytes).collect();
            if self.read_by_app(wire, &read).is_err() {
                wire.end(Ending::Reset);
                return Next::Done;
            }
            wire.next_read = now + rest.max(Duration::from_millis(1));
            // There is room again.
            wire.acknowledge(now, behaviour.buffer);
        }
        if wire.in_flight < SEND_BUFFER {
            wake(&mut wire.writer);
        }
        let all_read = wire.flight.is_empty() && wire.unread.is_empty();
        if (wire.ours_closed || wire.dropped) && all_read {
            if let Err(error) = wire.app.end()
                && !wire.dropped
            {
                self.broken.borrow_mut().push(error.to_string());
            }
            wire.peer = Some(Ending::Fin);
            wake(&mut wire.closer);
            return Next::Done;
        }
        let arrival = wire.flight.front().map(|(due, _)| *due).filter(|_| wire.unread.len() < behaviour.buffer);
        let read = reads.map(|_| wire.next_read).filter(|_| !wire.unread.is_empty());
        let refusal = behaviour.refuses_after.map(|after| link.opened_at + after);
        match [arrival, read, refusal].into_iter().flatten().min() {
            Some(at) => Next::At(at),
            None => Next::WhenChanged,
        }
    }

    /// Fails at a message that is too long for the application.
    fn read_by_app(&self, wire: &mut Wire, bytes: &[u8]) -> Result<(), FrameError> {
        wire.app.push(bytes);
        loop {
            match wire.app.next() {
                Ok(Some(message)) => self.seen(Sighting::Read, message),
                Ok(None) => return Ok(()),
                Err(error @ FrameError::TooLong { max, .. }) if max < LONGEST_MESSAGE => return Err(error),
                Err(error) => {
                    self.broken.borrow_mut().push(error.to_string());
                    return Ok(());
                }
            }
        }
    }

    fn seen(&self, sighting: Sighting, message: &[u8]) {
        match self.witness.borrow_mut().as_mut() {
            Some(witness) => witness(sighting, message),
            None if sighting == Sighting::Read => self.read.borrow_mut().push(message.to_vec()),
            None => {}
        }
    }

    fn end(&self, link: &Link, ending: Ending) {
        let wire = &mut *link.wire.borrow_mut();
        if wire.peer.is_some() {
            return;
        }
        if ending == Ending::Fin {
            let read: Vec<u8> = wire.unread.drain(..).collect();
            // It ends all the same.
            let _ = self.read_by_app(wire, &read);
        }
        wire.end(ending);
        link.changed.notify_one();
    }
}

impl Wire {
    fn end(&mut self, ending: Ending) {
        self.peer = Some(ending);
        self.flight.clear();
        self.in_flight = 0;
        self.unread.clear();
        wake(&mut self.writer);
        wake(&mut self.closer);
    }

    fn acknowledge(&mut self, now: Instant, buffer: usize) {
        while let Some((due, bytes)) = self.flight.front_mut()
            && *due <= now
        {
            let room = buffer.saturating_sub(self.unread.len());
            let fits = bytes.len().min(room);
            self.unread.extend(bytes.drain(..fits));
            self.acknowledged += fits as u64;
            self.in_flight -= fits;
            if !bytes.is_empty() {
                return;
            }
            self.flight.pop_front();
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

async fn serve(state: Rc<State>, link: Rc<Link>) {
    loop {
        match state.step(&link) {
            Next::Done => break,
            Next::WhenChanged => link.changed.notified().await,
            // Either of both is a reason to look again.
            Next::At(at) => drop(timeout_at(at, link.changed.notified()).await),
        }
    }
    state.links.borrow_mut().retain(|other| !Rc::ptr_eq(other, &link));
}

struct Dialer(Rc<State>);

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
            let link = state.open();
            Ok(Box::new(Connection { state, link }) as Box<dyn Transport>)
        })
    }
}

/// Our end of a connection.
struct Connection {
    state: Rc<State>,
    link: Rc<Link>,
}

impl Transport for Connection {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let wire = &mut *self.link.wire.borrow_mut();
        match wire.peer {
            Some(Ending::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            // After a FIN our own TCP takes what we write; nobody reads it.
            Some(Ending::Fin) => {
                wire.written += frames.len() as u64;
                return Poll::Ready(Ok(frames.len()));
            }
            None => {}
        }
        let room = SEND_BUFFER.saturating_sub(wire.in_flight);
        if room == 0 {
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = frames.len().min(room);
        // Sockets take what fits, which is seldom a whole message.
        let rng = &mut *self.state.rng.borrow_mut();
        let taken = if rng.u8(..4) == 0 { rng.usize(1..=taken) } else { taken };
        let due = Instant::now() + self.state.behaviour.borrow().acknowledges_after;
        wire.flight.push_back((due, frames[..taken].to_vec()));
        wire.in_flight += taken;
        wire.written += taken as u64;
        wire.sent.push(&frames[..taken]);
        while let Ok(Some(message)) = wire.sent.next() {
            let message = message.to_vec();
            let end = wire.sent.position();
            wire.unconfirmed.push_back((end, message));
        }
        self.link.changed.notify_one();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.link.wire.borrow_mut();
        match wire.peer {
            Some(Ending::Fin) => Poll::Ready(Ok(())),
            Some(Ending::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                wire.closer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn look(&mut self) -> io::Result<Look> {
        let wire = &mut *self.link.wire.borrow_mut();
        let open = wire.peer.is_none();
        let confirmed = if self.state.level == Confirmation::TcpAcked { wire.acknowledged } else { wire.written };
        if open && Instant::now() >= self.link.opened_at + self.state.confirms_from {
            while let Some((end, _)) = wire.unconfirmed.front()
                && *end <= confirmed
                && let Some((_, message)) = wire.unconfirmed.pop_front()
            {
                self.state.seen(Sighting::Confirmed, &message);
            }
        }
        Ok(Look { confirmed, open })
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.wire.borrow_mut().ours_closed = true;
        self.link.changed.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
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
