//! The subcommand `demo`: an embedded LogHub, a TLS receiver, and the forwarder between them, in one process on loopback.
//!
//! It ends with a proof: what was produced, what was delivered, and whether the checkpoints say the same. With `--chaos`
//! everything around the forwarder breaks meanwhile, and its own actors panic.

mod chaos;
mod outside;
mod picture;
mod proof;
mod screen;
mod view;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slog::{Logger, warn};
use sls_syslog_actors::config::{Credentials, DestinationConfig, ForwarderConfig, Protocol, SourceConfig};
use sls_syslog_actors::forwarder::ForwarderHandle;
use sls_syslog_actors::loghub::generate::{Kind, NUMBER_KEY, STREAM_KEY};
use sls_syslog_actors::messages::{ForwarderStatus, ReceiverState};

use self::chaos::Stage;
use self::outside::Connections;
use self::proof::{Proof, Source};
use self::screen::{Held, Screen, Stopped};
use self::view::{View, say};
use crate::loghub::feed::{Amount, BLOCK_BYTES, Feed};
use crate::loghub::serve as loghub;
use crate::receiver::check::{Checker, Keys, Verdict};
use crate::receiver::relp::RelpFaults;
use crate::receiver::{serve as receiver, tls};
use crate::run::Signals;
use crate::settings::{self, LogSettings};
use crate::{exit, logging, terminal};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Logs to produce; it ends when all of them are delivered
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    logs: u64,
    /// Shards of the logstore
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// Cuts and kills the receiver, steals leases, splits shards, makes actors panic; RELP inside TLS
    #[arg(long)]
    chaos: bool,
    /// Makes the faults of another run again, in their order
    #[arg(long, value_name = "SEED", requires = "chaos")]
    seed: Option<u64>,
    /// Gives up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    within: u64,
    /// Tells it in lines, as where stdin or stdout is no terminal, instead of a live picture
    #[arg(long)]
    plain: bool,
    /// Also shows the forwarder's own log, from this level on: warning, with --chaos critical
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    log_level: Option<slog::Level>,
}

fn level(text: &str) -> Result<slog::Level, String> {
    text.parse().map_err(|()| "one of trace, debug, info, warning, error, critical".to_owned())
}

/// What is delivered, judged message by message.
type SharedChecker = Arc<Mutex<Checker>>;

/// Runs it to its end.
pub fn run(args: DemoArgs) -> ExitCode {
    // What happens under --chaos is told line by line; the log would tell each once more, from the other side.
    let usual = if args.chaos { slog::Level::Critical } else { slog::Level::Warning };
    let level = args.log_level.unwrap_or(usual);
    let screen = if args.plain { None } else { Screen::enter() };
    let held = Held::default();
    let view = if screen.is_some() { View::picture(args.logs, held.clone()) } else { View::Lines };
    let log = if screen.is_some() && io::stderr().is_terminal() {
        Ok(logging::init_into(level, held.clone()))
    } else {
        logging::init(&LogSettings { level, ..LogSettings::default() })
    };
    let logging::Log { logger: log, guard, .. } = match log {
        Ok(log) => log,
        Err(problem) => return settings::report(&[problem]),
    };
    let mut out = Output { screen, guard: Some(guard), held };
    let system = actix_rt::System::new();
    let outcome = system.block_on(until_stopped(&args, &log, &view, &mut out.screen));
    drop(out);
    match outcome {
        Ok(Ok(proof)) => {
            say(format_args!("\n{proof}"));
            exit::code(if proof.holds() { exit::OK } else { exit::FAILED })
        }
        Ok(Err(what)) => {
            eprintln!("error: {what}");
            exit::code(exit::FAILED)
        }
        Err((by, code)) => {
            eprintln!("stopped by {by} before the end: nothing is proven");
            // Logs may still be being made, and nobody waits for them any more.
            std::process::exit(code.into())
        }
    }
}

/// Where the demo writes. Dropped, also by a panic, it puts the terminal in order first, and prints then what the log
/// said behind the picture.
struct Output {
    screen: Option<Screen>,
    guard: Option<logging::LogGuard>,
    held: Held,
}

impl Drop for Output {
    fn drop(&mut self) {
        self.screen = None;
        self.guard = None;
        self.held.release();
    }
}

/// The demo, and the picture beside it; an error is who stopped it.
async fn until_stopped(
    args: &DemoArgs,
    log: &Logger,
    view: &View,
    screen: &mut Option<Screen>,
) -> Result<Result<Proof, String>, Stopped> {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(e) => return Ok(Err(format!("cannot listen for signals: {e}"))),
    };
    let stopped = async {
        match (screen, view) {
            (Some(screen), View::Picture(told)) => {
                screen.draw(told);
                screen.show(told, &mut signals).await
            }
            _ => signals.next().await,
        }
    };
    tokio::select! {
        biased;
        stopped = stopped => Err(stopped),
        outcome = show(args, log, view) => Ok(outcome),
    }
}

async fn show(args: &DemoArgs, log: &Logger, view: &View) -> Result<Proof, String> {
    let begin = Instant::now();
    let folder = CertFolder::new()?;
    let hub = loghub::serve(loghub::Options { shards: args.shards, ..loghub::Options::default() })?;
    let checker = Arc::new(Mutex::new(Checker::new(Keys {
        sep: "||".to_owned(),
        stream: STREAM_KEY.to_owned(),
        number: NUMBER_KEY.to_owned(),
    })));
    tls::make_into(&folder.path, &[])?;
    let judge = Judge { checker: Arc::clone(&checker), relp: args.chaos, log: log.clone() };
    let siem = serve_receiver(&folder.path, judge.clone(), ANY_PORT)?;
    let protocol = if args.chaos { Protocol::RelpTls } else { Protocol::Tls };
    let mut config = config(protocol, hub.address(), siem.address(), &folder.path)?;
    let group = config.source.consumer_group.clone();
    let source = Rc::new(Source { service: Arc::clone(hub.service()), group });
    let connections = Arc::new(Connections::default());
    let way = if args.chaos { "RELP inside TLS 1.3" } else { "TLS 1.3" };
    view.begin((format!("http://{}", hub.address()), way, siem.address().to_string()), &source, &checker, &connections);
    let mut hub = fed(hub, feeds(args.logs, if args.chaos { CHAOS } else { CALM })).await?;
    let deadline = begin + Duration::from_secs(args.within);
    if args.chaos {
        let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        let mut stage =
            Stage::begin(seed, &hub, &source, siem, &folder.path, judge, connections, config, log, view, deadline)?;
        stage.play().await?;
        // A feed that meets a split may make some more than it was told; from here on it makes none.
        let gave_up = !stage.until_produced(args.logs).await?;
        let gave_up = gave_up || !stage.until_delivered().await?;
        let tally = stage.end().await?;
        hub.stop_feeding();
        return Ok(Proof {
            produced: source.produced(),
            verdict: verdict(&checker),
            checkpoints_at_end: source.checkpoints_at_end(),
            shards: source.shards(),
            commits: tally.totals.commits,
            raw_bytes: tally.totals.raw_bytes,
            took: begin.elapsed(),
            gave_up,
            tally: Some(tally),
        });
    }
    let forwarder = chaos::start(&mut config, &Arc::default(), &connections, log)?;
    let gave_up = !until_delivered(&forwarder, &checker, &source, args.logs, view, deadline).await?;
    let ended = forwarder.stop().await.map_err(|e| e.to_string())?;
    hub.stop_feeding();
    let proof = Proof {
        produced: source.produced(),
        verdict: verdict(&checker),
        checkpoints_at_end: source.checkpoints_at_end(),
        shards: args.shards,
        commits: ended.commits,
        raw_bytes: ended.raw_bytes,
        took: begin.elapsed(),
        gave_up,
        tally: None,
    };
    siem.stop();
    Ok(proof)
}

/// Begins to make logs. The backlog may take a while, in which the picture goes on and the demo can be stopped.
async fn fed(mut hub: loghub::Running, feeds: [Feed; 2]) -> Result<loghub::Running, String> {
    let fed = tokio::task::spawn_blocking(move || {
        for feed in feeds {
            hub.feed(feed).map_err(|e| format!("cannot produce logs: {}", e.message))?;
        }
        Ok(hub)
    });
    fed.await.map_err(|e| format!("cannot produce logs: {e}"))?
}

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Seconds over which the logs are made.
const CALM: u64 = 4;
/// Faults have to find logs on their way.
const CHAOS: u64 = 25;

/// Half web, half audit; the first half is there from the start, the rest comes while we watch.
fn feeds(logs: u64, seconds: u64) -> [Feed; 2] {
    let feed = |kind, seed, logs: u64| {
        let backlog = logs / 2;
        let rest = logs - backlog;
        Feed {
            kind,
            seed,
            logs_per_group: 100,
            body_bytes: BLOCK_BYTES,
            backlog: (backlog > 0).then_some(Amount::Logs(backlog)),
            rate: Some((rest / seconds).max(1000 / seconds)),
            total: Some(rest),
        }
    };
    [feed(Kind::Web, 1, logs / 2), feed(Kind::Audit, 2, logs - logs / 2)]
}

fn config(protocol: Protocol, hub: SocketAddr, siem: SocketAddr, certs: &Path) -> Result<ForwarderConfig, String> {
    let key = Credentials::new(loghub::DEFAULT_KEY_ID, loghub::DEFAULT_KEY_SECRET);
    let options = loghub::Options::default();
    let mut source = SourceConfig::new(&format!("http://{hub}"), options.project, options.logstore, "demo", key)
        .map_err(|e| e.to_string())?;
    source.heartbeat_interval = Duration::from_secs(1);
    source.commit_interval = Duration::from_secs(1);
    let mut destination = DestinationConfig::new("localhost", protocol);
    destination.host = siem.ip().to_string();
    destination.port = siem.port();
    destination.tls.server_name = Some("localhost".to_owned());
    destination.tls.ca_path = Some(certs.join("ca.pem"));
    destination.tls.client = Some((certs.join("client.pem"), certs.join("client-key.pem")));
    Ok(ForwarderConfig::new(source, destination))
}

/// Tells how it goes until everything is delivered and committed; whether it came to that before the deadline.
async fn until_delivered(
    forwarder: &ForwarderHandle,
    checker: &SharedChecker,
    source: &Source,
    logs: u64,
    view: &View,
    deadline: Instant,
) -> Result<bool, String> {
    let (mut before, mut at) = (0, Instant::now());
    let mut next_line = at + Duration::from_secs(1);
    loop {
        tokio::select! {
            ended = forwarder.ended() => {
                return Err(ended.err().map_or_else(|| "the forwarder ended".to_owned(), |e| e.to_string()));
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let now = Instant::now();
        let delivered = verdict(checker).unique;
        let done = delivered >= logs && source.checkpoints_at_end();
        if let Some(status) = forwarder.status().await {
            if done || now >= next_line {
                let rate = (delivered - before) as f64 / (now - at).as_secs_f64();
                view.progress(format_args!("{}", line(&status, delivered, logs, rate)));
            }
            view.status(status);
        }
        if done || now >= next_line {
            (before, at, next_line) = (delivered, now, now + Duration::from_secs(1));
        }
        if done || now >= deadline {
            return Ok(done);
        }
    }
}

/// How it goes, in two lines of at most 80 columns.
fn line(status: &ForwarderStatus, delivered: u64, logs: u64, rate: f64) -> String {
    let receiver = match &status.receiver {
        ReceiverState::Ready => format!("ready ({})", status.confirmation.as_str()),
        ReceiverState::Idle => "connecting".to_owned(),
        ReceiverState::Down { why } => format!("down: {why}"),
    };
    let counters = &status.counters;
    format!(
        "delivered {delivered:>8} of {logs} | {rate:>7.0}/s | lag {:>2} s | raw {:>4} MB\n  \
         {:>3} shards | {:>3} commits | receiver {}",
        status.lag_s.unwrap_or(0),
        counters.raw_bytes / 1_000_000,
        status.shards.len(),
        counters.commits,
        terminal::wrap(&receiver, 37, 4),
    )
}

fn verdict(checker: &SharedChecker) -> Verdict {
    checker.lock().unwrap_or_else(PoisonError::into_inner).verdict()
}

fn serve_receiver(certs: &Path, judge: Judge, listen: SocketAddr) -> Result<receiver::Running, String> {
    let identity = tls::from_folder(certs)?;
    let options = receiver::Options {
        listen,
        transport: receiver::Transport::Tls(tls::server_config(&identity)?),
        framing: None,
        relp: judge.relp.then(RelpFaults::default),
        limits: receiver::Limits::default(),
    };
    receiver::serve(options, Box::new(judge)).map_err(|e| format!("cannot start the receiver: {e}"))
}

/// Gives every message to the checker.
#[derive(Clone)]
struct Judge {
    checker: SharedChecker,
    /// Whether RELP is spoken, by a receiver that is cut and killed: connections that end are no surprise then.
    relp: bool,
    log: Logger,
}

impl receiver::Sink for Judge {
    fn message(&mut self, _from: SocketAddr, message: &[u8]) -> receiver::Taken {
        self.checker.lock().unwrap_or_else(PoisonError::into_inner).message(message);
        receiver::Taken::Yes
    }

    fn trouble(&mut self, from: SocketAddr, what: &str) {
        if !self.relp {
            warn!(self.log, "receiver: {}: {}", from, what);
        }
    }

    fn pause(&mut self) {}
}

/// A folder of certificates that goes with the demo.
struct CertFolder {
    path: PathBuf,
}

impl CertFolder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("sls-syslog-demo-{}-{:x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&path).map_err(|e| format!("cannot create {}: {e}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for CertFolder {
    fn drop(&mut self) {
        // Left behind at worst: certificates that nobody trusts.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
