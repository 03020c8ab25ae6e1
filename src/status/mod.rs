//! The subcommand `status`: how far a consumer group has come, as SLS tells it; what the console shows, without the
//! console.

mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::signal::unix::{SignalKind, signal};
use chrono::Utc;
use sls_syslog_actors::config::SourceConfig;
use sls_syslog_actors::io::log_hub::{SlsClient, SlsSetup};
use sls_syslog_actors::trouble::sentence;
use sls_syslog_actors::wire::sls::error::{ErrorClass, SlsError};

use crate::settings::{self, Layers};
use crate::terminal::{Style, is_terminal, print, wrap};
use crate::{exit, survey};
use report::GroupStatus;

/// Its arguments, beside the settings.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// JSON instead of a table; with --watch one object a line
    #[arg(long)]
    json: bool,
    /// Again and again, every so many seconds (10 unless told), until a signal
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

/// Exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    all is well (with --watch: ended by a signal)
  1    at least one warning
  3    configuration refused
  4    SLS refuses: keys, rights, project or logstore
  5    SLS cannot be reached, or gives no usable answer";

/// Runs it to its end.
pub fn run(args: &StatusArgs, layers: &Layers) -> ExitCode {
    let source = match settings::load_source(layers) {
        Ok(source) => source,
        Err(problems) => return settings::report(&problems),
    };
    let setup = match SlsSetup::new(&source) {
        Ok(setup) => setup,
        Err(error) => {
            eprintln!("error: {error}");
            return exit::code(exit::CONFIG);
        }
    };
    exit::code(actix_rt::System::new().block_on(async {
        let client = SlsClient::new(Arc::new(setup), Utc::now);
        match args.watch {
            None => once(&client, &source, args.json).await,
            Some(seconds) => watch(&client, &source, args.json, Duration::from_secs(seconds)).await,
        }
    }))
}

async fn once(client: &SlsClient, source: &SourceConfig, json: bool) -> u8 {
    match look(client, source).await {
        Ok(status) => {
            print(&if json { format!("{:#}\n", status.to_json()) } else { status.render(Style::of_stdout()) });
            if status.warnings().is_empty() { exit::OK } else { exit::FAILED }
        }
        Err(error) => {
            eprintln!("{}", wrap(&format!("error: {}", sentence(&error)), 0, 7));
            if error.class() == ErrorClass::Fatal { exit::SLS_REFUSED } else { exit::INTERNAL }
        }
    }
}

async fn watch(client: &SlsClient, source: &SourceConfig, json: bool, pause: Duration) -> u8 {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        eprintln!("error: cannot listen for signals");
        return exit::INTERNAL;
    };
    let looking = async {
        loop {
            let shown = match look(client, source).await {
                Ok(status) if json => format!("{}\n", status.to_json()),
                Ok(status) => status.render(Style::of_stdout()),
                Err(error) if json => format!("{}\n", serde_json::json!({ "error": sentence(&error) })),
                Err(error) => format!("{}\n", wrap(&format!("error: {}", sentence(&error)), 0, 7)),
            };
            match (json, is_terminal()) {
                (true, _) => print(&shown),
                // Home, and clear what was there.
                (false, true) => print(&format!("\x1b[H\x1b[2J{shown}")),
                (false, false) => print(&format!("{shown}\n")),
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = looking => exit::OK,
        _ = interrupt.recv() => exit::OK,
        _ = terminate.recv() => exit::OK,
    }
}

/// Reads everything once.
async fn look(client: &SlsClient, source: &SourceConfig) -> Result<GroupStatus, SlsError> {
    let whole = survey::logstore(client).await;
    let infos = whole.shards?;
    let groups = whole.groups?;
    let group = groups.iter().find(|group| group.name == source.consumer_group).cloned();
    let shards = match &group {
        Some(_) => survey::shards(client, &infos, true).await,
        None => Vec::new(),
    };
    let now_s = Utc::now().timestamp().saturating_add(client.clock_offset_s().unwrap_or(0));
    let others = groups.into_iter().map(|group| group.name).filter(|name| *name != source.consumer_group).collect();
    Ok(GroupStatus::of(source, now_s, whole.logstore.ok().and_then(|info| info.ttl_days), group, others, &shards))
}
