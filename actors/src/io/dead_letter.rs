//! The dead letter as a file: what a body holds is looked up and written on a thread where it may block.

pub mod file;

use std::sync::Arc;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use futures_util::future::LocalBoxFuture;
use slog::Logger;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use crate::config::{DeadLetterConfig, SourceConfig};
use crate::event::Code;
use crate::ports::{DeadLetter, KeepError, Letter};
use crate::wire::dead_letter::Entry;

use file::{FileError, LetterFile};

/// Keeps logs in a file.
#[derive(Debug, Clone)]
pub struct FileDeadLetter {
    file: Arc<LetterFile>,
    /// Project and logstore.
    origin: Arc<(String, String)>,
    log: Logger,
}

/// How long another process may hold the lock, and how often it is looked.
const LOCKED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(50));
/// A disk that takes longer is told of.
const SLOW: Duration = Duration::from_secs(30);

impl FileDeadLetter {
    /// The dead letter that the settings name, if they name one.
    pub fn new(config: &DeadLetterConfig, source: &SourceConfig) -> Option<Self> {
        let file = LetterFile::new(config)?;
        let origin = (source.project.clone(), source.logstore.clone());
        Some(Self { file: Arc::new(file), origin: Arc::new(origin), log: Logger::root(slog::Discard, slog::o!()) })
    }

    /// The same one, telling of slow disks here.
    #[must_use]
    pub fn logging_to(&self, log: Logger) -> Self {
        Self { log, ..self.clone() }
    }

    async fn append(&self, lines: Vec<u8>) -> Result<(), KeepError> {
        let lines = Arc::new(lines);
        let give_up_at = Instant::now() + LOCKED.0;
        loop {
            let (file, lines) = (Arc::clone(&self.file), Arc::clone(&lines));
            let appended = self.on_thread(move || file.append(&lines)).await?;
            match appended {
                Ok(()) => return Ok(()),
                Err(FileError::Busy(_)) if Instant::now() < give_up_at => sleep(LOCKED.1).await,
                Err(error @ (FileError::NoRoom { .. } | FileError::NoSpace { .. })) => {
                    return Err(KeepError::Full(error.to_string()));
                }
                Err(error) => return Err(KeepError::Unwritable(error.to_string())),
            }
        }
    }

    /// Runs what may block; a thread cannot be taken back, so it is waited for as long as it takes.
    async fn on_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, KeepError> {
        let mut running = spawn_blocking(work);
        loop {
            match timeout(SLOW, &mut running).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) if error.is_panic() => {
                    return Err(KeepError::BadBody("decoding a batch to be set aside caused a panic".to_owned()));
                }
                Ok(Err(_)) => return Err(KeepError::Unwritable("the process ends".to_owned())),
                Err(_) => slog::warn!(self.log, "the disk of the dead letter does not answer; still waiting";
                    "code" => Code::DeadLetterUnwritable.as_str(), "path" => %self.file.path().display()),
            }
        }
    }
}

impl DeadLetter for FileDeadLetter {
    fn keep(&self, letter: Letter) -> LocalBoxFuture<'static, Result<u64, KeepError>> {
        let this = self.clone();
        Box::pin(async move {
            let origin = Arc::clone(&this.origin);
            let when = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
            let looked_up = this.on_thread(move || {
                let (lines, logs) = lines_of(&letter, &origin, &when)?;
                // What pays for the body pays for the lines until they are written (rule M1).
                Ok::<_, KeepError>((lines, logs, letter.body.credit))
            });
            let (lines, logs, _credit) = looked_up.await??;
            if !lines.is_empty() {
                this.append(lines).await?;
            }
            Ok(logs)
        })
    }
}

fn lines_of(letter: &Letter, origin: &(String, String), when: &str) -> Result<(Vec<u8>, u64), KeepError> {
    let (taken, logs) = letter.take()?;
    let mut lines = Vec::new();
    for (refused, taken) in taken {
        let entry = Entry {
            when: when.to_owned(),
            project: origin.0.clone(),
            logstore: origin.1.clone(),
            shard: letter.shard.0,
            cursor: letter.from.to_string(),
            place: taken.place,
            group: letter.first_group + taken.group,
            index: taken.index,
            logs: taken.logs,
            reason: refused.reason.clone(),
            log: taken.log,
        };
        lines.extend_from_slice(&entry.to_line());
    }
    Ok((lines, logs))
}
