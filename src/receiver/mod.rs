//! The subcommand `receiver`.

use std::process::ExitCode;

use crate::exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct ReceiverArgs {}

/// Runs it to its end.
pub fn run(_args: ReceiverArgs) -> ExitCode {
    eprintln!("error: `receiver` is not built in this version");
    exit::code(exit::FAILED)
}
