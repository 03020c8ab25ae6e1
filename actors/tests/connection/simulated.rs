//! The connection against a scripted transport, on virtual time: pauses, order of looks and reads, fairness, panics.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::rig::*;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use slog::{Drain, Level, Logger};
use sls_syslog_actors::config::{Confirmation, DestinationConfig, Protocol};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::messages::{Outcome, ReceiverState};
use sls_syslog_actors::ports::{Dial, DialError, Look, Renewal, Transport};
use sls_syslog_actors::ticket::FailReason;
use tokio::time::Instant;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(20);

/// Runs a test on one thread with a paused clock.
fn simulate(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// What one connection does, changed by the test while it runs.
#[derive(Default)]
struct Wire {
    taken: u64,
    /// Bytes that the socket refuses to go beyond.
    room: Option<u64>,
    /// What goes beyond belongs to another connection.
    renews: bool,
    /// Bytes acknowledged; all if none is set.
    acked: Option<u64>,
    flush_stuck: bool,
    /// The peer closes right after the next look.
    closes_after_look: bool,
    closed: bool,
    panics: bool,
    waker: Option<Waker>,
}

type SharedWire = Rc<RefCell<Wire>>;

fn change(wire: &SharedWire, change: impl FnOnce(&mut Wire)) {
    let mut wire = wire.borrow_mut();
    change(&mut wire);
    if let Some(waker) = wire.waker.take() {
        waker.wake();
    }
}

struct FakeTransport(SharedWire);

impl Transport for FakeTransport {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.panics, "scripted panic");
        let room = wire.room.map_or(u64::MAX, |room| room.saturating_sub(wire.taken));
        let taken = frames.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if taken == 0 && wire.renews {
            return Poll::Ready(Err(io::Error::other(Renewal("scripted"))));
        }
        if taken == 0 {
            wire.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wire.taken += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        wire.waker = Some(cx.waker().clone());
        if wire.flush_stuck { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        wire.waker = Some(cx.waker().clone());
        if wire.closed { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn look(&mut self) -> io::Result<Look> {
        let mut wire = self.0.borrow_mut();
        wire.closed |= wire.closes_after_look;
        Ok(Look { confirmed: wire.acked.unwrap_or(wire.taken), open: true, refused: false })
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Opens what `script` makes of the number of the attempt, or is refused.
struct FakeDial {
    script: Box<dyn Fn(usize) -> Option<Wire>>,
    attempts: RefCell<Vec<Instant>>,
    wires: RefCell<Vec<SharedWire>>,
}

impl FakeDial {
    fn new(script: impl Fn(usize) -> Option<Wire> + 'static) -> Rc<Self> {
        Rc::new(Self { script: Box::new(script), attempts: RefCell::default(), wires: RefCell::default() })
    }

    fn pauses(&self) -> Vec<Duration> {
        self.attempts.borrow().windows(2).map(|w| w[1] - w[0]).collect()
    }

    async fn wire(&self, number: usize) -> SharedWire {
        until("a connection", || self.wires.borrow().len() > number).await;
        Rc::clone(&self.wires.borrow()[number])
    }
}

impl Dial for FakeDial {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        self.attempts.borrow_mut().push(Instant::now());
        let answer = match (self.script)(self.attempts.borrow().len() - 1) {
            Some(wire) => {
                let wire = Rc::new(RefCell::new(wire));
                self.wires.borrow_mut().push(Rc::clone(&wire));
                Ok(Box::new(FakeTransport(wire)) as Box<dyn Transport>)
            }
            None => Err(DialError("nobody is there".to_owned())),
        };
        async move { answer }.boxed_local()
    }
}

/// Log lines of info and above.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(Level, String)>>>);

impl Said {
    fn at(&self, level: Level) -> Vec<String> {
        self.0.lock().expect("lines").iter().filter(|(l, _)| *l == level).map(|(_, text)| text.clone()).collect()
    }
}

impl Drain for Said {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        self.0.lock().expect("lines").push((record.level(), record.msg().to_string()));
        Ok(())
    }
}

fn settings() -> DestinationConfig {
    let mut settings = config(Protocol::Tcp, 514);
    settings.confirm_after_connect = Duration::from_secs(1);
    settings.reconnect = (SHORTEST, LONGEST);
    settings.timeout = Duration::from_secs(120);
    settings
}

fn rig(settings: &DestinationConfig, dial: &Rc<FakeDial>) -> (Rig, Said) {
    rig_at(Confirmation::TcpAcked, settings, dial)
}

fn rig_at(level: Confirmation, settings: &DestinationConfig, dial: &Rc<FakeDial>) -> (Rig, Said) {
    let said = Said::default();
    let logger = Logger::root(said.clone().fuse(), slog::o!());
    let dial: Rc<dyn Dial> = Rc::<FakeDial>::clone(dial);
    (Rig::with(settings, dial, level, Arc::new(Counters::default()), logger), said)
}

/// Half an hour without a receiver: said at once, again with growing pauses, its end once.
#[test]
fn a_receiver_that_is_down_is_said_with_growing_pauses_and_its_recovery_once() {
    simulate(async {
        let start = Instant::now();
        let dial = FakeDial::new(move |_| (Instant::now() - start > Duration::from_secs(1_800)).then(Wire::default));
        let (mut rig, said) = rig(&settings(), &dial);
        rig.send(&numbered(0, 10, 100)).await;
        assert_eq!(rig.down_with("nobody is there").await, "nobody is there");
        until_slowly("the recovery", || !said.at(Level::Info).is_empty()).await;
        rig.delivered(0..1).await;
        let warnings = said.at(Level::Warning);
        assert!((6..12).contains(&warnings.len()), "{warnings:?}");
        assert!(warnings[0].contains("the receiver is down: nobody is there"), "{warnings:?}");
        assert_eq!(said.at(Level::Info), ["the receiver works again"]);
        assert_eq!(rig.state().await, ReceiverState::Ready);
        rig.close(PATIENCE).await;
    });
}

/// A RELP session whose numbers are used up is no trouble of the receiver.
#[test]
fn a_connection_that_has_to_be_renewed_is_followed_by_another_at_once() {
    simulate(async {
        let first = || Wire { room: Some(100_000), renews: true, ..Wire::default() };
        let dial = FakeDial::new(move |n| Some(if n == 0 { first() } else { Wire::default() }));
        let (mut rig, said) = rig_at(Confirmation::AppAcked, &settings(), &dial);
        rig.send(&numbered(0, 1, 100)).await;
        rig.delivered(0..1).await;
        let before = Instant::now();
        rig.send(&numbered(1, 2_000, 100)).await;
        rig.delivered(1..2).await;
        assert_eq!(dial.attempts.borrow()[1..], [before], "one attempt, without a pause");
        assert_eq!(said.at(Level::Warning), [""; 0]);
        assert_eq!(rig.state().await, ReceiverState::Ready);
        rig.close(PATIENCE).await;
    });
}

/// As [`until`], for hours of virtual time.
async fn until_slowly(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain for {what}");
}

/// A receiver that accepts and closes: pauses grow although each attempt connects. A confirmation starts them anew.
#[test]
fn a_confirmation_resets_the_pauses_and_a_connect_does_not() {
    simulate(async {
        let dial = FakeDial::new(|attempt| {
            let closed = attempt < 12 || attempt == 13;
            Some(Wire { closed, ..Wire::default() })
        });
        let (mut rig, said) = rig(&settings(), &dial);
        rig.send(&numbered(0, 10, 100)).await;
        until_slowly("an attempt that holds", || dial.wires.borrow().len() == 13).await;
        let pauses = dial.pauses();
        assert!(pauses[0] <= SHORTEST && pauses[11] >= LONGEST / 2, "{pauses:?}");
        assert!(pauses.iter().all(|p| *p <= LONGEST + Duration::from_millis(1)), "{pauses:?}");
        let errors = said.at(Level::Error);
        assert!(errors[0].contains("destination.confirm_after_connect"), "{errors:?}");
        rig.delivered(0..1).await;

        rig.send_frames(counted(&numbered(10, 10, 100)), 10).await;
        let wire = dial.wire(12).await;
        change(&wire, |w| {
            w.acked = Some(0);
            w.closed = true;
        });
        until_slowly("two more attempts", || dial.wires.borrow().len() == 15).await;
        let pauses = dial.pauses();
        assert!(pauses[13] <= SHORTEST * 2, "{pauses:?}");
        rig.delivered(1..2).await;
        rig.close(PATIENCE).await;
    });
}

/// The look finds everything acknowledged; the read after it finds that the peer has closed: rule C1 believes the read.
#[test]
fn what_is_acknowledged_by_a_peer_that_has_closed_is_not_confirmed() {
    simulate(async {
        let dial = FakeDial::new(|attempt| Some(Wire { closes_after_look: attempt == 0, ..Wire::default() }));
        let mut settings = settings();
        settings.confirm_after_connect = Duration::ZERO;
        let (mut rig, _) = rig(&settings, &dial);
        rig.send(&numbered(0, 10, 100)).await;
        rig.down_with("closed the connection").await;
        assert_eq!(rig.counters.snapshot().bytes_confirmed, 0);
        rig.delivered(0..1).await;
        assert_eq!(dial.wires.borrow().len(), 2);
        assert_eq!(dial.wires.borrow()[1].borrow().taken, counted(&numbered(0, 10, 100)).len() as u64);
        rig.close(PATIENCE).await;
    });
}

#[test]
fn the_time_out_gives_a_silent_peer_up_and_a_trickle_of_acknowledgements_keeps_it() {
    simulate(async {
        let dial = FakeDial::new(|_| Some(Wire { acked: Some(0), ..Wire::default() }));
        let (mut rig, _) = rig(&settings(), &dial);
        rig.send(&numbered(0, 10, 100)).await;
        let wire = dial.wire(0).await;
        for acked in 1..20 {
            tokio::time::sleep(Duration::from_secs(100)).await;
            change(&wire, |w| w.acked = Some(acked));
        }
        assert_eq!(rig.counters.snapshot().connections_cut, 0);
        let silent_since = Instant::now();
        let counters = Arc::clone(&rig.counters);
        until_slowly("the cut", || counters.snapshot().connections_cut > 0).await;
        let lasted = silent_since.elapsed();
        assert!(lasted >= Duration::from_secs(119) && lasted <= Duration::from_secs(121), "{lasted:?}");
        rig.down_with("destination.timeout").await;
        rig.close(Duration::ZERO).await;
    });
}

/// What a TLS layer cannot get rid of: more is not written behind it, or it could never tell what is confirmed.
#[test]
fn no_more_is_written_behind_what_cannot_be_flushed() {
    simulate(async {
        let dial = FakeDial::new(|_| Some(Wire { acked: Some(0), ..Wire::default() }));
        let mut settings = settings();
        settings.confirm_after_connect = Duration::ZERO;
        let (mut rig, _) = rig(&settings, &dial);
        rig.open();
        assert_eq!(rig.state().await, ReceiverState::Ready);
        let wire = dial.wire(0).await;
        change(&wire, |w| w.flush_stuck = true);
        let messages = numbered(0, 40_000, 100);
        rig.send(&messages).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(wire.borrow().taken <= (1 << 20) + (256 << 10), "{} bytes", wire.borrow().taken);
        change(&wire, |w| {
            w.flush_stuck = false;
            w.acked = None;
        });
        rig.delivered(0..1).await;
        rig.close(PATIENCE).await;
    });
}

/// A receiver that takes whatever it gets does not keep the arbiter from others.
#[test]
fn a_greedy_receiver_leaves_turns_to_others() {
    simulate(async {
        let dial = FakeDial::new(|_| Some(Wire::default()));
        let mut settings = settings();
        settings.confirm_after_connect = Duration::ZERO;
        // A busy neighbour stops virtual time, and this level looks without waiting.
        let (mut rig, _) = rig_at(Confirmation::Written, &settings, &dial);
        for piece in 0..32 {
            rig.send(&numbered(piece, 1, 2 << 20)).await;
        }
        let turns = Rc::new(Cell::new(0));
        let other = tokio::task::spawn_local({
            let turns = Rc::clone(&turns);
            async move {
                loop {
                    turns.set(turns.get() + 1);
                    tokio::task::yield_now().await;
                }
            }
        });
        rig.delivered(0..32).await;
        other.abort();
        assert!(turns.get() >= 25, "the other had {} turns", turns.get());
        rig.close(PATIENCE).await;
    });
}

/// Receivers close what has been idle: nothing is lost, nothing is said, the next piece opens another connection.
#[test]
fn an_idle_connection_that_ends_is_no_trouble() {
    simulate(async {
        let dial = FakeDial::new(|_| Some(Wire::default()));
        let (mut rig, said) = rig(&settings(), &dial);
        rig.open();
        assert_eq!(rig.state().await, ReceiverState::Ready);
        change(&dial.wire(0).await, |w| w.closed = true);
        assert_eq!(rig.state().await, ReceiverState::Idle);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(dial.wires.borrow().len(), 1, "opened a connection for nothing");
        rig.send(&numbered(0, 1, 100)).await;
        assert_eq!(rig.state().await, ReceiverState::Ready);
        rig.delivered(0..1).await;
        assert_eq!(said.at(Level::Warning), [""; 0]);
        rig.close(PATIENCE).await;
    });
}

#[test]
fn a_panic_fails_every_ticket_returns_every_credit_and_is_reported() {
    simulate(async {
        let dial = FakeDial::new(|_| Some(Wire { panics: true, ..Wire::default() }));
        let (mut rig, _) = rig(&settings(), &dial);
        rig.send(&numbered(0, 10, 100)).await;
        rig.send(&numbered(10, 10, 100)).await;
        assert!(rig.ended().await, "reported as a clean end");
        for expected in 0..2 {
            assert_eq!(rig.settled().await, (expected, Outcome::Failed(FailReason::Dropped)));
        }
        assert_eq!(rig.credits.free(), 64);
    });
}
