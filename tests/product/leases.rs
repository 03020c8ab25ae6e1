//! Lease safety: whatever stands still, heartbeats go on; and if they may not, the process ends.
//!
//! The longest silence is measured where it counts, at the LogHub, and compared with the group's timeout. That a
//! checkpoint endpoint may hang for minutes, and that stale leases never commit, is shown in virtual time
//! (`l3_heartbeats_go_on_while_commits_hang`, the simulation's I3).

use std::time::{Duration, Instant};

use crate::forwarder::Forwarder;
use crate::harness::{Receiver, eventually, for_a_while};
use crate::hub::{Hub, numbered_group};

/// A heartbeat is due every 500 ms.
const TIMEOUT_S: u64 = 4;
const GROUP_TIMEOUT: (&str, &str) = ("source.group_timeout", "4s");

/// No heartbeat was late by more than a busy machine explains, and no lease was lost.
#[track_caller]
fn nothing_was_late(hub: &Hub, forwarder: &Forwarder) {
    let silence = hub.longest_silence_ms(&forwarder.consumer);
    println!("longest silence of {}: {silence} ms of {TIMEOUT_S} s", forwarder.consumer);
    assert!(silence < TIMEOUT_S * 1000 / 4 * 3, "a heartbeat came {silence} ms after the one before");
    assert_eq!(hub.expired_holders(), 0, "leases were lost");
}

/// All shards are held by this one, now and as long as `time` lasts.
#[track_caller]
fn holds_all_for(time: Duration, hub: &Hub, forwarder: &mut Forwarder, shards: usize) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(forwarder.process.runs());
        assert_eq!(hub.owners().get(&forwarder.consumer), Some(&shards));
        for_a_while(Duration::from_millis(200));
    }
}

/// The receiver hangs and so does every commit. What is asked to stop meanwhile says what SLS still holds.
#[test]
fn a_stuck_receiver_and_commits_that_hang_delay_no_heartbeat() {
    let hub = Hub::start(4);
    hub.put_numbered(0..1000, 100);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [GROUP_TIMEOUT, ("source.drain_timeout", "3s"), ("limits.bytes_in_flight", "16MiB")];
    let start = || Forwarder::start(&hub, receiver.address, "tcp", &settings);
    let mut forwarder = start();
    hub.wait_until_committed();
    hub.fault("commit-hang:1000000");
    hub.put_numbered(1000..2000, 100);
    eventually("delivered", || {
        let output = forwarder.output();
        output.contains("cannot commit").then_some(()).ok_or_else(|| "no commit has hung yet".to_owned())
    });
    receiver.process.signal("STOP");
    hub.put_numbered(2000..12_000, 500);
    holds_all_for(Duration::from_secs(10), &hub, &mut forwarder, 4);
    nothing_was_late(&hub, &forwarder);

    let status = forwarder.process.stop();
    let output = forwarder.output();
    assert!(status.success(), "{status}");
    let last = output.lines().rev().find(|line| line.contains("ended")).expect("a last line");
    assert!(last.contains("SLS still holds them") && last.contains("raw_bytes"), "{last}");
    nothing_was_late(&hub, &forwarder);

    receiver.process.signal("CONT");
    hub.heal();
    let forwarder = start();
    hub.wait_until_committed();
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&48_000.into(), &0.into()), "{summary}");
}

/// Whoever should read its log hangs for good. It neither waits for that nor ends because of it, and ends when asked to.
#[test]
fn a_log_that_nobody_reads_delays_no_heartbeat_and_no_end() {
    let hub = Hub::start(4);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [GROUP_TIMEOUT, ("log.level", "trace"), ("source.commit_interval", "50ms")];
    let mut forwarder = Forwarder::start_unheard(&hub, receiver.address, "tcp", &settings);
    for begin in (0..2000).step_by(200) {
        hub.put_numbered(begin..begin + 200, 10);
    }
    hub.wait_until_committed();
    holds_all_for(Duration::from_secs(5), &hub, &mut forwarder, 4);
    nothing_was_late(&hub, &forwarder);
    assert!(forwarder.process.stop().success());
    let words = forwarder.process.last_words();
    assert!(words.is_empty(), "somebody has read its log: {words}");
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&8000.into(), &0.into()), "{summary}");
}

#[test]
fn a_body_of_64_mib_delays_no_heartbeat() {
    const MOST: usize = 64 << 20;
    let hub = Hub::start_with(1, &["--put-limit", &MOST.to_string()]);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [GROUP_TIMEOUT, ("limits.workers", "1")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    let of = |logs: u64| prost::Message::encoded_len(&numbered_group(0, 0..logs));
    let logs = 100_000 * (MOST as u64 - (1 << 20)) / of(100_000) as u64;
    let group = numbered_group(0, 0..logs);
    let bytes = prost::Message::encoded_len(&group);
    assert!((MOST / 10 * 9..MOST).contains(&bytes), "{bytes}");
    hub.put(0, &group);
    hub.wait_until_committed();
    nothing_was_late(&hub, &forwarder);
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&logs.into(), &0.into()), "{summary}");
    assert_eq!((&summary["duplicates"], &summary["gap_records"]), (&0.into(), &0.into()), "{summary}");
}

#[test]
fn a_flood_of_tiny_bodies_delays_no_heartbeat() {
    const BODIES: u64 = 12_000;
    let backlog = ["--generate", "tiny", "--logs-per-group", "1", "--backlog", &BODIES.to_string()];
    let hub = Hub::start_with(8, &backlog);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [GROUP_TIMEOUT, ("source.max_log_groups", "1"), ("log.level", "info")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    hub.wait_until_committed();
    nothing_was_late(&hub, &forwarder);
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&BODIES.into(), &0.into()), "{summary}");
}

/// L9: the Coordinator's thread stands still. SLS gives the shards to others; this process would read and send on for ever.
#[test]
fn l9_a_coordinator_that_hangs_ends_the_process_which_sends_nothing_more() {
    let hub = Hub::start(2);
    hub.put_numbered(0..500, 50);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [GROUP_TIMEOUT, ("limits.workers", "2")];
    let mut hanging = Forwarder::start_named("hanging", &hub, receiver.address, "tcp", &settings);
    hub.wait_until_committed();
    // Its thread is the first.
    let Some(_hung) = hanging.process.hang_thread("actix-rt", 0) else {
        eprintln!("skipped: nobody may stop a single thread here");
        return;
    };
    let began = Instant::now();
    let status = hanging.process.wait();
    assert_eq!(status.code(), Some(5), "{status}");
    let took = began.elapsed();
    assert!((Duration::from_secs(25)..Duration::from_secs(55)).contains(&took), "{took:?}");
    assert!(hanging.output().contains("the coordinator hangs") && hanging.output().contains("worker-hung"));
    hub.put_numbered(500..1000, 50);
    let other = Forwarder::start_named("other", &hub, receiver.address, "tcp", &settings);
    hub.wait_until_committed();
    other.stop();
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&2000.into(), &0.into()), "{summary}");
}

/// L9: a worker's thread stands still. The heartbeats would hold its shards for ever, so the process ends by itself, and
/// another one takes them over.
#[test]
fn l9_a_worker_that_hangs_ends_the_process_and_its_shards_go_to_others() {
    let hub = Hub::start(2);
    hub.put_numbered(0..500, 50);
    let receiver = Receiver::start(&["--mode", "check"]);
    let start = |name: &str| {
        Forwarder::start_named(name, &hub, receiver.address, "tcp", &[GROUP_TIMEOUT, ("limits.workers", "1")])
    };
    let mut hanging = start("hanging");
    hub.wait_until_committed();
    let other = start("other");
    eventually("a shard for each", || {
        let owners = hub.owners();
        (owners.len() == 2).then_some(()).ok_or_else(|| format!("{owners:?}"))
    });
    // The Coordinator's thread is the first, its only worker's the second.
    let Some(_hung) = hanging.process.hang_thread("actix-rt", 1) else {
        eprintln!("skipped: nobody may stop a single thread here");
        return;
    };
    let began = Instant::now();
    hub.put_numbered(500..1000, 50);
    for_a_while(Duration::from_secs(10));
    assert_eq!(hub.owners().get("hanging"), Some(&1), "its heartbeats go on at first");
    let status = hanging.process.wait();
    assert_eq!(status.code(), Some(5), "{status}");
    let took = began.elapsed();
    assert!((Duration::from_secs(25)..Duration::from_secs(55)).contains(&took), "{took:?}");
    assert!(hanging.output().contains("worker 0 hangs") && hanging.output().contains("worker-hung"));
    eventually("all shards for the other", || {
        let owners = hub.owners();
        (owners.get("other") == Some(&2)).then_some(()).ok_or_else(|| format!("{owners:?}"))
    });
    hub.wait_until_committed();
    other.stop();
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&2000.into(), &0.into()), "{summary}");
}
