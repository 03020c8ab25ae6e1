//! Everything that was put arrives once, whole, in order per shard, with the fields it left with.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sls_syslog_actors::wire::syslog::parse::split_key_values;

use crate::forwarder::Forwarder;
use crate::harness::{Receiver, eventually, free_port, free_udp_port};
use crate::hub::{Hub, group, log, numbered_fields};
use crate::peers::{Daemon, Input, Received, rsyslog, syslog_ng};

const SHARDS: u32 = 3;
const LOGS_PER_SHARD: u64 = 2000;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn our_own_receiver_finds_nothing_missing_doubled_or_out_of_order() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS_PER_SHARD, 100);
    let receiver = Receiver::start(&["--mode", "check"]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[]);
    hub.wait_until_committed();
    // What comes while it runs comes too.
    hub.put_numbered(LOGS_PER_SHARD..LOGS_PER_SHARD + 500, 7);
    hub.wait_until_committed();
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * (LOGS_PER_SHARD + 500), "{summary}");
    for nothing in ["missing", "duplicates", "out_of_order", "unnumbered", "gap_records", "troubled_connections"] {
        assert_eq!(summary[nothing], 0, "{summary}");
    }
    assert_eq!(summary["malformed"], serde_json::json!({}), "{summary}");
}

#[test]
fn rsyslog_over_tcp_with_line_feeds() {
    let Some(daemon) = rsyslog(Input::Tcp, free_port()) else { return };
    delivers_all(&daemon, "tcp", &[("destination.framing", "lf")], Newlines::Escaped);
}

#[test]
fn rsyslog_over_tcp_with_octet_counting() {
    let Some(daemon) = rsyslog(Input::Tcp, free_port()) else { return };
    delivers_all(
        &daemon,
        "tcp",
        &[("destination.framing", "octet-counting"), ("destination.newlines", "keep")],
        Newlines::Kept,
    );
}

#[test]
fn rsyslog_over_tls_with_a_client_certificate() {
    let Some(daemon) = rsyslog(Input::Tls, free_port()) else { return };
    let path = |name: &str| daemon.folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let settings = [
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
    ];
    delivers_all(&daemon, "tls", &settings, Newlines::Escaped);
}

#[test]
fn rsyslog_over_relp() {
    let Some(daemon) = rsyslog(Input::Relp, free_port()) else { return };
    delivers_all(&daemon, "relp", &[("destination.newlines", "keep")], Newlines::Kept);
}

#[test]
fn rsyslog_over_relp_inside_tls_with_a_client_certificate() {
    let Some(daemon) = rsyslog(Input::RelpTls, free_port()) else { return };
    let path = |name: &str| daemon.folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let settings = [
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
    ];
    delivers_all(&daemon, "relp+tls", &settings, Newlines::Escaped);
}

#[test]
fn rsyslog_over_udp() {
    let Some(daemon) = rsyslog(Input::Udp, free_udp_port()) else { return };
    // Below what a socket buffer holds while its reader is not scheduled: UDP tells nobody what it lost.
    delivers_all(&daemon, "udp", &[("destination.max_messages_per_second", "2000")], Newlines::Escaped);
}

#[test]
fn syslog_ng_over_tls() {
    let Some(daemon) = syslog_ng(true, 2 << 20, free_port()) else { return };
    let path = |name: &str| daemon.folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let settings = [
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
    ];
    delivers_all(&daemon, "tls", &settings, Newlines::Escaped);
}

/// What the receiver has to see of a line feed in a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newlines {
    Escaped,
    Kept,
}

fn delivers_all(daemon: &Daemon, protocol: &str, settings: &[(&str, &str)], newlines: Newlines) {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS_PER_SHARD, 100);
    // One log that is hard to carry ends each shard's stream.
    let number = LOGS_PER_SHARD.to_string();
    for shard in 0..SHARDS {
        let stream = format!("s{shard}");
        let fields: [(&str, &[u8]); 5] = [
            ("stream", stream.as_bytes()),
            ("n", number.as_bytes()),
            ("lines", b"one\n<13>1 two\n200 three"),
            ("signs", "\"quotes\" [brackets] \\back\\slash = equals, \u{65e5}\u{5fd7} \u{1f600}".as_bytes()),
            ("empty", b""),
        ];
        hub.put(shard, &group(vec![log(&fields)]));
    }
    let forwarder = Forwarder::start(&hub, loopback(daemon.port), protocol, settings);
    hub.wait_until_committed();
    forwarder.stop();
    let expected = u64::from(SHARDS) * (LOGS_PER_SHARD + 1);
    let received = eventually("all messages in the daemon's file", || {
        let received = daemon.received();
        match received.len() as u64 >= expected {
            true => Ok(received),
            false => Err(format!("{} of {expected}", received.len())),
        }
    });
    check(&received, newlines);
}

/// Every log once, in order per shard, with header and fields as sent.
fn check(received: &[Received], newlines: Newlines) {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for message in received {
        assert_eq!((message.facility.as_str(), message.severity.as_str()), ("1", "6"), "{message:?}");
        assert_eq!((message.hostname.as_str(), message.app_name.as_str()), ("forwarder-1", "sls"), "{message:?}");
        assert!(message.timestamp.starts_with("2026-01-02T03:04:05"), "{message:?}");
        assert_eq!((message.procid.as_str(), message.structured_data.as_str()), ("", ""), "{message:?}");
        let pairs = split_key_values(message.msg.as_bytes(), b"||").unwrap_or_else(|| panic!("{message:?}"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let pairs: Vec<(String, String)> = pairs.iter().map(|(key, value)| (text(key), text(value))).collect();
        let (group, own) = pairs.split_at(3);
        let expected = [("__topic__", "nginx"), ("__source__", "10.0.0.1"), ("__tag__:__hostname__", "web-1")];
        assert!(group.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected), "{message:?}");
        let stream = own[0].1.clone();
        let number = next.entry(stream.clone()).or_default();
        assert_eq!(own[1].1, number.to_string(), "once and in order: {message:?}");
        let shard = stream[1..].parse().unwrap();
        if *number < LOGS_PER_SHARD {
            let fields = numbered_fields(shard, *number);
            assert!(own.iter().map(|(k, v)| (k.as_str(), v)).eq(fields.iter().map(|(k, v)| (*k, v))), "{message:?}");
        } else {
            let lines = match newlines {
                Newlines::Escaped => "one\\n<13>1 two\\n200 three",
                Newlines::Kept => "one\n<13>1 two\n200 three",
            };
            assert_eq!(own[2], ("lines".into(), lines.into()));
            assert_eq!(own[3].1, "\"quotes\" [brackets] \\back\\slash = equals, \u{65e5}\u{5fd7} \u{1f600}");
            assert_eq!(own[4], ("empty".into(), String::new()));
        }
        *number += 1;
    }
    assert_eq!(next.len(), SHARDS as usize);
    assert!(next.values().all(|n| *n == LOGS_PER_SHARD + 1), "{next:?}");
}
