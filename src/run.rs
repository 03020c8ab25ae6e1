//! The subcommand `run`.

use std::process::ExitCode;

use crate::exit;
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
    for note in &settings.notes {
        eprintln!("note: {note}");
    }
    eprintln!("error: `run` is not built in this version");
    exit::code(exit::FAILED)
}
