//! The command line: subcommands and what `--help` teaches.

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::check::{self, CheckArgs};
use crate::dead_letter::DeadLetterCommand;
use crate::demo::DemoArgs;
use crate::exit;
use crate::loghub::LoghubArgs;
use crate::receiver::ReceiverArgs;
use crate::run::RunArgs;
use crate::settings::{ConfigCommand, Flags, Layers};
use crate::status::{self, StatusArgs};

/// Delivers logs of Alibaba Cloud Log Service (SLS) to a SIEM over syslog, losing nothing.
#[derive(Debug, Parser)]
#[command(name = "sls-syslog", version, max_term_width = 80, after_help = exit::HELP, after_long_help = after_long_help())]
pub struct Cli {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Layers,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Forwards logs until it is stopped (SIGINT or SIGTERM; a second one stops at once)
    #[command(after_help = exit::HELP, after_long_help = after_long_help())]
    Run {
        /// Settings as flags.
        #[command(flatten)]
        flags: Flags,
        /// Other arguments.
        #[command(flatten)]
        args: RunArgs,
    },
    /// Looks whether SLS and the receiver are as needed; joins no group, commits nothing
    #[command(after_help = check::EXIT_CODES)]
    Check {
        /// Settings as flags.
        #[command(flatten)]
        flags: Flags,
        /// Other arguments.
        #[command(flatten)]
        args: CheckArgs,
    },
    /// Shows how far the consumer group has come, as SLS tells it
    #[command(after_help = status::EXIT_CODES)]
    Status {
        /// Settings as flags.
        #[command(flatten)]
        flags: Flags,
        /// Other arguments.
        #[command(flatten)]
        args: StatusArgs,
    },
    /// Shows the whole chain on this machine and proves at the end that nothing is missing
    Demo(DemoArgs),
    /// Serves an embedded LogHub, for trying out and for tests
    Loghub(LoghubArgs),
    /// Receives syslog and counts, or judges files for what is missing
    #[command(after_long_help = crate::receiver::CHECK_HELP)]
    Receiver(ReceiverArgs),
    /// Looks at the logs that no receiver took, and sends them again
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// Shows or checks the settings, without starting anything
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints a script that completes commands and options, for a shell to read
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Prints the manual page, or that of one command
    Man {
        /// The command
        #[arg(value_name = "COMMAND")]
        of: Option<String>,
    },
}

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sls-syslog", &mut out);
    out
}

/// The manual page of the program, or of one of its commands.
///
/// # Errors
/// There is no such command.
pub fn manual(of: Option<&str>) -> Result<Vec<u8>, String> {
    let whole = Cli::command();
    let command = match of {
        None => whole,
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            found.ok_or_else(|| format!("there is no command {name:?}"))?.display_name(format!("sls-syslog-{name}"))
        }
    };
    let mut out = Vec::new();
    clap_mangen::Man::new(command).render(&mut out).map_err(|e| e.to_string())?;
    Ok(out)
}

const EXAMPLES: &str = "\
Examples:
  See it work, without account, network or set-up:
    sls-syslog demo

  The environment of the help page's Python sample, and a receiver:
    export SLS_ENDPOINT=cn-hangzhou.log.aliyuncs.com
    export SLS_PROJECT=my-project SLS_LOGSTORE=my-logstore SLS_CG=siem
    export SLS_AK_ID=... SLS_AK_KEY=...
    export SYSLOG_HOST=siem.example.com SYSLOG_PROTOCOL=tls
    sls-syslog check
    sls-syslog run --cert-path /etc/sls-syslog/siem-ca.pem

  A file, and one key above it:
    sls-syslog run --config config.toml --set destination.port=6514

Settings come from four layers, the later wins: compiled-in defaults, file,
environment, flags. Every key can be set in the environment as
SLS_SYSLOG__SECTION__KEY (two underscores per level), and has its own paragraph
in config/default.toml. Short names of the environment:
  SLS_ENDPOINT SLS_PROJECT SLS_LOGSTORE SLS_CG    what to consume
  SLS_AK_ID SLS_AK_KEY SLS_SECURITY_TOKEN         access key and STS token;
      where SLS_AK_ID is not set: ALIBABA_CLOUD_ACCESS_KEY_ID,
      ALIBABA_CLOUD_ACCESS_KEY_SECRET, ALIBABA_CLOUD_SECURITY_TOKEN
  SLS_CURSOR_START_TIME                           where to begin
  SLS_CONNECT SLS_CA                              address and CA file of SLS
  SYSLOG_HOST SYSLOG_PORT SYSLOG_PROTOCOL SYSLOG_FRAMING SYSLOG_CA
                                                  where to deliver
Secrets have no flag: command lines can be read by everyone on the machine.";

fn after_long_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit::HELP)
}
