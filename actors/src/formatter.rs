//! The Formatter: all the work of the CPU. Decompresses bodies, renders log groups into frames, hands pieces on.
//!
//! One batch after another, one piece at a time (rule M3): the next piece is rendered only when there is a credit for
//! its bytes and a place at its connection. Between pieces the arbiter's other actors get their turn.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient, WrapFuture};
use slog::{Logger, debug, error, o};

use crate::counters::Counters;
use crate::credit::{ByteBudget, ByteCredit, Credit, Credits};
use crate::event::Code;
use crate::messages::{BatchContent, EndFormatter, FormatBatch, FramePool, Frames, PulledBody, SendBatch};
use crate::model::bad_body::BadBody;
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::ticket::{FailReason, PieceGuard, Ticket};
use crate::watch::ExitGuard;
use crate::wire::format::origin::Batch;
use crate::wire::format::{Position, RenderSettings, Rendered, Renderer};
use crate::wire::sls::body::decompress;
use crate::wire::sls::reply::Compression;
use crate::wire::syslog::gap::GapRecord;

/// Turns batches into pieces.
///
/// - **arbiter**: its worker's, with the connections that it feeds
/// - **mailbox**: `mailbox.formatter`; never full, because that is also the number of batch credits (I6)
/// - **in**: `FormatBatch`
/// - **out**: `SendBatch` to the shard's connection; tickets report by themselves
/// - **timers**: none
/// - **watched by**: its worker's pipeline
/// - **a restart loses** nothing: tickets in its hands fail by drop, and their batches are pulled again
pub struct Formatter {
    mailbox: usize,
    piece_bytes: usize,
    settings: RenderSettings,
    renderer: Renderer,
    connections: Vec<ConnectionHandle>,
    budget: ByteBudget,
    pool: FramePool,
    queue: VecDeque<FormatBatch>,
    current: Option<Current>,
    /// A step is under way: it waits for credits, or for its turn.
    stepping: bool,
    raw: Vec<u8>,
    counters: Arc<Counters>,
    log: Logger,
    _guard: ExitGuard,
}

/// How a formatter reaches a connection.
#[derive(Debug, Clone)]
pub struct ConnectionHandle {
    /// One handle per formatter for life (actix fact 1).
    pub send: Recipient<SendBatch>,
    /// Places for unconfirmed pieces.
    pub credits: Credits,
}

/// What a formatter is made of.
pub struct FormatterParts {
    /// Mailbox capacity.
    pub mailbox: usize,
    /// Largest piece, in bytes.
    pub piece_bytes: usize,
    /// What messages look like.
    pub settings: RenderSettings,
    /// The pool, in order; a shard always goes to the same one.
    pub connections: Vec<ConnectionHandle>,
    /// The worker's share for pieces.
    pub budget: ByteBudget,
    /// Totals.
    pub counters: Arc<Counters>,
    /// Logger.
    pub log: Logger,
    /// Reports the actor's end.
    pub guard: ExitGuard,
}

/// The batch that is being rendered.
struct Current {
    from: Cursor,
    ticket: Ticket,
    content: Content,
    logs: u64,
    log_groups: u32,
}

enum Content {
    /// A body that came as it is, or whose decompressed bytes lie in the formatter's buffer.
    Raw {
        body: PulledBody,
        decompressed: bool,
        position: Position,
    },
    Gap(Box<GapRecord>),
}

/// What pays for the next piece.
struct PieceCredit {
    place: Credit,
    bytes: ByteCredit,
}

/// Frames are rarely larger than this times the raw log groups; a wrong guess costs a second piece.
const FRAMES_PER_RAW: f64 = 1.5;
/// Room for headers of few logs, and for a gap record.
const MIN_PIECE: usize = 16 << 10;
/// A buffer for raw log groups that grew beyond this is not kept.
const KEEP_RAW: usize = 16 << 20;

impl Formatter {
    /// Puts it together; nothing happens before it is started.
    pub fn new(parts: FormatterParts) -> Self {
        Self {
            mailbox: parts.mailbox,
            piece_bytes: parts.piece_bytes,
            renderer: Renderer::new(parts.settings.clone()),
            settings: parts.settings,
            connections: parts.connections,
            pool: FramePool::new(4 * parts.piece_bytes),
            budget: parts.budget,
            queue: VecDeque::new(),
            current: None,
            stepping: false,
            raw: Vec::new(),
            counters: parts.counters,
            log: parts.log.new(o!("actor" => "formatter")),
            _guard: parts.guard,
        }
    }

    /// Starts it on this arbiter, with its mailbox as large as set from the first message on (actix fact 6).
    pub fn launch(self) -> Addr<Self> {
        Self::create(|ctx| {
            // One more for its end, which comes while batches may still be on their way (I6).
            ctx.set_mailbox_capacity(self.mailbox + 1);
            self
        })
    }

    /// Goes on with the current batch or takes the next one. One piece a turn.
    fn step(&mut self, ctx: &mut Context<Self>) {
        if self.stepping || !self.take_next() {
            return;
        }
        let Some(current) = &self.current else { return };
        self.stepping = true;
        let credits = self.connection(current.ticket.shard).credits.clone();
        let budget = self.budget.clone();
        let bytes = current.piece_estimate(self.piece_bytes);
        let waiting = async move {
            // Others on this arbiter have their turn first: a connection has to write what was rendered.
            tokio::task::yield_now().await;
            let place = credits.take().await;
            PieceCredit { place, bytes: budget.reserve(bytes).await }
        };
        ctx.spawn(waiting.into_actor(self).map(|credit, act, ctx| {
            act.stepping = false;
            act.send_piece(credit, ctx);
            act.step(ctx);
        }));
    }

    /// Makes sure that there is a current batch that is worth rendering; whether there is.
    fn take_next(&mut self) -> bool {
        loop {
            if self.current.as_ref().is_some_and(|current| !current.ticket.is_superseded()) {
                return true;
            }
            if let Some(superseded) = self.current.take() {
                superseded.ticket.failed(FailReason::Superseded);
            }
            let Some(FormatBatch { from, content, ticket }) = self.queue.pop_front() else { return false };
            if ticket.is_superseded() {
                ticket.failed(FailReason::Superseded);
                continue;
            }
            let content = match content {
                BatchContent::Gap(gap) => Content::Gap(gap),
                BatchContent::Body(body) => match self.unpack(&body) {
                    Ok(decompressed) => Content::Raw {
                        body,
                        decompressed,
                        position: Position::of(Batch::new(ticket.shard, from.clone())),
                    },
                    Err(why) => {
                        self.refuse(ticket, &body, why);
                        continue;
                    }
                },
            };
            self.current = Some(Current { from, ticket, content, logs: 0, log_groups: 0 });
        }
    }

    /// Decompresses a body into the kept buffer, if it is compressed; whether it was.
    fn unpack(&mut self, body: &PulledBody) -> Result<bool, String> {
        if self.raw.capacity() > KEEP_RAW && body.raw_size < KEEP_RAW as u64 {
            self.raw = Vec::new();
        }
        let raw = &mut self.raw;
        let unpacked = catch_unwind(AssertUnwindSafe(|| {
            decompress(&body.bytes, body.compression, body.raw_size, raw).map(drop).map_err(|error| error.to_string())
        }));
        unpacked.unwrap_or_else(|_| Err(self.panicked("decompressing")))?;
        Ok(body.compression != Compression::None && body.raw_size > 0)
    }

    /// Renders the next piece of the current batch and hands it to the shard's connection.
    fn send_piece(&mut self, credit: PieceCredit, ctx: &mut Context<Self>) {
        let Some(mut current) = self.current.take() else { return };
        if current.ticket.is_superseded() {
            current.ticket.failed(FailReason::Superseded);
            return;
        }
        let PieceCredit { place, mut bytes } = credit;
        let limit = bytes.bytes().min(self.piece_bytes);
        let mut frames = self.pool.take(limit);
        // A buffer from the pool may be larger than was reserved; what it holds has to be paid for (I5).
        let unpaid = frames.capacity().saturating_sub(bytes.bytes());
        if unpaid > 0 {
            match self.budget.try_reserve(unpaid) {
                Some(more) => bytes.merge(more),
                None => frames = Vec::with_capacity(limit),
            }
        }
        let first_log = current.logs;
        let rendered = match self.render(&mut current, &mut frames, limit) {
            Ok(rendered) => rendered,
            Err(why) => {
                return match &current.content {
                    Content::Raw { body, .. } => self.refuse(current.ticket, body, why),
                    Content::Gap(_) => current.ticket.failed(FailReason::Dropped),
                };
            }
        };
        self.count(&rendered);
        bytes.shrink_to(frames.capacity());
        // A message that is longer than a piece has made the buffer grow: the rest is paid for before anything more is
        // rendered, or all that there is, and the message goes alone (I5).
        let unpaid = frames.capacity().min(self.budget.total()).saturating_sub(bytes.bytes());
        if unpaid == 0 {
            return self.hand_on(current, &rendered, first_log, (frames, bytes), place);
        }
        self.stepping = true;
        let budget = self.budget.clone();
        let waiting = async move { budget.reserve(unpaid).await };
        ctx.spawn(waiting.into_actor(self).map(move |more, act, ctx| {
            bytes.merge(more);
            act.stepping = false;
            act.hand_on(current, &rendered, first_log, (frames, bytes), place);
            act.step(ctx);
        }));
    }

    /// Hands a piece to the shard's connection; the batch stays current until its last one.
    fn hand_on(
        &mut self,
        current: Current,
        rendered: &Rendered,
        first_log: u64,
        (frames, bytes): (Vec<u8>, ByteCredit),
        place: Credit,
    ) {
        debug_assert!(bytes.bytes() >= frames.capacity().min(self.budget.total()), "I5: a piece is not paid for");
        let shard = current.ticket.shard;
        let piece = SendBatch {
            shard,
            messages: rendered.messages,
            failed_from: current.ticket.failed_from().clone(),
            sequence: current.ticket.sequence,
            from: current.from.clone(),
            first_log,
            frames: Frames::new(frames, Some(bytes), Some(self.pool.clone())).with_longest(rendered.longest),
            last: None,
            guard: if rendered.done { PieceGuard::none() } else { PieceGuard::of(&current.ticket) },
            credit: place,
        };
        let piece = if rendered.done {
            SendBatch { last: Some((current.ticket, current.logs)), ..piece }
        } else {
            self.current = Some(current);
            piece
        };
        // Never full: each piece has a credit, and there are as many as the mailbox holds (I6); an application's own
        // output may have been given less. A piece that was not taken is gone, and with the last one the ticket: the
        // batch fails at once, or its later pieces would be confirmed without this one.
        let Err(refused) = self.connection(shard).send.try_send(piece) else { return };
        if let actix::prelude::SendError::Full(_) = refused {
            self.counters.full_mailboxes.add(1);
        }
        if let Some(current) = self.current.take() {
            current.ticket.failed(FailReason::Dropped);
        }
    }

    /// A panic while rendering is the fault of the body, not of the formatter (rule O2).
    fn render(&mut self, current: &mut Current, frames: &mut Vec<u8>, limit: usize) -> Result<Rendered, String> {
        let renderer = &mut self.renderer;
        let kept = &self.raw;
        let rendered = catch_unwind(AssertUnwindSafe(|| match &mut current.content {
            Content::Gap(gap) => {
                renderer.gap(gap, frames);
                Ok(Rendered { messages: 1, longest: frames.len(), done: true, ..Rendered::default() })
            }
            Content::Raw { body, decompressed, position } => {
                let raw = if *decompressed { &kept[..body.raw_size as usize] } else { &body.bytes[..] };
                renderer.render(raw, position, frames, limit).map_err(|error| error.to_string())
            }
        }));
        let rendered = rendered.unwrap_or_else(|_| Err(self.panicked("rendering")))?;
        current.logs += rendered.logs;
        current.log_groups += rendered.log_groups;
        match &current.content {
            Content::Raw { body, .. } if rendered.done && current.log_groups != body.log_groups => {
                Err(format!("it holds {} log groups, but {} were declared", current.log_groups, body.log_groups))
            }
            _ => Ok(rendered),
        }
    }

    /// A body made us panic, and was caught at it; what is wrong with it.
    fn panicked(&mut self, doing: &str) -> String {
        self.counters.panics.add(1);
        let why = format!("{doing} it caused a panic");
        error!(self.log, "{}", why; "code" => Code::Panic.as_str());
        // What is kept from record to record may be half written.
        self.renderer = Renderer::new(self.settings.clone());
        self.raw = Vec::new();
        why
    }

    /// The fetcher says it to a human; here it is for us.
    fn refuse(&self, ticket: Ticket, body: &PulledBody, why: String) {
        debug!(self.log, "a body cannot be used: {}", why;
            "shard" => ticket.shard.0, "epoch" => ticket.epoch.0, "seq" => ticket.sequence.0);
        let mut digest = DefaultHasher::new();
        body.bytes.hash(&mut digest);
        ticket.failed(FailReason::BadBody {
            why,
            body: BadBody { log_groups: body.log_groups, digest: digest.finish() },
        });
    }

    fn count(&self, rendered: &Rendered) {
        self.counters.logs_rendered.add(rendered.logs);
        for (counter, n) in [
            (&self.counters.messages_altered, rendered.altered),
            (&self.counters.messages_truncated, rendered.truncated),
            (&self.counters.logs_ambiguous, rendered.ambiguous),
            (&self.counters.bad_nanoseconds, rendered.bad_nanoseconds),
        ] {
            if n > 0 {
                counter.add(n);
            }
        }
    }

    /// The connection of a shard: always the same, so that order needs no sequencer.
    fn connection(&self, shard: ShardId) -> &ConnectionHandle {
        &self.connections[shard.0 as usize % self.connections.len()]
    }
}

impl Current {
    /// Bytes to reserve for the next piece.
    fn piece_estimate(&self, piece_bytes: usize) -> usize {
        match &self.content {
            Content::Gap(_) => MIN_PIECE,
            Content::Raw { body, .. } => {
                let whole = (body.raw_size as f64 * FRAMES_PER_RAW) as usize + MIN_PIECE;
                whole.next_multiple_of(MIN_PIECE).min(piece_bytes)
            }
        }
    }
}

impl Actor for Formatter {
    type Context = Context<Self>;
}

impl Handler<FormatBatch> for Formatter {
    type Result = ();

    fn handle(&mut self, batch: FormatBatch, ctx: &mut Context<Self>) {
        self.queue.push_back(batch);
        self.step(ctx);
    }
}

impl Handler<EndFormatter> for Formatter {
    type Result = ();

    fn handle(&mut self, _: EndFormatter, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::config::{DestinationConfig, Protocol};
    use crate::messages::{ActorEnded, BatchSettled, Outcome};
    use crate::model::ids::{Epoch, Generation, Sequence};
    use crate::testing::probe::probe;
    use crate::ticket::FailedFrom;
    use crate::watch::ActorName;
    use crate::wire::sls::body::compress;
    use crate::wire::sls::proto::{Content as Pair, Log, LogGroup, LogGroupList};
    use crate::wire::sls::reply::PullHead;

    /// An application's output with too small a mailbox, which it empties once a message found it full.
    struct TooSmall(Arc<Counters>);

    impl Actor for TooSmall {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Context<Self>) {
            ctx.set_mailbox_capacity(1);
            let counters = Arc::clone(&self.0);
            let full = async move {
                while counters.full_mailboxes.get() == 0 {
                    tokio::task::yield_now().await;
                }
            };
            // actix fact 9: freezes the mailbox.
            ctx.wait(full.into_actor(self));
        }
    }

    impl Handler<SendBatch> for TooSmall {
        type Result = ();

        fn handle(&mut self, piece: SendBatch, _: &mut Context<Self>) {
            if !piece.is_superseded() {
                piece.confirmed();
            }
        }
    }

    fn body_of(logs: usize) -> PulledBody {
        let log =
            Log { time: 1, contents: vec![Pair { key: "k".into(), value: "v".repeat(1000).into() }], ..Log::default() };
        let group = LogGroup { logs: vec![log; logs], ..LogGroup::default() };
        let bytes = LogGroupList { log_groups: vec![group] }.encode_to_vec();
        let head = PullHead {
            count: 1,
            next_cursor: None,
            raw_size: bytes.len() as u64,
            body_size: None,
            compression: Compression::None,
            end_of_shard: None,
            cursor_time_s: None,
        };
        let credit = ByteBudget::new(1 << 20).try_reserve(1 << 20).expect("free");
        PulledBody::new(&head, bytes.into(), credit)
    }

    #[test]
    fn i6_a_batch_of_which_a_piece_was_not_taken_is_never_delivered() {
        crate::testing::runtime::run(async {
            let counters = Arc::new(Counters::default());
            let output = TooSmall(Arc::clone(&counters)).start();
            // Its mailbox has its size from the first turn on.
            tokio::task::yield_now().await;
            let (watcher, _ended) = probe::<ActorEnded>();
            let formatter = Formatter::new(FormatterParts {
                mailbox: 8,
                piece_bytes: 8 << 10,
                settings: RenderSettings::from(&DestinationConfig::new("siem", Protocol::Tcp)),
                connections: vec![ConnectionHandle { send: output.recipient(), credits: Credits::new(64) }],
                budget: ByteBudget::new(1 << 20),
                counters: Arc::clone(&counters),
                log: Logger::root(slog::Discard, o!()),
                guard: ExitGuard::new(ActorName::Formatter { worker: 0 }, watcher),
            })
            .launch();
            let (report_to, mut settled) = probe::<BatchSettled>();
            let numbers = (ShardId(0), Epoch(1), Generation(0), Sequence(0));
            let ticket = Ticket::new(numbers, FailedFrom::none(), report_to, None);
            formatter.do_send(FormatBatch {
                from: Cursor::new("c0").expect("printable"),
                content: BatchContent::Body(body_of(100)),
                ticket,
            });
            assert!(matches!(settled.next().await.outcome, Outcome::Failed(_)));
            assert!(counters.full_mailboxes.get() > 0);
        });
    }

    /// A formatter was told to end while batches were on their way; the last of them found no place, though it had its
    /// credit.
    #[test]
    fn i6_the_end_of_a_formatter_takes_no_batchs_place() {
        crate::testing::runtime::run(async {
            let (send, _pieces) = probe::<SendBatch>();
            let (watcher, _ended) = probe::<ActorEnded>();
            let formatter = Formatter::new(FormatterParts {
                mailbox: 2,
                piece_bytes: 8 << 10,
                settings: RenderSettings::from(&DestinationConfig::new("siem", Protocol::Tcp)),
                connections: vec![ConnectionHandle { send, credits: Credits::new(64) }],
                budget: ByteBudget::new(1 << 20),
                counters: Arc::default(),
                log: Logger::root(slog::Discard, o!()),
                guard: ExitGuard::new(ActorName::Formatter { worker: 0 }, watcher),
            })
            .launch();
            let (report_to, _settled) = probe::<BatchSettled>();
            let batches: Recipient<FormatBatch> = formatter.clone().recipient();
            formatter.do_send(EndFormatter);
            for sequence in 0..2 {
                let numbers = (ShardId(0), Epoch(1), Generation(0), Sequence(sequence));
                let ticket = Ticket::new(numbers, FailedFrom::none(), report_to.clone(), None);
                let from = Cursor::new("c0").expect("printable");
                let content = BatchContent::Body(body_of(1));
                assert!(batches.try_send(FormatBatch { from, content, ticket }).is_ok(), "batch {sequence}");
            }
        });
    }

    /// Takes the decompressed bytes away from under the batch in hand, so that rendering it panics as a defect would.
    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Spoil;

    impl Handler<Spoil> for Formatter {
        type Result = ();

        fn handle(&mut self, _: Spoil, _: &mut Context<Self>) {
            assert!(self.current.is_some(), "nothing is in hand");
            self.raw = Vec::new();
        }
    }

    #[test]
    fn o2_a_panic_while_rendering_is_the_fault_of_the_body_and_the_formatter_goes_on() {
        let scenario = async {
            let counters = Arc::new(Counters::default());
            let (send, mut pieces) = probe::<SendBatch>();
            let (watcher, mut ended) = probe::<ActorEnded>();
            let credits = Credits::new(1);
            let hold = credits.try_take();
            let formatter = Formatter::new(FormatterParts {
                mailbox: 8,
                piece_bytes: 1 << 20,
                settings: RenderSettings::from(&DestinationConfig::new("siem", Protocol::Tcp)),
                connections: vec![ConnectionHandle { send, credits }],
                budget: ByteBudget::new(1 << 20),
                counters: Arc::clone(&counters),
                log: Logger::root(slog::Discard, o!()),
                guard: ExitGuard::new(ActorName::Formatter { worker: 0 }, watcher),
            })
            .launch();
            let (report_to, mut settled) = probe::<BatchSettled>();
            let batch = || {
                let numbers = (ShardId(0), Epoch(1), Generation(0), Sequence(0));
                let mut body = body_of(10);
                (body.bytes, body.compression) = (compress(&body.bytes, Compression::Lz4).into(), Compression::Lz4);
                let ticket = Ticket::new(numbers, FailedFrom::none(), report_to.clone(), None);
                let from = Cursor::new("c0").expect("printable");
                FormatBatch { from, content: BatchContent::Body(body), ticket }
            };
            formatter.do_send(batch());
            formatter.do_send(Spoil);
            tokio::task::yield_now().await;
            drop(hold);
            match settled.next().await.outcome {
                Outcome::Failed(FailReason::BadBody { why, body }) => {
                    assert!(why.contains("panic") && body.log_groups == 1, "{why}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(counters.panics.get(), 1);
            formatter.do_send(batch());
            pieces.next().await.confirmed();
            assert!(matches!(settled.next().await.outcome, Outcome::Delivered { logs: 10, .. }));
            assert_eq!(ended.try_next().map(|ended| ended.panicked), None, "it has not ended");
        };
        crate::testing::runtime::VirtualTime::default().expect_panics("out of range").run(scenario);
    }
}
