//! `dead-letter resend`: each log through the library's own renderer and connection, as `run` would send it.

use std::collections::HashMap;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use chrono::Utc;
use prost::Message as _;
use slog::Logger;
use sls_syslog_actors::config::{DestinationConfig, ForwarderConfig, parse_duration};
use sls_syslog_actors::connection::{ConnectionParts, GapFacts, SyslogConnection, shared_pace};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::credit::{ByteBudget, ByteCredit, Credit, Credits};
use sls_syslog_actors::io::dead_letter::file::{LetterFile, Lines};
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::messages::{
    ActorEnded, BatchSettled, CloseConnection, Frames, Outcome, ReceiverChanged, SendBatch,
};
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::{Epoch, Generation, Sequence, ShardId};
use sls_syslog_actors::ticket::{FailedFrom, PieceGuard, Ticket};
use sls_syslog_actors::watch::{ActorName, ExitGuard};
use sls_syslog_actors::wire::dead_letter::Entry;
use sls_syslog_actors::wire::format::origin::Batch;
use sls_syslog_actors::wire::format::{Alone, Position, RenderSettings, Renderer};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::{failed, file_of};
use crate::settings::{self, Layers, LogSettings};
use crate::{exit, logging};

/// How to send it.
#[derive(Debug, clap::Args)]
pub struct ResendArgs {
    /// The file instead of dead_letter.path
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Says what each message would be, and sends nothing
    #[arg(long)]
    dry_run: bool,
    /// Gives up when the receiver has confirmed nothing for so long
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    give_up_after: Duration,
}

/// Bytes of logs that are on their way at once.
const BUDGET: usize = 64 << 20;
/// Confirmed logs are removed from the file at the latest after this, or when there are so many bytes of them.
const REMOVE: (Duration, usize) = (Duration::from_secs(10), 8 << 20);
/// How often progress is shown: on a terminal, and in a log.
const PROGRESS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Reasons that are printed.
const MOST_REASONS: u64 = 20;
/// Time for closing the connection.
const CLOSE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &ResendArgs, layers: Layers) -> ExitCode {
    let settings = match settings::load_for_resend(&layers) {
        Ok(settings) => settings,
        Err(problems) => return settings::report(&problems),
    };
    let file = match file_of(args.file.as_deref(), settings.forwarder.dead_letter.clone()) {
        Ok(file) => file,
        Err(code) => return code,
    };
    let lines = match file.lines() {
        Ok(lines) => lines,
        Err(error) => return failed(error),
    };
    if args.dry_run {
        return match dry_run(lines, &settings.forwarder.destination) {
            Ok(code) => code,
            Err(error) => failed(error),
        };
    }
    let (total, origin) = match count(&file) {
        Ok(counted) => counted,
        Err(error) => return failed(error),
    };
    // The log file is that of the process which runs all the time.
    let log = match logging::init(&LogSettings { file: None, ..settings.log }) {
        Ok(log) => log,
        Err(problem) => return settings::report(&[problem]),
    };
    let (config, logger) = (settings.forwarder, log.logger.clone());
    let sending = Sending { file, lines, total, origin, config, give_up_after: args.give_up_after, log: logger };
    let code = actix_rt::System::new().block_on(sending.run());
    drop(log);
    code.unwrap_or_else(failed)
}

/// How many lines there are, and the project and logstore of the first.
fn count(file: &LetterFile) -> Result<(u64, (String, String)), String> {
    let mut lines = file.lines().map_err(|error| error.to_string())?;
    let (mut total, mut origin) = (0, None);
    while let Some(line) = lines.next_line().map_err(|error| error.to_string())? {
        total += 1;
        origin = origin.or_else(|| Entry::from_line(&line).ok().map(|entry| (entry.project, entry.logstore)));
    }
    Ok((total, origin.unwrap_or_default()))
}

/// Says what would be sent.
fn dry_run(mut lines: Lines, destination: &DestinationConfig) -> Result<ExitCode, String> {
    let mut messages = Messages::new(destination);
    let (mut number, mut logs, mut unreadable) = (0_u64, 0_u64, 0_u64);
    while let Some(line) = lines.next_line().map_err(|error| error.to_string())? {
        number += 1;
        let entry = match Entry::from_line(&line) {
            Ok(entry) => entry,
            Err(error) => {
                unreadable += 1;
                eprintln!("line {number} cannot be read: {error}");
                continue;
            }
        };
        let (frame, cut) =
            messages.render(&entry).map_err(|error| format!("line {number} cannot be rendered: {error}"))?;
        let cut = if cut { ", cut to destination.max_message_bytes" } else { "" };
        let cursor: String = entry.cursor.chars().take(100).flat_map(char::escape_debug).collect();
        println!("shard {} cursor {cursor} place {}: {} bytes{cut}", entry.shard, entry.place, frame.len());
        logs += 1;
    }
    println!("{logs} log(s) would be sent to {} {} port {}", destination.protocol, destination.host, destination.port);
    Ok(exit::code(if unreadable > 0 { exit::FAILED } else { exit::OK }))
}

struct Sending {
    file: LetterFile,
    lines: Lines,
    total: u64,
    /// Project and logstore, for gap records.
    origin: (String, String),
    config: ForwarderConfig,
    give_up_after: Duration,
    log: Logger,
}

/// How far it is.
#[derive(Default)]
struct Progress {
    /// Logs on their way, by number, with their lines.
    on_the_way: HashMap<u64, Vec<u8>>,
    /// Lines of confirmed logs that are still in the file.
    confirmed: HashMap<Vec<u8>, usize>,
    confirmed_bytes: usize,
    sent: u64,
    refused: u64,
    failed: u64,
    unreadable: u64,
}

/// Hands messages of one kind to whoever waits for them.
struct Inbox<M>(tokio::sync::mpsc::UnboundedSender<M>);

impl<M: Message<Result = ()> + Send + Unpin + 'static> Actor for Inbox<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Send + Unpin + 'static> Handler<M> for Inbox<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        // At the end nobody waits any more.
        let _ = self.0.send(message);
    }
}

fn inbox<M: Message<Result = ()> + Send + Unpin + 'static>() -> (Recipient<M>, UnboundedReceiver<M>) {
    let (sender, receiver) = unbounded_channel();
    (Inbox(sender).start().recipient(), receiver)
}

/// The library's connection, and what goes into it.
struct Line {
    connection: Addr<SyslogConnection>,
    places: Credits,
    budget: ByteBudget,
    messages: Messages,
    report_to: Recipient<BatchSettled>,
    settled: UnboundedReceiver<BatchSettled>,
    ended: UnboundedReceiver<ActorEnded>,
}

impl Line {
    fn open(config: &ForwarderConfig, origin: &(String, String), log: &Logger) -> Result<Self, String> {
        let counters = Arc::new(Counters::default());
        let destination = Destination::new(&config.destination).map_err(|error| error.to_string())?;
        let (receiver_changed, _) = inbox::<ReceiverChanged>();
        let (watcher, ended) = inbox::<ActorEnded>();
        let (report_to, settled) = inbox::<BatchSettled>();
        let parts = ConnectionParts {
            worker: 0,
            index: 0,
            dial: destination.dialer(Arc::clone(&counters), log.clone()),
            level: destination.level(),
            mailbox: config.mailbox.connection,
            pace: shared_pace(&config.destination),
            gap_facts: GapFacts {
                project: origin.0.clone(),
                logstore: origin.1.clone(),
                unix_seconds: Rc::new(|| Utc::now().timestamp()),
            },
            receiver_changed,
            counters,
            logger: log.clone(),
            seed: fastrand::u64(..),
            guard: ExitGuard::new(ActorName::SyslogConnection { worker: 0, index: 0 }, watcher),
        };
        Ok(Self {
            connection: SyslogConnection::new(&config.destination, parts).launch(),
            places: Credits::new(config.mailbox.connection),
            budget: ByteBudget::new(BUDGET),
            messages: Messages::new(&config.destination),
            report_to,
            settled,
            ended,
        })
    }

    /// Hands over one log as a batch of its own, if there is a place for it.
    fn send(&mut self, number: u64, entry: &Entry, credit: Credit, bytes: ByteCredit) -> Result<(), String> {
        let (frame, _) = self.messages.render(entry)?;
        let (sequence, failed_from) = (Sequence(number), FailedFrom::none());
        let shard = ShardId(entry.shard);
        // Each stands for itself: one that fails holds up no other.
        let numbers = (shard, Epoch(0), Generation(0), sequence);
        let ticket = Ticket::new(numbers, failed_from.clone(), self.report_to.clone(), None);
        self.connection.do_send(SendBatch {
            shard,
            frames: Frames::new(frame, Some(bytes), None),
            messages: 1,
            failed_from,
            sequence,
            from: cursor_of(entry),
            // Where a gap record says that it was.
            first_log: entry.place,
            last: Some((ticket, entry.place.saturating_add(1))),
            guard: PieceGuard::none(),
            credit,
        });
        Ok(())
    }

    /// Says goodbye to the receiver.
    async fn close(mut self, within: Duration) {
        self.connection.do_send(CloseConnection { deadline: Instant::now() + within });
        // A little more than it takes by itself.
        let _ = timeout(within + Duration::from_secs(1), self.ended.recv()).await;
    }
}

/// Renders entries as the present settings have it; origin stamps stay those of the first time.
struct Messages {
    destination: DestinationConfig,
    /// With the project and logstore for which it writes stamps.
    renderer: Option<(String, String, Renderer)>,
}

impl Messages {
    fn new(destination: &DestinationConfig) -> Self {
        Self { destination: destination.clone(), renderer: None }
    }

    /// One message in its frame, and whether it was cut.
    fn render(&mut self, entry: &Entry) -> Result<(Vec<u8>, bool), String> {
        let Entry { project, logstore, .. } = entry;
        if self.renderer.as_ref().is_some_and(|(p, l, _)| (p, l) != (project, logstore)) {
            self.renderer = None;
        }
        let (_, _, renderer) = self.renderer.get_or_insert_with(|| {
            let settings = RenderSettings::new(&self.destination, project, logstore);
            (project.clone(), logstore.clone(), Renderer::new(settings))
        });
        let batch = Batch::new(ShardId(entry.shard), cursor_of(entry));
        let alone = Alone { place: entry.place, group: entry.group, index: entry.index, logs: entry.logs };
        let mut frame = Vec::new();
        let raw = entry.log.to_list().encode_to_vec();
        let rendered = renderer.render(&raw, &mut Position::of_log(batch, alone), &mut frame, usize::MAX);
        let rendered = rendered.map_err(|error| error.to_string())?;
        Ok((frame, rendered.truncated > 0))
    }
}

fn cursor_of(entry: &Entry) -> Cursor {
    Cursor::new(&entry.cursor).unwrap_or_else(|| Cursor::new("unknown").expect("printable"))
}

impl Sending {
    async fn run(mut self) -> Result<ExitCode, String> {
        let mut line = Line::open(&self.config, &self.origin, &self.log)?;
        let mut progress = Progress::default();
        let on_terminal = std::io::stderr().is_terminal();
        let mut show = interval(if on_terminal { PROGRESS.0 } else { PROGRESS.1 });
        let (mut number, mut all_read, mut gave_up) = (0, false, false);
        // A line for which there was no room.
        let mut waiting = None;
        let (mut removed_at, mut give_up_at) = (Instant::now(), Instant::now() + self.give_up_after);
        loop {
            while !all_read && let Some(place) = line.places.try_take() {
                let next = match waiting.take() {
                    None => self.lines.next_line().map_err(|error| error.to_string())?,
                    waiting => waiting,
                };
                let Some(text) = next else {
                    all_read = true;
                    break;
                };
                let Some(bytes) = line.budget.try_reserve(text.len()) else {
                    waiting = Some(text);
                    break;
                };
                number += 1;
                match Entry::from_line(&text).and_then(|entry| line.send(number, &entry, place, bytes)) {
                    Ok(()) => drop(progress.on_the_way.insert(number, text)),
                    Err(error) => {
                        progress.unreadable += 1;
                        eprintln!("line {number} cannot be read: {error}");
                    }
                }
            }
            if all_read && progress.on_the_way.is_empty() {
                break;
            }
            tokio::select! {
                Some(settled) = line.settled.recv() => {
                    if progress.settled(&settled) {
                        give_up_at = Instant::now() + self.give_up_after;
                    }
                }
                Some(ended) = line.ended.recv() => return Err(format!("the {} has ended", ended.actor)),
                _ = show.tick() => self.show(&progress, on_terminal),
                () = sleep_until(give_up_at) => {
                    gave_up = true;
                    break;
                }
            }
            if removed_at.elapsed() >= REMOVE.0 || progress.confirmed_bytes >= REMOVE.1 {
                progress.remove(&self.file)?;
                removed_at = Instant::now();
            }
        }
        progress.remove(&self.file)?;
        self.show(&progress, on_terminal);
        if on_terminal {
            eprintln!();
        }
        line.close(if gave_up { Duration::ZERO } else { CLOSE }).await;
        Ok(self.report(&progress, gave_up))
    }

    fn show(&self, progress: &Progress, on_terminal: bool) {
        let Progress { sent, refused, .. } = progress;
        let line = format!("{sent} of {} sent, {refused} not taken", self.total);
        if on_terminal {
            eprint!("\r{line}");
            // Progress that cannot be shown harms nobody.
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    fn report(&self, progress: &Progress, gave_up: bool) -> ExitCode {
        let left = self.total.saturating_sub(progress.sent);
        println!("{} of {} log(s) sent; {left} left in {}", progress.sent, self.total, self.file.path().display());
        if gave_up {
            eprintln!("error: the receiver has confirmed nothing for {:?}; gave up", self.give_up_after);
        }
        if progress.refused > 0 {
            eprintln!(
                "error: {} log(s) are not taken: set destination.max_message_bytes if they are too long",
                progress.refused
            );
        }
        if progress.failed + progress.unreadable > 0 {
            eprintln!("error: {} log(s) cannot be read or rendered", progress.failed + progress.unreadable);
        }
        exit::code(if left > 0 || gave_up { exit::FAILED } else { exit::OK })
    }
}

impl Progress {
    /// A log came back; whether the receiver had a word on it.
    fn settled(&mut self, settled: &BatchSettled) -> bool {
        let Some(line) = self.on_the_way.remove(&settled.sequence.0) else { return false };
        match &settled.outcome {
            Outcome::Delivered { refused, .. } => match refused.first() {
                None => {
                    self.sent += 1;
                    self.confirmed_bytes += line.len();
                    *self.confirmed.entry(line).or_default() += 1;
                }
                Some(refused) => {
                    self.refused += 1;
                    if self.refused <= MOST_REASONS {
                        eprintln!("line {} is not taken: {}", settled.sequence.0, refused.reason);
                    }
                }
            },
            Outcome::Failed(why) => {
                self.failed += 1;
                eprintln!("line {} cannot be sent: {why:?}", settled.sequence.0);
                return false;
            }
        }
        true
    }

    /// Takes what was confirmed out of the file.
    fn remove(&mut self, file: &LetterFile) -> Result<(), String> {
        if !self.confirmed.is_empty() {
            file.remove(&self.confirmed).map_err(|error| error.to_string())?;
            self.confirmed.clear();
            self.confirmed_bytes = 0;
        }
        Ok(())
    }
}
