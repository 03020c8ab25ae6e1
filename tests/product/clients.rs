//! The official Python SDK, unmodified, against the embedded LogHub: it puts, and it consumes, alone and beside us.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver, SECRET, eventually};
use crate::hub::{GROUP, Hub, KEY_ID, LOGSTORE, PROJECT};
use crate::peers::{delivered_ids, peer};

const SHARDS: u32 = 4;

/// A script of `tests/peers` with the LogHub as its proxy.
fn script(python: &PathBuf, name: &str, hub: &Hub, arguments: &[&str]) -> Process {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name);
    let mut command = Command::new(python);
    command.env("http_proxy", format!("http://{}", hub.address)).env("SLS_AK_ID", KEY_ID).env("SLS_AK_KEY", SECRET);
    command.arg("-B").arg(file).args([PROJECT, LOGSTORE]).args(arguments);
    Process::start(name, &mut command)
}

/// The ids that `consume_group.py` has printed, as the receiver's files name them.
fn consumed_ids(consumer: &Process) -> Vec<(String, u64)> {
    let read = |line: &String| {
        let (stream, number) = line.split_once(' ')?;
        Some((stream.to_owned(), number.parse().ok()?))
    };
    consumer.stdout().iter().filter_map(read).collect()
}

fn all_ids(logs_per_shard: u64) -> BTreeSet<(String, u64)> {
    (0..SHARDS).flat_map(|shard| (0..logs_per_shard).map(move |n| (format!("s{shard}"), n))).collect()
}

#[test]
fn what_the_python_sdk_puts_is_delivered() {
    let Some(python) = peer("SLS_SYSLOG_TEST_PYTHON") else { return };
    let hub = Hub::start(SHARDS);
    let mut put = script(&python, "put_logs.py", &hub, &[&SHARDS.to_string(), "500"]);
    assert!(put.wait().success());
    let receiver = Receiver::start(&["--mode", "check"]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[]);
    hub.wait_until_committed();
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&(u64::from(SHARDS) * 500).into(), &0.into()), "{summary}");
}

#[test]
fn the_python_consumer_reads_a_group_of_the_embedded_loghub() {
    let Some(python) = peer("SLS_SYSLOG_TEST_PYTHON") else { return };
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..500, 50);
    let mut consumer = script(&python, "consume_group.py", &hub, &[GROUP, "python"]);
    eventually("all logs in Python", || {
        let seen = consumed_ids(&consumer).len();
        (seen >= SHARDS as usize * 500).then_some(()).ok_or_else(|| format!("{seen} logs"))
    });
    hub.wait_until_committed();
    assert!(consumer.stop().success());
    let seen = consumed_ids(&consumer);
    assert_eq!(seen.len(), SHARDS as usize * 500, "each once");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all_ids(500));
}

#[test]
fn the_python_consumer_and_a_forwarder_share_the_shards_of_one_group() {
    let Some(python) = peer("SLS_SYSLOG_TEST_PYTHON") else { return };
    let hub = Hub::start(SHARDS);
    hub.put_numbered(0..200, 20);
    let folder = Folder::new("shared-group");
    let file = folder.path().join("received.json");
    let receiver = Receiver::start(&["--mode", "check", "--output", file.to_str().unwrap()]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[]);
    let mut consumer = script(&python, "consume_group.py", &hub, &[GROUP, "python"]);
    eventually("both hold shards", || {
        let owners = hub.owners();
        (owners.len() == 2).then_some(()).ok_or_else(|| format!("{owners:?}"))
    });
    hub.put_numbered(200..1000, 20);
    hub.wait_until_committed();
    let ours = delivered_ids(&file);
    let theirs = consumed_ids(&consumer);
    assert!(!theirs.is_empty());
    assert_eq!(ours.iter().chain(&theirs).cloned().collect::<BTreeSet<_>>(), all_ids(1000));
    forwarder.stop();
    assert!(consumer.stop().success());
    receiver.finish();
}
