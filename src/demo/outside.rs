//! The outside as the demo's forwarder meets it: real, but that its connections are watched, and that there are traps
//! in it, which make actors panic where they are set. An embedder may replace all of it, so nothing in the product knows
//! of it.

use std::io;
use std::panic::PanicHookInfo;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use slog::{Drain, Logger, Never, OwnedKVList, Record, o};
use sls_syslog_actors::config::Confirmation;
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::io::system_ports::SystemPorts;
use sls_syslog_actors::model::cursor::{Cursor, StartPosition};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::{DeadLetter, Dial, DialError, LogHub, Look, PullReply, Transport, WorkerPorts};
use sls_syslog_actors::wire::sls::error::SlsError;
use sls_syslog_actors::wire::sls::reply::{Checkpoint, ConsumerGroup, LogStoreInfo, ShardInfo};

/// An actor that is made to panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// While it sends a heartbeat.
    Coordinator,
    /// While it pulls.
    ShardFetcher,
    /// While it tells its log of a body that it cannot use.
    Formatter,
    /// While it writes.
    SyslogConnection,
}

impl Victim {
    pub(super) const ALL: [Self; 4] = [Self::Coordinator, Self::ShardFetcher, Self::Formatter, Self::SyslogConnection];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "Coordinator",
            Self::ShardFetcher => "ShardFetcher",
            Self::Formatter => "Formatter",
            Self::SyslogConnection => "SyslogConnection",
        }
    }

    /// Where it is in its work.
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::Coordinator => "in the middle of a heartbeat",
            Self::ShardFetcher => "in the middle of a pull",
            Self::Formatter => "over a damaged body",
            Self::SyslogConnection => "in the middle of a write",
        }
    }
}

/// The traps, one for each victim: once set, the next to come by panics.
#[derive(Debug, Default)]
pub(super) struct Traps {
    set: [AtomicBool; 4],
    sprung: [AtomicU64; 4],
}

/// How such a panic is known.
const PLANNED: &str = "a panic made on purpose";

impl Traps {
    pub(super) fn set(&self, victim: Victim) {
        self.set[victim as usize].store(true, Ordering::Relaxed);
    }

    /// Takes one away, where nobody came by.
    pub(super) fn clear(&self, victim: Victim) {
        self.set[victim as usize].store(false, Ordering::Relaxed);
    }

    /// How many panics there were.
    pub(super) fn sprung(&self, victim: Victim) -> u64 {
        self.sprung[victim as usize].load(Ordering::Relaxed)
    }

    fn step(&self, victim: Victim) {
        if self.set[victim as usize].swap(false, Ordering::Relaxed) {
            self.sprung[victim as usize].fetch_add(1, Ordering::Relaxed);
            panic!("{PLANNED}, in the {}", victim.name());
        }
    }
}

/// Has planned panics, which are told elsewhere, print nothing; all others are what they were.
pub(super) fn expect_planned_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        let text = panic.payload().downcast_ref::<String>();
        if !text.is_some_and(|text| text.starts_with(PLANNED)) {
            usual(panic);
        }
    }));
}

/// A log that panics under the formatter, and is the inner one otherwise.
pub(super) fn log(inner: Logger, traps: Arc<Traps>) -> Logger {
    Logger::root(TroubledLog { inner, traps }, o!())
}

struct TroubledLog {
    inner: Logger,
    traps: Arc<Traps>,
}

impl Drain for TroubledLog {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if record.module().ends_with("::formatter") {
            self.traps.step(Victim::Formatter);
        }
        Drain::log(&self.inner, record, values)
    }
}

/// The connections to the receiver, watched.
#[derive(Debug, Default)]
pub(super) struct Connections {
    opened: AtomicU64,
    open: Mutex<Vec<Arc<Watched>>>,
}

/// One connection, counted as it is used; bytes are those of frames, before TLS.
#[derive(Debug)]
struct Watched {
    number: u64,
    written: AtomicU64,
    confirmed: AtomicU64,
}

/// A connection at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionRow {
    /// The first one that was opened is 1.
    pub(super) number: u64,
    /// Bytes written.
    pub(super) written: u64,
    /// Bytes confirmed, as of the forwarder's last look.
    pub(super) confirmed: u64,
}

impl Connections {
    /// Those that are open, oldest first.
    pub(super) fn open(&self) -> Vec<ConnectionRow> {
        let row = |watched: &Arc<Watched>| ConnectionRow {
            number: watched.number,
            // In this order: what is confirmed was written before.
            confirmed: watched.confirmed.load(Ordering::Relaxed),
            written: watched.written.load(Ordering::Relaxed),
        };
        self.list().iter().map(row).collect()
    }

    fn add(&self) -> Arc<Watched> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let watched = Arc::new(Watched { number, written: AtomicU64::new(0), confirmed: AtomicU64::new(0) });
        self.list().push(Arc::clone(&watched));
        watched
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Watched>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outside as it really is, with watched connections and with traps in it.
pub(super) struct DemoPorts {
    pub(super) inner: SystemPorts,
    pub(super) traps: Arc<Traps>,
    pub(super) connections: Arc<Connections>,
}

impl WorkerPorts for DemoPorts {
    fn log_hub(&self) -> Rc<dyn LogHub> {
        Rc::new(TroubledHub { inner: self.inner.log_hub(), traps: Arc::clone(&self.traps) })
    }

    fn dialer(&self, counters: Arc<Counters>, log: Logger) -> Rc<dyn Dial> {
        Rc::new(DemoDialer {
            inner: self.inner.dialer(counters, log),
            traps: Arc::clone(&self.traps),
            connections: Arc::clone(&self.connections),
        })
    }

    fn dead_letter(&self, log: Logger) -> Option<Rc<dyn DeadLetter>> {
        self.inner.dead_letter(log)
    }

    fn level(&self) -> Confirmation {
        self.inner.level()
    }

    fn unix_seconds(&self) -> i64 {
        self.inner.unix_seconds()
    }

    fn seed(&self) -> u64 {
        self.inner.seed()
    }
}

struct TroubledHub {
    inner: Rc<dyn LogHub>,
    traps: Arc<Traps>,
}

type Answer<T> = LocalBoxFuture<'static, Result<T, SlsError>>;

impl LogHub for TroubledHub {
    fn get_logstore(&self) -> Answer<LogStoreInfo> {
        self.inner.get_logstore()
    }

    fn list_shards(&self) -> Answer<Vec<ShardInfo>> {
        self.inner.list_shards()
    }

    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> Answer<Cursor> {
        self.inner.get_cursor(shard, from)
    }

    fn get_cursor_time(&self, shard: ShardId, cursor: &Cursor) -> Answer<i64> {
        self.inner.get_cursor_time(shard, cursor)
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        self.traps.step(Victim::ShardFetcher);
        self.inner.pull_logs(shard, cursor, count)
    }

    fn create_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        self.inner.create_consumer_group(group)
    }

    fn list_consumer_groups(&self) -> Answer<Vec<ConsumerGroup>> {
        self.inner.list_consumer_groups()
    }

    fn update_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        self.inner.update_consumer_group(group)
    }

    fn heartbeat(&self, held: &[ShardId]) -> Answer<Vec<ShardId>> {
        self.traps.step(Victim::Coordinator);
        self.inner.heartbeat(held)
    }

    fn get_checkpoint(&self, shard: ShardId) -> Answer<Checkpoint> {
        self.inner.get_checkpoint(shard)
    }

    fn update_checkpoint(&self, shard: ShardId, cursor: &Cursor, force: bool) -> Answer<()> {
        self.inner.update_checkpoint(shard, cursor, force)
    }
}

struct DemoDialer {
    inner: Rc<dyn Dial>,
    traps: Arc<Traps>,
    connections: Arc<Connections>,
}

impl Dial for DemoDialer {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        let (dialing, traps, connections) = (self.inner.dial(), Arc::clone(&self.traps), Arc::clone(&self.connections));
        async move {
            let inner = dialing.await?;
            let watched = connections.add();
            Ok(Box::new(DemoTransport { inner, traps, watched, connections }) as Box<dyn Transport>)
        }
        .boxed_local()
    }
}

struct DemoTransport {
    inner: Box<dyn Transport>,
    traps: Arc<Traps>,
    watched: Arc<Watched>,
    connections: Arc<Connections>,
}

impl Drop for DemoTransport {
    fn drop(&mut self) {
        self.connections.list().retain(|open| open.number != self.watched.number);
    }
}

impl Transport for DemoTransport {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        self.traps.step(Victim::SyslogConnection);
        let written = self.inner.poll_write(cx, frames);
        if let Poll::Ready(Ok(bytes)) = written {
            self.watched.written.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_closed(cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        let look = self.inner.look()?;
        self.watched.confirmed.store(look.confirmed, Ordering::Relaxed);
        Ok(look)
    }

    fn answers(&self) -> u64 {
        self.inner.answers()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }
}
