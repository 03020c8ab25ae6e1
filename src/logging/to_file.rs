//! The log's second copy, in a file: what happens to lines that cannot be written.
//!
//! Nobody waits for the file. Lines that it does not take are dropped and counted; those that tell of a gap are kept, up
//! to a bound, and written first when it takes lines again. That it does not, and that it does again, is told on stderr.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slog::{Drain, Level, Logger, OwnedKVList, Record, error, info};

use super::is_gap;
use super::rotating::RotatingFile;

/// Stable code of a file that does not take lines (listed in `config/messages.md`).
pub const UNWRITABLE: &str = "log-file-unwritable";
/// A file that took no line is left alone for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// The first and the longest pause between two complaints on stderr; it doubles in between.
const COMPLAINTS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// Bytes of lines about gaps that are kept meanwhile: thousands of them.
const KEPT: usize = 1 << 20;

/// Where a format writes one line.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<Mutex<Vec<u8>>>);

impl Line {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Asks for the file to be opened anew, from any thread.
#[derive(Debug, Clone, Default)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// Before the next line.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Formats each record and appends it to the file.
pub struct ToFile<D> {
    format: D,
    line: Line,
    state: RefCell<State>,
}

struct State {
    file: RotatingFile,
    reopen: Reopen,
    /// Where troubles with the file are told.
    stderr: Logger,
    outage: Option<Outage>,
    /// When to try again.
    again_at: Option<Instant>,
    dropped: u64,
    /// Lines about gaps.
    kept: VecDeque<Vec<u8>>,
    kept_bytes: usize,
}

/// While it takes no lines.
struct Outage {
    since: Instant,
    /// When to complain next.
    say_at: Instant,
    pause: Duration,
}

impl<D: Drain<Ok = ()>> ToFile<D> {
    /// Of a format that writes to this line.
    pub fn new(format: D, line: Line, file: RotatingFile, reopen: Reopen, stderr: Logger) -> Self {
        let state = State {
            file,
            reopen,
            stderr,
            outage: None,
            again_at: None,
            dropped: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
        };
        Self { format, line, state: RefCell::new(state) }
    }

    fn formatted(&self, record: &Record<'_>, values: &OwnedKVList) -> Vec<u8> {
        // It writes to memory.
        let _ = self.format.log(record, values);
        self.line.take()
    }
}

impl<D: Drain<Ok = ()>> Drain for ToFile<D> {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        let line = self.formatted(record, values);
        let mut state = self.state.borrow_mut();
        let notice = |dropped: u64| {
            let text = format_args!("log lines were dropped because the log file could not be written");
            self.formatted(&slog::record!(Level::Warning, "", &text, slog::b!("dropped" => dropped)), values)
        };
        state.write(line, is_gap(record), notice);
        Ok(())
    }
}

impl State {
    fn write(&mut self, line: Vec<u8>, is_gap: bool, notice: impl Fn(u64) -> Vec<u8>) {
        let now = Instant::now();
        if self.reopen.0.swap(false, Ordering::Relaxed) {
            self.file.reopen();
            self.again_at = None;
        }
        if self.again_at.is_some_and(|at| now < at) {
            return self.leave_out(line, is_gap);
        }
        match self.catch_up(notice).and_then(|()| self.file.append(&line)) {
            Ok(()) => {
                self.again_at = None;
                if let Some(over) = self.outage.take() {
                    info!(self.stderr, "the log file {} can be written again", self.file.settings().path.display();
                        "code" => UNWRITABLE, "lasted_s" => over.since.elapsed().as_secs());
                }
            }
            Err(error) => {
                self.again_at = Some(now + PAUSE);
                self.leave_out(line, is_gap);
                let outage = self.outage.get_or_insert(Outage { since: now, say_at: now, pause: COMPLAINTS.0 });
                if now >= outage.say_at {
                    outage.say_at = now + outage.pause;
                    outage.pause = (outage.pause * 2).min(COMPLAINTS.1);
                    error!(self.stderr, "the log file {} cannot be written: {}{}; lines are dropped, delivery goes on",
                        self.file.settings().path.display(), error, remedy(&error);
                        "code" => UNWRITABLE, "dropped" => self.dropped);
                }
            }
        }
    }

    /// Writes what was kept, and how much was not.
    fn catch_up(&mut self, notice: impl Fn(u64) -> Vec<u8>) -> io::Result<()> {
        while let Some(line) = self.kept.front() {
            self.file.append(line)?;
            self.kept_bytes -= line.len();
            self.kept.pop_front();
        }
        if self.dropped > 0 {
            self.file.append(&notice(self.dropped))?;
            self.dropped = 0;
        }
        Ok(())
    }

    fn leave_out(&mut self, line: Vec<u8>, is_gap: bool) {
        if is_gap && self.kept_bytes + line.len() <= KEPT {
            self.kept_bytes += line.len();
            self.kept.push_back(line);
        } else {
            self.dropped += 1;
        }
    }
}

impl Drop for State {
    /// The last chance for what was kept.
    fn drop(&mut self) {
        self.dropped = 0;
        let _ = self.catch_up(|_| Vec::new());
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make space on its disk",
        ErrorKind::PermissionDenied => "; this process needs the right to write it and its folder",
        _ => "",
    }
}
