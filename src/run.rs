//! The subcommand `run`.

use std::process::ExitCode;

use slog::{error, warn};

use crate::exit;
use crate::logging;
use crate::settings::{self, Layers};

/// Its arguments, beside the settings.
#[derive(Debug, clap::Args)]
pub struct RunArgs {}

/// Runs it to its end.
pub fn run(_args: RunArgs, layers: &Layers) -> ExitCode {
    let settings = match settings::load(layers) {
        Ok(settings) => settings,
        Err(problems) => return settings::report(&problems),
    };
    let (logger, _guard) = logging::init(&settings.log);
    for note in &settings.notes {
        warn!(logger, "{note}");
    }
    error!(logger, "`run` is not built in this version");
    exit::code(exit::FAILED)
}
