//! How a message is written where standards leave a choice, and the preset that writes what the Python sample wrote.

use std::str::FromStr;

use super::destination::OriginStamp;
use super::destination::{DestinationConfig, Framing, NewlinePolicy, Protocol};
use super::error::ConfigError;

/// How messages are written. The default is strict RFC 5424.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageStyle {
    /// Which of the two standards.
    pub syslog: SyslogForm,
    /// How TIMESTAMP is written; RFC 3164 has its own.
    pub timestamp: TimestampStyle,
    /// Whether STRUCTURED-DATA is written, `-` where there is none; RFC 3164 has none.
    pub structured_data: bool,
    /// What happens to bytes of a log that are no UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// Whether `__time_ns_part__` is written as the Python tuple that the sample made of it.
    pub legacy_ns_tuple: bool,
    /// Whether a datagram ends with a line feed; UDP only.
    pub final_lf: bool,
}

/// The standard that a message follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyslogForm {
    /// `<14>1 2026-01-02T03:04:05Z host app - - - msg`.
    Rfc5424,
    /// `<14>Jan  2 03:04:05 host tag: msg`, with neither year nor zone.
    Rfc3164,
}

/// How the TIMESTAMP of RFC 5424 is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampStyle {
    /// As the RFC has it: six digits where the log has nanoseconds, `Z`, or an offset with colon.
    Rfc5424,
    /// As the sample meant it: always six zeros, and an offset without colon; `Z` for UTC.
    Sample,
    /// As the sample wrote it: the same, but the offset is rounded to hours that are counted eastwards only, so that
    /// UTC is `+2400`.
    SampleExact,
}

/// What happens to bytes that are no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidUtf8 {
    /// They become U+FFFD.
    Replace,
    /// They are left out.
    Drop,
}

impl Default for MessageStyle {
    fn default() -> Self {
        Self {
            syslog: SyslogForm::Rfc5424,
            timestamp: TimestampStyle::Rfc5424,
            structured_data: true,
            invalid_utf8: InvalidUtf8::Replace,
            legacy_ns_tuple: false,
            final_lf: false,
        }
    }
}

impl DestinationConfig {
    /// Writes what the Python sample of the help page wrote, where that was not wrong: no STRUCTURED-DATA, its
    /// timestamps with the right offset, bytes that are no UTF-8 left out, LF framing; over UDP line breaks are kept, and
    /// a line feed ends each datagram. Each of these is a field that can be set otherwise afterwards.
    pub fn imitate_python_sample(&mut self) {
        let udp = self.protocol == Protocol::Udp;
        self.style = MessageStyle {
            timestamp: TimestampStyle::Sample,
            structured_data: false,
            invalid_utf8: InvalidUtf8::Drop,
            final_lf: udp,
            ..MessageStyle::default()
        };
        if self.protocol.has_framing() {
            self.framing = Framing::Lf;
        }
        if udp {
            self.newlines = NewlinePolicy::Keep;
        }
    }

    pub(super) fn check_style(&self, problems: &mut Vec<ConfigError>) {
        let mut refuse = |key, what: String| problems.push(ConfigError::new(key, what));
        if self.origin == OriginStamp::StructuredData {
            if self.style.syslog == SyslogForm::Rfc3164 {
                refuse(
                    "destination.origin",
                    "structured-data contradicts destination.syslog = \"rfc3164\", which has none; set \
                     destination.origin to field, or destination.syslog to rfc5424"
                        .into(),
                );
            } else if !self.style.structured_data {
                refuse(
                    "destination.origin",
                    "structured-data contradicts destination.structured_data = false; set destination.origin to field, \
                     or destination.structured_data to true"
                        .into(),
                );
            }
        }
        if self.style.syslog == SyslogForm::Rfc3164 && (self.tag.len() > 32 || self.tag.contains([':', '[', ']'])) {
            refuse(
                "destination.tag",
                "is no TAG of RFC 3164, which has at most 32 characters and is ended by : and [; shorten it, or set \
                 destination.syslog to rfc5424"
                    .into(),
            );
        }
        if self.style.final_lf && self.protocol != Protocol::Udp {
            refuse(
                "destination.final_lf",
                format!("has no meaning with {}, only with udp; leave it out", self.protocol),
            );
        }
    }
}

macro_rules! names {
    ($type:ty, $rule:literal, $($name:literal => $value:path),+) => {
        impl $type {
            /// The name that settings use.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($value => $name),+
                }
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text.trim().to_ascii_lowercase().replace('_', "-").as_str() {
                    $($name => Ok($value),)+
                    _ => Err($rule.into()),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names!(SyslogForm, "is not rfc5424 or rfc3164", "rfc5424" => Self::Rfc5424, "rfc3164" => Self::Rfc3164);
names!(
    TimestampStyle,
    "is not rfc5424, sample or sample-exact",
    "rfc5424" => Self::Rfc5424,
    "sample" => Self::Sample,
    "sample-exact" => Self::SampleExact
);
names!(InvalidUtf8, "is not replace or drop", "replace" => Self::Replace, "drop" => Self::Drop);
