//! What every part stands on: the LogHub with its logs, the forwarder and what it has used, and the end of its work.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sls_syslog_actors::loghub::state::{GroupState, HubState, LogstoreState};

use crate::harness::{Folder, Process, Receiver, SECRET, for_a_while};
use crate::hub::{ENDPOINT, Hub, KEY_ID, LOGSTORE, PROJECT, http};

/// How long anything may take before the bench gives up.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Asks again and again until there is an answer.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        for_a_while(Duration::from_millis(20));
    }
}

/// A LogHub with its logs. Every forwarder reads them in a consumer group of its own, so one serves many measurements.
pub struct Source {
    /// The process.
    pub hub: Hub,
    groups: Cell<u32>,
}

impl Source {
    /// Starts it with so many shards; returns when its backlog is there.
    pub fn start(shards: u32, arguments: &[&str]) -> Self {
        Self { hub: Hub::start_with(shards, arguments), groups: Cell::new(0) }
    }

    /// The name of a consumer group that nobody has used yet.
    pub fn new_group(&self) -> String {
        self.groups.set(self.groups.get() + 1);
        format!("bench-{}", self.groups.get())
    }

    /// The logstore as it stands.
    pub fn logstore(&self) -> LogstoreState {
        let mut state: HubState = serde_json::from_value(self.hub.state()).expect("the state of a LogHub");
        state.projects.get_mut(PROJECT).and_then(|project| project.remove(LOGSTORE)).expect("the logstore")
    }

    /// The group as it stands, once it exists.
    pub fn group(&self, name: &str) -> Option<GroupState> {
        self.logstore().groups.remove(name)
    }

    /// Logs and MB of raw log groups that it has taken so far.
    pub fn taken(&self) -> (f64, f64) {
        let shards = self.logstore().shards;
        let logs: u64 = shards.iter().map(|shard| shard.logs).sum();
        let raw: u64 = shards.iter().map(|shard| shard.raw_bytes).sum();
        (logs as f64, raw as f64 / 1e6)
    }

    /// Average MB of raw log groups of a log.
    pub fn mb_per_log(&self) -> f64 {
        let (logs, mb) = self.taken();
        mb / logs
    }

    /// Requests that it has answered so far, this one included; what tells a state is no such request.
    pub fn requests(&self) -> u64 {
        let request = b"GET / HTTP/1.1\r\nhost: loghub\r\nconnection: close\r\n\r\n";
        let answer = String::from_utf8_lossy(&http(self.hub.address, request)).to_ascii_lowercase();
        let id = answer.split("x-log-requestid: ").nth(1).and_then(|rest| rest.lines().next()).expect("a request id");
        // Its last eight digits count.
        u64::from_str_radix(&id.trim()[16..], 16).expect("a number")
    }

    /// How long after 1970 the last commit of a group was, once it has committed all that there is.
    pub fn committed(&self, group: &str) -> Option<Duration> {
        let mut logstore = self.logstore();
        let group = logstore.groups.remove(group)?.shards;
        let last = group.iter().map(|shard| shard.updated_us).max()?;
        // Nothing is committed for a shard that never had a log.
        let done = logstore.shards.iter().zip(&group).all(|(shard, group)| shard.logs == 0 || group.at_end);
        done.then(|| Duration::from_micros(last.unsigned_abs()))
    }

    /// Whether so many consumers of a group hold all shards among them.
    pub fn is_held(&self, group: &str, consumers: usize) -> bool {
        let shards = self.group(group).map_or(Vec::new(), |group| group.shards);
        let owners: BTreeSet<&str> = shards.iter().filter_map(|shard| shard.owner.as_deref()).collect();
        owners.len() == consumers && shards.iter().all(|shard| shard.owner.is_some())
    }
}

/// Settings as `--set` takes them.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// What differs from the defaults everywhere: one worker; commits often enough that a run does not end with a wait; the
/// signature that the service's regions ask for.
const SETTINGS: Settings<'static> = &[
    ("source.signature", "v4"),
    ("source.region", "cn-hangzhou"),
    ("source.commit_interval", "300ms"),
    ("destination.hostname", "forwarder-1"),
    ("destination.tag", "sls"),
    ("destination.protocol", "tcp"),
    ("limits.workers", "1"),
];

/// The release binary's `run`, ended with this value.
pub struct Forwarder {
    process: Process,
    /// Its consumer group.
    pub group: String,
    /// When it was started.
    pub started: Instant,
}

impl Forwarder {
    /// Starts one in a group of its own.
    pub fn start(source: &Source, to: SocketAddr, settings: Settings) -> Self {
        Self::join(source, &source.new_group(), "forwarder", to, settings)
    }

    /// Starts one in this group, as this consumer.
    pub fn join(source: &Source, group: &str, consumer: &str, to: SocketAddr, settings: Settings) -> Self {
        let mut command = Process::sls_syslog(&["run"]);
        command
            .env("SLS_ENDPOINT", format!("http://{ENDPOINT}"))
            .env("SLS_CONNECT", source.hub.address.to_string())
            .env("SLS_PROJECT", PROJECT)
            .env("SLS_LOGSTORE", LOGSTORE)
            .env("SLS_CG", group)
            .env("SLS_AK_ID", KEY_ID)
            .env("SLS_AK_KEY", SECRET);
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let own =
            [("source.consumer_name", consumer), ("destination.host", host.as_str()), ("destination.port", &port)];
        // The last of a name wins.
        let all: BTreeMap<_, _> = SETTINGS.iter().chain(&own).chain(settings).copied().collect();
        for (key, value) in all {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let started = Instant::now();
        Self { process: Process::start(consumer, &mut command), group: group.to_owned(), started }
    }

    /// Waits until it has committed all that there is; how long after 1970 that was.
    pub fn wait_until_committed(&self, source: &Source) -> Duration {
        until("all checkpoints at the end", || self.alive(|| source.committed(&self.group)))
    }

    /// Waits until it holds all shards, alone.
    pub fn wait_until_held(&self, source: &Source) {
        until("all shards held", || self.alive(|| source.is_held(&self.group, 1).then_some(())));
    }

    /// Asks while it lives: nobody else would answer.
    pub fn alive<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.used();
        ask()
    }

    /// What it has used so far.
    pub fn used(&self) -> Used {
        Used::of(self.process.pid())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Asks it to end, which it has to do well.
    pub fn stop(mut self) {
        let status = self.process.stop();
        assert!(status.success(), "the forwarder ended with {status}: {}", self.process.output());
    }
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// User and system time of all its threads, in seconds.
    pub cpu_s: f64,
    /// Resident memory in MB, at its highest.
    pub peak_mb: f64,
    /// Resident memory in MB, now.
    pub resident_mb: f64,
}

impl Used {
    /// By what the system tells of a process that runs.
    pub fn of(pid: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process runs");
        let stat = read("stat");
        // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        let status = read("status");
        let mb = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("the process runs");
            line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("a number") * 1024.0 / 1e6
        };
        Self { cpu_s: ticks as f64 / 100.0, peak_mb: mb("VmHWM:"), resident_mb: mb("VmRSS:") }
    }
}

/// A backlog, delivered from the first log to the last commit.
pub struct Run {
    /// MB of raw log groups.
    pub raw_mb: f64,
    /// Messages that the receiver counted.
    pub messages: f64,
    /// CPU of the forwarder, from its start.
    pub cpu_s: f64,
    /// From its start to the last commit, without the time for which a new connection carries almost nothing.
    pub wall_s: f64,
    /// Its resident memory at its highest.
    pub peak_mb: f64,
}

impl Run {
    /// MB per CPU-second.
    pub fn per_cpu_s(&self) -> f64 {
        self.raw_mb / self.cpu_s
    }

    /// MB per second.
    pub fn per_s(&self) -> f64 {
        self.raw_mb / self.wall_s
    }
}

/// Delivers all that the source has to a receiver of its own, which counts.
pub fn run_through(source: &Source, protocol: &str, settings: Settings) -> Run {
    let certs = Folder::new("bench");
    let (receiver, own) = receiver(protocol, certs.path());
    let all: Vec<(&str, &str)> =
        own.iter().map(|(key, value)| (key.as_str(), value.as_str())).chain(settings.iter().copied()).collect();
    let begin = since_1970();
    let forwarder = Forwarder::start(source, receiver.address, &all);
    let end = forwarder.wait_until_committed(source);
    let used = forwarder.used();
    forwarder.stop();
    let (raw_mb, messages) = delivered(source, receiver);
    let wall_s = end.saturating_sub(begin).saturating_sub(CONFIRM_AFTER_CONNECT).as_secs_f64();
    Run { raw_mb, messages, cpu_s: used.cpu_s, wall_s, peak_mb: used.peak_mb }
}

/// MB of raw log groups that the source has, and the messages that the receiver has counted of them when it ends: all.
pub fn delivered(source: &Source, receiver: Receiver) -> (f64, f64) {
    let (logs, raw_mb) = source.taken();
    let messages = receiver.finish()["messages"].as_f64().expect("a number");
    assert!(messages >= logs, "{messages} messages of {logs} logs have arrived");
    (raw_mb, messages)
}

/// As by default.
pub const CONFIRM_AFTER_CONNECT: Duration = Duration::from_secs(1);

/// A receiver that counts, with certificates in this folder where it needs them; and the settings that reach it.
pub fn receiver(protocol: &str, certs: &Path) -> (Receiver, Vec<(String, String)>) {
    let mut arguments = vec!["--mode", "count", "--quiet", "--protocol", protocol];
    let mut settings = vec![("destination.protocol".to_owned(), protocol.to_owned())];
    let folder = certs.display().to_string();
    if protocol == "tcp" {
        settings.push(("destination.framing".to_owned(), "octet-counting".to_owned()));
    }
    if protocol.ends_with("tls") {
        arguments.extend(["--make-certs", &folder]);
        for (key, file) in [
            ("destination.cert_path", "ca.pem"),
            ("destination.tls.client_cert", "client.pem"),
            ("destination.tls.client_key", "client-key.pem"),
        ] {
            settings.push((key.to_owned(), format!("{folder}/{file}")));
        }
    }
    (Receiver::start(&arguments), settings)
}

/// Time by the clock that the LogHub notes commits by.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}
