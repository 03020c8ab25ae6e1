//! The whole path, measured: LogHub, receiver and forwarder each in a process of its own, on loopback.
//!
//! `cargo bench --bench end_to_end` measures throughput, idle load, memory, start and latency, in some ten minutes, and
//! says beside each figure what it is to reach. Parts, by name behind `--`:
//!
//! | part | what it measures |
//! |---|---|
//! | `throughput [WORDS]` | raw log per CPU-second of the forwarder, by kind of log and transport; beside it the bare path, and the Python sample |
//! | `steady [SECONDS]` | idle shards, memory under load and with a dead receiver for so many seconds, start |
//! | `latency` | from put to received, lightly loaded |
//! | `mailbox` | mailbox sizes by round trip to the receiver and size of bodies, for `config/tuning.md` |
//! | `scaling` | shards by workers by size of logs; draws `tests/bench/scaling.svg` |
//! | `shares` | where the forwarder's time goes, by `perf` |
//!
//! `--quick` does a little of each, to see that it works. Tables are Markdown. CPU is user + system of all threads of the
//! forwarder alone, MB are 10⁶ bytes of raw log groups (the sum of `x-log-bodyrawsize`). Figures of one run are to be
//! compared with each other, not with those of another machine.
//!
//! What weighs most beside the code stands above the tables. Without AVX-512 one core encrypts 2.5 GB/s (AES-GCM), which is
//! 0.5 ns for each byte of raw web logs. BBR, on loopback as everywhere, paces what it sends by timers, which takes a tenth
//! of the rate; a network namespace of one's own has its own congestion control:
//!
//! ```sh
//! cargo bench --no-run --bench end_to_end
//! unshare -rn sh -c 'ip link set lo up && echo reno > /proc/sys/net/ipv4/tcp_congestion_control &&
//!     cargo bench --offline --bench end_to_end'
//! ```
//!
//! # What gained, and what did not
//!
//! Measured in turns, before and after, on two shared cores.
//!
//! | step | before | after |
//! |---|---|---|
//! | finished text is checked by windows of 32 KiB, not value by value | 1.1 ns a byte | 0.08 ns |
//! | 1024 RELP messages unanswered, not 128 | 262 MB per CPU-second, 198 MB/s | 356, 425 MB/s |
//! | a pull reserves an eighth more than the last one took | a quarter of the answers dropped and pulled again | none |
//! | shards that have nothing are pulled at common ticks | 1 000 shards: 12.8 % of a core, at 5 s 3.8 % | 6.6 %, 1.2 % |
//! | long messages are confirmed as they are acknowledged | logs of 100 KB: 108 MB/s | 230 MB/s |
//! | short parts of a log are copied without a call (2 % more instructions) | rendering web logs 1 312 MB/s, tiny ones 464 | 1 512, 534 |
//! | line breaks are counted in runs that are whole vectors; a key is compared with the one expected, by chunks of 16 bytes | 1 512, 534 | 1 950, 680 |
//! | a group is read once in one go before it is walked, which looks for the separator on the way | the walk's first look took 10 % of the time; 503 MB per CPU-second | 1 %; 571 |
//! | clean text is seen by one comparison a byte; keys are copied from slots of a known size | 1 950, 680; 647 MB per CPU-second | 2 350, 780; 703 |
//! | every key is known by itself, not a log's keys as a whole | 2 350; logs of two kinds in turns 420 | 2 000; 2 030 |
//! | four idle frame buffers are kept, not two | 53 000 page faults for 3 GB; 526 MB per CPU-second | 36 000; 563 |
//! | `reno` in place of BBR | 569 MB per CPU-second | 636 |
//! | pieces of 256 KiB, 512 KiB, 1 MiB in place of 4 MiB | 445 MB per CPU-second | 397, 404, 432: left as it was |
//! | thin LTO and one codegen unit | 423 MB per CPU-second | 409: left as it was |
//! | AES-128-GCM in place of AES-256-GCM | 2.5 GB/s | the same: left as it was |
//!
//! What is left is the path itself: by `shares` sockets 37 %, rendering 27 %, the walk 14 %, LZ4 11 %, copies 5 %; over TLS
//! encryption 22 % and sockets 31 %.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../product/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../product/hub.rs"]
mod hub;

mod bare;
mod delay;
mod latency;
mod mailbox;
mod plot;
mod rig;
mod scaling;
mod shares;
mod sink;
mod steady;
mod table;
mod throughput;
mod window;

use std::process::ExitCode;
use std::time::Duration;

/// How much of each.
#[derive(Clone, Copy)]
pub struct Effort {
    /// A little, to see that it works.
    pub quick: bool,
}

impl Effort {
    /// An amount of logs, as `--backlog` takes it.
    pub fn megabytes(self, full: u64) -> String {
        format!("{}MB", if self.quick { full.div_ceil(4) } else { full })
    }

    /// A time to measure for.
    pub fn seconds(self, full: f64) -> Duration {
        Duration::from_secs_f64(if self.quick { full / 5.0 } else { full })
    }
}

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let effort = Effort { quick: arguments.iter().any(|argument| argument == "--quick") };
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let (part, rest) = words.split_first().map_or(("", &words[..]), |(part, rest)| (*part, rest));
    if part != bare::PART {
        println!("\n{}", machine());
    }
    match part {
        "" => {
            throughput::run(effort, rest);
            steady::run(effort, None);
            latency::run(effort);
        }
        "throughput" => throughput::run(effort, rest),
        "steady" => match rest.first().map(|seconds| seconds.parse()) {
            None => steady::run(effort, None),
            Some(Ok(seconds)) => steady::run(effort, Some(Duration::from_secs(seconds))),
            Some(Err(_)) => return refuse(&format!("{:?} is no number of seconds", rest[0])),
        },
        "latency" => latency::run(effort),
        "mailbox" => mailbox::run(effort),
        "scaling" => scaling::run(effort),
        "shares" => shares::run(effort),
        bare::PART => bare::work(rest),
        other => return refuse(&format!("{other:?} is no part of the bench")),
    }
    ExitCode::SUCCESS
}

/// What figures depend on beside the code.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let vector = ["avx512f", "avx2"].into_iter().find(|name| cpu.split_whitespace().any(|flag| flag == *name));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    format!("{cores} cores of {model} ({}), TCP congestion control {}", vector.unwrap_or("no AVX2"), congestion.trim())
}

fn refuse(what: &str) -> ExitCode {
    eprintln!("error: {what}; there are throughput, steady, latency, mailbox, scaling and shares, and --quick");
    ExitCode::FAILURE
}
