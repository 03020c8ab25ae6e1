//! Layered settings: compiled-in defaults, file, environment, flags; merged, checked, and made into the library's
//! [`ForwarderConfig`].
//!
//! What is refused names the key, the value unless it is or may be a secret, the layer and the rule, and all of it is
//! told at once.

mod convert;
mod flags;
mod keys;
mod layers;
mod notes;
mod problem;
mod show;
#[cfg(test)]
mod tests;

use sls_syslog_actors::config::ForwarderConfig;

pub use flags::{Flags, Layers};
pub use problem::Problem;
pub use show::{ConfigCommand, report, run_command};

use layers::{Merged, World};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Lowest level that is written.
    pub level: slog::Level,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: slog::Level::Info, format: LogFormat::Terminal }
    }
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

/// The merged values, also where they are refused, and what follows from them.
fn load_from(flags: &Layers, world: &World) -> (Merged, Result<Settings, Vec<Problem>>) {
    let mut problems = Vec::new();
    let merged = layers::merge(flags, world, &mut problems);
    let settings = convert::convert(&merged, &mut problems);
    let result = if problems.is_empty() { Ok(settings) } else { Err(problems) };
    (merged, result)
}
