//! What it takes while nothing happens, what it holds while much does or nobody reads, and how soon it begins.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::Effort;
use crate::harness::for_a_while;
use crate::rig::{CONFIRM_AFTER_CONNECT, Forwarder, Source, run_through, until};
use crate::sink::{Probes, Sink};
use crate::table::{Table, Target};

/// Beside the byte budget.
const BASE_MB: f64 = 64.0;
/// The byte budget, as by default.
const BUDGET_MB: f64 = 134.2;

/// Prints all tables; memory is watched for `watch`, with load and with a dead receiver side by side.
pub fn run(effort: Effort, watch: Option<Duration>) {
    idle(effort);
    let table = Table::new(
        "Memory, MB resident",
        &["work", "in the first half", "in the second half", "peak", "target for the peak"],
    );
    under_full_load(effort, &table);
    let watch = watch.unwrap_or(effort.seconds(25.0));
    std::thread::scope(|scope| {
        scope.spawn(|| flat(&table, "50 MB/s", false, watch));
        scope.spawn(|| flat(&table, "a receiver that reads nothing", true, watch));
    });
    start(effort);
}

/// A thousand shards without a log.
fn idle(effort: Effort) {
    let columns = ["source.data_fetch_interval", "share of a core", "target", "pulls/s", "µs a pull", "target", "MB"];
    let table = Table::new("Idle: 1 000 shards, nothing new", &columns);
    let source = Source::start(1000, &[]);
    let sink = Sink::start(Ipv4Addr::LOCALHOST);
    for (interval, seconds, most, most_us) in [("1s", 1.0, 10.0, Some(100.0)), ("5s", 5.0, 3.0, None)] {
        let settings = [("source.data_fetch_interval", interval), ("source.commit_interval", "3s")];
        let forwarder = Forwarder::start(&source, sink.address, &settings);
        forwarder.wait_until_held(&source);
        // Every shard has been asked, and rests as long as it may: the pauses double up to the interval.
        for_a_while(Duration::from_secs_f64(3.0 + 2.0 * seconds));
        let (begin, cpu, requests) = (Instant::now(), forwarder.used().cpu_s, source.requests());
        for_a_while(effort.seconds(20.0));
        let used = forwarder.used();
        let (took, cpu) = (begin.elapsed().as_secs_f64(), used.cpu_s - cpu);
        let pulls = (source.requests() - requests) as f64;
        let (share, each) = (cpu / took * 100.0, cpu / pulls * 1e6);
        table.row([
            interval.to_owned(),
            format!("{share:.1} %"),
            Target::AtMost(most).judge(share),
            format!("{:.0}", pulls / took),
            format!("{each:.0}"),
            most_us.map_or(String::new(), |most| Target::AtMost(most).judge(each)),
            format!("{:.0}", used.resident_mb),
        ]);
        forwarder.stop();
    }
}

/// A hundred shards, all of them behind.
fn under_full_load(effort: Effort, table: &Table) {
    let source = Source::start(100, &["--generate", "web", "--backlog", &effort.megabytes(3000)]);
    let run = run_through(&source, "tcp", &[]);
    table.row([
        format!("100 shards, as fast as it goes ({:.0} MB/s)", run.per_s()),
        String::new(),
        String::new(),
        format!("{:.0}", run.peak_mb),
        Target::AtMost((BASE_MB + BUDGET_MB).round()).judge(run.peak_mb),
    ]);
}

/// Load for so long, with a receiver that is there or not. Flat is what holds no more in the second half than in the first.
fn flat(table: &Table, name: &str, dead: bool, watch: Duration) {
    // With a dead receiver the LogHub keeps all of it.
    let most = 3e9 / 505.0 / watch.as_secs_f64();
    let rate = if dead { most.min(100_000.0) } else { 100_000.0 };
    let rate = (rate as u64).to_string();
    // Otherwise it need not keep an hour's logs: who keeps up does not miss them.
    let retention: &[&str] = if dead { &[] } else { &["--retention", "120"] };
    let source = Source::start(10, &[&["--generate", "web", "--rate", &rate], retention].concat());
    let sink = Sink::start(Ipv4Addr::LOCALHOST);
    let forwarder = Forwarder::start(&source, sink.address, &[]);
    until("the first messages", || (sink.messages() > 10_000).then_some(()));
    sink.play_dead(dead);
    let (begin, mut halves) = (Instant::now(), [0.0_f64; 2]);
    while begin.elapsed() < watch {
        let half = usize::from(begin.elapsed() > watch / 2);
        halves[half] = halves[half].max(forwarder.used().resident_mb);
        for_a_while(Duration::from_millis(100));
    }
    let peak = forwarder.used().peak_mb;
    table.row([
        format!("{name}, {} s", watch.as_secs()),
        format!("{:.0}", halves[0]),
        format!("{:.0}", halves[1]),
        format!("{peak:.0}"),
        Target::AtMost((BASE_MB + BUDGET_MB).round()).judge(peak),
    ]);
    if dead {
        // It goes on where it stopped.
        let before = sink.messages();
        sink.play_dead(false);
        until("messages after the receiver's return", || (sink.messages() > before + 10_000).then_some(()));
    }
}

/// From the start of the process to the first message that the receiver has.
fn start(effort: Effort) {
    let columns = ["start", "seconds at best", "at worst", "target"];
    let table = Table::new("From the start to the first delivery, beyond `confirm_after_connect`", &columns);
    let (source, sink) = (Source::start(4, &[]), Sink::start(Ipv4Addr::LOCALHOST));
    let mut probes = Probes::default();
    probes.put(&source.hub, 0, &sink);
    let mut times: Vec<f64> = (0..if effort.quick { 2 } else { 10 })
        .map(|_| {
            // Each reads the same probe, in a group of its own.
            let before = sink.messages();
            let forwarder = Forwarder::start(&source, sink.address, &[]);
            let took = until("the first message", || (sink.messages() > before).then(|| forwarder.started.elapsed()));
            forwarder.stop();
            took.saturating_sub(CONFIRM_AFTER_CONNECT).as_secs_f64()
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    let (best, worst) = (times[0], times[times.len() - 1]);
    table.row([
        "4 shards, one log".to_owned(),
        format!("{best:.2}"),
        format!("{worst:.2}"),
        Target::AtMost(0.5).judge(worst),
    ]);
}
