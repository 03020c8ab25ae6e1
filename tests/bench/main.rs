//! The whole path, measured: LogHub, receiver and forwarder each in a process of its own, on loopback.
//!
//! `cargo bench --bench end_to_end` prints, per kind of work, raw log per CPU-second of the forwarder (user + system,
//! from its start to the last commit), the wall rate, and the resident memory at its highest. Figures of one run are to
//! be compared with each other, not with those of another machine.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../product/forwarder.rs"]
mod forwarder;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../product/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../product/hub.rs"]
mod hub;

use std::fs;
use std::time::{Duration, Instant};

use forwarder::Forwarder;
use harness::{Folder, Receiver};
use hub::Hub;

/// One row of the table.
struct Work {
    name: &'static str,
    logs: &'static str,
    backlog_mb: u64,
    protocol: &'static str,
}

const WORK: &[Work] = &[
    Work { name: "web 500 B, TCP octet counting, tcp_acked", logs: "web", backlog_mb: 2000, protocol: "tcp" },
    Work { name: "audit 1.2 KB, TCP octet counting, tcp_acked", logs: "audit", backlog_mb: 2000, protocol: "tcp" },
    Work { name: "tiny 80 B, TCP octet counting, tcp_acked", logs: "tiny", backlog_mb: 600, protocol: "tcp" },
    Work { name: "web 500 B, TLS 1.3, tcp_acked", logs: "web", backlog_mb: 2000, protocol: "tls" },
    Work { name: "web 500 B, RELP, app_acked", logs: "web", backlog_mb: 1000, protocol: "relp" },
    Work { name: "web 500 B, RELP inside TLS 1.3, app_acked", logs: "web", backlog_mb: 1000, protocol: "relp+tls" },
];

/// What the Python sample of Alibaba's help page reaches on a machine of this kind, in MB per CPU-second.
const PYTHON_SAMPLE: &str = "16-25";

fn main() {
    // `cargo bench -- web` runs the rows whose name contains the word; cargo itself adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    println!("{:<46} {:>14} {:>10} {:>12} {:>9}", "work", "MB/CPU-second", "MB/s wall", "messages/s", "peak MB");
    for work in WORK.iter().filter(|work| wanted.is_empty() || wanted.iter().any(|word| work.name.contains(word))) {
        let figures = measure(work);
        println!(
            "{:<46} {:>14.0} {:>10.0} {:>12.0} {:>9.0}",
            work.name,
            figures.raw_mb / figures.cpu_s,
            figures.raw_mb / figures.wall_s,
            figures.messages / figures.wall_s,
            figures.peak_mb,
        );
    }
    println!("{:<46} {PYTHON_SAMPLE:>14}  (for comparison)", "the Python sample of the help page");
}

struct Figures {
    raw_mb: f64,
    cpu_s: f64,
    wall_s: f64,
    messages: f64,
    peak_mb: f64,
}

fn measure(work: &Work) -> Figures {
    let certs = Folder::new("bench");
    let backlog = format!("{}MB", work.backlog_mb);
    let hub = Hub::start_with(4, &["--generate", work.logs, "--backlog", &backlog]);
    let certs_path = certs.path().display().to_string();
    let mut arguments = vec!["--mode", "count", "--quiet", "--protocol", work.protocol];
    let mut settings = vec![
        ("destination.framing", "octet-counting"),
        ("destination.confirm_after_connect", "1s"),
        ("limits.workers", "1"),
        ("log.level", "info"),
    ];
    let (ca, client, key) =
        (format!("{certs_path}/ca.pem"), format!("{certs_path}/client.pem"), format!("{certs_path}/client-key.pem"));
    if work.protocol.ends_with("tls") {
        arguments.extend(["--make-certs", &certs_path]);
        settings.extend([
            ("destination.cert_path", ca.as_str()),
            ("destination.tls.client_cert", client.as_str()),
            ("destination.tls.client_key", key.as_str()),
        ]);
    }
    let receiver = Receiver::start(&arguments);
    let begin = Instant::now();
    let forwarder = Forwarder::start(&hub, receiver.address, work.protocol, &settings);
    hub.wait_until_committed();
    let wall_s = begin.elapsed().saturating_sub(confirm_after_connect()).as_secs_f64();
    let pid = forwarder.process.pid();
    let (cpu_s, peak_mb) = (cpu_seconds(pid), peak_mb(pid));
    forwarder.stop();
    let raw: u64 = hub.logstore()["shards"]
        .as_array()
        .expect("shards")
        .iter()
        .map(|shard| shard["raw_bytes"].as_u64().expect("a number"))
        .sum();
    let messages = receiver.finish()["messages"].as_f64().expect("a number");
    Figures { raw_mb: raw as f64 / 1e6, cpu_s, wall_s, messages, peak_mb }
}

/// A new connection carries almost nothing for this long, whatever there is to do.
fn confirm_after_connect() -> Duration {
    Duration::from_secs(1)
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the forwarder runs");
    // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}

fn peak_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the forwarder runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") / 1000.0
}
