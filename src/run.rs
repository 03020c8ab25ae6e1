//! The subcommand `run`: forwards until a signal, or until it cannot go on.

use std::process::ExitCode;
use std::time::Duration;

use actix_rt::signal::unix::{Signal, SignalKind, signal};
use slog::{Logger, crit, info, warn};
use sls_syslog_actors::error::ForwarderError;
use sls_syslog_actors::forwarder::{Ended, Forwarder};

use crate::exit;
use crate::logging::{self, Log, Reopen};
use crate::settings::{self, Layers, Settings};

/// Its arguments, beside the settings.
#[derive(Debug, clap::Args)]
pub struct RunArgs {}

/// Runs it to its end.
pub fn run(_args: RunArgs, layers: &Layers) -> ExitCode {
    let settings = match settings::load(layers) {
        Ok(settings) => settings,
        Err(problems) => return settings::report(&problems),
    };
    let log = match logging::init(&settings.log) {
        Ok(log) => log,
        Err(problem) => return settings::report(&[problem]),
    };
    let code = actix_rt::System::new().block_on(forward(settings, &log));
    drop(log);
    exit::code(code)
}

async fn forward(settings: Settings, log: &Log) -> u8 {
    let Log { logger: log, reopen, .. } = log;
    for note in &settings.notes {
        warn!(log, "{}", note);
    }
    let signals = Signals::new().and_then(|signals| reopen_on_hangup(reopen.clone(), log).map(|()| signals));
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            crit!(log, "cannot listen for signals: {}", error);
            return exit::INTERNAL;
        }
    };
    let forwarder = match Forwarder::builder(settings.forwarder).logger(log.clone()).start() {
        Ok(forwarder) => forwarder,
        Err(error) => return failed(log, &error),
    };
    let ended = tokio::select! {
        ended = forwarder.ended() => ended,
        (name, _) = signals.next() => {
            info!(log, "{}: stopping; a second signal stops at once", name);
            forwarder.begin_stop();
            // Some supervisors signal the process and its group in one go; that is one wish, told twice.
            signals.ignore_echo().await;
            tokio::select! {
                ended = forwarder.ended() => ended,
                (name, code) = signals.next() => {
                    warn!(log, "{}: stopped at once; what was confirmed since the last commits will be sent again", name);
                    return code;
                }
            }
        }
    };
    report(log, ended)
}

fn report(log: &Logger, ended: Ended) -> u8 {
    match ended {
        Ok(counters) => {
            if counters.log_groups_left > 0 {
                warn!(log, "ended with logs unconfirmed: SLS still holds them, and whoever reads their shards next \
                            sends them"; "log_groups" => counters.log_groups_left,
                    "raw_bytes" => counters.raw_bytes_left, "logs_confirmed" => counters.logs_delivered);
                return exit::OK;
            }
            info!(log, "ended"; "logs" => counters.logs_delivered, "raw_bytes" => counters.raw_bytes,
                "commits" => counters.commits, "resent" => counters.messages_resent, "gaps" => counters.gaps);
            exit::OK
        }
        Err(error) => failed(log, &error),
    }
}

fn failed(log: &Logger, error: &ForwarderError) -> u8 {
    match error.code() {
        Some(code) => crit!(log, "{}", error; "code" => code.as_str()),
        None => crit!(log, "{}", error),
    }
    match error {
        ForwarderError::Settings(_) => exit::CONFIG,
        ForwarderError::Refused { .. } => exit::SLS_REFUSED,
        _ => exit::INTERNAL,
    }
}

/// With a log file, SIGHUP has it opened anew; without one, that signal ends the process as it always does.
fn reopen_on_hangup(reopen: Option<Reopen>, log: &Logger) -> std::io::Result<()> {
    let Some(reopen) = reopen else { return Ok(()) };
    let (mut hangup, log) = (signal(SignalKind::hangup())?, log.clone());
    actix_rt::spawn(async move {
        while hangup.recv().await.is_some() {
            reopen.ask();
            info!(log, "SIGHUP: the log file is opened anew");
        }
    });
    Ok(())
}

/// Signals this close together are one.
const ECHO: Duration = Duration::from_millis(300);

/// SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they come here.
    ///
    /// # Errors
    /// The system does not let us listen.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Takes what arrives together with the first one.
    async fn ignore_echo(&mut self) {
        let _ = tokio::time::timeout(ECHO, async {
            loop {
                self.next().await;
            }
        })
        .await;
    }

    /// The next one: its name, and the exit code of a stop at once.
    pub async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", exit::INTERRUPTED),
            _ = self.terminate.recv() => ("SIGTERM", exit::TERMINATED),
        }
    }
}
