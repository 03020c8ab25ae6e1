//! The subcommand `run`.

use std::process::ExitCode;

use crate::exit;
use crate::settings::Layers;

/// Its arguments, beside the settings.
#[derive(Debug, clap::Args)]
pub struct RunArgs {}

/// Runs it to its end.
pub fn run(_args: RunArgs, _layers: &Layers) -> ExitCode {
    eprintln!("error: `run` is not built in this version");
    exit::code(exit::FAILED)
}
