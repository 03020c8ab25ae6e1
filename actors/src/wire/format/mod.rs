//! Payload formats: log groups in, framed syslog messages out. One hot file per format.
//!
//! A [`Renderer`] is compiled once from the settings and renders body after body in pieces of bounded size. What a
//! message carries, and how text is made safe for a frame, is in [`key_value`] and [`text`].

mod careful;
pub mod key_value;
#[cfg(test)]
mod tests;
pub mod text;

use crate::config::{DestinationConfig, Framing, NewlinePolicy};
use crate::wire::sls::log_group::Malformed;

pub use key_value::{Position, Renderer};

/// What the messages of a destination look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderSettings {
    /// Facility, 0 to 23.
    pub facility: u8,
    /// Severity, 0 to 7.
    pub severity: u8,
    /// HOSTNAME; cleaned as the RFC asks.
    pub hostname: String,
    /// APP-NAME; cleaned as the RFC asks.
    pub tag: String,
    /// Separator, written before each field.
    pub sep: String,
    /// Whether `sep`, `=` and `\` in keys and values are escaped.
    pub kv_escape: bool,
    /// What happens to CR, LF and NUL. `Keep` with LF framing escapes them all the same.
    pub newlines: NewlinePolicy,
    /// How messages are told apart.
    pub framing: Framing,
    /// Longest message, without its frame. The header is never cut.
    pub max_message_bytes: Option<usize>,
    /// Offset of the TIMESTAMP from UTC.
    pub utc_offset_minutes: i32,
}

impl From<&DestinationConfig> for RenderSettings {
    fn from(config: &DestinationConfig) -> Self {
        Self {
            facility: config.facility,
            severity: config.severity,
            hostname: config.hostname.clone(),
            tag: config.tag.clone(),
            sep: config.sep.clone(),
            kv_escape: config.kv_escape,
            newlines: config.newlines,
            framing: config.framing,
            max_message_bytes: config.max_message_bytes,
            utc_offset_minutes: config.utc_offset_minutes,
        }
    }
}

/// What one call of [`Renderer::render`] wrote, and what it had to do to the logs for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rendered {
    /// Messages written.
    pub messages: u32,
    /// Logs that these messages stand for.
    pub logs: u64,
    /// Log groups whose end was reached.
    pub log_groups: u32,
    /// Whether the end of the body was reached.
    pub done: bool,
    /// Messages in which something was altered: invalid UTF-8, line breaks, cut, or a content named `__time__` left out.
    pub altered: u64,
    /// Messages cut to `max_message_bytes`; also counted as altered.
    pub truncated: u64,
    /// Logs with the separator in a key or value, where it is not escaped.
    pub ambiguous: u64,
    /// Nanosecond parts out of range, which did not become part of the TIMESTAMP.
    pub bad_nanoseconds: u64,
}

/// A body that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Its bytes are no log group list.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}
