//! Raw log per CPU-second of the forwarder, by kind of log and transport; two workers against one; and the case of the help
//! page of the Python sample, ten shards of 10 MB/s; with the sample itself beside it, and the path without what keeps the
//! promise.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use crate::harness::{Process, Receiver, SECRET, for_a_while};
use crate::hub::{ENDPOINT, KEY_ID, LOGSTORE, PROJECT};
use crate::rig::{CONFIRM_AFTER_CONNECT, Forwarder, Run, Settings, Source, Used, run_through, since_1970, until};
use crate::sink::Sink;
use crate::table::{Table, Target};
use crate::{Effort, bare};

/// Logs of one kind, and what is measured with them.
struct Work {
    logs: &'static str,
    name: &'static str,
    backlog_mb: u64,
    rows: &'static [Row],
}

struct Row {
    protocol: &'static str,
    name: &'static str,
    target: Option<Target>,
}

const WORK: &[Work] = &[
    Work {
        logs: "web",
        name: "web 500 B",
        backlog_mb: 3000,
        rows: &[
            Row { protocol: "tcp", name: "TCP", target: Some(Target::AtLeast(700.0)) },
            Row { protocol: "tls", name: "TLS 1.3", target: Some(Target::AtLeast(600.0)) },
            Row { protocol: "relp", name: "RELP", target: Some(Target::AtLeast(200.0)) },
            Row { protocol: "relp+tls", name: "RELP inside TLS 1.3", target: None },
        ],
    },
    Work {
        logs: "audit",
        name: "audit 1.2 KB",
        backlog_mb: 3000,
        rows: &[Row { protocol: "tcp", name: "TCP", target: Some(Target::AtLeast(800.0)) }],
    },
    Work {
        logs: "tiny",
        name: "tiny 80 B",
        backlog_mb: 1000,
        rows: &[Row { protocol: "tcp", name: "TCP", target: Some(Target::AtLeast(250.0)) }],
    },
];

/// What the service lets one shard be read with.
const MB_PER_SHARD: f64 = 10.0;
/// Logs of the kind `web` in that.
const LOGS_PER_SHARD: u64 = 20_000;

/// Prints a row: its name, the run, what it is to reach, and what the bare path has reached.
type ShowRow<'a> = &'a dyn Fn(&str, &Run, Option<Target>, Option<f64>);

/// Runs of which the best counts: other work on the machine only ever makes one slower.
const ROUNDS: usize = 4;

/// Prints all tables, or those whose rows contain one of the words.
pub fn run(effort: Effort, words: &[&str]) {
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let columns =
        ["work", "MB per CPU-second", "target", "of the bare path", "MB/s wall", "messages/s", "peak memory, MB"];
    let table = Table::new("Throughput: four shards, one worker, octet counting, confirmed and committed", &columns);
    let row = |name: &str, run: &Run, target: Option<Target>, bare: Option<f64>| {
        table.row([
            name.to_owned(),
            short(run.per_cpu_s()),
            target.map_or(String::new(), |target| target.judge(run.per_cpu_s())),
            bare.map_or(String::new(), |bare| format!("{:.0} % of {bare:.0}", run.per_cpu_s() / bare * 100.0)),
            short(run.per_s()),
            format!("{:.0}", run.messages / run.wall_s),
            format!("{:.0}", run.peak_mb),
        ]);
    };
    for work in WORK {
        let name = |row: &Row| format!("{}, {}", work.name, row.name);
        let rows: Vec<&Row> = work.rows.iter().filter(|row| wanted(&name(row))).collect();
        let two = format!("{}, TCP, two workers", work.name);
        let two_wanted = work.logs == "web" && wanted(&two);
        if rows.is_empty() && !two_wanted {
            continue;
        }
        let backlog = effort.megabytes(work.backlog_mb);
        let source = Source::start(4, &["--generate", work.logs, "--backlog", &backlog]);
        let mut with_one = None;
        for one in rows {
            let (run, bare) = best(&source, one.protocol, &[]);
            row(&name(one), &run, one.target, bare);
            with_one = with_one.or((one.protocol == "tcp").then_some(run.per_cpu_s()));
        }
        if two_wanted {
            let (run, _) = best(&source, "tcp", &[("limits.workers", "2")]);
            row(&two, &run, with_one.map(|one| Target::AtLeast((one * 0.9).round())), None);
        }
    }
    if wanted("the Python sample") {
        sample(effort, &row);
    }
    if wanted("10 MB/s") {
        at_the_allowance(effort);
    }
}

/// The forwarder's best run, and what the bare path has reached beside it.
fn best(source: &Source, protocol: &str, settings: Settings) -> (Run, Option<f64>) {
    let has_bare = matches!(protocol, "tcp" | "tls") && settings.is_empty();
    let (mut runs, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        runs.push(run_through(source, protocol, settings));
        if has_bare {
            bare.push(bare::run_through(source, protocol));
        }
    }
    let best = runs.into_iter().max_by(|one, other| one.per_cpu_s().total_cmp(&other.per_cpu_s()));
    (best.expect("at least one round"), bare.into_iter().max_by(f64::total_cmp))
}

/// A figure with a decimal where it is small.
fn short(figure: f64) -> String {
    if figure < 20.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

/// The program of the help page, on the same logs, where Python is at hand.
fn sample(effort: Effort, row: ShowRow) {
    let Some(python) = std::env::var_os("SLS_SYSLOG_TEST_PYTHON") else {
        println!(
            "\nThe Python sample is not measured: `tests/run peers` installs it and prints SLS_SYSLOG_TEST_PYTHON.\n"
        );
        return;
    };
    for (logs, name, mb) in [("web", "web 500 B", 60), ("audit", "audit 1.2 KB", 100), ("tiny", "tiny 80 B", 15)] {
        let source = Source::start(4, &["--generate", logs, "--backlog", &effort.megabytes(mb)]);
        let receiver = Receiver::start(&["--mode", "count", "--quiet"]);
        let (group, begin) = (source.new_group(), since_1970());
        let mut process = start_sample(python.as_ref(), &source, &group, receiver.address);
        let end = until("all checkpoints at the end", || source.committed(&group));
        let used = Used::of(process.pid());
        process.stop();
        let (_, raw_mb) = source.taken();
        let messages = receiver.finish()["messages"].as_f64().expect("a number");
        let wall_s = end.saturating_sub(begin).as_secs_f64();
        let run = Run { raw_mb, messages, cpu_s: used.cpu_s, wall_s, peak_mb: used.peak_mb };
        row(&format!("*{name}, TCP, the Python sample*"), &run, None, None);
    }
}

fn start_sample(python: &Path, source: &Source, group: &str, to: SocketAddr) -> Process {
    let mut command = std::process::Command::new(python);
    command
        .env("http_proxy", format!("http://{}", source.hub.address))
        .env("SLS_ENDPOINT", format!("http://{ENDPOINT}"))
        .env("SLS_AK_ID", KEY_ID)
        .env("SLS_AK_KEY", SECRET)
        .env("SLS_PROJECT", PROJECT)
        .env("SLS_LOGSTORE", LOGSTORE)
        .env("SLS_CG", group);
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/sample.py")).arg("sample");
    command.arg(format!("host={}", to.ip())).arg(format!("port={}", to.port()));
    Process::start("sample", &mut command)
}

/// Shards that are fed with as much as the service lets them be read with.
fn at_the_allowance(effort: Effort) {
    let columns =
        ["work", "MB/s", "share of a core", "target", "MB per CPU-second", "TB a day per core", "peak memory, MB"];
    let table = Table::new("Fed with 10 MB/s a shard, the most that the service lets be read", &columns);
    let lines = [
        ("one shard, log groups of 1 KB", 1, 1, "2", Some(Target::AtMost(5.0))),
        ("ten shards, one process", 10, 1, "100", None),
        ("ten shards, ten processes", 10, 10, "100", None),
    ];
    for (name, shards, processes, logs_per_group, target) in lines {
        let rate = (LOGS_PER_SHARD * u64::from(shards)).to_string();
        let source = Source::start(shards, &["--generate", "web", "--rate", &rate, "--logs-per-group", logs_per_group]);
        let sink = Sink::start(Ipv4Addr::LOCALHOST);
        let group = source.new_group();
        // Heartbeats that let ten processes share the shards within seconds.
        let settings = [("source.heartbeat_interval", "1s"), ("source.commit_interval", "3s")];
        let forwarders: Vec<Forwarder> = (0..processes)
            .map(|at| Forwarder::join(&source, &group, &format!("forwarder-{at}"), sink.address, &settings))
            .collect();
        until("all shards held", || source.is_held(&group, processes).then_some(()));
        let fed = |mb_per_log: f64| sink.messages() as f64 * mb_per_log;
        // What had gathered before the shards were held is delivered.
        let per_log = source.mb_per_log();
        until("the backlog delivered", || {
            (source.taken().1 - fed(per_log) < MB_PER_SHARD * f64::from(shards)).then_some(())
        });
        for_a_while(CONFIRM_AFTER_CONNECT);
        let cpu = || forwarders.iter().map(|forwarder| forwarder.used().cpu_s).sum::<f64>();
        let (begin, cpu_before, mb_before) = (Instant::now(), cpu(), fed(per_log));
        for_a_while(effort.seconds(10.0));
        let (seconds, cpu_s, mb) = (begin.elapsed().as_secs_f64(), cpu() - cpu_before, fed(per_log) - mb_before);
        let peak: f64 = forwarders.iter().map(|forwarder| forwarder.used().peak_mb).sum();
        let share = cpu_s / seconds * 100.0;
        table.row([
            name.to_owned(),
            format!("{:.1}", mb / seconds),
            format!("{share:.1} %"),
            target.map_or(String::new(), |target| target.judge(share)),
            format!("{:.0}", mb / cpu_s),
            format!("{:.1}", mb / cpu_s * 86_400.0 / 1e6),
            format!("{peak:.0}"),
        ]);
        forwarders.into_iter().for_each(Forwarder::stop);
    }
    table.row(
        ["*the Python sample, by its help page: one consumer*", "10", "20 %", "", "50", "0.9", ""].map(str::to_owned),
    );
}
