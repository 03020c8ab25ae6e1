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
