//! What the tests of several actors use.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use slog::Logger;
use sls_syslog_actors::config::{Credentials, SourceConfig};
use sls_syslog_actors::loghub::{Hub, Route, UnixMicros};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::testing::hub::InMemoryHub;
use sls_syslog_actors::wire::sls::proto;

pub const SHARD: ShardId = ShardId(0);

/// Runs what is ready, without waiting for anything.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn no_log() -> Logger {
    Logger::root(slog::Discard, slog::o!())
}

pub fn unix_seconds() -> Rc<dyn Fn() -> i64> {
    Rc::new(|| InMemoryHub::START_UNIX_S)
}

/// A log group of logs whose field `n` counts from `first`.
pub fn log_group(first: usize, logs: usize) -> Bytes {
    let log = |n: usize| proto::Log {
        time: InMemoryHub::START_UNIX_S as u32,
        contents: vec![proto::Content { key: "n".into(), value: n.to_string().into() }],
        time_ns: None,
    };
    proto::LogGroup { logs: (first..first + logs).map(log).collect(), ..Default::default() }.encode_to_vec().into()
}

/// Writes so many log groups of one log each to the shard; answers the cursors before each and after the last.
pub fn put(hub: &InMemoryHub, groups: usize) -> Vec<String> {
    let put_one = |hub: &mut Hub, now: UnixMicros| hub.put(InMemoryHub::AT, Route::Shard(SHARD), log_group(0, 1), now);
    let mut cursors: Vec<String> =
        (0..groups).map(|_| hub.with(put_one).expect("the hub takes a log group").1).collect();
    cursors.push(hub.with(|hub, now| {
        let end = sls_syslog_actors::loghub::From::End;
        hub.get_cursor(InMemoryHub::AT, SHARD, end, now).expect("the shard exists")
    }));
    cursors
}

pub fn source() -> SourceConfig {
    let credentials = Credentials::new("id", "secret");
    let (project, logstore) = (InMemoryHub::PROJECT, InMemoryHub::LOGSTORE);
    let mut source =
        SourceConfig::new("http://127.0.0.1:1", project, logstore, "group", credentials).expect("an endpoint");
    source.consumer_name = "me".into();
    source
}
