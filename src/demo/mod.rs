//! The subcommand `demo`.

use std::process::ExitCode;

use crate::exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

/// Runs it to its end.
pub fn run(_args: DemoArgs) -> ExitCode {
    eprintln!("error: `demo` is not built in this version");
    exit::code(exit::FAILED)
}
