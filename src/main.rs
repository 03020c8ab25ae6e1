//! The sls-syslog process: command line, settings, logging, signals. What it does is in the library.

#[allow(dead_code, reason = "the tests use more of it than the process")]
mod certs;
mod cli;
mod dead_letter;
mod demo;
#[allow(dead_code, reason = "documented codes; not every one has a caller yet")]
mod exit;
mod logging;
mod loghub;
mod receiver;
mod run;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let layers = cli.settings;
    match cli.command {
        Command::Run { flags, args } => run::run(args, &layers.with_flags(flags)),
        Command::Demo(args) => demo::run(args),
        Command::Loghub(args) => loghub::run(args),
        Command::Receiver(args) => receiver::run(args),
        Command::DeadLetter(command) => dead_letter::run(command, layers),
        Command::Config(command) => settings::run_command(command, layers),
    }
}
