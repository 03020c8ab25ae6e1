//! A log that the receiver does not take is named by a gap record, and everything behind it arrives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::forwarder::Forwarder;
use crate::harness::{Receiver, eventually, free_port};
use crate::hub::{Hub, group, log, numbered_group};
use crate::peers::{Daemon, Received, syslog_ng};

const SHARDS: u32 = 2;
const LOGS_PER_SHARD: u64 = 5_000;
/// Where the log is that is too long.
const PLACE: u64 = 1_010;
/// Its length, and what the receiver takes.
const TOO_LONG: usize = 100_000;
const LONGEST: usize = 64 << 10;

/// Numbered logs, and amid those of the first shard one that is too long.
fn hub_with_one_long_log() -> Hub {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..1_000, 100);
    let mut logs = numbered_group(0, 1_000..1_020).logs;
    logs.insert((PLACE - 1_000) as usize, log(&[("long", &vec![b'x'; TOO_LONG])]));
    hub.put(0, &group(logs));
    hub.put(1, &numbered_group(1, 1_000..1_020));
    hub.put_numbered(1_020..LOGS_PER_SHARD, 500);
    hub
}

fn set_aside_by_syslog_ng(daemon: &Daemon, protocol: &str, settings: &[(&str, &str)]) {
    let hub = hub_with_one_long_log();
    let began = Instant::now();
    let to = SocketAddr::from(([127, 0, 0, 1], daemon.port));
    let mut forwarder = Forwarder::start(&hub, to, protocol, settings);
    forwarder.process.says("message-refused");
    assert!(began.elapsed() < Duration::from_secs(60), "took {:?}", began.elapsed());
    hub.wait_until_committed();
    forwarder.stop();
    let complete = || {
        let received = daemon.received();
        match unique(&received) {
            logs if logs < u64::from(SHARDS) * LOGS_PER_SHARD => Err(format!("{logs} logs")),
            _ => Ok(received),
        }
    };
    let received = eventually("all logs in syslog-ng's file", complete);
    let gaps: Vec<_> = received.iter().filter(|message| message.msgid == "gap").collect();
    let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!(gap.severity, "3");
    assert!(gap.msg.contains("||shard=0||") && gap.msg.contains("bytes alone"), "{gap:?}");
    assert!(received.iter().all(|message| message.msg.len() < LONGEST));
}

/// How many different logs came; the first time that each comes it is in order.
fn unique(received: &[Received]) -> u64 {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for message in received.iter().filter(|message| message.msgid.is_empty()) {
        let value = |key: &str| message.msg.split_once(key).and_then(|(_, behind)| behind.split("||").next());
        let (Some(stream), Some(number)) = (value("||stream="), value("||n=")) else { panic!("{message:?}") };
        let (number, next): (u64, _) = (number.parse().unwrap(), next.entry(stream).or_default());
        assert!(number <= *next, "{number} came where {next} was due in {stream}");
        *next = (*next).max(number + 1);
    }
    next.values().sum()
}

#[test]
fn syslog_ng_over_tcp_closes_on_a_log_that_is_too_long() {
    let Some(daemon) = syslog_ng(false, LONGEST, free_port()) else { return };
    set_aside_by_syslog_ng(&daemon, "tcp", &[("destination.framing", "octet-counting")]);
}

#[test]
fn syslog_ng_over_tls_closes_on_a_log_that_is_too_long() {
    let Some(daemon) = syslog_ng(true, LONGEST, free_port()) else { return };
    let path = |name: &str| daemon.folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let settings = [
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
    ];
    set_aside_by_syslog_ng(&daemon, "tls", &settings);
}

/// All comes in one go, of which syslog-ng's end takes everything along: nothing is confirmed, and the first message is too
/// short to be suspected at once.
#[test]
fn syslog_ng_closes_on_a_log_behind_short_ones_in_one_go() {
    const LOGS: u64 = 60;
    for (longest, size) in [(16 << 10, 20_000), (2 << 10, 3_000)] {
        let Some(daemon) = syslog_ng(false, longest, free_port()) else { return };
        let hub = Hub::start(1);
        let mut logs = numbered_group(0, 0..LOGS).logs;
        logs.insert(40, log(&[("long", &vec![b'x'; size])]));
        hub.put(0, &group(logs));
        let to = SocketAddr::from(([127, 0, 0, 1], daemon.port));
        let began = Instant::now();
        let mut forwarder = Forwarder::start(&hub, to, "tcp", &[("destination.framing", "octet-counting")]);
        forwarder.process.says("message-refused");
        assert!(began.elapsed() < Duration::from_secs(60), "took {:?}", began.elapsed());
        hub.wait_until_committed();
        forwarder.stop();
        let received = eventually("all logs in syslog-ng's file", || {
            let received = daemon.received();
            if unique(&received) < LOGS { Err(format!("{} logs", unique(&received))) } else { Ok(received) }
        });
        let gaps: Vec<_> = received.iter().filter(|message| message.msgid == "gap").collect();
        let [gap] = gaps.as_slice() else { panic!("{gaps:?}") };
        assert!(gap.msg.contains("log 40 of the batch") && gap.msg.contains("bytes alone"), "{gap:?}");
    }
}

fn set_aside_by_our_receiver(protocol: &str, limit: &str, settings: &[(&str, &str)]) {
    let hub = hub_with_one_long_log();
    let receiver = Receiver::start(&["--mode", "check", "--protocol", protocol, limit, &LONGEST.to_string()]);
    let forwarder = Forwarder::start(&hub, receiver.address, protocol, settings);
    hub.wait_until_committed();
    let output = forwarder.stop();
    assert!(output.contains("message-refused"), "the refusal was not told");
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
    assert_eq!(summary["gap_records"], 1, "{summary}");
    for nothing in ["missing", "out_of_order", "unnumbered"] {
        assert_eq!(summary[nothing], 0, "{summary}");
    }
}

#[test]
fn a_receiver_of_lines_that_closes_on_a_log_that_is_too_long() {
    set_aside_by_our_receiver("tcp", "--max-message-bytes", &[]);
}

#[test]
fn a_receiver_that_answers_a_log_that_is_too_long_with_500() {
    set_aside_by_our_receiver("relp", "--relp-refuse-longer", &[]);
}

#[test]
fn a_relp_receiver_that_closes_on_a_log_that_is_too_long() {
    set_aside_by_our_receiver("relp", "--max-message-bytes", &[]);
}
