//! `config show` and `config check`: what the settings are, where each comes from, what follows from them.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use sls_syslog_actors::config::{ForwarderConfig, OriginStamp, Protocol, Signature, render_duration, render_size};
use sls_syslog_actors::wire::format::origin;

use super::convert::printable_value;
use super::keys::KEYS;
use super::layers::{Merged, World};
use super::{Flags, Layers, Problem, Settings, load_from};
use crate::exit;
use crate::terminal::{WIDTH, wrap};

/// Looks at the settings.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Prints every setting with its origin, secrets as ***, and what follows from them
    Show {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
        /// Settings as flags.
        #[command(flatten)]
        flags: Flags,
    },
    /// Says `ok`, or everything that is wrong; exits 0 or 3
    Check {
        /// Settings as flags.
        #[command(flatten)]
        flags: Flags,
    },
}

/// Runs it.
pub fn run_command(command: ConfigCommand, layers: Layers) -> ExitCode {
    let world = World::real();
    match command {
        ConfigCommand::Show { json, flags } => {
            let (merged, result) = load_from(&layers.with_flags(flags), &world);
            print!(
                "{}",
                if json { render_json(&merged, result.as_ref().ok()) } else { render(&merged, result.as_ref().ok()) }
            );
            finish(result, |_| {})
        }
        ConfigCommand::Check { flags } => finish(load_from(&layers.with_flags(flags), &world).1, |settings| {
            println!("ok");
            for note in &settings.notes {
                println!("note: {}", wrap(note, 6, 6));
            }
        }),
    }
}

fn finish(result: Result<Settings, Vec<Problem>>, then: impl FnOnce(&Settings)) -> ExitCode {
    match result {
        Ok(settings) => {
            then(&settings);
            exit::code(exit::OK)
        }
        Err(problems) => report(&problems),
    }
}

/// Prints all refusals and answers with their exit code.
pub fn report(problems: &[Problem]) -> ExitCode {
    // A log or a pipe gets whole lines.
    let on_terminal = io::stderr().is_terminal();
    for problem in problems {
        let text = problem.to_string();
        eprintln!("error: {}", if on_terminal { wrap(&text, 7, 2) } else { text });
    }
    exit::code(exit::CONFIG)
}

/// Name, value and origin of every key.
fn rows(merged: &Merged) -> impl Iterator<Item = (&'static str, Option<String>, String)> {
    KEYS.iter().map(|key| match merged.get(key.name) {
        None => (key.name, None, "not set".to_owned()),
        Some(value) => {
            let text = printable_value(key.name, value).unwrap_or_else(|| "***".to_owned());
            (key.name, Some(text), value.origin().unwrap_or("default").to_owned())
        }
    })
}

/// As a table.
pub fn render(merged: &Merged, settings: Option<&Settings>) -> String {
    let mut out = String::new();
    for (name, value, origin) in rows(merged) {
        let value: String = value.unwrap_or_else(|| "-".to_owned()).chars().flat_map(char::escape_debug).collect();
        // As short as a shell would name it.
        let origin = origin.strip_prefix("environment variable ").map_or(origin.clone(), |name| format!("${name}"));
        let row = format!("{name:<36} {value:<20} ");
        let wide = row.chars().count() + origin.chars().count() > WIDTH;
        let _ = match wide {
            true => writeln!(out, "{}\n{:<37}{}", row.trim_end(), "", wrap(&origin, 37, 37)),
            false => writeln!(out, "{row}{origin}"),
        };
    }
    if let Some(settings) = settings {
        out.push_str("\nWhat follows:\n");
        for (what, value) in consequences(&settings.forwarder) {
            let row = format!("  {what:<42} {value}");
            let _ = match row.chars().count() > WIDTH {
                true => writeln!(out, "  {what}\n      {}", wrap(&value, 6, 6)),
                false => writeln!(out, "{row}"),
            };
        }
        for note in &settings.notes {
            let _ = writeln!(out, "  note: {}", wrap(note, 8, 8));
        }
    }
    out
}

/// As one JSON object.
pub fn render_json(merged: &Merged, settings: Option<&Settings>) -> String {
    let keys: serde_json::Map<_, _> = rows(merged)
        .map(|(name, value, origin)| (name.to_owned(), json!({ "value": value, "origin": origin })))
        .collect();
    let follows: Option<serde_json::Map<_, _>> = settings.map(|settings| {
        consequences(&settings.forwarder).into_iter().map(|(what, value)| (what.to_owned(), value.into())).collect()
    });
    let notes = settings.map(|settings| &settings.notes);
    format!("{:#}\n", json!({ "settings": keys, "follows": follows, "notes": notes }))
}

/// What an operator would otherwise have to work out.
fn consequences(config: &ForwarderConfig) -> Vec<(&'static str, String)> {
    let ForwarderConfig { source, destination, dead_letter, mailbox, limits, .. } = config;
    let half = limits.bytes_per_worker() / 2;
    let style = destination.style;
    let timeout = Duration::from_secs(source.group_timeout_s.into());
    let framing = match destination.protocol {
        Protocol::Udp => "none, one message a datagram".to_owned(),
        Protocol::Relp | Protocol::RelpTls => {
            format!("that of RELP, at most {} messages unanswered", destination.relp_window)
        }
        Protocol::Tcp | Protocol::Tls => destination.framing.to_string(),
    };
    let origin = match destination.origin {
        OriginStamp::Off => "none".to_owned(),
        OriginStamp::StructuredData => format!("[{} project=\"{}\" ...]", origin::SD_ID, source.project),
        OriginStamp::Field => format!("{}{}={}/...", destination.sep, origin::FIELD, source.project),
    };
    let signature = match &source.signature {
        Signature::V1 => "v1".to_owned(),
        Signature::V4 { region } => format!("v4, region {region}"),
    };
    vec![
        ("source", format!("{}, project {}, logstore {}", source.endpoint, source.project, source.logstore)),
        ("signature", signature),
        ("consumer", format!("{} in group {}", source.consumer_name, source.consumer_group)),
        ("start of a new group", source.cursor_start_time.to_string()),
        ("receiver", format!("{} {} port {}", destination.protocol, destination.host, destination.port)),
        ("message", format!("{}{}", style.syslog, if style.structured_data { "" } else { ", as the sample wrote it" })),
        ("framing", framing),
        ("delivered means", destination.confirmation.to_string()),
        ("origin stamp", origin),
        ("longest message", destination.max_message_bytes.map_or("no limit".into(), render_size)),
        ("pace", destination.max_messages_per_second.map_or("no limit".into(), |n| format!("{n} messages/s"))),
        (
            "what no receiver takes is kept in",
            dead_letter.path.as_ref().map_or("nothing".into(), |path| path.display().to_string()),
        ),
        ("workers", limits.workers.to_string()),
        ("batches in flight, per worker", mailbox.formatter.to_string()),
        ("connections, all workers", (limits.workers * destination.connections).to_string()),
        ("unconfirmed pieces, per connection", mailbox.connection.to_string()),
        ("memory for bodies and raw logs, per worker", render_size(half)),
        ("memory for pieces, per worker", render_size(half)),
        ("full pieces that fit in it", (half / limits.piece_bytes.max(1)).to_string()),
        ("heartbeat every", render_duration(source.heartbeat_interval)),
        (
            "a heartbeat is given up after",
            render_duration((source.heartbeat_interval / 4).max(Duration::from_millis(250))),
        ),
        ("timeout of a group that we create", render_duration(timeout)),
        ("a lease is held for, without a heartbeat", render_duration(timeout * 9 / 10)),
        ("a shard is committed every", render_duration(source.commit_interval)),
        ("a shard is given back after, at the latest", render_duration(source.drain_timeout)),
    ]
}
