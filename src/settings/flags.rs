//! The topmost layer: what the command line says about settings.

use std::path::PathBuf;

/// Where settings come from, beside the environment and the compiled-in defaults. Valid for every subcommand.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Layers {
    /// Settings file (TOML, or YAML if it ends in .yaml or .yml); else $SLS_SYSLOG_CONFIG, else
    /// /etc/sls-syslog/config.toml or config.yaml if it exists.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Sets one key, above file and environment; repeatable. Example: --set destination.port=6514
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,

    /// Flags with names of their own: flag, key, value.
    #[arg(skip)]
    pub named: Vec<(&'static str, &'static str, String)>,
}

impl Layers {
    /// Adds the flags that have names of their own.
    pub fn with_flags(mut self, flags: Flags) -> Self {
        let named = [
            ("endpoint", "source.endpoint", flags.endpoint),
            ("project", "source.project", flags.project),
            ("logstore", "source.logstore", flags.logstore),
            ("group", "source.consumer_group", flags.group),
            ("start", "source.cursor_start_time", flags.start),
            ("host", "destination.host", flags.host),
            ("port", "destination.port", flags.port),
            ("protocol", "destination.protocol", flags.protocol),
            ("framing", "destination.framing", flags.framing),
            ("cert-path", "destination.cert_path", flags.cert_path),
            ("log-level", "log.level", flags.log_level),
            ("log-format", "log.format", flags.log_format),
            ("log-file", "log.file", flags.log_file),
        ];
        self.named.extend(named.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?))));
        self
    }
}

/// The settings that a first user needs, as flags of their own. `--set` reaches all others but the secrets, which have
/// no flag because command lines can be read by everyone on the machine.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// SLS endpoint, without the project: cn-hangzhou.log.aliyuncs.com [$SLS_ENDPOINT]
    #[arg(long, value_name = "HOST")]
    endpoint: Option<String>,
    /// Project [$SLS_PROJECT]
    #[arg(long)]
    project: Option<String>,
    /// Logstore [$SLS_LOGSTORE]
    #[arg(long)]
    logstore: Option<String>,
    /// Consumer group, created if it does not exist [$SLS_CG]
    #[arg(long)]
    group: Option<String>,
    /// Where a new group begins: begin, end, a time [$SLS_CURSOR_START_TIME]
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// Host name or address of the syslog receiver [$SYSLOG_HOST]
    #[arg(long)]
    host: Option<String>,
    /// Port of the syslog receiver: 514 unless set, 6514 for tls, 2514 for relp and relp+tls [$SYSLOG_PORT]
    #[arg(long)]
    port: Option<String>,
    /// udp, tcp, tls, relp or relp+tls [$SYSLOG_PROTOCOL]
    #[arg(long)]
    protocol: Option<String>,
    /// lf, nul or octet-counting: how messages are told apart on tcp and tls [$SYSLOG_FRAMING]
    #[arg(long)]
    framing: Option<String>,
    /// PEM file of the certificate authorities to trust for the receiver [$SYSLOG_CA]
    #[arg(long, value_name = "FILE")]
    cert_path: Option<String>,
    /// trace, debug, info, warning, error or critical
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// terminal or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// File for the log beside stderr, {pid} in its name being the process id; SIGHUP opens it anew
    #[arg(long, value_name = "FILE")]
    log_file: Option<String>,
}
