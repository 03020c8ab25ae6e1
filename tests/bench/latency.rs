//! From put to received, while little happens.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::Effort;
use crate::harness::for_a_while;
use crate::rig::{Forwarder, Source, until};
use crate::sink::{Probes, Sink};
use crate::table::{Table, Target};

const SHARDS: u32 = 20;
/// Between two puts; each shard gets a log a second.
const PAUSE: Duration = Duration::from_millis(50);

/// Prints the table.
pub fn run(effort: Effort) {
    let columns = ["longest pause between two pulls", "p50, ms", "p99, ms", "target for p99"];
    let table = Table::new("Latency from put to received: 20 shards, a log a second each", &columns);
    for (text, interval_ms) in [("1s", 1000.0), ("200ms", 200.0), ("50ms", 50.0)] {
        let (source, sink) = (Source::start(SHARDS, &[]), Sink::start(Ipv4Addr::LOCALHOST));
        let forwarder = Forwarder::start(&source, sink.address, &[("source.data_fetch_interval", text)]);
        forwarder.wait_until_held(&source);
        // The first logs open the connection and wait until it is trusted.
        let mut first = Probes::default();
        (0..SHARDS).for_each(|shard| first.put(&source.hub, shard, &sink));
        first.latencies(&sink);
        until("the first commits", || source.group(&forwarder.group)?.shards.iter().all(|s| s.at_end).then_some(()));
        let mut probes = Probes::default();
        let begin = Instant::now();
        for at in 0.. {
            probes.put(&source.hub, at % SHARDS, &sink);
            if begin.elapsed() > effort.seconds(20.0) {
                break;
            }
            for_a_while(PAUSE);
        }
        let latencies = probes.latencies(&sink);
        let p99 = latencies.percentile_ms(99);
        table.row([
            text.to_owned(),
            format!("{:.0}", latencies.percentile_ms(50)),
            format!("{p99:.0}"),
            Target::AtMost(interval_ms + 20.0).judge(p99),
        ]);
        forwarder.stop();
    }
}
