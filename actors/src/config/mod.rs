//! Validated settings: what the actors are told. Reading files and the environment is the product's business.
//!
//! Every struct here is the result of a conversion that can refuse; a value that exists is a value that works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::model::cursor::StartPosition;

/// Everything a forwarder is told.
#[derive(Debug, Clone)]
pub struct ForwarderConfig {
    /// The logstore to consume.
    pub source: SourceConfig,
    /// The receiver to deliver to.
    pub destination: DestinationConfig,
    /// How many messages each actor's mailbox holds; credits follow from them.
    pub mailbox: MailboxConfig,
    /// Bounds on memory and threads.
    pub limits: LimitsConfig,
    /// How often the summary line is written while logs flow; once a minute when idle.
    pub summary_interval: Duration,
}

/// The logstore, the consumer group and the pace.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// `https` or `http`, host and port of SLS, without the project.
    pub endpoint: Endpoint,
    /// Address to connect to when it is not the one that the host name resolves to (`host:port`).
    pub connect: Option<SocketAddr>,
    /// PEM file of the certificate authorities to trust for SLS instead of the system's.
    pub ca_path: Option<PathBuf>,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Consumer group; created if it does not exist.
    pub consumer_group: String,
    /// Name of this consumer, unique among living processes of the group.
    pub consumer_name: String,
    /// Access key and token.
    pub credentials: Credentials,
    /// Signature version, with the region that V4 needs.
    pub signature: Signature,
    /// Where a new group begins.
    pub cursor_start_time: StartPosition,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Timeout of a group that we create, in whole seconds.
    pub group_timeout_s: u32,
    /// Whether a group that we create consumes parents before children.
    pub in_order: bool,
    /// Whether an existing group's settings are changed to ours.
    pub manage_group: bool,
    /// Longest pause between two pulls of an idle shard.
    pub data_fetch_interval: Duration,
    /// Log groups asked for per pull, 1 to 1000.
    pub max_log_groups: u32,
    /// Total time one request may take.
    pub request_timeout: Duration,
    /// Time between commits of one shard.
    pub commit_interval: Duration,
    /// Time that draining a shard and its last commit may take together.
    pub drain_timeout: Duration,
}

/// Scheme, host and port of an SLS endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is used.
    pub https: bool,
    /// Host name or IP address, without the project.
    pub host: String,
    /// Port, where it is not the scheme's own.
    pub port: Option<u16>,
}

/// Access key, secret and optional STS token.
#[derive(Clone)]
pub struct Credentials {
    /// AccessKey id.
    pub access_key_id: String,
    /// AccessKey secret.
    pub access_key_secret: SecretString,
    /// STS token.
    pub security_token: Option<SecretString>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Which signature requests carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// `LOG id:base64(HMAC-SHA1)`.
    V1,
    /// `SLS4-HMAC-SHA256`, bound to a region.
    V4 {
        /// Region id, for example `cn-hangzhou`.
        region: String,
    },
}

/// The receiver: transport, message, confirmation.
#[derive(Debug, Clone)]
pub struct DestinationConfig {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// UDP, TCP or TLS.
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
    /// APP-NAME of the messages, `-` if none.
    pub tag: String,
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
    /// TLS, used when `protocol` is `tls`.
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
}

/// How messages are told apart in the bytes that formatters hand to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6587 3.4.1: `LEN SP MSG`. Also used, inside the process only, towards UDP sockets.
    OctetCounting,
    /// RFC 6587 3.4.2 with LF.
    Lf,
}

/// What happens to CR and LF in keys, values and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewlinePolicy {
    /// Written as the two characters `\n` (`\r`).
    Escape,
    /// Replaced by a space.
    Space,
    /// Kept; not with LF framing.
    Keep,
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

/// Mailbox capacities, in messages. They are the depth of the pipeline: see each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxConfig {
    /// Control messages of the Coordinator.
    pub coordinator: usize,
    /// Control messages and settlements of each ShardFetcher.
    pub fetcher: usize,
    /// Batches in flight per worker.
    pub formatter: usize,
    /// Unconfirmed pieces per connection.
    pub connection: usize,
}

/// Memory and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Bytes of bodies, raw log groups and frames held at once, over all workers.
    pub bytes_in_flight: usize,
    /// Worker threads.
    pub workers: usize,
    /// Largest frame buffer ("piece"), in bytes; one longer message goes alone.
    pub piece_bytes: usize,
}
