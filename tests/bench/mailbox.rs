//! What the sizes of the two data mailboxes do, by round trip to the receiver and by size of the bodies that a pull brings.
//!
//! Each cell is a forwarder that catches up with a backlog for some seconds. Beside it logs are put one by one into a shard
//! that has no backlog: how long they take is what the deeper pipeline costs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::wire::sls::reply::ConsumerGroup;
use sls_syslog_actors::wire::sls::request::{create_consumer_group, update_checkpoint};

use crate::Effort;
use crate::delay::Line;
use crate::harness::for_a_while;
use crate::hub::LOGSTORE;
use crate::rig::Source;
use crate::sink::{Probes, Sink};
use crate::table::Table;
use crate::window::CatchUp;

const DEPTHS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const ROUND_TRIPS_MS: [u64; 3] = [0, 5, 50];
/// Shards with a backlog; one more has none.
const SHARDS: u32 = 8;

/// Bodies of one size.
struct Bodies {
    name: &'static str,
    bytes: &'static str,
    logs_per_group: &'static str,
    backlog_mb: u64,
}

const BODIES: [Bodies; 2] = [
    Bodies { name: "2 MB", bytes: "2000000", logs_per_group: "100", backlog_mb: 4000 },
    Bodies { name: "20 KB", bytes: "20000", logs_per_group: "40", backlog_mb: 2000 },
];

/// Prints the tables.
pub fn run(effort: Effort) {
    println!("`mailbox.formatter` and `mailbox.connection` of one size, one worker, one connection, TCP, `tcp_acked`.");
    for bodies in BODIES {
        let backlog = effort.megabytes(bodies.backlog_mb);
        let body = ["--body-bytes", bodies.bytes, "--logs-per-group", bodies.logs_per_group];
        let source = Source::start(SHARDS + 1, &[&["--generate", "web", "--backlog", &backlog], &body[..]].concat());
        for round_trip_ms in ROUND_TRIPS_MS {
            let line = match round_trip_ms {
                0 => None,
                _ => match Line::start(Duration::from_millis(round_trip_ms)) {
                    Ok(line) => Some(line),
                    Err(reason) => {
                        println!("\nNo round trip of {round_trip_ms} ms on this machine: {reason}\n");
                        continue;
                    }
                },
            };
            let sink = Sink::start(line.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), Line::address));
            let to = line.as_ref().map_or(sink.address, |line| line.to(sink.address));
            let table = Table::new(
                &format!("Bodies of {}, round trip {round_trip_ms} ms", bodies.name),
                &["mailbox", "MB/s", "MB per CPU-second", "peak memory, MB", "p99 of a log put beside it, ms"],
            );
            for depth in DEPTHS {
                table.row(cell(effort, &source, &sink, to, depth));
            }
        }
    }
}

fn cell(effort: Effort, source: &Source, sink: &Sink, to: SocketAddr, depth: usize) -> Vec<String> {
    let depth_text = depth.to_string();
    let settings = [
        ("mailbox.formatter", depth_text.as_str()),
        ("mailbox.connection", &depth_text),
        // So that neither this nor that is what is measured.
        ("source.data_fetch_interval", "20ms"),
        ("destination.confirm_after_connect", "200ms"),
    ];
    let group = group_without_backlog_in(source, SHARDS);
    let running = CatchUp::start(source, &group, sink, to, &settings);
    running.warm_up();
    // TCP's window opens with the round trips.
    for_a_while(effort.seconds(1.0));
    let mut probes = Probes::default();
    let window = running.watch(effort.seconds(2.0), || probes.put(&source.hub, SHARDS, sink));
    let peak_mb = running.forwarder.used().peak_mb;
    let latencies = probes.latencies(sink);
    vec![
        depth_text.clone(),
        format!("{:.0}", window.raw_mb / window.seconds),
        format!("{:.0}", window.raw_mb / window.cpu_s),
        format!("{peak_mb:.0}"),
        format!("{:.0}", latencies.percentile_ms(99)),
    ]
}

/// A new group that begins at the end of this shard, and at the begin of all others.
fn group_without_backlog_in(source: &Source, shard: u32) -> String {
    let name = source.new_group();
    let group = ConsumerGroup { name: name.clone(), timeout_s: 40, order: false };
    source.hub.send(create_consumer_group(LOGSTORE, &group));
    let state = source.logstore();
    let shard = &state.shards[shard as usize];
    let end = Cursor::new(&shard.end_cursor).expect("a cursor");
    source.hub.send(update_checkpoint(LOGSTORE, &name, "bench", shard.shard, &end, true));
    name
}
