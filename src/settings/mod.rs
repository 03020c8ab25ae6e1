//! Layered settings: compiled-in defaults, file, environment, flags; merged, checked, and made into the library's
//! [`ForwarderConfig`].
//!
//! What is refused names the key, the value unless it is or may be a secret, the layer and the rule, and all of it is
//! told at once.

mod convert;
mod flags;
mod keys;
mod layers;
mod lines;
mod notes;
mod problem;
pub mod show;
#[cfg(test)]
mod tests;
mod variables;

use std::path::PathBuf;

use sls_syslog_actors::config::{DeadLetterConfig, ForwarderConfig, SourceConfig};

pub use flags::{Flags, Layers};
pub use problem::Problem;
pub use show::{ConfigCommand, report, run_command};

pub use layers::{Merged, World};

/// Everything that the process was told.
#[derive(Debug)]
pub struct Settings {
    /// For the library.
    pub forwarder: ForwarderConfig,
    /// For the process's own log.
    pub log: LogSettings,
    /// What an operator should know at start, each once.
    pub notes: Vec<String>,
}

/// The process's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Lowest level that is written.
    pub level: slog::Level,
    /// How lines look.
    pub format: LogFormat,
    /// Where lines go beside stderr.
    pub file: Option<LogFileSettings>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: slog::Level::Info, format: LogFormat::Terminal, file: None }
    }
}

/// The log's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFileSettings {
    /// Where it is.
    pub path: PathBuf,
    /// The size at which a new one is begun; none if somebody else does that.
    pub max_bytes: Option<u64>,
    /// Old files that are kept.
    pub files: u32,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Terminal,
    /// One JSON object a line.
    Json,
}

/// Reads all layers of the real world.
///
/// # Errors
/// Everything that is refused; nothing has been started.
pub fn load(flags: &Layers) -> Result<Settings, Vec<Problem>> {
    load_from(flags, &World::real()).1
}

/// The dead letter, whatever is wrong with the other sections.
///
/// # Errors
/// What is wrong with this one.
pub fn load_dead_letter(flags: &Layers) -> Result<DeadLetterConfig, Vec<Problem>> {
    let (_, settings, problems) = read(flags, &World::real());
    let problems: Vec<_> = problems.into_iter().filter(|problem| problem.is_in("dead_letter")).collect();
    if problems.is_empty() { Ok(settings.forwarder.dead_letter) } else { Err(problems) }
}

/// Everything but the source, which need not be known to send what is here already.
///
/// # Errors
/// Everything that is refused of the other sections.
pub fn load_for_resend(flags: &Layers) -> Result<Settings, Vec<Problem>> {
    let (_, settings, problems) = read(flags, &World::real());
    let problems: Vec<_> = problems.into_iter().filter(|problem| !problem.is_in("source")).collect();
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// The source alone, for what delivers nothing: what is wrong or missing elsewhere does not matter.
///
/// # Errors
/// Everything that is refused of the source.
pub fn load_source(flags: &Layers) -> Result<SourceConfig, Vec<Problem>> {
    let (_, settings, problems) = read(flags, &World::real());
    let elsewhere = |problem: &Problem| ["destination", "dead_letter"].iter().any(|section| problem.is_in(section));
    let problems: Vec<_> = problems.into_iter().filter(|problem| !elsewhere(problem)).collect();
    if problems.is_empty() { Ok(settings.forwarder.source) } else { Err(problems) }
}

/// The merged values, also where they are refused, and what follows from them. Of no other world than this one.
pub fn load_from(flags: &Layers, world: &World) -> (Merged, Result<Settings, Vec<Problem>>) {
    let (merged, settings, problems) = read(flags, world);
    (merged, if problems.is_empty() { Ok(settings) } else { Err(problems) })
}

/// Merges and converts; where something is refused, its place holds something else.
fn read(flags: &Layers, world: &World) -> (Merged, Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let merged = layers::merge(flags, world, &mut problems);
    let settings = convert::convert(&merged, &mut problems);
    (merged, settings, problems)
}
