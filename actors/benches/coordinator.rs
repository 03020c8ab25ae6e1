//! What one Coordinator costs that holds thousands of leases.
//!
//! `cargo bench -p sls-syslog-actors --bench coordinator [leases]` (2000) lets one live through minutes of virtual time,
//! with a stand-in for SLS that answers at once and keeps no accounts, so that nothing else is measured: first idle, then
//! with a batch of each shard settled once a second. Printed is the real time that it took; the whole of the Coordinator's
//! work runs on one thread.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use slog::{Logger, o};
use sls_syslog_actors::config::{
    Confirmation, Credentials, DestinationConfig, ForwarderConfig, Protocol, SourceConfig,
};
use sls_syslog_actors::coordinator::{Coordinator, CoordinatorParts};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::loghub::encode_cursor;
use sls_syslog_actors::messages::{
    BeginJoining, CheckpointReady, FetcherStarted, OpenConnection, ReceiverChanged, ReceiverState, StartShard,
    WorkerHandle,
};
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::LogHub;
use sls_syslog_actors::testing::hub::InMemoryHub;
use sls_syslog_actors::testing::layers::{Answer, HubLayer, Layered};
use sls_syslog_actors::testing::probe::probe;
use sls_syslog_actors::testing::runtime::run;
use sls_syslog_actors::wire::sls::reply::{ShardInfo, parse_heartbeat, parse_shards};
use sls_syslog_actors::wire::sls::request;
use tokio::sync::oneshot;

/// Virtual time of each part.
const MINUTES: u64 = 10;

fn main() {
    let leases = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(2000);
    run(measure(leases));
}

/// Answers what a Coordinator asks, through the bytes that go over the wire.
struct Sls {
    below: Rc<dyn LogHub>,
    owned: Rc<[u8]>,
    listed: Rc<[u8]>,
    heartbeats: Rc<Cell<u64>>,
    commits: Rc<Cell<u64>>,
}

impl HubLayer for Sls {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.below
    }

    fn heartbeat(&self, held: &[ShardId]) -> Answer<Vec<ShardId>> {
        self.heartbeats.set(self.heartbeats.get() + 1);
        let asked = request::heartbeat("logstore", "group", "me", held);
        assert!(!asked.body.is_empty());
        let owned = Rc::clone(&self.owned);
        Box::pin(async move { parse_heartbeat(&owned) })
    }

    fn list_shards(&self) -> Answer<Vec<ShardInfo>> {
        let listed = Rc::clone(&self.listed);
        Box::pin(async move { parse_shards(&listed) })
    }

    fn update_checkpoint(&self, _: ShardId, _: &Cursor, _: bool) -> Answer<()> {
        self.commits.set(self.commits.get() + 1);
        Box::pin(async { Ok(()) })
    }
}

async fn measure(leases: u32) {
    let before = resident_kib();
    let hub = InMemoryHub::new(1);
    let (heartbeats, commits) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let owned = format!("{:?}", (0..leases).collect::<Vec<_>>());
    let listed = (0..leases).map(|shard| {
        let key = format!("{:032x}", u128::from(shard) << 100);
        format!(
            r#"{{"shardID":{shard},"status":"readwrite","inclusiveBeginKey":"{key}","exclusiveEndKey":"{key}","createTime":1524224984}}"#
        )
    });
    let listed = format!("[{}]", listed.collect::<Vec<_>>().join(","));
    println!("{leases} leases: a heartbeat's answer has {} bytes, a list of shards {}", owned.len(), listed.len());
    let (owned, listed): (Rc<[u8]>, Rc<[u8]>) = (owned.into_bytes().into(), listed.into_bytes().into());
    let sls = || -> Rc<dyn LogHub> {
        Rc::new(Layered(Sls {
            below: hub.client("group", "me"),
            owned: Rc::clone(&owned),
            listed: Rc::clone(&listed),
            heartbeats: Rc::clone(&heartbeats),
            commits: Rc::clone(&commits),
        }))
    };
    let source = SourceConfig::new("http://127.0.0.1:1", "project", "logstore", "group", Credentials::new("id", "key"));
    let config = ForwarderConfig::new(source.expect("an endpoint"), DestinationConfig::new("127.0.0.1", Protocol::Tcp));
    let (ended, until_ended) = oneshot::channel();
    let coordinator = Coordinator::new(CoordinatorParts {
        config: Arc::new(config),
        hub: sls(),
        heartbeats: sls(),
        level: Confirmation::TcpAcked,
        counters: Arc::new(Counters::default()),
        events: None,
        log: Logger::root(slog::Discard, o!()),
        beats: Arc::default(),
        ended,
    })
    .start();
    let (start, mut starts) = probe::<StartShard>();
    let (open, _opens) = probe::<OpenConnection>();
    let beats = Arc::new(AtomicU64::new(0));
    let beat = Arc::downgrade(&beats);
    actix_rt::spawn(async move {
        while let Some(beats) = beat.upgrade() {
            beats.fetch_add(1, Ordering::Relaxed);
            drop(beats);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    coordinator.do_send(BeginJoining { workers: vec![WorkerHandle { start, open, beats }] });
    coordinator.do_send(ReceiverChanged { worker: 0, index: 0, state: ReceiverState::Ready });
    let begin = Instant::now();
    let mut fetchers = Vec::new();
    let (control, _commands) = probe();
    for _ in 0..leases {
        let StartShard { shard, epoch, .. } = starts.next().await;
        coordinator.do_send(FetcherStarted { shard, epoch, control: control.clone() });
        fetchers.push((shard, epoch));
    }
    println!("all acquired in {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);

    let (begin, before_beats) = (Instant::now(), heartbeats.get());
    tokio::time::sleep(Duration::from_secs(60 * MINUTES)).await;
    let (took, beats) = (begin.elapsed().as_secs_f64(), heartbeats.get() - before_beats);
    println!(
        "idle: {:.0} us of CPU per heartbeat with its list of shards, {:.4} % of a core; {} KiB resident, of {} before",
        took / beats as f64 * 1e6,
        took / (60 * MINUTES) as f64 * 1e2,
        resident_kib(),
        before,
    );

    let begin = Instant::now();
    let mut messages = 0;
    for second in 0..60 * MINUTES {
        for (shard, epoch) in &fetchers {
            messages += 1;
            coordinator.do_send(CheckpointReady {
                shard: *shard,
                epoch: *epoch,
                cursor: Cursor::new(&encode_cursor(second)).expect("printable"),
                received_s: None,
                even_if_unchanged: false,
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (took, seconds) = (begin.elapsed().as_secs_f64(), (60 * MINUTES) as f64);
    println!(
        "busy: {:.0} messages and {:.0} commits per second of virtual time take {:.2} % of a core; {:.1} us per message with \
         its part of commits, {:.0} messages per second of CPU; {} KiB resident",
        f64::from(messages) / seconds,
        commits.get() as f64 / seconds,
        took / seconds * 1e2,
        took / f64::from(messages) * 1e6,
        f64::from(messages) / took,
        resident_kib(),
    );
    drop(coordinator);
    drop(until_ended);
    std::process::exit(0);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
