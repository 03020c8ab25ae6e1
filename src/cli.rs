//! The command line: subcommands and what `--help` teaches.

use clap::{Parser, Subcommand};

use crate::dead_letter::DeadLetterCommand;
use crate::demo::DemoArgs;
use crate::exit;
use crate::loghub::LoghubArgs;
use crate::receiver::ReceiverArgs;
use crate::run::RunArgs;
use crate::settings::{ConfigCommand, Flags, Layers};

/// Delivers logs of Alibaba Cloud Log Service (SLS) to a SIEM over syslog, losing nothing.
#[derive(Debug, Parser)]
#[command(name = "sls-syslog", version, max_term_width = 110, after_help = exit::HELP, after_long_help = after_long_help())]
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
}

const EXAMPLES: &str = "\
Examples:
  See it work, without account, network or set-up:
    sls-syslog demo

  The environment of the help page's Python sample, and a receiver:
    export SLS_ENDPOINT=cn-hangzhou.log.aliyuncs.com SLS_PROJECT=my-project SLS_LOGSTORE=my-logstore
    export SLS_AK_ID=... SLS_AK_KEY=... SLS_CG=siem
    sls-syslog run --host siem.example.com --protocol tls --cert-path /etc/sls-syslog/siem-ca.pem

  A file, and one key above it:
    sls-syslog run --config /etc/sls-syslog/config.toml --set destination.port=6514

Settings come from four layers, the later wins: compiled-in defaults, file, environment, flags.
Every key can be set in the environment as SLS_SYSLOG__SECTION__KEY (two underscores per level), and has its own
paragraph in config/default.toml. Short names of the environment:
  SLS_ENDPOINT SLS_PROJECT SLS_LOGSTORE SLS_CG      what to consume
  SLS_AK_ID SLS_AK_KEY SLS_SECURITY_TOKEN           access key and STS token; where SLS_AK_ID is not set:
  ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET, ALIBABA_CLOUD_SECURITY_TOKEN
  SLS_CURSOR_START_TIME SLS_CONNECT SLS_CA          where to begin; address and CA file of SLS
  SYSLOG_HOST SYSLOG_PORT SYSLOG_PROTOCOL SYSLOG_FRAMING SYSLOG_CA   where to deliver
Secrets have no flag: command lines can be read by everyone on the machine.";

fn after_long_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit::HELP)
}
