//! The process's own log: slog on stderr and, if asked for, in a file, for people or as JSON, with the records of all
//! libraries in the same stream.
//!
//! Writing happens on a thread of its own for each of the two. When stderr or the disk is stuck, lines below `warning`
//! are shed and counted once half of its queue is full; the other half is kept for warnings and errors, and its last
//! eighth for gaps, which are never dropped. Nobody but who has a gap to tell ever waits for either: heartbeats must not,
//! and neither must the end.
//!
//! Libraries may print whole request heads at `trace`, with signatures and tokens in them. So their records are taken
//! at `debug` at most, whatever the level, and those of HTTP/2, whose frames are heads, from `warning` on.

mod escape;
mod rotating;
#[cfg(test)]
mod tests;
mod to_file;

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use slog::{Drain, FnValue, KV, Level, Logger, OwnedKVList, Record, error, o};
use slog_async::{AsyncCore, AsyncGuard};
use sls_syslog_actors::event::Code;

use crate::settings::{LogFormat, LogSettings, Problem};
use escape::Escaping;
use rotating::RotatingFile;
use to_file::{Line, ToFile};

pub use to_file::Reopen;

/// Records waiting to be written; a record is some hundred bytes.
const QUEUE: usize = 16 * 1024;
/// The part of the queue that is kept for gaps.
const FOR_GAPS: usize = QUEUE / 8;
/// How long the end of the process may wait for stderr and the file.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Characters of a panic's message that are logged: it may quote a log.
const PANIC_TEXT: usize = 300;

/// Keeps the log alive. Dropping it writes all that waits, unless its place is stuck; what is logged later is lost.
pub struct LogGuard(Vec<AsyncGuard>);

impl std::fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogGuard")
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (flushed, done) = mpsc::channel();
        let mut waiting = 0;
        // Each on its own, so that one that is stuck does not hold up the other.
        for flush in self.0.drain(..) {
            let flushed = flushed.clone();
            let flusher = std::thread::Builder::new().name("log-flush".into()).spawn(move || {
                drop(flush);
                // Whoever waited may have given up.
                let _ = flushed.send(());
            });
            waiting += usize::from(flusher.is_ok());
        }
        let until = Instant::now() + FLUSH_LIMIT;
        for _ in 0..waiting {
            let _ = done.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// What logging consists of.
#[derive(Debug)]
pub struct Log {
    /// For everybody.
    pub logger: Logger,
    /// To be dropped last.
    pub guard: LogGuard,
    /// How to have the file opened anew, if there is one.
    pub reopen: Option<Reopen>,
}

/// Starts logging; to be called once, since libraries log to one place a process.
///
/// # Errors
/// There shall be a file, and it cannot be used.
pub fn init(settings: &LogSettings) -> Result<Log, Problem> {
    let level = settings.level;
    let file = settings.file.clone().map(|wanted| {
        let path = wanted.path.display().to_string();
        RotatingFile::open(wanted)
            .map_err(|e| Problem::key("log.file", format!("cannot be written: {e}")).with_value(&path))
    });
    let file = file.transpose()?;
    let (on_stderr, flush) = match settings.format {
        LogFormat::Json => queue(level, "stderr", json(io::LineWriter::new(io::stderr()))),
        LogFormat::Terminal => {
            let decorator = slog_term::TermDecorator::new().stderr();
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            queue(level, "stderr", text(if plain { decorator.force_plain() } else { decorator }.build()))
        }
    };
    let mut log = Log { logger: on_stderr.clone(), guard: LogGuard(vec![flush]), reopen: None };
    if let Some(file) = file {
        let (line, reopen) = (Line::default(), Reopen::default());
        log.reopen = Some(reopen.clone());
        let (in_file, flush) = match settings.format {
            LogFormat::Json => {
                queue(level, "the log file", ToFile::new(json(line.clone()), line, file, reopen, on_stderr.clone()))
            }
            LogFormat::Terminal => {
                let format = text(slog_term::PlainDecorator::new(line.clone()));
                queue(level, "the log file", ToFile::new(format, line, file, reopen, on_stderr.clone()))
            }
        };
        log.guard.0.push(flush);
        log.logger = Logger::root(slog::Duplicate::new(on_stderr, in_file).ignore_res(), o!());
    }
    take_libraries_and_panics(level, &log.logger);
    Ok(log)
}

/// One line a record, for people.
fn text<D: slog_term::Decorator>(decorator: D) -> slog_term::FullFormat<Escaping<D>> {
    slog_term::FullFormat::new(Escaping(decorator)).use_original_order().use_utc_timestamp().build()
}

/// Starts logging for people, without colour, into something else than stderr; as often as [`init`].
pub fn init_into<W: Write + Send + 'static>(level: Level, writer: W) -> Log {
    let (logger, flush) = queue(level, "the terminal", text(slog_term::PlainDecorator::new(writer)));
    take_libraries_and_panics(level, &logger);
    Log { logger, guard: LogGuard(vec![flush]), reopen: None }
}

/// One object a line: `ts`, `level`, `msg`, then the record's own keys.
fn json<W: Write + Send + 'static>(writer: W) -> slog_json::Json<W> {
    slog_json::Json::new(writer).add_default_keys().build()
}

fn take_libraries_and_panics(level: Level, logger: &Logger) {
    take_library_records(level, logger);
    take_panics(logger.clone());
}

/// A panic is a line like any other: in the log's format, escaped and cut.
fn take_panics(logger: Logger) {
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied());
        let text: String = text.unwrap_or("no text").chars().take(PANIC_TEXT).collect();
        let at = info.location().map_or_else(String::new, ToString::to_string);
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        error!(logger, "panic: {}", text; "code" => Code::Panic.as_str(), "at" => at, "thread" => thread);
    }));
}

/// A logger that hands records over to a thread which writes them to this place.
fn queue<D: Drain<Ok = ()> + Send + 'static>(level: Level, place: &'static str, format: D) -> (Logger, AsyncGuard) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let written = Written { format, waiting: Arc::clone(&waiting) };
    let (core, flush) = AsyncCore::custom(written).chan_size(QUEUE).blocking(true).build_with_guard();
    let queue = Queue { place, core, waiting, shed: AtomicUsize::new(0) };
    (Logger::root(queue.filter_level(level).ignore_res(), o!()), flush)
}

fn take_library_records(level: Level, logger: &Logger) {
    let drain = logger.clone().filter(move |record| is_taken(record.level(), record.tag(), record.module()));
    // Never reset: a library may log in a thread that outlives this guard.
    let library = o!("library" => FnValue(|record: &Record<'_>| record.tag().to_owned()));
    slog_scope::set_global_logger(Logger::root(drain.ignore_res(), library)).cancel_reset();
    let level = if level.is_at_least(Level::Debug) { log::Level::Debug } else { log_level(level) };
    // Fails only if a logger was set before, which then keeps the records.
    let _ = slog_stdlog::init_with_level(level);
}

/// Whether a library's record may be written: see the module's beginning.
fn is_taken(level: Level, target: &str, module: &str) -> bool {
    let of_http2 =
        [target, module].iter().any(|name| *name == "h2" || name.starts_with("h2::") || name.contains("h2proto"));
    level.is_at_least(if of_http2 { Level::Warning } else { Level::Debug })
}

fn log_level(level: Level) -> log::Level {
    match level {
        Level::Critical | Level::Error => log::Level::Error,
        Level::Warning => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
        Level::Trace => log::Level::Trace,
    }
}

/// The caller's side of the queue.
struct Queue {
    /// Where the records go to.
    place: &'static str,
    core: AsyncCore,
    waiting: Arc<AtomicUsize>,
    shed: AtomicUsize,
}

impl Queue {
    fn push(&self, record: &Record<'_>, values: &OwnedKVList) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Fails only when the writing thread has ended.
        let _ = self.core.log(record, values);
    }
}

impl Drain for Queue {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        let room = if record.level().is_at_least(Level::Warning) { QUEUE - FOR_GAPS } else { QUEUE / 2 };
        if self.waiting.load(Ordering::Relaxed) >= room && !is_gap(record) {
            self.shed.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let shed = self.shed.swap(0, Ordering::Relaxed);
        if shed > 0 {
            let notice = format_args!("log lines were dropped because {} is slow", self.place);
            self.push(&slog::record!(Level::Warning, "", &notice, slog::b!("dropped" => shed)), values);
        }
        self.push(record, values);
        Ok(())
    }
}

/// Whether the record tells of a gap; to be asked only when there is hardly room, since it looks at every key.
fn is_gap(record: &Record<'_>) -> bool {
    struct Find(bool);
    impl slog::Serializer for Find {
        fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
            self.0 |= key == "code" && value.to_string() == Code::Gap.as_str();
            Ok(())
        }
    }
    let mut found = Find(false);
    // It cannot fail: nothing above does.
    let _ = record.kv().serialize(record, &mut found);
    found.0
}

/// The writing thread's side of the queue.
struct Written<D> {
    format: D,
    waiting: Arc<AtomicUsize>,
}

impl<D: Drain<Ok = ()>> Drain for Written<D> {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        // Nothing can be done about a stderr that is closed, and nothing may end because of it; a file never fails.
        let _ = self.format.log(record, values);
        Ok(())
    }
}
