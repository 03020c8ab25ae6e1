//! Why a setting is refused.

use std::fmt;
use std::time::Duration;

use super::text::render_duration;

/// A refused setting: which key, and a sentence that says what to change. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct ConfigError {
    key: &'static str,
    what: String,
}

impl ConfigError {
    /// A refusal of `key` (`destination.port`), with its reason and remedy.
    pub fn new(key: &'static str, what: impl Into<String>) -> Self {
        Self { key, what: what.into() }
    }

    /// The key as an operator writes it.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The sentence, without the key.
    pub fn what(&self) -> &str {
        &self.what
    }
}

pub(super) fn check_range<T: PartialOrd + fmt::Display>(
    problems: &mut Vec<ConfigError>,
    key: &'static str,
    value: T,
    lowest: T,
    highest: T,
) {
    if value < lowest || value > highest {
        problems.push(ConfigError::new(key, format!("{value} is not between {lowest} and {highest}")));
    }
}

pub(super) fn check_duration(
    problems: &mut Vec<ConfigError>,
    key: &'static str,
    value: Duration,
    shortest: Duration,
    longest: Duration,
) {
    if value < shortest || value > longest {
        let what = format!(
            "{} is not between {} and {}",
            render_duration(value),
            render_duration(shortest),
            render_duration(longest)
        );
        problems.push(ConfigError::new(key, what));
    }
}
