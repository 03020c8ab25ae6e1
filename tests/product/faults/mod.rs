//! The promise under faults, with real processes: forwarders that share a group, a proxy that does to their connections
//! what networks do, processes that are killed or hang, and a judge that knows what was put, committed and kept.
//!
//! `SLS_SYSLOG_FAULTS` says how many faults (210), `SLS_SYSLOG_FAULT_SEED` makes a run's plan again.

mod judge;
mod kept;
mod lane;
pub mod network;
mod plan;
mod proxy;
mod table;

use crate::peers::peer;
use kept::Who;
use lane::{Asked, Lane, Outcome, Sender, Ways};
use plan::Kind;
use proxy::Manners;

/// Faults of a run without other wishes, over all lanes of the product.
const FAULTS: usize = 210;

/// Cuts that a receiver makes which reads all that it has acknowledged, and what processes go through.
const GENTLE: &[Kind] = &[
    Kind::CutMidFrame,
    Kind::HalfOpen,
    Kind::BlackHole,
    Kind::OneWayLoss,
    Kind::SlowReader,
    Kind::AcceptThenDie,
    Kind::KillForwarder,
    Kind::HangForwarder,
];

fn kinds(more: &[Kind]) -> Vec<Kind> {
    [GENTLE, more].concat()
}

/// The lanes with their share of the faults.
fn lanes(seed: u64, faults: usize) -> Vec<Lane> {
    use Kind::{KillReceiver, Reset, TlsStall};
    let lane = |name, who, protocol, manners, more: &[Kind]| Lane {
        name,
        sender: Sender::Forwarder,
        asked: Asked::Promise,
        who,
        protocol,
        way: Ways::Proxy(manners),
        kinds: kinds(more),
        settings: Vec::new(),
        seed,
        faults: 0,
    };
    let mut lanes = vec![
        lane("tcp", Who::Ours, "tcp", Manners::Gentle, &[]),
        lane("tls", Who::Ours, "tls", Manners::Gentle, &[TlsStall]),
        lane("relp", Who::Ours, "relp", Manners::Rough, &[Reset, KillReceiver]),
        lane("relp+tls", Who::Ours, "relp+tls", Manners::Rough, &[Reset, KillReceiver, TlsStall]),
        lane("tcp, bytes thrown away", Who::Ours, "tcp", Manners::Rough, &[Reset, KillReceiver]),
    ];
    if peer("SLS_SYSLOG_TEST_RSYSLOGD").is_some() {
        lanes.push(Lane {
            settings: vec![("destination.framing", "octet-counting")],
            ..lane("tcp to rsyslog", Who::Rsyslog, "tcp", Manners::Gentle, &[])
        });
        lanes.push(lane("relp to rsyslog", Who::Rsyslog, "relp", Manners::Rough, &[Reset]));
    }
    let share = faults.div_ceil(lanes.len());
    lanes.iter_mut().for_each(|lane| lane.faults = share);
    // Packets lost below TCP, in a network of our own; a partition lasts long.
    for (name, protocol) in [("tcp, partitions", "tcp"), ("relp, partitions", "relp")] {
        let kinds = vec![Kind::Partition, Kind::Partition, Kind::Unplugged];
        let parted = lane(name, Who::Ours, protocol, Manners::Gentle, &[]);
        lanes.push(Lane { way: Ways::Network, kinds, faults: share.div_ceil(3), ..parted });
    }
    // What counts as confirmed when it is only written dies with the sender's socket: the judge has to find it.
    let parted = lanes.iter().find(|lane| lane.name == "tcp, partitions").unwrap().clone();
    lanes.push(Lane {
        name: "tcp, partitions, `written`",
        asked: Asked::Losses,
        kinds: vec![Kind::Partition],
        faults: 4,
        settings: vec![("destination.confirmation", "written")],
        ..parted
    });
    // The sample goes through the same plans as the forwarders of these lanes.
    if peer("SLS_SYSLOG_TEST_PYTHON").is_some() {
        let names = [
            ("tcp", "sample: tcp"),
            ("tcp, bytes thrown away", "sample: tcp, bytes thrown away"),
            ("tcp, partitions", "sample: tcp, partitions"),
        ];
        for (of, name) in names {
            let ours = lanes.iter().find(|lane| lane.name == of).unwrap().clone();
            lanes.push(Lane { name, sender: Sender::Sample, asked: Asked::Nothing, ..ours });
        }
    }
    lanes
}

/// A number from the environment.
fn wish<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn no_fault_loses_doubles_without_cause_or_reorders_a_log() {
    let seed = wish("SLS_SYSLOG_FAULT_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let faults = wish("SLS_SYSLOG_FAULTS").unwrap_or(FAULTS);
    println!("faults with seed {seed}; SLS_SYSLOG_FAULT_SEED={seed} makes the same plan again");
    let only: Option<String> = std::env::var("SLS_SYSLOG_FAULT_LANE").ok();
    let lanes: Vec<Lane> =
        lanes(seed, faults).into_iter().filter(|lane| only.as_deref().is_none_or(|only| only == lane.name)).collect();
    // All at once: most of the time they wait.
    let ended: Vec<(&str, std::thread::Result<Option<Outcome>>)> = std::thread::scope(|scope| {
        let spawn = |lane: Lane| {
            let thread = std::thread::Builder::new().name(lane.name.to_owned());
            (lane.name, thread.spawn_scoped(scope, || lane.run()).unwrap())
        };
        let running: Vec<_> = lanes.into_iter().map(spawn).collect();
        running.into_iter().map(|(name, thread)| (name, thread.join())).collect()
    });
    let unfinished: Vec<&str> = ended.iter().filter(|(_, ended)| ended.is_err()).map(|(name, _)| *name).collect();
    let outcomes: Vec<Outcome> = ended.iter().filter_map(|(_, ended)| ended.as_ref().ok()?.clone()).collect();
    println!("{}", table::of(&outcomes));
    let broken: Vec<String> = outcomes
        .iter()
        .filter(|outcome| outcome.lane.asked == Asked::Promise)
        .flat_map(|outcome| outcome.verdict.broken.iter().map(|what| format!("{}: {what}", outcome.lane.name)))
        .collect();
    assert!(unfinished.is_empty(), "seed {seed}: these lanes did not come to their end: {unfinished:?}");
    for outcome in outcomes.iter().filter(|outcome| outcome.lane.asked == Asked::Losses) {
        let found = outcome.verdict.broken.iter().any(|what| what.starts_with(judge::LOST));
        assert!(found, "seed {seed}: {}: the judge has found no loss where there are some", outcome.lane.name);
    }
    assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
}
