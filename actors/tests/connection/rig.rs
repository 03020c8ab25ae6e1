//! One connection between a scripted formatter and a scripted receiver.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use sls_syslog_actors::config::*;
use sls_syslog_actors::connection::{ConnectionParts, GapFacts, SyslogConnection, shared_pace};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::credit::Credits;
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::messages::*;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::*;
use sls_syslog_actors::ports::Dial;
use sls_syslog_actors::ticket::{FailedFrom, PieceGuard, Ticket};
use sls_syslog_actors::watch::{ActorName, ExitGuard};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Longer than anything that a test waits for should take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test in a `System` of its own.
pub fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Hands every message that it gets to the test.
struct Probe<M>(mpsc::UnboundedSender<M>);

impl<M: Message<Result = ()> + Send + Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Send + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        let _ = self.0.send(message);
    }
}

fn probe<M: Message<Result = ()> + Send + Unpin + 'static>() -> (Recipient<M>, mpsc::UnboundedReceiver<M>) {
    let (tx, rx) = mpsc::unbounded_channel();
    (Probe(tx).start().recipient(), rx)
}

/// Settings for a receiver on this machine, quick to confirm and to retry.
pub fn config(protocol: Protocol, port: u16) -> DestinationConfig {
    DestinationConfig {
        host: "127.0.0.1".to_owned(),
        port,
        protocol,
        framing: Framing::OctetCounting,
        sep: "||".to_owned(),
        kv_escape: false,
        newlines: NewlinePolicy::Keep,
        timeout: PATIENCE,
        facility: 1,
        severity: 6,
        hostname: "here".to_owned(),
        tag: "-".to_owned(),
        style: MessageStyle::default(),
        origin: OriginStamp::Off,
        utc_offset_minutes: 0,
        confirmation: protocol.default_confirmation(),
        confirm_after_connect: Duration::ZERO,
        max_message_bytes: None,
        max_messages_per_second: None,
        connections: 1,
        reconnect: (Duration::from_millis(5), Duration::from_millis(50)),
        relp_window: 128,
        tls: TlsConfig::default(),
    }
}

/// A connection and everything round it.
pub struct Rig {
    pub connection: Addr<SyslogConnection>,
    pub counters: Arc<Counters>,
    pub credits: Credits,
    pub failed_from: FailedFrom,
    settled: mpsc::UnboundedReceiver<BatchSettled>,
    states: mpsc::UnboundedReceiver<ReceiverChanged>,
    ended: mpsc::UnboundedReceiver<ActorEnded>,
    report_to: Recipient<BatchSettled>,
    sequence: u64,
}

impl Rig {
    pub fn new(config: &DestinationConfig) -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let counters = Arc::new(Counters::default());
        let destination = Destination::new(config).expect("settings that work");
        let dial = destination.dialer(Arc::clone(&counters), logger.clone());
        Self::with(config, dial, destination.level(), counters, logger)
    }

    /// A connection that dials as it is told.
    pub fn with(
        config: &DestinationConfig,
        dial: Rc<dyn Dial>,
        level: Confirmation,
        counters: Arc<Counters>,
        logger: slog::Logger,
    ) -> Self {
        let (report_to, settled) = probe();
        let (receiver_changed, states) = probe();
        let (watcher, ended) = probe();
        let parts = ConnectionParts {
            worker: 0,
            index: 0,
            dial,
            level,
            mailbox: 64,
            pace: shared_pace(config),
            gap_facts: GapFacts {
                project: "project".to_owned(),
                logstore: "logstore".to_owned(),
                unix_seconds: Rc::new(|| 1_700_000_000),
            },
            receiver_changed,
            counters: Arc::clone(&counters),
            logger,
            seed: 7,
            guard: ExitGuard::new(ActorName::SyslogConnection { worker: 0, index: 0 }, watcher),
        };
        Self {
            connection: SyslogConnection::new(config, parts).launch(),
            counters,
            credits: Credits::new(64),
            failed_from: FailedFrom::none(),
            settled,
            states,
            ended,
            report_to,
            sequence: 0,
        }
    }

    /// Sends a batch of one piece, once there is a credit.
    pub async fn send(&mut self, messages: &[Vec<u8>]) {
        let frames = counted(messages);
        self.send_frames(frames, messages.len()).await;
    }

    pub async fn send_frames(&mut self, frames: Vec<u8>, messages: usize) {
        let credit = soon("a piece credit", self.credits.take()).await;
        let sequence = Sequence(self.sequence);
        self.sequence += 1;
        let ticket = Ticket::new(
            (ShardId(0), Epoch(1), Generation(0), sequence),
            self.failed_from.clone(),
            self.report_to.clone(),
            None,
        );
        self.connection
            .try_send(SendBatch {
                shard: ShardId(0),
                frames: Frames::new(frames, None, None),
                messages: messages as u32,
                failed_from: self.failed_from.clone(),
                sequence,
                from: Cursor::new("c0").expect("printable"),
                first_log: 0,
                last: Some((ticket, messages as u64)),
                guard: PieceGuard::none(),
                credit,
            })
            .expect("room for as many pieces as there are credits");
    }

    /// The next settlement.
    pub async fn settled(&mut self) -> (u64, Outcome) {
        let settled = soon("a settlement", self.settled.recv()).await.expect("the rig lives");
        (settled.sequence.0, settled.outcome)
    }

    /// Waits until the batches `from..to` are delivered, in order.
    pub async fn delivered(&mut self, batches: std::ops::Range<u64>) {
        for expected in batches {
            let (sequence, outcome) = self.settled().await;
            assert!(matches!(outcome, Outcome::Delivered { .. }), "batch {sequence}: {outcome:?}");
            assert_eq!(sequence, expected);
        }
    }

    pub fn nothing_settled(&mut self) {
        assert!(self.settled.try_recv().is_err(), "something was settled");
    }

    /// The next state.
    pub async fn state(&mut self) -> ReceiverState {
        soon("a state", self.states.recv()).await.expect("the rig lives").state
    }

    /// Waits for a `Down` whose sentence holds `text`.
    pub async fn down_with(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                if let ReceiverState::Down { why } = self.states.recv().await.expect("the rig lives").state {
                    if why.contains(text) {
                        return why;
                    }
                    seen.push(why);
                }
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(why) => why,
            Err(_) => panic!("waited in vain for {text:?}; seen {seen:?}"),
        }
    }

    pub fn open(&self) {
        self.connection.do_send(OpenConnection);
    }

    /// Waits for the actor's end; answers whether it panicked.
    pub async fn ended(&mut self) -> bool {
        soon("the actor's end", self.ended.recv()).await.expect("the rig lives").panicked
    }

    /// Closes, and makes sure that the actor ended without a panic.
    pub async fn close(mut self, within: Duration) {
        self.connection.do_send(CloseConnection { deadline: Instant::now() + within });
        assert!(!self.ended().await, "the connection panicked");
    }
}

/// Octet-counted frames.
pub fn counted(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut frames = Vec::new();
    for message in messages {
        frames.extend(format!("{} ", message.len()).bytes());
        frames.extend(message);
    }
    frames
}

/// The messages of a stream of octet-counted frames; the last may be cut.
pub fn uncounted(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, message)) =
        sls_syslog_actors::wire::syslog::framing::next_frame(Framing::OctetCounting, stream)
    {
        messages.push(stream[message].to_vec());
        stream = &stream[length..];
    }
    messages
}

/// `count` messages numbered from `first`, of about `size` bytes.
pub fn numbered(first: usize, count: usize, size: usize) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|n| {
            let mut message = format!("<14>1 message {n:08} ").into_bytes();
            message.resize(message.len() + size, b'x');
            message
        })
        .collect()
}

/// The number of a message made by [`numbered`].
pub fn number(message: &[u8]) -> usize {
    std::str::from_utf8(&message[14..22]).expect("digits").parse().expect("a number")
}
