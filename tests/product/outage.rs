//! A receiver that is away: memory stays flat, leases stay ours, and in the end everything is delivered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Receiver, for_a_while};
use crate::hub::{GROUP, Hub};
use crate::peers::delivered_ids;

const SHARDS: u32 = 4;
/// The group's timeout is 2 s, so leases would be lost many times over.
const AWAY: Duration = Duration::from_secs(15);
/// Some 120 MB of raw logs wait behind a budget of 16 MiB.
const LOGS_PER_SHARD: u64 = 100_000;

const SETTINGS: &[(&str, &str)] =
    &[("limits.workers", "1"), ("limits.bytes_in_flight", "16MiB"), ("log.level", "info")];

/// While the receiver is away: memory and leases are looked at, several times a second.
fn watch_while_away(hub: &Hub, forwarder: &mut Forwarder) {
    let begin = Instant::now();
    // What the pipeline holds fills up first; flat is what comes then.
    let settled = AWAY / 3;
    let mut flat: Option<u64> = None;
    let heartbeats = |hub: &Hub| hub.logstore()["groups"][GROUP]["heartbeats"].as_u64().unwrap();
    let first = heartbeats(hub);
    while begin.elapsed() < AWAY {
        assert!(forwarder.process.runs());
        let owners = hub.owners();
        assert_eq!(owners.get(&forwarder.consumer), Some(&(SHARDS as usize)), "a lease was lost: {owners:?}");
        let now = forwarder.process.resident_bytes();
        if begin.elapsed() > settled {
            let then = *flat.get_or_insert(now);
            assert!(now < then + (8 << 20), "memory grew from {then} to {now}");
        }
        assert!(now < 160 << 20, "{now} bytes are more than budget and process need");
        for_a_while(Duration::from_millis(250));
    }
    assert!(heartbeats(hub) > first + 10);
}

#[test]
fn a_receiver_that_is_down_costs_neither_memory_nor_leases_nor_logs() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..1000, 100);
    let folder = Folder::new("outage");
    let (before, after) = (folder.path().join("before.json"), folder.path().join("after.json"));
    let first = Receiver::start(&["--output", before.to_str().unwrap()]);
    let address: SocketAddr = first.address;
    let mut forwarder = Forwarder::start(&hub, address, "tcp", SETTINGS);
    hub.wait_until_committed();
    first.finish();
    hub.put_numbered(1000..LOGS_PER_SHARD, 1000);
    watch_while_away(&hub, &mut forwarder);

    let second = Receiver::start(&["--listen", &address.to_string(), "--output", after.to_str().unwrap()]);
    hub.wait_until_committed();
    let output = forwarder.stop();
    second.finish();
    assert!(output.contains("receiver-down"), "the outage was not named");
    let ids: BTreeSet<_> = delivered_ids(&before).into_iter().chain(delivered_ids(&after)).collect();
    assert_eq!(ids.len() as u64, u64::from(SHARDS) * LOGS_PER_SHARD);
}

#[test]
fn a_receiver_that_hangs_costs_neither_memory_nor_leases_nor_logs() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..1000, 100);
    let receiver = Receiver::start(&["--mode", "check"]);
    let mut forwarder = Forwarder::start(&hub, receiver.address, "tcp", SETTINGS);
    hub.wait_until_committed();
    receiver.process.signal("STOP");
    hub.put_numbered(1000..LOGS_PER_SHARD, 1000);
    watch_while_away(&hub, &mut forwarder);
    receiver.process.signal("CONT");
    hub.wait_until_committed();
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
    for nothing in ["missing", "duplicates", "out_of_order"] {
        assert_eq!(summary[nothing], 0, "the connection never broke: {summary}");
    }
}
