//! A format of one's own: each log as a JSON object, behind the usual syslog header.
//!
//! The forwarder reads an in-memory LogHub and sends to a TCP receiver in this process; the example ends when it is proven
//! that every log has arrived.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use slog::{Logger, o};
use sls_syslog_actors::config::{Credentials, DestinationConfig, ForwarderConfig, Protocol, SourceConfig};
use sls_syslog_actors::forwarder::Forwarder;
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::loghub::Route;
use sls_syslog_actors::loghub::generate::{Generator, Kind};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::placement::Placement;
use sls_syslog_actors::testing::hub::InMemoryHub;
use sls_syslog_actors::testing::local_ports::{LocalPorts, Outside};
use sls_syslog_actors::wire::format::{Format, LogView};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

/// The payload: `{"topic":"…","time":1795478400,"fields":{"key":"value",…}}`.
#[derive(Debug)]
struct Json;

impl Format for Json {
    fn write(&self, log: &LogView<'_>, out: &mut Vec<u8>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields = Map::new();
        log.contents(|key, value| drop(fields.insert(text(key), text(value).into())));
        let object = json!({ "topic": text(log.topic()), "time": log.time().seconds, "fields": fields });
        serde_json::to_writer(out, &object).expect("memory takes everything");
    }
}

const LOGS: u64 = 10_000;

/// Puts numbered logs, access and nasty ones in turn, into a logstore of two shards.
fn produce(hub: &InMemoryHub) {
    let mut generators = [Kind::Web, Kind::Nasty].map(|kind| Generator::new(kind, 1));
    for first in (0..LOGS).step_by(100) {
        let (mut group, nth) = (Vec::new(), (first / 100 % 2) as u32);
        generators[nth as usize].group(&mut group, "example", first, 100, InMemoryHub::START_UNIX_S as u32);
        hub.with(|hub, now| hub.put(InMemoryHub::AT, Route::Shard(ShardId(nth)), group.into(), now))
            .expect("a log group");
    }
}

/// Keeps the number in each message, one a line, of each connection.
async fn receive(listener: TcpListener, arrived: Rc<RefCell<BTreeSet<u64>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (arrived, mut lines) = (Rc::clone(&arrived), BufReader::new(stream).lines());
        actix_rt::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let (_, payload) = line.split_once(" - - - - ").expect("a header");
                let object: Value = serde_json::from_str(payload).expect("JSON");
                let number = object["fields"]["n"].as_str().and_then(|number| number.parse().ok());
                arrived.borrow_mut().insert(number.expect("a number"));
            }
        });
    }
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = InMemoryHub::new(2);
    produce(&hub);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut destination = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
    destination.port = listener.local_addr()?.port();
    destination.confirm_after_connect = Duration::from_millis(100);
    let arrived = Rc::default();
    actix_rt::spawn(receive(listener, Rc::clone(&arrived)));

    // In memory, and all of it here, on one thread. Against SLS itself `outside` is left out.
    let receiver = Destination::new(&destination)?;
    let outside = Outside {
        log_hub: Box::new(move || hub.client("group", "consumer")),
        level: receiver.level(),
        dialer: Box::new(move |counters| receiver.dialer(counters, Logger::root(slog::Discard, o!()))),
        dead_letter: None,
        unix_seconds: Box::new(|| InMemoryHub::START_UNIX_S),
    };
    let key = Credentials::new("id", "secret");
    let source = SourceConfig::new("http://localhost", InMemoryHub::PROJECT, InMemoryHub::LOGSTORE, "group", key)?;
    let forwarder = Forwarder::builder(ForwarderConfig::new(source, destination))
        .format(Arc::new(Json))
        .outside(LocalPorts::new(1, outside), Placement::Here { workers: 1 })
        .start()?;

    tokio::time::timeout(Duration::from_secs(60), async {
        while (arrived.borrow().len() as u64) < LOGS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;
    let totals = forwarder.stop().await?;
    assert!(totals.logs_delivered >= LOGS, "what has arrived was not confirmed");
    assert_eq!(totals.gaps, 0, "nothing is missing");
    println!("{LOGS} logs arrived as JSON, {} commits", totals.commits);
    Ok(())
}
