//! Validated settings: what the actors are told. Reading files and the environment is the product's business.
//!
//! A constructor takes what has no default and fills in the rest; fields are then set freely and
//! [`ForwarderConfig::validate`] has the last word: a configuration that passes it is one that works. Each refusal is a
//! [`ConfigError`] that names the key as an operator writes it and says what to change.

mod dead_letter;
mod destination;
mod error;
mod limits;
mod source;
mod style;
mod text;

use std::time::Duration;

pub use dead_letter::DeadLetterConfig;
pub use destination::{
    Confirmation, DestinationConfig, Framing, NewlinePolicy, OriginStamp, Protocol, TlsConfig, UDP_MAX_MESSAGE,
};
pub use error::ConfigError;
pub use limits::{LimitsConfig, MIN_BYTES_PER_WORKER, MailboxConfig};
pub use source::{Credentials, Endpoint, PullCompression, Signature, SourceConfig};
pub use style::{InvalidUtf8, MessageStyle, SyslogForm, TimestampStyle};
pub use text::{
    StartTime, parse_duration, parse_facility, parse_fingerprint, parse_severity, parse_size, parse_start_time,
    parse_utc_offset, render_duration, render_size,
};

/// Everything a forwarder is told.
#[derive(Debug, Clone)]
pub struct ForwarderConfig {
    /// The logstore to consume.
    pub source: SourceConfig,
    /// The receiver to deliver to.
    pub destination: DestinationConfig,
    /// Where logs are kept that the receiver does not take.
    pub dead_letter: DeadLetterConfig,
    /// How many messages each actor's mailbox holds; credits follow from them.
    pub mailbox: MailboxConfig,
    /// Bounds on memory and threads.
    pub limits: LimitsConfig,
    /// How often the summary line is written while logs flow; once a minute when idle.
    pub summary_interval: Duration,
}

impl ForwarderConfig {
    /// The defaults for everything that is not about source and destination.
    pub fn new(source: SourceConfig, destination: DestinationConfig) -> Self {
        Self {
            source,
            destination,
            dead_letter: DeadLetterConfig::default(),
            mailbox: MailboxConfig::default(),
            limits: LimitsConfig::default(),
            summary_interval: Duration::from_secs(10),
        }
    }

    /// Whether this works; the first of [`ForwarderConfig::problems`] if not.
    ///
    /// # Errors
    /// The first of [`ForwarderConfig::problems`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that does not fit: values out of range and settings that contradict each other.
    pub fn problems(&self) -> Vec<ConfigError> {
        let mut problems = Vec::new();
        self.source.check(&mut problems);
        self.destination.check(&mut problems);
        self.dead_letter.check(&mut problems);
        self.mailbox.check(&mut problems);
        self.limits.check(&mut problems);
        error::check_duration(
            &mut problems,
            "log.summary_interval",
            self.summary_interval,
            Duration::from_secs(1),
            Duration::from_secs(86_400),
        );
        problems
    }
}

#[cfg(test)]
mod tests;
