//! `[destination]`: the receiver, the message, the confirmation.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::error::{ConfigError, check_duration, check_range};
use super::style::MessageStyle;
use super::text::render_duration;

/// The receiver: transport, message, confirmation.
#[derive(Debug, Clone)]
pub struct DestinationConfig {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// UDP, TCP, TLS or RELP.
    pub protocol: Protocol,
    /// How messages are told apart on a stream.
    pub framing: Framing,
    /// Separator of the key=value pairs.
    pub sep: String,
    /// Whether `sep`, `=` and `\` in keys and values are escaped.
    pub kv_escape: bool,
    /// What happens to line breaks in the message.
    pub newlines: NewlinePolicy,
    /// Limit for connect, handshake, and bytes that stay unacknowledged.
    pub timeout: Duration,
    /// Syslog facility, 0 to 23.
    pub facility: u8,
    /// Syslog severity, 0 to 7.
    pub severity: u8,
    /// HOSTNAME of the messages.
    pub hostname: String,
    /// APP-NAME of the messages, `-` if none. In RFC 3164 their TAG, and `sls` if none.
    pub tag: String,
    /// How messages are written otherwise.
    pub style: MessageStyle,
    /// Whether and where messages say which log they stand for.
    pub origin: OriginStamp,
    /// Offset of the TIMESTAMP from UTC, in minutes; 0 is written as `Z`.
    pub utc_offset_minutes: i32,
    /// When a batch counts as delivered.
    pub confirmation: Confirmation,
    /// How long a new connection has to stand open before it confirms anything; zero switches the rule off.
    pub confirm_after_connect: Duration,
    /// Longest message, in bytes; longer ones are cut at a character border.
    pub max_message_bytes: Option<usize>,
    /// Pace, in messages a second for the process; waits, never drops.
    pub max_messages_per_second: Option<u32>,
    /// Connections per worker; a shard stays on one.
    pub connections: usize,
    /// Shortest and longest pause between connection attempts.
    pub reconnect: (Duration, Duration),
    /// Messages that a RELP session may have unanswered.
    pub relp_window: usize,
    /// TLS, used when `protocol` is `tls` or `relp+tls`.
    pub tls: TlsConfig,
}

/// Transport to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 5426, one message a datagram.
    Udp,
    /// RFC 6587.
    Tcp,
    /// RFC 5425.
    Tls,
    /// rsyslog's Reliable Event Logging Protocol.
    Relp,
    /// The same inside TLS.
    RelpTls,
}

/// How messages are told apart in the bytes that formatters hand to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6587 3.4.1: `LEN SP MSG`. Also used, inside the process only, towards UDP sockets and RELP
    /// sessions.
    OctetCounting,
    /// RFC 6587 3.4.2 with LF.
    Lf,
    /// The same with NUL.
    Nul,
}

/// What happens to CR and LF in keys, values and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewlinePolicy {
    /// Written as the two characters `\n` (`\r`).
    Escape,
    /// Replaced by a space.
    Space,
    /// Kept; not with LF or NUL framing.
    Keep,
}

/// Where a message says which log it stands for: project, logstore, shard, cursor and index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginStamp {
    /// It does not.
    Off,
    /// In an element of STRUCTURED-DATA.
    StructuredData,
    /// In the first field of the payload.
    Field,
}

/// When a batch counts as delivered, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confirmation {
    /// Handed to the kernel (UDP).
    Sent,
    /// Accepted by the socket, no close or alert seen.
    Written,
    /// Acknowledged by the peer's TCP.
    TcpAcked,
    /// Answered with 200 by the receiver's application (RELP).
    AppAcked,
}

/// Trust and identity towards the receiver.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// PEM file of the certificate authorities (`cert_path`); the system's if none.
    pub ca_path: Option<PathBuf>,
    /// Name to check and to send as SNI, if not `host`.
    pub server_name: Option<String>,
    /// SHA-256 of the peer's certificate; replaces chain and name check.
    pub pin_sha256: Option<[u8; 32]>,
    /// PEM files of the client certificate chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Longest message that a UDP datagram over IPv4 holds.
pub const UDP_MAX_MESSAGE: usize = 65_507;

/// Most messages that a RELP session may have unanswered.
const MAX_RELP_WINDOW: usize = 65_536;

/// RFC 5424 6.1: what every receiver has to take.
const MIN_MAX_MESSAGE: usize = 480;

impl Protocol {
    /// Port where none is set.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 514,
            Self::Tls => 6514,
            Self::Relp | Self::RelpTls => 2514,
        }
    }

    /// Framing where none is set. UDP and RELP have none on the wire; their messages are framed inside the process alone.
    pub fn default_framing(self) -> Framing {
        match self {
            Self::Tcp => Framing::Lf,
            Self::Udp | Self::Tls | Self::Relp | Self::RelpTls => Framing::OctetCounting,
        }
    }

    /// The strongest confirmation that the transport has.
    pub fn default_confirmation(self) -> Confirmation {
        match self {
            Self::Udp => Confirmation::Sent,
            Self::Tcp | Self::Tls => Confirmation::TcpAcked,
            Self::Relp | Self::RelpTls => Confirmation::AppAcked,
        }
    }

    /// Whether all that is sent is encrypted.
    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Tls | Self::RelpTls => true,
            Self::Udp | Self::Tcp | Self::Relp => false,
        }
    }

    /// Whether there is a framing to choose.
    pub fn has_framing(self) -> bool {
        match self {
            Self::Tcp | Self::Tls => true,
            Self::Udp | Self::Relp | Self::RelpTls => false,
        }
    }

    /// The name that settings use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Relp => "relp",
            Self::RelpTls => "relp+tls",
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "udp" => Ok(Self::Udp),
            "tcp" => Ok(Self::Tcp),
            "tls" | "ssl" => Ok(Self::Tls),
            "relp" => Ok(Self::Relp),
            "relp+tls" => Ok(Self::RelpTls),
            _ => Err("is not udp, tcp, tls, relp or relp+tls".into()),
        }
    }
}

impl Framing {
    /// The name that settings use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OctetCounting => "octet-counting",
            Self::Lf => "lf",
            Self::Nul => "nul",
        }
    }
}

impl FromStr for Framing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().replace('_', "-").as_str() {
            "lf" => Ok(Self::Lf),
            "nul" => Ok(Self::Nul),
            "octet-counting" => Ok(Self::OctetCounting),
            _ => Err("is not lf, nul or octet-counting".into()),
        }
    }
}

impl NewlinePolicy {
    /// The name that settings use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Escape => "escape",
            Self::Space => "space",
            Self::Keep => "keep",
        }
    }
}

impl FromStr for NewlinePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "escape" => Ok(Self::Escape),
            "space" => Ok(Self::Space),
            "keep" => Ok(Self::Keep),
            _ => Err("is not escape, space or keep".into()),
        }
    }
}

impl OriginStamp {
    /// The name that settings use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::StructuredData => "structured-data",
            Self::Field => "field",
        }
    }
}

impl FromStr for OriginStamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().replace('_', "-").as_str() {
            "off" | "none" => Ok(Self::Off),
            "structured-data" => Ok(Self::StructuredData),
            "field" => Ok(Self::Field),
            _ => Err("is not off, structured-data or field".into()),
        }
    }
}

impl Confirmation {
    /// The name that settings use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Written => "written",
            Self::TcpAcked => "tcp_acked",
            Self::AppAcked => "app_acked",
        }
    }
}

impl FromStr for Confirmation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().replace('-', "_").as_str() {
            "sent" => Ok(Self::Sent),
            "written" => Ok(Self::Written),
            "tcp_acked" => Ok(Self::TcpAcked),
            "app_acked" => Ok(Self::AppAcked),
            _ => Err("is not sent, written, tcp_acked or app_acked".into()),
        }
    }
}

macro_rules! display_as_str {
    ($($name:ty),*) => {$(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

display_as_str!(Protocol, Framing, NewlinePolicy, OriginStamp, Confirmation);

impl DestinationConfig {
    /// A receiver with the sample's message: `user.info`, this machine's name, no tag, pairs separated by `||`; port,
    /// framing and confirmation are the protocol's own.
    pub fn new(host: impl Into<String>, protocol: Protocol) -> Self {
        let udp = protocol == Protocol::Udp;
        Self {
            host: host.into(),
            port: protocol.default_port(),
            protocol,
            framing: protocol.default_framing(),
            sep: "||".into(),
            kv_escape: false,
            newlines: NewlinePolicy::Escape,
            timeout: Duration::from_secs(120),
            facility: 1,
            severity: 6,
            hostname: Self::machine_name(),
            tag: "-".into(),
            style: MessageStyle::default(),
            origin: OriginStamp::Off,
            utc_offset_minutes: 0,
            confirmation: protocol.default_confirmation(),
            confirm_after_connect: Duration::from_secs(1),
            max_message_bytes: udp.then_some(UDP_MAX_MESSAGE),
            max_messages_per_second: udp.then_some(10_000),
            connections: 1,
            reconnect: (Duration::from_millis(500), Duration::from_secs(30)),
            relp_window: 1024,
            tls: TlsConfig::default(),
        }
    }

    /// This machine's name as HOSTNAME can carry it, `-` if there is none.
    pub fn machine_name() -> String {
        let name = gethostname::gethostname();
        let name: String = name.to_string_lossy().chars().filter(char::is_ascii_graphic).take(255).collect();
        if name.is_empty() { "-".into() } else { name }
    }

    /// Whether the receiver is this machine.
    pub fn is_loopback(&self) -> bool {
        super::source::is_loopback(&self.host)
    }

    pub(super) fn check(&self, problems: &mut Vec<ConfigError>) {
        self.check_address(problems);
        self.check_message(problems);
        self.check_style(problems);
        self.check_delivery(problems);
        self.check_tls(problems);
    }

    fn check_address(&self, problems: &mut Vec<ConfigError>) {
        let mut refuse = |key, what: String| problems.push(ConfigError::new(key, what));
        let host = &self.host;
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        if host.is_empty() {
            refuse("destination.host", "is empty".into());
        } else if host.contains("://") || host.contains(['/', '@']) {
            refuse("destination.host", "is not a host; write name or address alone".into());
        } else if !is_address && host.contains(':') {
            refuse("destination.host", "has a port; write it into destination.port".into());
        } else if !is_address
            && (host.len() > 253 || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)))
        {
            refuse("destination.host", "is neither a host name nor an address".into());
        }
        if self.port == 0 {
            refuse("destination.port", "0 is not between 1 and 65535".into());
        }
    }

    fn check_message(&self, problems: &mut Vec<ConfigError>) {
        let mut refuse = |key, what: String| problems.push(ConfigError::new(key, what));
        let control = |c: char| c.is_control() && c != '\t';
        if self.sep.is_empty() || self.sep.len() > 32 || self.sep.chars().any(control) {
            refuse(
                "destination.sep",
                "is not 1 to 32 bytes of text; a tab is the only control character allowed".into(),
            );
        }
        let in_a_stamp = |c: char| c.is_ascii_alphanumeric() || "-_.+/=".contains(c);
        if self.origin == OriginStamp::Field && !self.sep.is_empty() && self.sep.chars().all(in_a_stamp) {
            refuse(
                "destination.origin",
                "field contradicts destination.sep, which can occur in the stamp itself; set destination.origin to \
                 structured-data, or destination.sep to one with another character, such as ||"
                    .into(),
            );
        }
        let printable =
            |text: &str, longest| (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !printable(&self.hostname, 255) {
            refuse("destination.hostname", "is not 1 to 255 printable ASCII characters without spaces".into());
        }
        if !printable(&self.tag, 48) {
            refuse("destination.tag", "is not 1 to 48 printable ASCII characters without spaces; - means none".into());
        }
        if self.framing != Framing::OctetCounting && self.newlines == NewlinePolicy::Keep {
            let end = if self.framing == Framing::Nul { "NUL" } else { "line break" };
            refuse(
                "destination.newlines",
                format!(
                    "keep contradicts destination.framing = \"{}\", which ends a message at each {end}; set \
                     destination.newlines to escape or space, or destination.framing to octet-counting",
                    self.framing
                ),
            );
        }
        if !self.protocol.has_framing() && self.framing != Framing::OctetCounting {
            let why = match self.protocol {
                Protocol::Udp => "where a datagram is a message",
                _ => "which has frames of its own",
            };
            refuse("destination.framing", format!("has no meaning with {}, {why}; leave it out", self.protocol));
        }
        check_range(problems, "destination.facility", self.facility, 0, 23);
        check_range(problems, "destination.severity", self.severity, 0, 7);
        check_range(problems, "destination.utc_offset", self.utc_offset_minutes, -18 * 60, 18 * 60);
        match (self.max_message_bytes, self.protocol) {
            (Some(bytes), _) if bytes < MIN_MAX_MESSAGE => problems.push(ConfigError::new(
                "destination.max_message_bytes",
                format!("{bytes} is less than {MIN_MAX_MESSAGE}, which every receiver has to take; raise it"),
            )),
            (Some(bytes), Protocol::Udp) if bytes > UDP_MAX_MESSAGE => problems.push(ConfigError::new(
                "destination.max_message_bytes",
                format!("{bytes} is more than a UDP datagram holds; lower it to {UDP_MAX_MESSAGE}"),
            )),
            (None, Protocol::Udp) => problems.push(ConfigError::new(
                "destination.max_message_bytes",
                format!("no limit is more than a UDP datagram holds; lower it to {UDP_MAX_MESSAGE}"),
            )),
            _ => {}
        }
    }

    fn check_delivery(&self, problems: &mut Vec<ConfigError>) {
        let seconds = Duration::from_secs;
        check_duration(problems, "destination.timeout", self.timeout, Duration::from_millis(100), seconds(3600));
        let wrong_level = match (self.protocol, self.confirmation) {
            (Protocol::Udp, Confirmation::Written | Confirmation::TcpAcked | Confirmation::AppAcked) => Some(
                "cannot be had with udp, which confirms nothing; set destination.confirmation to sent, or \
                 destination.protocol to tcp or tls",
            ),
            (Protocol::Tcp | Protocol::Tls, Confirmation::Sent) => {
                Some("is udp's level; set destination.confirmation to tcp_acked or written")
            }
            (Protocol::Tcp | Protocol::Tls, Confirmation::AppAcked) => Some(
                "needs answers, which only relp has; set destination.confirmation to tcp_acked, or \
                 destination.protocol to relp or relp+tls",
            ),
            (
                Protocol::Relp | Protocol::RelpTls,
                Confirmation::Sent | Confirmation::Written | Confirmation::TcpAcked,
            ) => Some(
                "is not relp's level, whose receivers answer every message; set destination.confirmation to app_acked \
                 or leave it out",
            ),
            _ => None,
        };
        if let Some(why) = wrong_level {
            problems.push(ConfigError::new("destination.confirmation", format!("{} {why}", self.confirmation)));
        }
        if matches!(self.protocol, Protocol::Tcp | Protocol::Tls) && self.confirm_after_connect >= self.timeout {
            problems.push(ConfigError::new(
                "destination.confirm_after_connect",
                format!(
                    "{} is not shorter than destination.timeout, {}: nothing would be confirmed in time; lower \
                     destination.confirm_after_connect or raise destination.timeout",
                    render_duration(self.confirm_after_connect),
                    render_duration(self.timeout)
                ),
            ));
        }
        if self.max_messages_per_second == Some(0) {
            problems.push(ConfigError::new("destination.max_messages_per_second", "a pace of 0 sends nothing"));
        }
        check_range(problems, "destination.connections", self.connections, 1, 64);
        check_range(problems, "destination.relp.window", self.relp_window, 1, MAX_RELP_WINDOW);
        let (shortest, longest) = self.reconnect;
        check_duration(problems, "destination.reconnect_min", shortest, Duration::from_millis(10), seconds(600));
        check_duration(problems, "destination.reconnect_max", longest, Duration::from_millis(10), seconds(3600));
        if shortest > longest {
            problems.push(ConfigError::new(
                "destination.reconnect_min",
                format!(
                    "{} is more than destination.reconnect_max, {}; lower the one or raise the other",
                    render_duration(shortest),
                    render_duration(longest)
                ),
            ));
        }
    }

    fn check_tls(&self, problems: &mut Vec<ConfigError>) {
        if self.protocol.is_encrypted() {
            if let Some(name) = &self.tls.server_name
                && (name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)))
            {
                problems.push(ConfigError::new("destination.tls.server_name", "is neither a host name nor an address"));
            }
            return;
        }
        let set = [
            ("destination.cert_path", self.tls.ca_path.is_some()),
            ("destination.tls.server_name", self.tls.server_name.is_some()),
            ("destination.tls.pin_sha256", self.tls.pin_sha256.is_some()),
            ("destination.tls.client_cert", self.tls.client.is_some()),
        ];
        let encrypted = if self.protocol == Protocol::Relp { Protocol::RelpTls } else { Protocol::Tls };
        // Whoever writes one of these believes the connection to be encrypted.
        for (key, _) in set.iter().filter(|(_, set)| *set) {
            problems.push(ConfigError::new(
                key,
                format!(
                    "is set, but {} is not encrypted; set destination.protocol to {encrypted} or leave it out",
                    self.protocol
                ),
            ));
        }
    }
}
