//! The subcommand `check`: whether everything is in place, before anything is moved. It joins no group and commits
//! nothing.

mod receiver;
mod report;
mod sample;
mod sls;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use sls_syslog_actors::config::ForwarderConfig;
use sls_syslog_actors::io::log_hub::{SlsClient, SlsSetup};

use crate::settings::{self, Layers, Settings};
use crate::terminal::{Mark, Style, print, wrap};
use crate::{exit, survey};
use report::{Check, Status};
use sample::Sample;

/// Its arguments, beside the settings.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Also sends one marked test event to the receiver, and prints its bytes
    #[arg(long)]
    send: bool,
    /// Also shows N logs of the logstore as they would be sent, as text and bytes, without sending them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    show: Option<u32>,
    /// Longest wait for each answer, where the settings' own limits are not shorter
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    within: u64,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    everything that was tried works; warnings do not count
  1    at least one check FAILED
  3    configuration refused; nothing was tried";

/// Runs it to its end.
pub fn run(args: &CheckArgs, layers: &Layers) -> ExitCode {
    let Settings { mut forwarder, notes, .. } = match settings::load(layers) {
        Ok(settings) => settings,
        Err(problems) => return settings::report(&problems),
    };
    let within = Duration::from_secs(args.within);
    forwarder.source.request_timeout = forwarder.source.request_timeout.min(within);
    forwarder.destination.timeout = forwarder.destination.timeout.min(within);
    let mut report = Report { as_json: args.json, style: Style::of_stdout(), checks: Vec::new(), samples: Vec::new() };
    actix_rt::System::new().block_on(check(args, &forwarder, &notes, &mut report));
    report.finish()
}

async fn check(args: &CheckArgs, config: &ForwarderConfig, notes: &[String], report: &mut Report) {
    report.heading("Settings");
    match notes {
        [] => report.add(Check::ok("settings", "accepted")),
        notes => notes.iter().for_each(|note| report.add(Check::warn("settings", note))),
    }
    report.heading("SLS");
    let client = match SlsSetup::new(&config.source) {
        Ok(setup) => {
            report.add(sls::address(&setup, config.source.request_timeout).await);
            Some(SlsClient::new(Arc::new(setup), Utc::now))
        }
        Err(error) => {
            report.add(Check::failed("SLS address", error.to_string()));
            None
        }
    };
    let found = match &client {
        Some(client) => {
            let survey = survey::logstore(client).await;
            sls::check(client, &config.source, survey, report).await
        }
        None => None,
    };
    report.heading("Receiver");
    receiver::check(&config.destination, args.send, report).await;
    if let Some(wanted) = args.show {
        report.heading("Logs as they would be sent");
        match (&client, &found) {
            (Some(client), Some(shards)) => sample::show(client, shards, &config.destination, wanted, report).await,
            _ => report.add(Check::untried("logs", "need the shards of the logstore")),
        }
    }
}

/// Prints each check as it ends, or keeps all for one JSON object.
struct Report {
    as_json: bool,
    style: Style,
    checks: Vec<Check>,
    samples: Vec<Sample>,
}

impl Report {
    fn heading(&self, text: &str) {
        if !self.as_json {
            let above = if self.checks.is_empty() { "" } else { "\n" };
            print(&format!("{above}{}\n", self.style.mark(Mark::Heading, text)));
        }
    }

    fn add(&mut self, check: Check) {
        if !self.as_json {
            print(&check.render(self.style));
        }
        self.checks.push(check);
    }

    fn sample(&mut self, sample: Sample) {
        if !self.as_json {
            print(&sample.render(self.style));
        }
        self.samples.push(sample);
    }

    fn finish(self) -> ExitCode {
        let count = |status| self.checks.iter().filter(|check| check.status == status).count();
        let (failed, warned) = (count(Status::Failed), count(Status::Warn));
        if self.as_json {
            let whole = json!({ "ok": failed == 0, "checks": self.checks, "messages": self.samples });
            print(&format!("{whole:#}\n"));
        } else {
            let verdict = match (failed, warned) {
                (0, 0) => "Everything that was tried works.".to_owned(),
                (0, _) => format!("Everything that was tried works; {}.", plural(warned, "warning")),
                _ => format!("{} FAILED; {}.", plural(failed, "check"), plural(warned, "warning")),
            };
            print(&format!("\n{}\n", wrap(&verdict, 0, 0)));
        }
        exit::code(if failed == 0 { exit::OK } else { exit::FAILED })
    }
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
