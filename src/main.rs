//! The sls-syslog process: command line, settings, logging, signals. What it does is in the library.

#[allow(dead_code, reason = "the tests use more of it than the process")]
mod certs;
mod check;
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
mod status;
mod survey;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let layers = cli.settings;
    match cli.command {
        Command::Run { flags, args } => run::run(args, &layers.with_flags(flags)),
        Command::Check { flags, args } => check::run(&args, &layers.with_flags(flags)),
        Command::Status { flags, args } => status::run(&args, &layers.with_flags(flags)),
        Command::Demo(args) => demo::run(args),
        Command::Loghub(args) => loghub::run(args),
        Command::Receiver(args) => receiver::run(args),
        Command::DeadLetter(command) => dead_letter::run(command, layers),
        Command::Config(command) => settings::run_command(command, layers),
        Command::Completions { shell } => show(Ok(cli::completions(shell))),
        Command::Man { of } => show(cli::manual(of.as_deref())),
    }
}

fn show(text: Result<Vec<u8>, String>) -> ExitCode {
    match text {
        Ok(text) => {
            terminal::print(&String::from_utf8_lossy(&text));
            exit::code(exit::OK)
        }
        Err(what) => {
            eprintln!("error: {what}");
            exit::code(exit::USAGE)
        }
    }
}
