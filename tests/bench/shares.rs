//! Where the forwarder's time goes while it catches up: samples of `perf`, gathered into stages by the names of functions.

use std::process::Command;

use crate::Effort;
use crate::harness::{Folder, Receiver};
use crate::rig::{Forwarder, Source, receiver, until};
use crate::table::Table;

/// A stage, and what occurs in the names of its functions. The first that fits counts; the kernel is told by its object.
const STAGES: [(&str, &[&str]); 8] = [
    ("decompress (LZ4)", &["LZ4_"]),
    ("walk the log groups", &["wire::sls::known_keys", "wire::sls::log_group", "prost::"]),
    (
        "render, check, frame",
        &["wire::format", "wire::syslog", "simdutf8", "utf8", "memchr", "itoa", "memcmp", "fmt::"],
    ),
    ("TLS", &["aes", "ghash", "gcm", "sha256", "sha512", "aws_lc", "EVP_", "CRYPTO_", "rustls"]),
    ("copy", &["memcpy", "memmove", "memset"]),
    ("allocate", &["malloc", "free", "realloc", "calloc", "_chunk", "alloc::"]),
    ("HTTP", &["actix_http", "awc::", "httparse", "http::", "h1::", "io::log_hub"]),
    ("actors and runtime", &["actix", "tokio", "mio::", "sls_syslog", "futures", "std::", "epoll"]),
];
const KERNEL: &str = "system calls (sockets)";
const OTHER: &str = "other";

/// Prints the table, or why there is none.
pub fn run(effort: Effort) {
    if let Err(reason) = Command::new("perf").arg("--version").output() {
        println!("\nNo shares: `perf` cannot be run here: {reason}\n");
        return;
    }
    let source = Source::start(4, &["--generate", "web", "--backlog", &effort.megabytes(6000)]);
    let protocols = ["tcp", "tls", "relp"];
    let shares: Vec<Vec<(&str, f64)>> =
        match protocols.iter().map(|protocol| sampled(effort, &source, protocol)).collect() {
            Ok(shares) => shares,
            Err(reason) => {
                println!("\nNo shares: {reason}\n");
                return;
            }
        };
    let table =
        Table::new("Shares of the forwarder's time, web logs of 500 B, %", &["stage", "TCP", "TLS 1.3", "RELP"]);
    let stages = STAGES.iter().map(|(stage, _)| *stage).chain([KERNEL, OTHER]);
    for stage in stages {
        let share =
            |of: &Vec<(&str, f64)>| of.iter().filter(|(name, _)| *name == stage).fold(0.0, |sum, (_, part)| sum + part);
        table.row([stage.to_owned()].into_iter().chain(shares.iter().map(|of| format!("{:.1}", share(of)))));
    }
}

/// Percent by stage, a line for each function.
fn sampled(effort: Effort, source: &Source, protocol: &str) -> Result<Vec<(&'static str, f64)>, String> {
    let folder = Folder::new("perf");
    let (receiver, settings): (Receiver, _) = receiver(protocol, folder.path());
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let forwarder = Forwarder::start(source, receiver.address, &settings);
    // Beyond the first second of its connection, in which it carries almost nothing.
    until("the first commit", || {
        source.group(&forwarder.group)?.commits.values().any(|c| c.accepted > 0).then_some(())
    });
    let data = folder.path().join("perf.data").display().to_string();
    let (pid, seconds) = (forwarder.pid().to_string(), effort.seconds(4.0).as_secs_f64().to_string());
    // By the clock: virtual machines often have no counters.
    perf(&["record", "--quiet", "-e", "cpu-clock", "-F", "997", "-p", &pid, "-o", &data, "--", "sleep", &seconds])?;
    let report = perf(&[
        "report",
        "-i",
        &data,
        "--stdio",
        "--no-children",
        "-F",
        "overhead,dso,symbol",
        "-t",
        ";",
        "--percent-limit",
        "0",
    ])?;
    Ok(report.lines().filter_map(line).collect())
}

/// Percent, object and function.
fn line(text: &str) -> Option<(&'static str, f64)> {
    let mut fields = text.splitn(3, ';').map(str::trim);
    let percent = fields.next()?.strip_suffix('%')?.parse().ok()?;
    let (object, function) = (fields.next()?, fields.next()?);
    let stage = STAGES.iter().find(|(_, names)| names.iter().any(|name| function.contains(name)));
    Some(match stage {
        _ if object.starts_with("[kernel") || function.starts_with("[k]") => (KERNEL, percent),
        Some((stage, _)) => (stage, percent),
        None => (OTHER, percent),
    })
}

fn perf(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("perf").args(arguments).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("perf {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim())),
    }
}
