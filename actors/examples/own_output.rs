//! SLS to an output of one's own: Coordinator and ShardFetchers are the library's, what becomes of the logs is not.
//!
//! An actor of the host gets batches as they were pulled and settles each by its ticket; only then may a checkpoint pass
//! it. This one forgets its first three tickets, as a defect would, and gets their batches again. The LogHub is
//! in memory; the example ends when every log is kept and every checkpoint says so.

use std::collections::BTreeSet;
use std::error::Error;

use actix::prelude::*;
use prost::Message as _;
use sls_syslog_actors::config::{
    Confirmation, Credentials, DestinationConfig, ForwarderConfig, Protocol, SourceConfig,
};
use sls_syslog_actors::forwarder::Forwarder;
use sls_syslog_actors::loghub::Route;
use sls_syslog_actors::loghub::generate::{Generator, Kind};
use sls_syslog_actors::messages::{BatchContent, FormatBatch, PulledBody};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::placement::Placement;
use sls_syslog_actors::testing::hub::InMemoryHub;
use sls_syslog_actors::testing::local_ports::{LocalPorts, Outside};
use sls_syslog_actors::ticket::FailReason;
use sls_syslog_actors::wire::sls::body::decompress;
use sls_syslog_actors::wire::sls::proto::LogGroupList;
use tokio::sync::watch;

const LOGS: u64 = 10_000;
const SHARDS: u32 = 4;

/// Keeps the number of each log. A real one writes to its store, and settles when that has answered.
struct Output {
    missing: BTreeSet<u64>,
    all_kept: watch::Sender<bool>,
    failures: u32,
}

impl Output {
    fn keep(&mut self, body: &PulledBody) -> Result<u64, Box<dyn Error>> {
        let mut buffer = Vec::new();
        let list = LogGroupList::decode(decompress(&body.bytes, body.compression, body.raw_size, &mut buffer)?)?;
        let mut logs = 0;
        for log in list.log_groups.iter().flat_map(|group| &group.logs) {
            let number = log.contents.iter().find(|field| field.key == "n").ok_or("a log without number")?;
            self.missing.remove(&std::str::from_utf8(&number.value)?.parse()?);
            logs += 1;
        }
        Ok(logs)
    }
}

impl Actor for Output {
    type Context = Context<Self>;
}

impl Handler<FormatBatch> for Output {
    type Result = ();

    fn handle(&mut self, FormatBatch { content, ticket, .. }: FormatBatch, _: &mut Context<Self>) {
        if self.failures > 0 {
            self.failures -= 1;
            // As any branch that forgets its ticket: the batch fails, and is pulled again.
            return drop(ticket);
        }
        let kept = match &content {
            BatchContent::Body(body) => self.keep(body),
            // It names logs that SLS does not have any more.
            BatchContent::Gap(gap) => Err(gap.reason.clone().into()),
        };
        match kept {
            Ok(logs) => ticket.delivered(logs),
            Err(_) => ticket.failed(FailReason::Dropped),
        }
        self.all_kept.send_replace(self.missing.is_empty());
    }
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = InMemoryHub::new(SHARDS);
    for first in (0..LOGS).step_by(100) {
        let (mut group, shard) = (Vec::new(), ShardId((first / 100) as u32 % SHARDS));
        Generator::new(Kind::Web, first).group(&mut group, "example", first, 100, InMemoryHub::START_UNIX_S as u32);
        hub.with(|hub, now| hub.put(InMemoryHub::AT, Route::Shard(shard), group.into(), now)).expect("a log group");
    }
    let key = Credentials::new("id", "secret");
    let mut source = SourceConfig::new("http://localhost", InMemoryHub::PROJECT, InMemoryHub::LOGSTORE, "group", key)?;
    source.max_log_groups = 5;
    // Nothing is sent there.
    let config = ForwarderConfig::new(source, DestinationConfig::new("localhost", Protocol::Tcp));

    let (all_kept, mut kept) = watch::channel(false);
    let places = config.mailbox.formatter;
    let output = Output::create(|ctx| {
        // One for each batch that may be in flight.
        ctx.set_mailbox_capacity(places);
        Output { missing: (0..LOGS).collect(), all_kept, failures: 3 }
    });
    // In memory, and all of it here, on one thread. Against SLS itself `outside` is left out.
    let service = hub.clone();
    let outside = Outside {
        log_hub: Box::new(move || service.client("group", "consumer")),
        dialer: Box::new(|_| unreachable!("there is no connection")),
        dead_letter: None,
        unix_seconds: Box::new(|| InMemoryHub::START_UNIX_S),
        level: Confirmation::AppAcked,
    };
    let forwarder = Forwarder::builder(config)
        .deliver_batches_to(output.recipient())
        .outside(LocalPorts::new(1, outside), Placement::Here { workers: 1 })
        .start()?;

    kept.wait_for(|kept| *kept).await?;
    let totals = forwarder.stop().await?;
    let group = hub.with(|hub, _| hub.logstore_state(InMemoryHub::AT)).expect("it exists").groups["group"].clone();
    assert!(group.shards.iter().all(|shard| shard.at_end), "a checkpoint is not where the logs are");
    println!("{LOGS} logs kept, {} batches delivered, {} again", totals.batches_delivered, totals.batches_failed);
    Ok(())
}
