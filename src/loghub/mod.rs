//! The subcommand `loghub`.

use std::process::ExitCode;

use crate::exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct LoghubArgs {}

/// Runs it to its end.
pub fn run(_args: LoghubArgs) -> ExitCode {
    eprintln!("error: `loghub` is not built in this version");
    exit::code(exit::FAILED)
}
