//! A simulated receiver behind [`Dial`] and [`Transport`](crate::ports::Transport), on tokio's clock, deterministic by its seed.
//!
//! A connection has three stations: *in flight* (written by us, not yet acknowledged), *unread* (acknowledged by the
//! peer's TCP, not yet read by its application) and *read*. What a message's fate is depends on how far it came when the
//! connection ends: a reset loses what is unread although it was acknowledged. Messages are complete, and recorded, when
//! the application has read their last byte.
//!
//! At level `app_acked` the application speaks RELP, and what runs over the connection is the real session.

mod behaviour;
mod near_end;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::config::Confirmation;
use crate::ports::Dial;
use crate::wire::syslog::framing::{Deframer, FrameError};
use crate::wire::syslog::relp::{FrameReader, write_frame, write_offers};

pub use behaviour::{Answers, Behaviour, Dialing, Ending};
use near_end::Dialer;

/// What somebody who looks on learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// A look found the connection open for long enough, with the whole message covered: the sender may count it as
    /// confirmed, whatever becomes of it.
    Confirmed,
    /// The application has read the whole message.
    Read,
    /// The application has read it, and has answered that it does not take it.
    Refused,
}

/// Called with each sighting, the number of the connection on which it was, and the message.
pub type Witness = Box<dyn FnMut(Sighting, usize, &[u8])>;

/// A receiver; a clone is the same one.
#[derive(Clone)]
pub struct Receiver(Rc<State>);

struct State {
    behaviour: RefCell<Behaviour>,
    level: Confirmation,
    confirms_from: Duration,
    dial_limit: Duration,
    relp_window: Cell<usize>,
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
            relp_window: Cell::new(128),
            links: RefCell::default(),
            opened: Cell::new(0),
            read: RefCell::default(),
            witness: RefCell::new(None),
            broken: RefCell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
        }))
    }

    /// Who learns of every message, in place of [`Receiver::messages`].
    pub fn watched_by(&self, witness: impl FnMut(Sighting, usize, &[u8]) + 'static) {
        *self.0.witness.borrow_mut() = Some(Box::new(witness));
    }

    /// Senders have at most so many unanswered messages in a RELP session from now on.
    pub fn window(&self, messages: usize) {
        self.0.relp_window.set(messages);
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
    /// Connections that were opened before it.
    number: usize,
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
    app: App,
    /// What the application says, and when it arrives.
    answers: VecDeque<(Instant, Vec<u8>)>,
    /// Where the messages end that were written and are not confirmed yet.
    sent: Deframer,
    unconfirmed: Unconfirmed,
    peer: Option<Ending>,
    /// We have closed our side: what was written before still arrives.
    ours_closed: bool,
    dropped: bool,
    next_read: Instant,
    writer: Option<Waker>,
    /// Waits for the peer's end, or for what it says.
    reader: Option<Waker>,
}

/// The application, as far as it has understood what it has read.
enum App {
    Plain(Deframer),
    Relp(FrameReader),
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
        let app = match self.level {
            Confirmation::AppAcked => App::Relp(FrameReader::new(LONGEST_MESSAGE)),
            _ => App::Plain(Deframer::new(self.behaviour.borrow().longest.unwrap_or(LONGEST_MESSAGE))),
        };
        let number = self.opened.replace(self.opened.get() + 1);
        let link = Rc::new(Link {
            number,
            opened_at: now,
            wire: RefCell::new(Wire {
                written: 0,
                flight: VecDeque::new(),
                in_flight: 0,
                acknowledged: 0,
                unread: VecDeque::new(),
                app,
                answers: VecDeque::new(),
                sent: Deframer::new(LONGEST_MESSAGE),
                unconfirmed: VecDeque::new(),
                peer: None,
                ours_closed: false,
                dropped: false,
                next_read: now,
                writer: None,
                reader: None,
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
            if let Some(ending) = self.read_by_app(link.number, wire, &read) {
                wire.end(ending);
                return Next::Done;
            }
            wire.next_read = now + rest.max(Duration::from_millis(1));
            // There is room again.
            wire.acknowledge(now, behaviour.buffer);
        }
        if wire.in_flight < SEND_BUFFER {
            wake(&mut wire.writer);
        }
        let answer = wire.answers.front().map(|(due, _)| *due);
        if answer.is_some_and(|due| due <= now) {
            wake(&mut wire.reader);
        }
        let all_read = wire.flight.is_empty() && wire.unread.is_empty();
        if (wire.ours_closed || wire.dropped) && all_read {
            if let Some(what) = wire.app.cut().filter(|_| !wire.dropped) {
                self.broken.borrow_mut().push(what);
            }
            wire.peer = Some(Ending::Fin);
            wake(&mut wire.reader);
            return Next::Done;
        }
        let arrival = wire.flight.front().map(|(due, _)| *due).filter(|_| wire.unread.len() < behaviour.buffer);
        let read = reads.map(|_| wire.next_read).filter(|_| !wire.unread.is_empty());
        let refusal = behaviour.refuses_after.map(|after| link.opened_at + after);
        let answer = answer.filter(|due| *due > now);
        match [arrival, read, refusal, answer].into_iter().flatten().min() {
            Some(at) => Next::At(at),
            None => Next::WhenChanged,
        }
    }

    /// The application reads; how it ends the connection, if it does.
    fn read_by_app(&self, number: usize, wire: &mut Wire, bytes: &[u8]) -> Option<Ending> {
        let Behaviour { longest, answers: (answers, after), .. } = self.behaviour.borrow().clone();
        let broken = |what: String| self.broken.borrow_mut().push(what);
        match &mut wire.app {
            App::Plain(app) => {
                app.push(bytes);
                loop {
                    match app.next() {
                        Ok(Some(message)) => self.seen(Sighting::Read, number, message),
                        Ok(None) => return None,
                        Err(FrameError::TooLong { max, .. }) if max < LONGEST_MESSAGE => return Some(Ending::Reset),
                        Err(error) => {
                            broken(error.to_string());
                            return None;
                        }
                    }
                }
            }
            App::Relp(app) => {
                app.push(bytes);
                let arrives = Instant::now() + after;
                let mut say = |number: u32, command: &str, data: &[u8]| {
                    let mut frame = Vec::new();
                    write_frame(&mut frame, number, command, data);
                    // Nothing overtakes what was said before.
                    let due = wire.answers.back().map_or(arrives, |(before, _)| arrives.max(*before));
                    wire.answers.push_back((due, frame));
                };
                loop {
                    let frame = match app.next() {
                        Ok(Some(frame)) => frame,
                        Ok(None) => return None,
                        Err(error) => {
                            broken(error.to_string());
                            return None;
                        }
                    };
                    match (frame.command, answers) {
                        (b"open", _) => {
                            let offers = format!("200 OK\n{}", write_offers("simulated"));
                            say(frame.number, "rsp", offers.as_bytes());
                        }
                        (b"close", _) => {
                            say(frame.number, "rsp", b"");
                            return Some(Ending::Fin);
                        }
                        _ if longest.is_some_and(|longest| frame.data.len() > longest) => {
                            self.seen(Sighting::Refused, number, frame.data);
                            say(frame.number, "rsp", b"500 too long");
                        }
                        (_, Answers::Refuse) => {
                            self.seen(Sighting::Refused, number, frame.data);
                            say(frame.number, "rsp", b"500 the disk is full");
                        }
                        (_, answers) => {
                            self.seen(Sighting::Read, number, frame.data);
                            match answers {
                                Answers::Take | Answers::Refuse => say(frame.number, "rsp", b"200 OK"),
                                Answers::Silence => {}
                                Answers::Rubbish => say(frame.number, "syslog", b"nonsense"),
                                Answers::End => {
                                    say(0, "serverclose", b"");
                                    return Some(Ending::Fin);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// A look has found the connection open, or the answers that count anyway.
    fn confirmed(&self, link: &Link, unconfirmed: &mut Unconfirmed, confirmed: u64) {
        if Instant::now() < link.opened_at + self.confirms_from {
            return;
        }
        while let Some((end, _)) = unconfirmed.front()
            && *end <= confirmed
            && let Some((_, message)) = unconfirmed.pop_front()
        {
            self.seen(Sighting::Confirmed, link.number, &message);
        }
    }

    fn seen(&self, sighting: Sighting, connection: usize, message: &[u8]) {
        match self.witness.borrow_mut().as_mut() {
            Some(witness) => witness(sighting, connection, message),
            None if sighting == Sighting::Read => self.read.borrow_mut().push(message.to_vec()),
            None => {}
        }
    }

    fn end(&self, link: &Link, ending: Ending) {
        let wire = &mut *link.wire.borrow_mut();
        if wire.peer.is_some() {
            return;
        }
        let mut ending = ending;
        if ending == Ending::Fin {
            let read: Vec<u8> = wire.unread.drain(..).collect();
            ending = self.read_by_app(link.number, wire, &read).unwrap_or(ending);
        }
        wire.end(ending);
        link.changed.notify_one();
    }
}

impl App {
    /// What was begun and is not whole, if anything.
    fn cut(&self) -> Option<String> {
        match self {
            Self::Plain(app) => app.end().err().map(|error| error.to_string()),
            Self::Relp(app) => (!app.pending().is_empty()).then(|| "the stream ends within a frame".to_owned()),
        }
    }
}

impl Wire {
    /// The peer ends the connection; after a FIN what it has said still arrives.
    fn end(&mut self, ending: Ending) {
        self.peer = Some(ending);
        self.flight.clear();
        self.in_flight = 0;
        self.unread.clear();
        if ending == Ending::Reset {
            self.answers.clear();
        }
        wake(&mut self.writer);
        wake(&mut self.reader);
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

/// Messages that were given to a connection, with where each ends.
type Unconfirmed = VecDeque<(u64, Vec<u8>)>;
