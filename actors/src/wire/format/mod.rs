//! Payload formats: log groups in, framed syslog messages out. One file per format.
//!
//! A [`Renderer`] is compiled once from the settings and renders body after body in pieces of bounded size. The payload is
//! that of [`key_value`], unless [`RenderSettings::format`] brings another: a [`Format`] writes the payload of one log, and
//! the renderer does all the rest for it.

mod careful;
pub mod key_value;
mod keys;
pub mod origin;
mod own;
mod position;
mod shape;
#[cfg(test)]
mod style_tests;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use crate::config::{DestinationConfig, Framing, MessageStyle, NewlinePolicy, OriginStamp};
use crate::wire::sls::log_group::Malformed;

pub use key_value::Renderer;
pub use own::{Format, LogView};
pub use position::{Alone, Position};

/// Scratch memory that a renderer keeps between calls, in bytes.
const MAX_KEPT: usize = 1024 * 1024;

/// What the messages of a destination look like.
#[derive(Debug, Clone)]
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
    /// What happens to CR, LF and NUL. `Keep` with LF or NUL framing escapes them all the same.
    pub newlines: NewlinePolicy,
    /// How messages are told apart.
    pub framing: Framing,
    /// Longest message, without its frame. The header is never cut.
    pub max_message_bytes: Option<usize>,
    /// Offset of the TIMESTAMP from UTC.
    pub utc_offset_minutes: i32,
    /// Which standard, and what it leaves open.
    pub style: MessageStyle,
    /// The origin stamp, if messages carry one. In RFC 3164 a field, or nothing.
    pub origin: Option<OriginSettings>,
    /// What writes the payload in place of key=value. `sep` and `kv_escape` then only matter to gap records, which stay
    /// key=value, and to an origin stamp that is a field, which comes before the payload.
    pub format: Option<Arc<dyn Format>>,
}

/// What the origin stamps of all shards have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginSettings {
    /// Whether it is structured data or a field; nothing with `Off`.
    pub stamp: OriginStamp,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
}

impl RenderSettings {
    /// What messages of this destination look like, which stand for logs of this project and logstore: with the origin
    /// stamp, if it is set.
    pub fn new(config: &DestinationConfig, project: &str, logstore: &str) -> Self {
        let origin =
            OriginSettings { stamp: config.origin, project: project.to_owned(), logstore: logstore.to_owned() };
        Self { origin: (config.origin != OriginStamp::Off).then_some(origin), ..Self::from(config) }
    }
}

/// Without origin stamp, for which project and logstore have to be known.
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
            style: config.style,
            origin: None,
            format: None,
        }
    }
}

/// What one call of [`Renderer::render`] wrote, and what it had to do to the logs for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rendered {
    /// Messages written.
    pub messages: u32,
    /// Length of the longest frame among them, or more.
    pub longest: usize,
    /// Logs that these messages stand for.
    pub logs: u64,
    /// Log groups whose end was reached.
    pub log_groups: u32,
    /// Whether the end of the body was reached.
    pub done: bool,
    /// Messages in which something was altered: invalid UTF-8, line breaks, cut, or a content left out
    /// because it is named `__time__`, or as the origin stamp is.
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
