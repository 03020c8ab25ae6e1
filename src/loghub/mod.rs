//! The subcommand `loghub`: an embedded LogHub that the official SDKs talk to, with logs made on demand.
//!
//! The first line on standard output says where it listens, as JSON. What it holds can be read at `/_loghub/state`.

mod answer;
pub mod fault;
pub mod feed;
mod request;
mod routes;
pub mod serve;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use actix_rt::signal::unix::{SignalKind, signal};
use clap::ValueEnum;
use serde::Serialize;
use sls_syslog_actors::loghub::Limits;
use sls_syslog_actors::loghub::generate::Kind;

use crate::exit;
use fault::FaultArg;
use feed::{Amount, Feed};
use serve::{AccessKey, Options};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct LoghubArgs {
    /// Address and port; port 0 takes a free one, and the first line printed tells which
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Project that exists from the start
    #[arg(long, value_name = "NAME", default_value = "demo-project")]
    project: String,
    /// Logstore that exists from the start
    #[arg(long, value_name = "NAME", default_value = "demo-logstore")]
    logstore: String,
    /// Its shards
    #[arg(long, value_name = "N", default_value_t = 2)]
    shards: u32,
    /// Access key id that requests have to be signed with
    #[arg(long, value_name = "ID", default_value = serve::DEFAULT_KEY_ID)]
    access_key_id: String,
    /// Its secret, made up like the id; an address that is not loopback needs a pair of its own
    #[arg(long, value_name = "SECRET", default_value = serve::DEFAULT_KEY_SECRET, hide_default_value = true)]
    access_key_secret: String,
    /// Consumer groups a logstore may have
    #[arg(long, value_name = "N", default_value_t = Limits::default().groups_per_logstore)]
    group_quota: usize,
    /// Longest log group that it takes, in bytes before compression
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().put_bytes)]
    put_limit: usize,
    /// Log groups older than this are forgotten
    #[arg(long, value_name = "SECONDS")]
    retention: Option<u64>,
    /// Seconds by which its clock is ahead of this machine's
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    clock_offset: i64,
    /// Makes logs of this kind
    #[arg(long, value_enum)]
    generate: Option<GenerateArg>,
    /// Makes so many logs each second, over all shards
    #[arg(long, value_name = "LOGS", requires = "generate")]
    rate: Option<u64>,
    /// Stops after so many logs (only with a rate)
    #[arg(long, value_name = "LOGS", requires = "rate")]
    total: Option<u64>,
    /// Makes so many logs (`10000`) or so much (`500MB`, `2GiB`, before compression) before it listens
    #[arg(long, value_name = "LOGS|BYTES", requires = "generate")]
    backlog: Option<Amount>,
    /// Bytes that are made at once and that one pull gets, before compression
    #[arg(long, value_name = "BYTES", default_value_t = feed::BLOCK_BYTES)]
    body_bytes: usize,
    /// Logs in each log group
    #[arg(long, value_name = "N", default_value_t = 100)]
    logs_per_group: u32,
    /// Seed of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Spoils answers: KIND or KIND:COUNT (default: 1), such as cut-body:3; may be repeated
    #[arg(long, value_name = "KIND[:COUNT]")]
    fault: Vec<FaultArg>,
    /// Certificate chain, PEM: serves https
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Kinds of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GenerateArg {
    /// Access log of a web server, about 500 bytes
    Web,
    /// Audit trail, about 1.2 KB
    Audit,
    /// About 80 bytes
    Tiny,
    /// About 100 KB
    Large,
    /// Bytes that break naive programs
    Nasty,
}

impl From<GenerateArg> for Kind {
    fn from(arg: GenerateArg) -> Self {
        match arg {
            GenerateArg::Web => Self::Web,
            GenerateArg::Audit => Self::Audit,
            GenerateArg::Tiny => Self::Tiny,
            GenerateArg::Large => Self::Large,
            GenerateArg::Nasty => Self::Nasty,
        }
    }
}

/// Where it listens: the first line.
#[derive(Serialize)]
struct Listening<'a> {
    listening: SocketAddr,
    https: bool,
    project: &'a str,
    logstore: &'a str,
    access_key_id: &'a str,
}

/// Runs it to its end: a signal.
pub fn run(args: LoghubArgs) -> ExitCode {
    let (project, logstore, key_id) = (args.project.clone(), args.logstore.clone(), args.access_key_id.clone());
    let https = args.tls_cert.is_some();
    let prepared = options(args).and_then(|(options, feed)| {
        let running = serve::serve(options)?;
        Ok((running, feed))
    });
    let (mut running, feed) = match prepared {
        Ok(prepared) => prepared,
        Err(e) => {
            eprintln!("error: {e}");
            return exit::code(exit::CONFIG);
        }
    };
    if let Some(feed) = feed
        && let Err(e) = running.feed(feed)
    {
        eprintln!("error: cannot make logs: {e}");
        return exit::code(exit::FAILED);
    }
    let waited = actix_rt::System::new().block_on(async {
        // Before the first line is printed: who reads it may send a signal at once.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let line = Listening {
            listening: running.address(),
            https,
            project: &project,
            logstore: &logstore,
            access_key_id: &key_id,
        };
        println!("{}", serde_json::to_string(&line)?);
        std::future::poll_fn(|cx| match (interrupt.poll_recv(cx), terminate.poll_recv(cx)) {
            (std::task::Poll::Pending, std::task::Poll::Pending) => std::task::Poll::Pending,
            _ => std::task::Poll::Ready(()),
        })
        .await;
        std::io::Result::Ok(())
    });
    running.stop();
    match waited {
        Ok(()) => exit::code(exit::OK),
        Err(e) => {
            eprintln!("error: cannot wait for signals: {e}");
            exit::code(exit::INTERNAL)
        }
    }
}

fn options(args: LoghubArgs) -> Result<(Options, Option<Feed>), String> {
    let own_pair = args.access_key_id != serve::DEFAULT_KEY_ID && args.access_key_secret != serve::DEFAULT_KEY_SECRET;
    if !args.listen.ip().is_loopback() && !own_pair {
        return Err(format!(
            "{} can be reached from other machines: give --access-key-id and --access-key-secret of your own",
            args.listen
        ));
    }
    let limits = Limits {
        groups_per_logstore: args.group_quota,
        put_bytes: args.put_limit,
        retention: args.retention.map(Duration::from_secs),
        // More than the service allows, for whoever asks for them here.
        shards_per_logstore: Limits::default().shards_per_logstore.max(args.shards as usize),
        ..Limits::default()
    };
    let tls = match args.tls_cert.zip(args.tls_key) {
        Some((cert, key)) => Some(tls::server_config(&cert, &key)?),
        None => None,
    };
    let feed = args.generate.map(|kind| Feed {
        kind: kind.into(),
        seed: args.seed,
        logs_per_group: args.logs_per_group,
        backlog: args.backlog,
        body_bytes: args.body_bytes,
        rate: args.rate,
        total: args.total,
    });
    let options = Options {
        listen: args.listen,
        tls,
        project: args.project,
        logstore: args.logstore,
        shards: args.shards,
        key: AccessKey { id: args.access_key_id, secret: args.access_key_secret },
        clock_offset_s: args.clock_offset,
        limits,
        faults: args.fault,
    };
    Ok((options, feed))
}

#[cfg(test)]
mod tests;
