//! The process's own log: slog on stderr, for people or as JSON, with the records of all libraries in the same stream.
//!
//! Writing happens on a thread of its own. When stderr is stuck, lines below `warning` are shed and counted once half
//! of the queue is full; the other half is kept for warnings and errors, and its last eighth for gaps, which are never
//! dropped. Nobody but who has a gap to tell ever waits for stderr: heartbeats must not, and neither must the end.
//!
//! Libraries may print whole request heads at `trace`, with signatures and tokens in them. So their records are taken
//! at `debug` at most, whatever the level, and those of HTTP/2, whose frames are heads, from `warning` on.

mod escape;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use slog::{Drain, FnValue, KV, Level, Logger, OwnedKVList, Record, error, o};
use slog_async::{AsyncCore, AsyncGuard};
use sls_syslog_actors::event::Code;

use crate::settings::{LogFormat, LogSettings};
use escape::Escaping;

/// Records waiting to be written; a record is some hundred bytes.
const QUEUE: usize = 16 * 1024;
/// The part of the queue that is kept for gaps.
const FOR_GAPS: usize = QUEUE / 8;
/// How long the end of the process may wait for stderr.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// Characters of a panic's message that are logged: it may quote a log.
const PANIC_TEXT: usize = 300;

/// Keeps the log alive. Dropping it writes all that waits, unless stderr is stuck; what is logged later is lost.
pub struct LogGuard(Option<AsyncGuard>);

impl std::fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogGuard")
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(flush) = self.0.take() else { return };
        let (flushed, done) = mpsc::channel();
        let flusher = std::thread::Builder::new().name("log-flush".into()).spawn(move || {
            drop(flush);
            // Whoever waited may have given up.
            let _ = flushed.send(());
        });
        if flusher.is_ok() {
            let _ = done.recv_timeout(FLUSH_LIMIT);
        }
    }
}

/// Starts logging to stderr; to be called once, since libraries log to one place a process.
pub fn init(settings: &LogSettings) -> (Logger, LogGuard) {
    match settings.format {
        LogFormat::Json => start(settings.level, json(io::LineWriter::new(io::stderr()))),
        LogFormat::Terminal => {
            let decorator = slog_term::TermDecorator::new().stderr();
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let decorator = Escaping(if plain { decorator.force_plain() } else { decorator }.build());
            start(
                settings.level,
                slog_term::FullFormat::new(decorator).use_original_order().use_utc_timestamp().build(),
            )
        }
    }
}

/// The same for people, without colour, into something else than stderr.
pub fn init_into<W: Write + Send + 'static>(level: Level, writer: W) -> (Logger, LogGuard) {
    let decorator = Escaping(slog_term::PlainDecorator::new(writer));
    start(level, slog_term::FullFormat::new(decorator).use_original_order().use_utc_timestamp().build())
}

/// One object a line: `ts`, `level`, `msg`, then the record's own keys.
fn json<W: Write + Send + 'static>(writer: W) -> slog_json::Json<W> {
    slog_json::Json::new(writer).add_default_keys().build()
}

fn start<D: Drain<Ok = ()> + Send + 'static>(level: Level, format: D) -> (Logger, LogGuard) {
    let (logger, flush) = queue(level, format);
    take_library_records(level, &logger);
    take_panics(logger.clone());
    (logger, LogGuard(Some(flush)))
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

fn queue<D: Drain<Ok = ()> + Send + 'static>(level: Level, format: D) -> (Logger, AsyncGuard) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let written = Written { format, waiting: Arc::clone(&waiting) };
    let (core, flush) = AsyncCore::custom(written).chan_size(QUEUE).blocking(true).build_with_guard();
    let queue = Queue { core, waiting, shed: AtomicUsize::new(0) };
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
            let notice = format_args!("log lines were dropped because stderr is slow");
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
        // Nothing can be done about a stderr that is closed, and nothing may end because of it.
        let _ = self.format.log(record, values);
        Ok(())
    }
}
