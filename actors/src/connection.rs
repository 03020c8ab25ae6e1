//! SyslogConnection: writes the frames that it is sent to the receiver, and settles tickets as they are confirmed.

mod ended;
mod health;
mod queued;
mod set_aside;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix::{Actor, ActorFuture, Addr, AsyncContext, Handler, Recipient};
use futures_util::future::LocalBoxFuture;
use slog::{Logger, debug, o, warn};
use tokio::time::{Instant, Sleep};

use crate::config::{Confirmation, DestinationConfig, Framing};
use crate::counters::Counters;
use crate::messages::{CloseConnection, OpenConnection, ReceiverChanged, ReceiverState, SendBatch};
use crate::model::backoff::Backoff;
use crate::model::outage::Outage;
use crate::model::pacing::TokenBucket;
use crate::model::session::trial::TrialTimes;
use crate::model::session::{Session, SessionTimes, Settled};
use crate::ports::{Dial, DialError, Transport};
use crate::ticket::FailReason;
use crate::watch::ExitGuard;
use crate::wire::format::RenderSettings;

use ended::{Ended, poll_open};
use queued::QueuedPiece;
pub use set_aside::GapFacts;
use set_aside::SetAside;

/// Largest slice given to the transport at once.
const MAX_WRITE: usize = 1 << 20;
/// Bytes written in one turn, before fetchers and formatters of the arbiter get theirs.
const BYTES_PER_TURN: usize = 2 << 20;
/// What the smallest write costs of a turn: a transport that sends message by message takes little at once.
const SMALLEST_CHARGE: usize = 64 << 10;
/// Bytes after which what was written has to reach the kernel before more is written. A TLS layer that is never empty
/// could not tell how far the receiver has confirmed.
const FLUSH_EVERY: usize = 256 << 10;
/// First look at what is acknowledged after a write.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// The same where the receiver answers, which wakes the connection by itself.
const LOOK_WITH_ANSWERS: Duration = Duration::from_millis(50);
/// Longest time for which a piece that was superseded is held because nothing else happens.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for the receiver's end of a connection that we have closed (rule C5).
const WAIT_FOR_END: Duration = Duration::from_secs(5);
/// Shortest time for which a connection has to stand open before cuts count against the one message that it carried,
/// also where `confirm_after_connect` is off.
const LEAST_SILENCE: Duration = Duration::from_secs(1);
/// Places in the mailbox for what is no piece: to open and to close come while pieces are on their way (I6).
const CONTROLS: usize = 2;
/// Connections closed on probation, one after another, before the receiver counts as one that closes every connection.
const EARLY_CLOSES: u32 = 3;

/// The pace of a whole process, shared by its connections (rule U11).
pub type SharedPace = Arc<Mutex<TokenBucket>>;

/// The pace that the settings ask for, to be shared by all connections to the destination.
pub fn shared_pace(config: &DestinationConfig) -> Option<SharedPace> {
    let rate = config.max_messages_per_second?;
    Some(Arc::new(Mutex::new(TokenBucket::new(rate, Instant::now().into_std()))))
}

/// What a connection is made of.
pub struct ConnectionParts {
    /// The worker on whose arbiter it runs.
    pub worker: usize,
    /// Its place in the worker's pool.
    pub index: usize,
    /// Opens connections.
    pub dial: Rc<dyn Dial>,
    /// The level at which connections really confirm.
    pub level: Confirmation,
    /// Mailbox capacity and number of piece credits.
    pub mailbox: usize,
    /// The process's pace, if there is a limit.
    pub pace: Option<SharedPace>,
    /// For gap records in place of messages that the receiver does not take.
    pub gap_facts: GapFacts,
    /// Who learns what is known of the receiver.
    pub receiver_changed: Recipient<ReceiverChanged>,
    /// Where totals are kept.
    pub counters: Arc<Counters>,
    /// Where it says what happens.
    pub logger: Logger,
    /// Seed of the back-off's jitter.
    pub seed: u64,
    /// Reports its end.
    pub guard: ExitGuard,
}

/// One connection of a worker's pool to the receiver.
///
/// - **Arbiter**: its worker's, shared with the formatter that feeds it.
/// - **Mailbox**: `mailbox` messages; as many piece credits exist, so it is never full (I6).
/// - **In**: [`SendBatch`], [`OpenConnection`], [`CloseConnection`].
/// - **Out**: [`ReceiverChanged`] on change; each ticket reports by itself.
/// - **Timers**: one sleep, re-armed for whatever comes next (look, end of probation, time-out, pause between attempts).
/// - **Watched by** the holder of its guard's recipient. It ends only by [`CloseConnection`].
/// - **A restart loses** nothing: tickets of pieces that it held fail by drop, and their batches are pulled again.
///
/// All its work is done by one future in its context, the pump, which the handlers wake. Decisions are those of
/// `Session`.
pub struct SyslogConnection {
    worker: usize,
    index: usize,
    dial: Rc<dyn Dial>,
    level: Confirmation,
    framing: Framing,
    mailbox: usize,
    confirm_after_connect: Duration,
    timeout: Duration,
    pace: Option<SharedPace>,
    receiver_changed: Recipient<ReceiverChanged>,
    counters: Arc<Counters>,
    logger: Logger,
    session: Session<QueuedPiece>,
    set_aside: SetAside,
    link: Link,
    /// Answers of the receiver on the open connection that have been noticed.
    answers: u64,
    backoff: Backoff,
    outage: Outage,
    early_closes: u32,
    /// Connect although there is nothing to send, until it has been ready once (rule L8).
    open_wanted: bool,
    closing: Option<Instant>,
    said_connected: bool,
    state: ReceiverState,
    sleep: Option<Pin<Box<Sleep>>>,
    waker: Option<Waker>,
    /// Last, so that all tickets have settled when the end is reported.
    _guard: ExitGuard,
}

/// What there is of a connection.
enum Link {
    /// None; the next attempt not before `until`.
    None { until: Instant },
    /// An attempt.
    Dialing(LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>>),
    /// One that is open; `unflushed` bytes were written since the last flush.
    Up { transport: Box<dyn Transport>, unflushed: usize },
    /// One that we close; waits for the peer's end until `until`.
    Closing { transport: Box<dyn Transport>, shut: bool, until: Instant },
}

/// What the pump does after a step.
enum Step {
    /// There may be more to do at once.
    Again(Link),
    /// Let others have their turn, then go on.
    Yield(Link),
    /// Nothing to do before something happens, or before this moment.
    Wait(Link, Option<Instant>),
    /// The end.
    Done,
}

impl SyslogConnection {
    /// A connection that opens when there is something to send, or when it is told to.
    pub fn new(config: &DestinationConfig, parts: ConnectionParts) -> Self {
        let ConnectionParts { worker, index, level, .. } = parts;
        // Rule C2 is about peers whose system acknowledges what they never read: a datagram socket has none, and what a
        // receiver of RELP has answered stays answered, however soon it ends the session.
        let confirm_after_connect = match level {
            Confirmation::Sent | Confirmation::AppAcked => Duration::ZERO,
            Confirmation::Written | Confirmation::TcpAcked => config.confirm_after_connect,
        };
        let first_look = match level {
            Confirmation::Sent | Confirmation::Written => Duration::ZERO,
            Confirmation::TcpAcked => FIRST_LOOK,
            Confirmation::AppAcked => LOOK_WITH_ANSWERS,
        };
        let answers = level == Confirmation::AppAcked;
        let silence = confirm_after_connect.max(LEAST_SILENCE);
        let times = SessionTimes {
            confirm_after_connect,
            timeout: config.timeout,
            first_look,
            linger: if answers { Duration::ZERO } else { confirm_after_connect / 5 },
            trials: (level != Confirmation::Sent)
                .then_some(TrialTimes { silence, linger: if answers { Duration::ZERO } else { silence } }),
        };
        let logger = parts.logger.new(o!(
            "connection" => format!("{worker}.{index}"),
            "receiver" => format!("{}:{}", config.host, config.port),
        ));
        Self {
            worker,
            index,
            dial: parts.dial,
            level,
            framing: config.framing,
            mailbox: parts.mailbox,
            confirm_after_connect,
            timeout: config.timeout,
            pace: parts.pace,
            receiver_changed: parts.receiver_changed,
            counters: parts.counters,
            logger,
            session: Session::new(times),
            set_aside: SetAside::new(parts.gap_facts, RenderSettings::from(config)),
            answers: 0,
            link: Link::None { until: Instant::now() },
            backoff: Backoff::new(config.reconnect.0, config.reconnect.1, parts.seed),
            outage: Outage::default(),
            early_closes: 0,
            open_wanted: false,
            closing: None,
            said_connected: false,
            state: ReceiverState::Idle,
            sleep: None,
            waker: None,
            _guard: parts.guard,
        }
    }

    /// Starts it on this arbiter. Its mailbox has its capacity at once: with plain [`Actor::start`] it would be 16 until
    /// the first turn, and a formatter that is quicker would find it full.
    pub fn launch(self) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(self.mailbox + CONTROLS);
            self
        })
    }

    /// Does all that can be done now; ready when the actor has to end.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        let mut budget = BYTES_PER_TURN;
        loop {
            let now = Instant::now();
            self.session.sweep();
            self.settle();
            if self.closing.is_some_and(|deadline| now >= deadline) {
                let (pieces, bytes) = self.session.backlog();
                if pieces > 0 {
                    warn!(self.logger, "the time to close is over; what is not confirmed will be pulled again";
                        "pieces" => pieces, "bytes" => bytes);
                }
                return Poll::Ready(());
            }
            let link = std::mem::replace(&mut self.link, Link::None { until: now });
            let step = self.step(link, now, &mut budget, cx);
            self.settle();
            let wake_at = match step {
                Step::Again(link) => {
                    self.link = link;
                    continue;
                }
                Step::Yield(link) => {
                    self.link = link;
                    // Unlike a plain wake, this lets sockets and timers have their turn first.
                    let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
                    return Poll::Pending;
                }
                Step::Wait(link, at) => {
                    self.link = link;
                    at
                }
                Step::Done => return Poll::Ready(()),
            };
            let sweep_at = (!self.session.is_empty()).then(|| now + SWEEP_EVERY);
            let Some(at) = [wake_at, sweep_at, self.closing].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn step(&mut self, link: Link, now: Instant, budget: &mut usize, cx: &mut Context<'_>) -> Step {
        let is_over = self.closing.is_some() && self.session.is_empty();
        match link {
            Link::None { .. } | Link::Dialing(_) if is_over => Step::Done,
            Link::None { until } if !self.open_wanted && !self.session.has_unsent() => {
                Step::Wait(Link::None { until }, None)
            }
            Link::None { until } if now < until => Step::Wait(Link::None { until }, Some(until)),
            Link::None { .. } => Step::Again(Link::Dialing(self.dial.dial())),
            Link::Dialing(mut attempt) => match attempt.as_mut().poll(cx) {
                Poll::Pending => Step::Wait(Link::Dialing(attempt), None),
                Poll::Ready(Ok(transport)) => {
                    self.counters.connections_opened.add(1);
                    debug!(self.logger, "connected");
                    self.session.opened(now.into_std());
                    self.answers = 0;
                    Step::Again(Link::Up { transport, unflushed: 0 })
                }
                Poll::Ready(Err(DialError(why))) => Step::Again(self.failed(why, false, now)),
            },
            Link::Up { transport, .. } if is_over => {
                Step::Again(Link::Closing { transport, shut: false, until: now + WAIT_FOR_END })
            }
            Link::Up { mut transport, mut unflushed } => {
                match self.step_open(transport.as_mut(), &mut unflushed, now, budget, cx) {
                    Ok(Went::Again) => Step::Again(Link::Up { transport, unflushed }),
                    Ok(Went::Yield) => Step::Yield(Link::Up { transport, unflushed }),
                    Ok(Went::Wait(at)) => Step::Wait(Link::Up { transport, unflushed }, at),
                    Err(ended) => {
                        drop(transport);
                        Step::Again(self.cut(ended, now))
                    }
                }
            }
            Link::Closing { mut transport, mut shut, until } => {
                if !shut {
                    match transport.poll_shutdown(cx) {
                        Poll::Ready(Ok(())) => shut = true,
                        Poll::Ready(Err(_)) => return Step::Done,
                        Poll::Pending => {}
                    }
                }
                // Also while it is not shut: a peer that has gone will not take the rest.
                if now >= until || transport.poll_closed(cx).is_ready() {
                    return Step::Done;
                }
                Step::Wait(Link::Closing { transport, shut, until }, Some(until))
            }
        }
    }

    /// Reads, looks, writes and flushes, each as far as it goes now.
    fn step_open(
        &mut self,
        transport: &mut dyn Transport,
        unflushed: &mut usize,
        now: Instant,
        budget: &mut usize,
        cx: &mut Context<'_>,
    ) -> Result<Went, Ended> {
        let open = poll_open(transport, cx);
        if self.level == Confirmation::AppAcked {
            // What the receiver has answered stays answered, however the connection ends.
            let look = transport.look().map_err(Ended::Failed)?;
            self.looked(look.confirmed, now);
            self.notice_answers(transport, now);
            if look.refused {
                self.session.refusal_heard();
            }
        }
        open?;
        let std_now = now.into_std();
        if self.session.is_look_due(std_now) {
            let look = transport.look().map_err(Ended::Failed)?;
            // Rule C1: whoever acknowledged may have closed since.
            poll_open(transport, cx)?;
            if !look.open {
                return Err(Ended::Closed);
            }
            self.looked(look.confirmed, now);
            self.notice_answers(transport, now);
            if self.session.is_stuck(std_now) {
                return Err(Ended::Stuck);
            }
        }
        let paced_until = match self.write(transport, unflushed, now, budget, cx).map_err(Ended::Failed)? {
            Wrote::AllItCould => None,
            Wrote::PacedUntil(at) => Some(at),
            Wrote::Turn => return Ok(Went::Yield),
        };
        if *unflushed > 0 {
            match transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => *unflushed = 0,
                Poll::Ready(Err(error)) => return Err(Ended::Failed(error)),
                Poll::Pending => {}
            }
        }
        if self.session.is_look_due(std_now) || (self.closing.is_some() && self.session.is_empty()) {
            return Ok(Went::Again);
        }
        let look_at = self.session.next_look().map(Instant::from_std);
        Ok(Went::Wait([look_at, paced_until].into_iter().flatten().min()))
    }

    /// Writes large slices straight from the pieces until the socket, the pace or the turn's budget says stop.
    fn write(
        &mut self,
        transport: &mut dyn Transport,
        unflushed: &mut usize,
        now: Instant,
        budget: &mut usize,
        cx: &mut Context<'_>,
    ) -> io::Result<Wrote> {
        let std_now = now.into_std();
        loop {
            if *unflushed >= FLUSH_EVERY {
                match transport.poll_flush(cx)? {
                    Poll::Ready(()) => *unflushed = 0,
                    Poll::Pending => {
                        self.session.write_refused(std_now);
                        return Ok(Wrote::AllItCould);
                    }
                }
            }
            let mut bucket = self.pace.as_ref().map(|pace| pace.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(next) = self.session.next_write(bucket.as_ref().map(|b| b.available(std_now))) else {
                let waits_for_pace = bucket.filter(|b| b.available(std_now) == 0 && self.session.has_unsent());
                return Ok(match waits_for_pace {
                    Some(bucket) => Wrote::PacedUntil(Instant::from_std(bucket.next_at(std_now))),
                    None => Wrote::AllItCould,
                });
            };
            if *budget == 0 {
                return Ok(Wrote::Turn);
            }
            if let Some(bucket) = bucket.as_mut() {
                bucket.take(next.messages, std_now);
            }
            drop(bucket);
            match transport.poll_write(cx, &next.bytes[..next.bytes.len().min(MAX_WRITE)])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => {
                    self.session.wrote(n, std_now);
                    self.counters.bytes_sent.add(n as u64);
                    *unflushed += n;
                    *budget = budget.saturating_sub(n.max(SMALLEST_CHARGE));
                }
                Poll::Pending => {
                    self.session.write_refused(std_now);
                    return Ok(Wrote::AllItCould);
                }
            }
        }
    }

    /// A sign that the receiver is there restarts its time-out, whatever it confirms.
    fn notice_answers(&mut self, transport: &dyn Transport, now: Instant) {
        let answers = transport.answers();
        if std::mem::replace(&mut self.answers, answers) != answers {
            self.session.answered(now.into_std());
        }
    }

    /// Settles the tickets of pieces that are done with; buffers and credits return by drop.
    fn settle(&mut self) {
        while let Some((piece, how)) = self.session.next_settled() {
            match how {
                Settled::Confirmed => {
                    let is_last = piece.batch.last.is_some();
                    let refused = if is_last { self.set_aside.take(&piece.batch) } else { Vec::new() };
                    piece.batch.confirmed_except(refused);
                }
                Settled::Superseded => {
                    if let Some((ticket, _)) = piece.batch.last {
                        ticket.failed(FailReason::Superseded);
                    }
                }
            }
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// How far an open connection went.
enum Went {
    Again,
    Yield,
    Wait(Option<Instant>),
}

/// Why writing stopped.
enum Wrote {
    /// Nothing is left that may be written, or the socket is full.
    AllItCould,
    /// The pace forbids more before this moment.
    PacedUntil(Instant),
    /// The turn's budget is used up.
    Turn,
}

impl Actor for SyslogConnection {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.mailbox + CONTROLS);
        ctx.spawn(Pump);
    }
}

/// The one future that does a connection's work; it lives as long as the actor.
struct Pump;

impl ActorFuture<SyslogConnection> for Pump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut SyslogConnection,
        ctx: &mut actix::Context<SyslogConnection>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match connection.drive(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                connection.report(ReceiverState::Idle);
                actix::ActorContext::stop(ctx);
                Poll::Ready(())
            }
        }
    }
}

impl Handler<SendBatch> for SyslogConnection {
    type Result = ();

    fn handle(&mut self, batch: SendBatch, _ctx: &mut Self::Context) {
        self.session.push(QueuedPiece { batch, framing: self.framing });
        self.wake();
    }
}

impl Handler<OpenConnection> for SyslogConnection {
    type Result = ();

    fn handle(&mut self, _: OpenConnection, _ctx: &mut Self::Context) {
        self.open_wanted = !self.session.is_ready();
        self.wake();
    }
}

impl Handler<CloseConnection> for SyslogConnection {
    type Result = ();

    fn handle(&mut self, CloseConnection { deadline }: CloseConnection, _ctx: &mut Self::Context) {
        self.open_wanted = false;
        self.closing = Some(self.closing.map_or(deadline, |earlier| earlier.min(deadline)));
        self.wake();
    }
}
