//! `[source]`: SLS, the consumer group and the pace.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::error::{ConfigError, check_duration, check_range};
use super::text::render_duration;
use crate::model::cursor::StartPosition;

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
    /// How SLS is asked to compress what is pulled.
    pub compression: PullCompression,
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

/// How SLS is asked to compress what is pulled; it may answer with another one all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullCompression {
    /// LZ4, which costs the least time.
    #[default]
    Lz4,
    /// Zstandard, which costs the fewest bytes.
    Zstd,
}

impl std::str::FromStr for PullCompression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err("is not lz4 or zstd".into()),
        }
    }
}

impl Endpoint {
    /// Reads an endpoint as users write it: with or without scheme, public or internal, name or address, with port, with
    /// a trailing slash. Without scheme it is https for `*.aliyuncs.com`, else http.
    ///
    /// # Errors
    /// What is wrong, without repeating a user part.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |what: String| Err(ConfigError::new(ENDPOINT, what));
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        if rest.contains('@') {
            return refuse(
                "has a user part; keys belong into source.access_key_id and source.access_key_secret".into(),
            );
        }
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() {
            return refuse("is empty; write the region's endpoint, for example cn-hangzhou.log.aliyuncs.com".into());
        }
        if authority.contains(['/', '?', '#']) {
            return refuse("has a path; write host and port alone, for example cn-hangzhou.log.aliyuncs.com".into());
        }
        let (host, port) = split_port(authority)
            .ok_or_else(|| ConfigError::new(ENDPOINT, "has a port that is not a number from 1 to 65535"))?;
        let host = host.to_ascii_lowercase();
        let plausible = if host.starts_with('[') {
            // The project goes in front of the host, which no IPv6 address allows.
            return refuse("is an IPv6 address; write a host name and the address into source.connect".into());
        } else {
            host.len() <= 253
                && host.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })
        };
        if !plausible {
            return refuse("is not a host name; write for example cn-hangzhou.log.aliyuncs.com".into());
        }
        let https = match scheme.as_deref() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return refuse("has a scheme that is neither https nor http".into()),
            None => host.ends_with(".aliyuncs.com"),
        };
        Ok(Self { https, host, port })
    }

    /// The region that the host name tells, where it does: `cn-hangzhou` for `cn-hangzhou-intranet.log.aliyuncs.com`.
    pub fn region(&self) -> Option<&str> {
        let label =
            self.host.strip_suffix(".log.aliyuncs.com").or_else(|| self.host.strip_suffix(".sls.aliyuncs.com"))?;
        let region = ["-intranet", "-share", "-vpc"].iter().find_map(|s| label.strip_suffix(s)).unwrap_or(label);
        (!region.is_empty() && !region.contains('.')).then_some(region)
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Whether a host name or address means this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Host and port of `host:port`; `None` if the port is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let name_end = if authority.starts_with('[') { authority.find(']').map_or(0, |i| i + 1) } else { 0 };
    match authority[name_end..].rfind(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(name_end + colon);
            let port: u16 = port[1..].parse().ok().filter(|&port| port != 0)?;
            Some((host, Some(port)))
        }
    }
}

const ENDPOINT: &str = "source.endpoint";

impl Credentials {
    /// An access key, without token.
    pub fn new(access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            access_key_secret: SecretString::from(access_key_secret.into()),
            security_token: None,
        }
    }
}

impl SourceConfig {
    /// Heartbeat interval of the sample.
    const HEARTBEAT: Duration = Duration::from_secs(20);

    /// Shortest heartbeat interval.
    pub const MIN_HEARTBEAT: Duration = Duration::from_millis(100);

    /// A source with the sample's pace: heartbeat 20 s, group timeout 40 s, from the oldest log, any order.
    ///
    /// # Errors
    /// The endpoint is not one; everything else is left to [`super::ForwarderConfig::validate`].
    pub fn new(
        endpoint: &str,
        project: impl Into<String>,
        logstore: impl Into<String>,
        consumer_group: impl Into<String>,
        credentials: Credentials,
    ) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::parse(endpoint)?;
        let consumer_group = consumer_group.into();
        Ok(Self {
            signature: Signature::automatic(&endpoint, None),
            endpoint,
            connect: None,
            ca_path: None,
            project: project.into(),
            logstore: logstore.into(),
            consumer_name: Self::unique_consumer_name(&consumer_group),
            consumer_group,
            credentials,
            cursor_start_time: StartPosition::Begin,
            heartbeat_interval: Self::HEARTBEAT,
            group_timeout_s: Self::group_timeout_for(Self::HEARTBEAT),
            in_order: false,
            manage_group: false,
            data_fetch_interval: Duration::from_secs(1),
            max_log_groups: 1000,
            compression: PullCompression::default(),
            request_timeout: Duration::from_secs(60),
            commit_interval: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(25),
        })
    }

    /// Twice the heartbeat interval in whole seconds, rounded up, at least 1.
    pub fn group_timeout_for(heartbeat_interval: Duration) -> u32 {
        let seconds = (heartbeat_interval * 2).as_nanos().div_ceil(1_000_000_000);
        u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
    }

    /// `<group>-<host>-<pid>-<random>`: two processes never share it, not even in two containers with the same pid.
    pub fn unique_consumer_name(consumer_group: &str) -> String {
        let host = gethostname::gethostname();
        let host: String = host.to_string_lossy().chars().filter(char::is_ascii_graphic).take(63).collect();
        format!("{consumer_group}-{host}-{}-{:08x}", std::process::id(), fastrand::u32(..))
    }

    pub(super) fn check(&self, problems: &mut Vec<ConfigError>) {
        self.check_names(problems);
        let seconds = Duration::from_secs;
        check_duration(
            problems,
            "source.heartbeat_interval",
            self.heartbeat_interval,
            Self::MIN_HEARTBEAT,
            seconds(1800),
        );
        check_range(problems, "source.group_timeout", self.group_timeout_s, 1, 86_400);
        let timeout = seconds(self.group_timeout_s.into());
        if self.heartbeat_interval * 2 > timeout {
            problems.push(ConfigError::new(
                "source.heartbeat_interval",
                format!(
                    "{} is more than half of source.group_timeout, {}: one late heartbeat would lose the shards; \
                     lower source.heartbeat_interval to {} or raise source.group_timeout to {} s",
                    render_duration(self.heartbeat_interval),
                    render_duration(timeout),
                    render_duration(timeout / 2),
                    Self::group_timeout_for(self.heartbeat_interval)
                ),
            ));
        }
        let instant = Duration::from_millis(10);
        check_duration(problems, "source.data_fetch_interval", self.data_fetch_interval, instant, seconds(60));
        check_range(problems, "source.max_log_groups", self.max_log_groups, 1, 1000);
        check_duration(problems, "source.request_timeout", self.request_timeout, seconds(1), seconds(600));
        check_duration(problems, "source.commit_interval", self.commit_interval, instant, seconds(3600));
        check_duration(problems, "source.drain_timeout", self.drain_timeout, instant, seconds(600));
    }

    fn check_names(&self, problems: &mut Vec<ConfigError>) {
        check_name(problems, "source.project", &self.project);
        check_name(problems, "source.logstore", &self.logstore);
        check_name(problems, "source.consumer_group", &self.consumer_group);
        let name = &self.consumer_name;
        if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
            problems.push(ConfigError::new(
                "source.consumer_name",
                "is empty, longer than 256 bytes or has control characters; leave it out for a unique one",
            ));
        }
        if !self.project.is_empty()
            && let Some(rest) = self.endpoint.host.strip_prefix(&format!("{}.", self.project))
        {
            problems.push(ConfigError::new(
                ENDPOINT,
                format!("contains the project, which is put in front by itself; write {rest}"),
            ));
        }
        let credentials = &self.credentials;
        if credentials.access_key_id.is_empty() || !credentials.access_key_id.bytes().all(|b| b.is_ascii_graphic()) {
            problems.push(ConfigError::new("source.access_key_id", "is empty or has characters that no key has"));
        }
        if let Signature::V4 { region } = &self.signature
            && (region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        {
            problems.push(ConfigError::new("source.region", "is no region; write for example cn-hangzhou"));
        }
    }
}

impl Signature {
    /// V4 where the region is given or told by the endpoint, else V1.
    pub fn automatic(endpoint: &Endpoint, region: Option<&str>) -> Self {
        match region.or(endpoint.region()) {
            Some(region) => Self::V4 { region: region.to_owned() },
            None => Self::V1,
        }
    }
}

/// Names travel in host names and paths. The service has the last word on its own, stricter rules.
fn check_name(problems: &mut Vec<ConfigError>, key: &'static str, name: &str) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() {
        problems.push(ConfigError::new(key, "is empty"));
    } else if name.len() > 128 || !name.bytes().all(allowed) {
        problems.push(ConfigError::new(key, "is not made of 1 to 128 letters, digits, hyphens and underscores"));
    }
}
