//! The origin stamp: what was sent again, and what is missing, is known from the receiver's file alone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver, eventually, free_port};
use crate::hub::{Hub, LOGSTORE, PROJECT};
use crate::peers::{Daemon, Input, delivered_ids, rsyslog, syslog_ng};

const SHARDS: u32 = 3;

/// `receiver --check FILES --json`: whether it ended well, and its verdict.
fn check(files: &[&Path]) -> (bool, Value) {
    let output = checking(files).arg("--json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let verdict = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    (output.status.success(), verdict)
}

fn checking(files: &[&Path]) -> Command {
    let mut command = Process::sls_syslog(&["receiver", "--check"]);
    command.args(files);
    command
}

#[track_caller]
fn assert_complete(verdict: &Value, events: u64) {
    let origin = &verdict["origin"];
    for nothing in ["missing_events", "missing_log_groups", "unstamped"] {
        assert_eq!(origin[nothing], 0, "{origin}");
    }
    assert_eq!(origin["events"].as_u64().unwrap() - origin["repeated"].as_u64().unwrap(), events, "{origin}");
    assert_eq!(origin["shards"].as_array().unwrap().len(), SHARDS as usize, "{origin}");
}

#[test]
fn what_comes_in_is_judged_by_its_stamps() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..1000, 30);
    let receiver = Receiver::start(&["--check"]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[("destination.origin", "structured-data")]);
    hub.wait_until_committed();
    forwarder.stop();
    let verdict = receiver.finish();
    assert_complete(&verdict, u64::from(SHARDS) * 1000);
    assert_eq!(verdict["origin"]["reordered"], 0, "{verdict}");
    assert_eq!(verdict["origin"]["shards"][0]["log_groups"], 34, "{verdict}");
    assert_eq!(verdict["malformed"], serde_json::json!({}), "{verdict}");
    assert_eq!(verdict["origin"]["shards"][2]["project"], PROJECT);
    assert_eq!(verdict["origin"]["shards"][2]["logstore"], LOGSTORE);
}

/// The receiver is killed, and another takes its place; the forwarder is killed before it has committed anything, and
/// another, which pulls other batches, sends everything again. The stamps alone tell what was repeated, and that nothing
/// is missing; the logs' own numbers say the same.
#[test]
fn resends_by_other_forwarders_in_other_batches_are_known_by_their_stamps() {
    const LOGS: u64 = 20_000;
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..LOGS, 150);
    let folder = Folder::new("origin");
    let (before, after) = (folder.path().join("before.json"), folder.path().join("after.json"));
    let mut first = Receiver::start(&["--protocol", "relp", "--output", before.to_str().unwrap()]);
    let address = first.address;
    let uncommitted = [
        ("destination.origin", "field"),
        ("source.max_log_groups", "20"),
        ("source.commit_interval", "5m"),
        ("destination.relp.window", "1000"),
    ];
    let mut killed = Forwarder::start_named("killed", &hub, address, "relp", &uncommitted);
    let received = |file: &Path, at_least: usize| {
        eventually("some messages", || match delivered_ids(file).len() {
            few if few < at_least => Err(format!("{few}")),
            _ => Ok(()),
        });
    };
    received(&before, 5000);
    first.process.kill();
    let listen = address.to_string();
    let second = Receiver::start(&["--protocol", "relp", "--listen", &listen, "--output", after.to_str().unwrap()]);
    received(&after, 5000);
    killed.process.kill();
    let settings = [("destination.origin", "field"), ("source.max_log_groups", "7")];
    let forwarder = Forwarder::start_named("heir", &hub, address, "relp", &settings);
    hub.wait_until_committed();
    forwarder.stop();
    second.finish();

    let ids = [delivered_ids(&before), delivered_ids(&after)].concat();
    let unique = ids.iter().collect::<BTreeSet<_>>().len();
    assert_eq!(unique as u64, u64::from(SHARDS) * LOGS);
    let (complete, verdict) = check(&[&before, &after]);
    let origin = &verdict["origin"];
    assert!(complete, "{origin}");
    for nothing in ["missing_events", "missing_log_groups", "reordered"] {
        assert_eq!(origin[nothing], 0, "{origin}");
    }
    // The kill may have torn the last line of its file.
    assert!(origin["unstamped"].as_u64().unwrap() <= 1, "{origin}");
    let torn = origin["events"].as_u64().unwrap() - ids.len() as u64;
    assert!(torn <= 1, "{origin}");
    let repeated = origin["repeated"].as_u64().unwrap();
    assert!((repeated - torn) as usize <= ids.len() - unique && repeated as usize >= ids.len() - unique, "{origin}");
    assert!(repeated > 5000, "nothing was sent again: {origin}");
    // Without the first receiver's file, what was not sent again would be missing, had it not all been.
    let (complete, verdict) = check(&[&before]);
    assert!(!complete || verdict["origin"]["events"].as_u64().unwrap() < u64::from(SHARDS) * LOGS);
}

#[test]
fn a_line_that_is_removed_doubled_or_moved_is_told_exactly() {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..300, 50);
    let folder = Folder::new("origin-lines");
    let file = folder.path().join("received.json");
    let receiver = Receiver::start(&["--output", file.to_str().unwrap()]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[("destination.origin", "structured-data")]);
    hub.wait_until_committed();
    forwarder.stop();
    receiver.finish();
    let (complete, verdict) = check(&[&file]);
    assert!(complete, "{verdict}");
    assert_complete(&verdict, u64::from(SHARDS) * 300);

    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Log 120 of shard 1 is the 21st of its shard's third group.
    let at = lines.iter().position(|line| line.contains("||stream=s1||n=120||")).unwrap();
    let changed = folder.path().join("changed.json");
    let change = |lines: &[&str]| {
        std::fs::write(&changed, lines.join("\n")).unwrap();
        let (complete, verdict) = check(&[&changed]);
        (complete, verdict["origin"].clone())
    };

    let mut removed = lines.clone();
    removed.remove(at);
    let (complete, origin) = change(&removed);
    assert!(!complete);
    assert_eq!((&origin["missing_events"], &origin["missing_log_groups"]), (&1.into(), &0.into()), "{origin}");
    let hole = &origin["shards"][1]["holes"][0];
    assert_eq!((&hole["from_index"], &hole["to_index"], &hole["logs"]), (&20.into(), &21.into(), &50.into()));
    assert!(lines[at].contains(&format!(r#"cursor=\"{}\""#, hole["cursor"].as_str().unwrap())), "{hole}");
    // The same for people.
    let output = checking(&[&changed]).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(report.contains("index 20, of 50 logs") && report.contains("NOT COMPLETE"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");

    let mut doubled = lines.clone();
    doubled.insert(at + 7, lines[at]);
    let (complete, origin) = change(&doubled);
    assert!(complete);
    assert_eq!((&origin["repeated"], &origin["reordered"]), (&1.into(), &0.into()), "{origin}");

    let next = lines.iter().position(|line| line.contains("||stream=s1||n=121||")).unwrap();
    let mut swapped = lines.clone();
    swapped.swap(at, next);
    let (complete, origin) = change(&swapped);
    assert!(complete);
    assert_eq!((&origin["repeated"], &origin["reordered"]), (&0.into(), &1.into()), "{origin}");

    // Shard 1's third log group as a whole.
    let group: Vec<&str> = lines
        .iter()
        .filter(|line| !(100..150).any(|n| line.contains(&format!("||stream=s1||n={n}||"))))
        .copied()
        .collect();
    let (complete, origin) = change(&group);
    assert!(!complete);
    assert_eq!((&origin["missing_events"], &origin["missing_log_groups"]), (&0.into(), &1.into()), "{origin}");
}

/// Everything that a real receiver writes into its file is found there by its stamp.
fn judges_the_file_of(daemon: &Daemon, file: &str, protocol: &str, settings: &[(&str, &str)]) {
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..500, 30);
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.port));
    let forwarder = Forwarder::start(&hub, address, protocol, settings);
    hub.wait_until_committed();
    forwarder.stop();
    let events = u64::from(SHARDS) * 500;
    eventually("all messages in the daemon's file", || match daemon.received().len() as u64 {
        all if all >= events => Ok(()),
        few => Err(format!("{few} of {events}")),
    });
    let (complete, verdict) = check(&[&daemon.folder.path().join(file)]);
    assert!(complete, "{verdict}");
    assert_complete(&verdict, events);
    assert_eq!(verdict["origin"]["reordered"], 0, "{verdict}");
}

#[test]
fn a_file_of_rsyslog_with_structured_data() {
    let Some(daemon) = rsyslog(Input::Tcp, free_port()) else { return };
    judges_the_file_of(&daemon, "received.json", "tcp", &[("destination.origin", "structured-data")]);
}

#[test]
fn a_file_of_rsyslog_with_the_field_escaped() {
    let Some(daemon) = rsyslog(Input::Relp, free_port()) else { return };
    let settings = [("destination.origin", "field"), ("destination.kv_escape", "true")];
    judges_the_file_of(&daemon, "received.json", "relp", &settings);
}

#[test]
fn a_file_of_syslog_ng() {
    let Some(daemon) = syslog_ng(true, 2 << 20, free_port()) else { return };
    let path = |name: &str| daemon.folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
    let settings = [
        ("destination.origin", "structured-data"),
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
    ];
    judges_the_file_of(&daemon, "received.txt", "tls", &settings);
}

#[test]
fn a_file_without_stamps_is_not_called_complete() {
    let folder = Folder::new("origin-none");
    let file = folder.path().join("lines");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let output = checking(&[&file]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("no line has an origin stamp"));
    let output = checking(&[&folder.path().join("missing")]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read"));
}
