//! RELP: what the receiver's application has answered is never lost, whatever becomes of receiver and connection.

use std::collections::BTreeSet;

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Receiver, eventually};
use crate::hub::Hub;
use crate::peers::delivered_ids;

const SHARDS: u32 = 3;
const LOGS_PER_SHARD: u64 = 2000;

/// Everything once, although the receiver ends every session after some messages: what it has answered before is not
/// sent again, and what it has not answered was not taken.
fn survives_sessions_that_end(protocol: &str, receiver: &[&str], settings: &[(&str, &str)]) {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS_PER_SHARD, 100);
    let faults = ["--mode", "check", "--protocol", protocol, "--relp-serverclose-after", "1500"];
    let receiver = Receiver::start(&[&faults, receiver].concat());
    let forwarder = Forwarder::start(&hub, receiver.address, protocol, settings);
    hub.wait_until_committed();
    let output = forwarder.stop();
    assert!(output.contains("app_acked"), "the level was not said");
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
    for nothing in ["missing", "duplicates", "out_of_order", "unnumbered", "gap_records", "troubled_connections"] {
        assert_eq!(summary[nothing], 0, "{summary}");
    }
    assert!(summary["connections"].as_u64().unwrap() >= 4, "{summary}");
}

#[test]
fn sessions_that_the_receiver_ends_lose_and_double_nothing() {
    survives_sessions_that_end("relp", &[], &[]);
}

#[test]
fn sessions_inside_tls_that_the_receiver_ends_lose_and_double_nothing() {
    let folder = Folder::new("relp-tls");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let settings = [
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
    ];
    survives_sessions_that_end("relp+tls", &["--make-certs", folder.path().to_str().unwrap()], &settings);
}

#[test]
fn a_message_that_is_refused_once_is_told_and_delivered_later() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS_PER_SHARD, 100);
    let receiver = Receiver::start(&["--mode", "check", "--protocol", "relp", "--relp-refuse", "700"]);
    let mut forwarder = Forwarder::start(&hub, receiver.address, "relp", &[]);
    forwarder.process.says("the receiver refused a message, answering 500");
    hub.wait_until_committed();
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
    assert_eq!(summary["missing"], 0, "{summary}");
}

/// A full disk: nothing is wrong with any message.
#[test]
fn a_receiver_that_refuses_everything_for_a_while_has_nothing_set_aside() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS_PER_SHARD, 100);
    let receiver = Receiver::start(&["--mode", "check", "--protocol", "relp", "--relp-refuse-first", "134"]);
    // More than one session is refused.
    let forwarder = Forwarder::start(&hub, receiver.address, "relp", &[("destination.relp.window", "128")]);
    hub.wait_until_committed();
    let output = forwarder.stop();
    assert!(!output.contains("message-refused"), "a message was set aside");
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
    for nothing in ["missing", "gap_records"] {
        assert_eq!(summary[nothing], 0, "{summary}");
    }
    // What was in flight on another connection when there was room again; what was refused goes alone.
    assert!(summary["out_of_order"].as_u64().unwrap() < 128, "{summary}");
}

#[test]
fn a_receiver_that_ends_after_so_many_messages_has_answered_the_last() {
    const LOGS: u64 = 100;
    let hub = Hub::start(1);
    hub.put_numbered(0..LOGS, 10);
    let mut receiver = Receiver::start(&["--mode", "check", "--protocol", "relp", "--count", "100"]);
    let forwarder = Forwarder::start(&hub, receiver.address, "relp", &[]);
    hub.wait_until_committed();
    assert!(receiver.process.wait().success());
    assert_eq!(receiver.process.farewell()["unique"], LOGS);
    forwarder.stop();
}

/// TCP's acknowledgement cannot promise this: the receiver dies with messages unread in its socket.
#[test]
fn a_receiver_that_is_killed_has_kept_all_that_it_answered() {
    const LOGS: u64 = 60_000;
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS, 1000);
    let folder = Folder::new("relp-killed");
    let file = |name: &str| folder.path().join(name);
    let (before, after) = (file("before.json"), file("after.json"));
    let mut first = Receiver::start(&["--protocol", "relp", "--output", before.to_str().unwrap()]);
    let address = first.address;
    let forwarder = Forwarder::start(&hub, address, "relp", &[]);
    eventually("some messages", || match delivered_ids(&before).len() {
        0..10_000 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    first.process.kill();
    let listen = address.to_string();
    let second = Receiver::start(&["--protocol", "relp", "--listen", &listen, "--output", after.to_str().unwrap()]);
    hub.wait_until_committed();
    // And this one ends politely, which sessions are told.
    second.finish();
    let output = forwarder.stop();
    assert!(output.contains("(serverclose)"), "the polite end was not told:\n{output}");
    let first: BTreeSet<_> = delivered_ids(&before).into_iter().collect();
    let second: BTreeSet<_> = delivered_ids(&after).into_iter().collect();
    assert!(second.len() < (u64::from(SHARDS) * LOGS) as usize, "nothing was confirmed before the kill");
    assert_eq!(first.union(&second).count() as u64, u64::from(SHARDS) * LOGS);
}
