//! The subcommand `dead-letter`: looks at the logs that no receiver took, and sends them again.

mod resend;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sls_syslog_actors::config::DeadLetterConfig;
use sls_syslog_actors::io::dead_letter::file::LetterFile;

use crate::exit;
use crate::settings::{self, Layers, Problem};

pub use resend::ResendArgs;
pub use show::ShowArgs;

/// What to do with the dead letter.
#[derive(Debug, clap::Subcommand)]
pub enum DeadLetterCommand {
    /// Prints the logs that it holds
    Show(ShowArgs),
    /// Sends them with the present settings; each is removed once the receiver has confirmed it. Exits 1 if some remain
    Resend(ResendArgs),
}

/// Runs it.
pub fn run(command: DeadLetterCommand, layers: Layers) -> ExitCode {
    match command {
        DeadLetterCommand::Show(args) => show::run(&args, &layers),
        DeadLetterCommand::Resend(args) => resend::run(&args, layers),
    }
}

/// The file that the command line or the settings name.
fn file_of(given: Option<&Path>, settings: DeadLetterConfig) -> Result<LetterFile, ExitCode> {
    let path = given.map(PathBuf::from).or_else(|| settings.path.clone());
    LetterFile::new(&DeadLetterConfig { path, ..settings })
        .ok_or_else(|| settings::report(&[Problem::key("dead_letter.path", "names no file; set it, or use --file")]))
}

fn failed(what: impl std::fmt::Display) -> ExitCode {
    eprintln!("error: {what}");
    exit::code(exit::FAILED)
}
