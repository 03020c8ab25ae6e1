//! Shards by workers by size of the logs, as a table and as a picture.

use std::net::Ipv4Addr;

use crate::Effort;
use crate::plot::{Plot, Series};
use crate::rig::Source;
use crate::sink::Sink;
use crate::table::Table;
use crate::window::CatchUp;

const SHARDS: [u32; 4] = [1, 10, 100, 1000];
const WORKERS: [u32; 2] = [1, 2];

/// Kinds of logs: as the generator calls them, their size, how many in a log group, and how much of them.
const LOGS: [(&str, &str, &str, u64); 4] = [
    ("tiny", "80 B", "100", 1200),
    ("web", "500 B", "100", 4000),
    ("audit", "1.2 KB", "100", 4000),
    ("large", "100 KB", "10", 4000),
];

/// Prints the table, and draws the picture unless there is too little in it.
pub fn run(effort: Effort) {
    let columns = ["logs", "shards", "workers", "MB per CPU-second", "MB/s wall", "messages/s", "peak memory, MB"];
    let table = Table::new("Scaling: TCP, `tcp_acked`, while a backlog is caught up with", &columns);
    let mut plot = Plot {
        title: "MB of raw log per CPU-second".to_owned(),
        across: "shards".to_owned(),
        at: SHARDS.iter().map(u32::to_string).collect(),
        series: Vec::new(),
    };
    for (kind, size, logs_per_group, mb) in LOGS {
        let mut lines = WORKERS.map(|workers| Series {
            name: format!("{size}, {workers} {}", if workers == 1 { "worker" } else { "workers" }),
            dashed: workers > 1,
            values: Vec::new(),
        });
        for shards in SHARDS {
            let backlog = effort.megabytes(mb);
            let arguments = ["--generate", kind, "--backlog", &backlog, "--logs-per-group", logs_per_group];
            let source = Source::start(shards, &arguments);
            for (workers, line) in WORKERS.iter().zip(&mut lines) {
                let sink = Sink::start(Ipv4Addr::LOCALHOST);
                let settings = [("limits.workers", workers.to_string())];
                let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
                let running = CatchUp::start(&source, &source.new_group(), &sink, sink.address, &settings);
                running.forwarder.wait_until_held(&source);
                running.warm_up();
                let window = running.watch(effort.seconds(3.0), || {});
                line.values.push(window.raw_mb / window.cpu_s);
                table.row([
                    size.to_owned(),
                    shards.to_string(),
                    workers.to_string(),
                    format!("{:.0}", window.raw_mb / window.cpu_s),
                    format!("{:.0}", window.raw_mb / window.seconds),
                    format!("{:.0}", window.messages / window.seconds),
                    format!("{:.0}", running.forwarder.used().peak_mb),
                ]);
            }
        }
        plot.series.extend(lines);
    }
    let name = if effort.quick { "target/scaling-quick.svg" } else { "tests/bench/scaling.svg" };
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    match std::fs::write(&path, plot.svg()) {
        Ok(()) => println!("\nDrawn: {}", path.display()),
        Err(e) => println!("\nCannot draw {}: {e}", path.display()),
    }
}
