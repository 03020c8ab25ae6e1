//! RFC 3164 and NUL framing: our receiver judges them, real receivers read them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sls_syslog_actors::wire::syslog::parse::split_key_values;

use crate::forwarder::Forwarder;
use crate::harness::{Receiver, eventually, free_port, free_udp_port};
use crate::hub::Hub;
use crate::peers::{Daemon, Input, Received, rsyslog, syslog_ng_lines};

const SHARDS: u32 = 2;
const LOGS_PER_SHARD: u64 = 500;
const RFC3164: (&str, &str) = ("destination.syslog", "rfc3164");

/// Delivers to our receiver, which finds everything well-formed, once and in order; its summary.
fn judged(protocol: &str, framing: Option<&str>, settings: &[(&str, &str)]) -> serde_json::Value {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS_PER_SHARD, 50);
    let mut arguments = vec!["--mode", "check", "--protocol", protocol];
    let mut settings = settings.to_vec();
    if let Some(framing) = framing {
        arguments.extend(["--framing", framing]);
        settings.push(("destination.framing", framing));
    }
    let receiver = Receiver::start(&arguments);
    let forwarder = Forwarder::start(&hub, receiver.address, protocol, &settings);
    hub.wait_until_committed();
    forwarder.stop();
    if protocol == "udp" {
        crate::harness::for_a_while(std::time::Duration::from_millis(500));
    }
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * LOGS_PER_SHARD, "{protocol} {framing:?}: {summary}");
    for nothing in ["missing", "duplicates", "out_of_order", "unnumbered", "troubled_connections"] {
        assert_eq!(summary[nothing], 0, "{protocol} {framing:?}: {summary}");
    }
    assert_eq!(summary["malformed"], serde_json::json!({}), "{summary}");
    summary
}

#[test]
fn every_transport_and_framing_carries_rfc3164() {
    let pace = ("destination.max_messages_per_second", "2000");
    for (protocol, framing) in
        [("tcp", Some("lf")), ("tcp", Some("nul")), ("tcp", Some("octet-counting")), ("udp", None), ("relp", None)]
    {
        let summary = judged(protocol, framing, &[RFC3164, pace, ("destination.origin", "field")]);
        assert_eq!(summary["rfc3164"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
        assert_eq!(summary["origin"]["events"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
    }
}

#[test]
fn nul_framing_carries_rfc5424() {
    let summary = judged("tcp", Some("nul"), &[]);
    assert_eq!(summary["rfc3164"], serde_json::Value::Null, "{summary}");
}

#[test]
fn rsyslog_reads_rfc3164_over_tcp_udp_and_relp() {
    for (input, protocol, port) in
        [(Input::Tcp, "tcp", free_port()), (Input::Udp, "udp", free_udp_port()), (Input::Relp, "relp", free_port())]
    {
        let Some(daemon) = rsyslog(input, port) else { return };
        is_read(&daemon, protocol);
    }
}

#[test]
fn syslog_ng_reads_rfc3164_over_tcp() {
    let Some(daemon) = syslog_ng_lines(free_port()) else { return };
    is_read(&daemon, "tcp");
}

/// Every log once, in order per shard, with header and fields.
fn is_read(daemon: &Daemon, protocol: &str) {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS_PER_SHARD, 50);
    let to = SocketAddr::from(([127, 0, 0, 1], daemon.port));
    let pace = ("destination.max_messages_per_second", "2000");
    let forwarder = Forwarder::start(&hub, to, protocol, &[RFC3164, pace]);
    hub.wait_until_committed();
    forwarder.stop();
    let expected = u64::from(SHARDS) * LOGS_PER_SHARD;
    let received: Vec<Received> = eventually("all messages in the daemon's file", || {
        let received = daemon.received();
        (received.len() as u64 >= expected).then_some(received).ok_or_else(|| format!("not yet {expected}"))
    });
    let mut next: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for message in &received {
        assert_eq!((message.facility.as_str(), message.severity.as_str()), ("1", "6"), "{message:?}");
        assert_eq!((message.hostname.as_str(), message.app_name.as_str()), ("forwarder-1", "sls"), "{message:?}");
        // The year is the receiver's guess.
        assert!(message.timestamp.contains("-01-02T03:04:05"), "{message:?}");
        // rsyslog takes the space behind the TAG for a part of the message.
        let text = message.msg.strip_prefix(' ').unwrap_or(&message.msg);
        let fields = split_key_values(text.as_bytes(), b"||").unwrap_or_else(|| panic!("{message:?}"));
        let value = |key: &str| fields.iter().find(|(name, _)| *name == key.as_bytes()).unwrap().1;
        let number = next.entry(value("stream").to_vec()).or_default();
        assert_eq!(value("n"), number.to_string().as_bytes(), "once and in order: {message:?}");
        *number += 1;
    }
    assert!(next.len() == SHARDS as usize && next.values().all(|n| *n == LOGS_PER_SHARD), "{next:?}");
}
