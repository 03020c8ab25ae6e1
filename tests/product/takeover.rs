//! Several processes share a group: one dies, one leaves, nothing is missing.

use crate::forwarder::Forwarder;
use crate::harness::{Receiver, eventually};
use crate::hub::Hub;

const SHARDS: u32 = 8;

/// Waits until exactly these consumers hold all shards, each at least one.
#[track_caller]
fn wait_for_owners(hub: &Hub, consumers: &[&str]) {
    eventually(&format!("{consumers:?} hold all shards"), || {
        let owners = hub.owners();
        let held: usize = owners.values().sum();
        match owners.keys().eq(consumers.iter()) && held == SHARDS as usize {
            true => Ok(()),
            false => Err(format!("{owners:?}")),
        }
    });
}

#[test]
fn after_a_crash_and_a_polite_stop_nothing_is_missing() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..500, 50);
    let receiver = Receiver::start(&["--mode", "check"]);
    let start = |name: &str| Forwarder::start_named(name, &hub, receiver.address, "tcp", &[]);
    let (one, mut two, three) = (start("one"), start("two"), start("three"));
    wait_for_owners(&hub, &["one", "three", "two"]);
    hub.put_numbered(500..1000, 50);

    // The crash, with logs on their way: the others take its shards over once the group's timeout has passed.
    hub.put_numbered(1000..1500, 10);
    two.process.kill();
    hub.put_numbered(1500..2000, 50);
    wait_for_owners(&hub, &["one", "three"]);
    hub.wait_until_committed();

    // The polite stop: all that was delivered is committed, so whoever takes over repeats nothing.
    one.stop();
    wait_for_owners(&hub, &["three"]);
    hub.put_numbered(2000..2500, 50);
    hub.wait_until_committed();
    three.stop();
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * 2500, "{summary}");
    assert_eq!((&summary["missing"], &summary["out_of_order"]), (&0.into(), &0.into()), "{summary}");
}

#[test]
fn a_polite_stop_under_load_repeats_nothing() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..1000, 20);
    let receiver = Receiver::start(&["--mode", "check"]);
    let one = Forwarder::start_named("one", &hub, receiver.address, "tcp", &[]);
    wait_for_owners(&hub, &["one"]);
    let two = Forwarder::start_named("two", &hub, receiver.address, "tcp", &[]);
    wait_for_owners(&hub, &["one", "two"]);
    hub.put_numbered(1000..3000, 5);
    one.stop();
    wait_for_owners(&hub, &["two"]);
    hub.wait_until_committed();
    two.stop();
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * 3000, "{summary}");
    for nothing in ["missing", "duplicates", "out_of_order"] {
        assert_eq!(summary[nothing], 0, "{summary}");
    }
}

/// Four of twelve have nothing to do, say so, and are well; when two holders are killed and two leave politely, each of
/// the four has a shard.
#[test]
fn twelve_processes_share_eight_shards_and_the_standbys_take_over() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..200, 50);
    let receiver = Receiver::start(&["--mode", "check"]);
    let names: Vec<String> = (1..=12).map(|n| format!("process-{n:02}")).collect();
    let settings = [("source.group_timeout", "4s"), ("limits.workers", "1"), ("log.level", "info")];
    let mut all: Vec<Forwarder> =
        names.iter().map(|name| Forwarder::start_named(name, &hub, receiver.address, "tcp", &settings)).collect();
    let holders = eventually("one shard each for eight of twelve members", || {
        let (owners, group) = (hub.owners(), hub.logstore()["groups"][crate::hub::GROUP].clone());
        let members = group["consumers"].as_array().map_or(0, Vec::len);
        match members == 12 && owners.len() == 8 && owners.values().all(|held| *held == 1) {
            true => Ok(owners),
            false => Err(format!("{members} members, {owners:?}")),
        }
    });
    let (mut holding, mut standing_by): (Vec<_>, Vec<_>) =
        all.drain(..).partition(|forwarder| holders.contains_key(&forwarder.consumer));
    assert_eq!(standing_by.len(), 4);
    for standby in &mut standing_by {
        standby.process.says("standby: other consumers of the group hold all shards");
        assert!(standby.process.runs());
    }
    hub.put_numbered(200..400, 50);
    let (mut killed, stopped) = (holding.split_off(6), holding.split_off(4));
    killed.iter_mut().for_each(|forwarder| forwarder.process.kill());
    stopped.into_iter().for_each(|forwarder| drop(forwarder.stop()));
    hub.put_numbered(400..600, 50);
    let left: Vec<&str> = {
        let mut left: Vec<&str> =
            holding.iter().chain(&standing_by).map(|forwarder| forwarder.consumer.as_str()).collect();
        left.sort_unstable();
        left
    };
    wait_for_owners(&hub, &left);
    hub.wait_until_committed();
    for forwarder in holding.into_iter().chain(standing_by) {
        let output = forwarder.stop();
        assert!(output.contains("acquired a shard"), "{output}");
    }
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * 600, "{summary}");
    assert_eq!((&summary["missing"], &summary["out_of_order"]), (&0.into(), &0.into()), "{summary}");
}
