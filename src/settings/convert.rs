//! From merged text and numbers to the library's types.

use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use config::{Value, ValueKind};
use secrecy::SecretString;
use sls_syslog_actors::config::{
    Credentials, DeadLetterConfig, DestinationConfig, Endpoint, ForwarderConfig, LimitsConfig, MailboxConfig, Protocol,
    Signature, SourceConfig, StartTime, SyslogForm, parse_duration, parse_facility, parse_fingerprint, parse_severity,
    parse_size, parse_start_time, parse_utc_offset,
};
use sls_syslog_actors::io::files::file_problems;

use super::keys::{self, KEYS};
use super::layers::{Merged, shown};
use super::notes;
use super::{LogFileSettings, LogFormat, LogSettings, Problem, Settings};

/// Longest secret or token that is believed.
const MAX_SECRET_FILE: u64 = 64 << 10;
/// Smallest size of a log file at which a new one may be begun.
const LEAST_LOG_FILE: usize = 4 << 10;

/// Converts everything, with placeholders for what is refused, so that all problems are found at once.
pub fn convert(merged: &Merged, problems: &mut Vec<Problem>) -> Settings {
    let mut reader = Reader { merged, problems };
    let readable_allowed = reader.flag("allow_readable_secrets").unwrap_or(false);
    if !readable_allowed {
        reader.refuse_readable_secrets();
    }
    let (source, start) = reader.source();
    let destination = reader.destination();
    let mut forwarder = ForwarderConfig::new(source, destination);
    forwarder.dead_letter = reader.dead_letter(readable_allowed);
    reader.rest(&mut forwarder);
    let log = reader.log();
    // Placeholders would be told as problems of their own.
    let refused = reader.problems.len();
    for error in forwarder.problems() {
        let told = reader.problems[..refused].iter().any(|problem| problem.is_about(error.key()));
        if !told {
            let problem = Problem::key(error.key(), error.what());
            let problem = reader.located(problem, error.key());
            reader.problems.push(problem);
        }
    }
    if reader.problems.is_empty() {
        for error in file_problems(&forwarder) {
            reader.refuse(error.key(), error.what());
        }
    }
    let mut notes = notes::start_notes(&forwarder);
    notes.extend(notes::unlike_the_sample(&forwarder, merged));
    notes.extend(notes::without_effect(&forwarder, &log, merged));
    notes.extend(merged.notes.iter().cloned());
    if start.is_some_and(|start| start.zone_assumed) {
        notes.push("source.cursor_start_time names no time zone and is read as UTC; add for example +08:00".to_owned());
    }
    Settings { forwarder, log, notes }
}

struct Reader<'a> {
    merged: &'a Merged,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn refuse(&mut self, key: &str, rule: impl Into<String>) {
        let problem = self.located(Problem::key(key, rule), key);
        self.problems.push(problem);
    }

    /// Adds origin and, where it may be shown, the value.
    fn located(&self, problem: Problem, key: &str) -> Problem {
        let Some(value) = self.merged.get(key) else { return problem };
        let problem = problem.of(value.origin().unwrap_or("default"));
        match printable_value(key, value) {
            Some(text) => problem.with_value(&text),
            None => problem,
        }
    }

    /// A scalar as text; lists are refused.
    fn scalar(&mut self, key: &str) -> Option<String> {
        let text = shown(&self.merged.get(key)?.kind);
        if text.is_none() {
            self.refuse(key, "is a list; write a single value");
        }
        text
    }

    /// Text that is meant to be text: a number here was probably meant for another key.
    fn text(&mut self, key: &str) -> Option<String> {
        let value = self.merged.get(key)?;
        match &value.kind {
            ValueKind::String(text) => Some(text.clone()),
            ValueKind::Array(_) => self.scalar(key),
            _ => {
                self.refuse(key, "is not text; put it in quotes");
                None
            }
        }
    }

    fn parsed<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.scalar(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.refuse(key, rule);
                None
            }
        }
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.parsed(key, |text| text.to_ascii_lowercase().parse().map_err(|_| "is not true or false".to_owned()))
    }

    /// A whole number; the library knows the same range and says so when a number is outside of it.
    fn count<T: TryFrom<u64>>(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<T> {
        let rule = || format!("is not a whole number from {} to {}", range.start(), range.end());
        self.parsed(key, |text| T::try_from(text.trim().parse().map_err(|_| rule())?).map_err(|_| rule()))
    }

    /// A number, or `none` for no limit.
    fn limit<T: TryFrom<u64>>(&mut self, key: &str, parse: fn(&str) -> Result<u64, String>) -> Option<Option<T>> {
        self.parsed(key, |text| {
            if text.trim().eq_ignore_ascii_case("none") {
                return Ok(None);
            }
            T::try_from(parse(text)?).map(Some).map_err(|_| "is too large".to_owned())
        })
    }

    fn duration(&mut self, key: &str, target: &mut Duration) {
        if let Some(value) = self.parsed(key, parse_duration) {
            *target = value;
        }
    }

    /// A file that can be read now; better told here than at the first connection.
    fn path(&mut self, key: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key)?);
        if let Err(error) = std::fs::File::open(&path) {
            self.refuse(key, format!("cannot be read: {error}"));
        }
        Some(path)
    }

    fn required(&mut self, name: &'static str) -> String {
        if let Some(text) = self.text(name) {
            return text;
        }
        if self.merged.get(name).is_none() {
            let key = keys::find(name).expect("a name from the table");
            let short = key.short.unwrap_or_default();
            let how =
                if key.secret { "or in a file".to_owned() } else { format!("in a file, or with --set {name}=...") };
            self.refuse(name, format!("is missing; set it as {short} in the environment, {how}"));
        }
        String::new()
    }

    fn source(&mut self) -> (SourceConfig, Option<StartTime>) {
        let endpoint = self.required("source.endpoint");
        if let (false, Err(error)) = (endpoint.is_empty(), Endpoint::parse(&endpoint)) {
            self.refuse("source.endpoint", error.what());
        }
        let (project, logstore) = (self.required("source.project"), self.required("source.logstore"));
        let group = self.required("source.consumer_group");
        let credentials = self.credentials();
        let mut source = SourceConfig::new(&endpoint, &project, &logstore, &group, credentials.clone())
            .or_else(|_| SourceConfig::new("localhost", project, logstore, group, credentials))
            .expect("localhost is an endpoint");
        if let Some(name) = self.text("source.consumer_name") {
            source.consumer_name = name;
        }
        source.connect = self.parsed("source.connect", |text| {
            text.trim().parse().map_err(|_| "is not an address with port such as 10.0.0.7:443".to_owned())
        });
        source.ca_path = self.path("source.ca_path");
        self.signature(&mut source);
        let start = self.parsed("source.cursor_start_time", parse_start_time);
        if let Some(start) = start {
            source.cursor_start_time = start.position;
        }
        self.duration("source.heartbeat_interval", &mut source.heartbeat_interval);
        source.group_timeout_s = match self.parsed("source.group_timeout", whole_seconds) {
            Some(seconds) => seconds,
            None => SourceConfig::group_timeout_for(source.heartbeat_interval),
        };
        source.in_order = self.flag("source.in_order").unwrap_or(source.in_order);
        source.manage_group = self.flag("source.manage_group").unwrap_or(source.manage_group);
        self.duration("source.data_fetch_interval", &mut source.data_fetch_interval);
        source.max_log_groups = self.count("source.max_log_groups", 1..=1000).unwrap_or(source.max_log_groups);
        source.compression = self.parsed("source.compression", str::parse).unwrap_or(source.compression);
        self.duration("source.request_timeout", &mut source.request_timeout);
        self.duration("source.commit_interval", &mut source.commit_interval);
        self.duration("source.drain_timeout", &mut source.drain_timeout);
        (source, start)
    }

    fn signature(&mut self, source: &mut SourceConfig) {
        let region = self.text("source.region");
        let automatic = Signature::automatic(&source.endpoint, region.as_deref());
        let wanted = self.text("source.signature").unwrap_or_default().to_ascii_lowercase();
        source.signature = match wanted.as_str() {
            "v1" => Signature::V1,
            "v4" if automatic == Signature::V1 => {
                self.refuse("source.signature", "needs source.region, which this endpoint does not tell; set it");
                automatic
            }
            "" | "auto" | "v4" => automatic,
            _ => {
                self.refuse("source.signature", "is not auto, v1 or v4");
                automatic
            }
        };
    }

    fn credentials(&mut self) -> Credentials {
        let id = self.required("source.access_key_id");
        let secret = self.secret("source.access_key_secret", "source.access_key_secret_file");
        if secret.is_none() {
            self.required("source.access_key_secret");
        }
        let mut credentials = Credentials::new(id.trim(), secret.unwrap_or_default());
        credentials.security_token =
            self.secret("source.security_token", "source.security_token_file").map(SecretString::from);
        credentials
    }

    /// A secret, or the content of the file that holds it.
    fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<String> {
        if self.merged.get(file_key).is_none() {
            return self.text(key);
        }
        if self.merged.get(key).is_some() {
            self.refuse(file_key, format!("is set beside {key}; remove one of them"));
            return Some(String::new());
        }
        let path = self.path(file_key)?;
        let read = std::fs::metadata(&path).and_then(|meta| {
            if meta.len() > MAX_SECRET_FILE {
                Err(std::io::Error::other("larger than 64 KiB"))
            } else {
                std::fs::read_to_string(&path)
            }
        });
        match read {
            Ok(text) if text.trim().is_empty() => self.refuse(file_key, "names an empty file"),
            Ok(text) => return Some(text.trim().to_owned()),
            // `path` has told of a file that cannot be opened.
            Err(error) if std::fs::File::open(&path).is_ok() => {
                self.refuse(file_key, format!("cannot be read: {error}"))
            }
            Err(_) => {}
        }
        Some(String::new())
    }

    /// U2 of the promises: a secret that everyone on the machine can read is none.
    fn refuse_readable_secrets(&mut self) {
        let readable =
            |path: &std::path::Path| std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0);
        let how = "chmod o= it, or set allow_readable_secrets = true";
        for key in ["source.access_key_secret_file", "source.security_token_file", "destination.tls.client_key"] {
            let path = self.merged.get(key).and_then(|value| shown(&value.kind)).map(PathBuf::from);
            if path.is_some_and(|path| readable(&path)) {
                self.refuse(key, format!("is a secret that everyone on this machine can read; {how}"));
            }
        }
        let Some(file) = self.merged.file.as_deref().filter(|path| readable(path)) else { return };
        let marker = format!(" in file {}", file.display());
        for key in KEYS.iter().filter(|key| key.secret && key.name != "source.access_key_id") {
            let in_file = self.merged.get(key.name).and_then(Value::origin).is_some_and(|o| o.contains(&marker));
            if in_file {
                self.refuse(key.name, format!("is a secret in a file that everyone on this machine can read; {how}"));
            }
        }
    }

    fn destination(&mut self) -> DestinationConfig {
        let host = self.required("destination.host");
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let protocol = match self.merged.get("destination.protocol") {
            Some(_) => self.parsed("destination.protocol", str::parse).unwrap_or(Protocol::Tcp),
            None => {
                self.required("destination.protocol");
                Protocol::Tcp
            }
        };
        let mut destination = DestinationConfig::new(host, protocol);
        if let Some(port) = self.parsed("destination.port", |text| {
            text.trim().parse::<u16>().ok().filter(|&p| p > 0).ok_or_else(|| "is not a port from 1 to 65535".to_owned())
        }) {
            destination.port = port;
        }
        self.style(&mut destination);
        if let Some(framing) = self.parsed("destination.framing", str::parse) {
            destination.framing = framing;
        }
        self.message(&mut destination);
        self.delivery(&mut destination);
        self.tls(&mut destination);
        destination
    }

    /// The preset, and then each of its parts that is set.
    fn style(&mut self, destination: &mut DestinationConfig) {
        let compat = self.parsed("destination.compat", |text| match text.trim().to_ascii_lowercase().as_str() {
            "none" => Ok(false),
            "python-sample" => Ok(true),
            _ => Err("is not none or python-sample".to_owned()),
        });
        let syslog = self.parsed("destination.syslog", str::parse);
        if compat == Some(true) {
            if syslog == Some(SyslogForm::Rfc3164) {
                let rule = "python-sample contradicts destination.syslog = \"rfc3164\": the sample wrote the other one; \
                            remove one of them";
                self.refuse("destination.compat", rule);
            }
            destination.imitate_python_sample();
        }
        if syslog == Some(SyslogForm::Rfc3164) && destination.hostname.parse::<std::net::IpAddr>().is_err() {
            // The RFC wants the name without its domain; one that is set stays as it is.
            let end = destination.hostname.find('.').filter(|end| *end > 0).unwrap_or(destination.hostname.len());
            destination.hostname.truncate(end);
        }
        let style = &mut destination.style;
        style.syslog = syslog.unwrap_or(style.syslog);
        style.timestamp = self.parsed("destination.timestamp", str::parse).unwrap_or(style.timestamp);
        style.invalid_utf8 = self.parsed("destination.invalid_utf8", str::parse).unwrap_or(style.invalid_utf8);
        for (key, target) in [
            ("destination.structured_data", &mut style.structured_data),
            ("destination.legacy_ns_tuple", &mut style.legacy_ns_tuple),
            ("destination.final_lf", &mut style.final_lf),
        ] {
            *target = self.flag(key).unwrap_or(*target);
        }
    }

    fn message(&mut self, destination: &mut DestinationConfig) {
        for (key, target) in [
            ("destination.sep", &mut destination.sep),
            ("destination.hostname", &mut destination.hostname),
            ("destination.tag", &mut destination.tag),
        ] {
            if let Some(text) = self.text(key) {
                *target = text;
            }
        }
        destination.kv_escape = self.flag("destination.kv_escape").unwrap_or(destination.kv_escape);
        if let Some(newlines) = self.parsed("destination.newlines", str::parse) {
            destination.newlines = newlines;
        }
        if let Some(origin) = self.parsed("destination.origin", str::parse) {
            destination.origin = origin;
        }
        destination.facility = self.parsed("destination.facility", parse_facility).unwrap_or(destination.facility);
        destination.severity = self.parsed("destination.severity", parse_severity).unwrap_or(destination.severity);
        if let Some(minutes) = self.parsed("destination.utc_offset", parse_utc_offset) {
            destination.utc_offset_minutes = minutes;
        }
        let size = |text: &str| parse_size(text).map(|size| size as u64);
        if let Some(limit) = self.limit("destination.max_message_bytes", size) {
            destination.max_message_bytes = limit;
        }
    }

    fn delivery(&mut self, destination: &mut DestinationConfig) {
        self.duration("destination.timeout", &mut destination.timeout);
        if let Some(confirmation) = self.parsed("destination.confirmation", str::parse) {
            destination.confirmation = confirmation;
        }
        self.duration("destination.confirm_after_connect", &mut destination.confirm_after_connect);
        let number =
            |text: &str| text.trim().parse::<u64>().map_err(|_| "is neither a whole number nor none".to_owned());
        if let Some(limit) = self.limit("destination.max_messages_per_second", number) {
            destination.max_messages_per_second = limit;
        }
        destination.connections = self.count("destination.connections", 1..=64).unwrap_or(destination.connections);
        destination.relp_window = self.count("destination.relp.window", 1..=65_536).unwrap_or(destination.relp_window);
        self.duration("destination.reconnect_min", &mut destination.reconnect.0);
        self.duration("destination.reconnect_max", &mut destination.reconnect.1);
    }

    fn tls(&mut self, destination: &mut DestinationConfig) {
        let tls = &mut destination.tls;
        tls.ca_path = self.path("destination.cert_path");
        tls.server_name = self.text("destination.tls.server_name");
        tls.pin_sha256 = self.parsed("destination.tls.pin_sha256", parse_fingerprint);
        tls.client = match (self.path("destination.tls.client_cert"), self.path("destination.tls.client_key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => {
                self.refuse("destination.tls.client_cert", "needs destination.tls.client_key, which is not set");
                None
            }
            (None, Some(_)) => {
                self.refuse("destination.tls.client_key", "needs destination.tls.client_cert, which is not set");
                None
            }
            (None, None) => None,
        };
    }

    fn dead_letter(&mut self, allow_readable: bool) -> DeadLetterConfig {
        let defaults = DeadLetterConfig::default();
        let path = self.text("dead_letter.path").filter(|path| !path.is_empty() && !path.eq_ignore_ascii_case("none"));
        let max_bytes = self.parsed("dead_letter.max_bytes", parse_size).map(|size| size as u64);
        DeadLetterConfig {
            path: path.map(PathBuf::from),
            max_bytes: max_bytes.unwrap_or(defaults.max_bytes),
            allow_readable,
        }
    }

    fn rest(&mut self, forwarder: &mut ForwarderConfig) {
        let MailboxConfig { coordinator, fetcher, formatter, connection } = &mut forwarder.mailbox;
        for (key, target) in [
            ("mailbox.coordinator", coordinator),
            ("mailbox.fetcher", fetcher),
            ("mailbox.formatter", formatter),
            ("mailbox.connection", connection),
        ] {
            *target = self.count(key, 1..=1 << 20).unwrap_or(*target);
        }
        let LimitsConfig { bytes_in_flight, workers, piece_bytes } = &mut forwarder.limits;
        *bytes_in_flight = self.parsed("limits.bytes_in_flight", parse_size).unwrap_or(*bytes_in_flight);
        *workers = self.count("limits.workers", 1..=64).unwrap_or(*workers);
        *piece_bytes = self.parsed("limits.piece_bytes", parse_size).unwrap_or(*piece_bytes);
        self.duration("log.summary_interval", &mut forwarder.summary_interval);
    }

    fn log(&mut self) -> LogSettings {
        let defaults = LogSettings::default();
        let level = self.parsed("log.level", |text| {
            let text = text.trim().to_ascii_lowercase();
            let text = if text == "warn" { "warning" } else { &text };
            text.parse().map_err(|()| "is not trace, debug, info, warning, error or critical".to_owned())
        });
        let format = self.parsed("log.format", |text| match text.trim().to_ascii_lowercase().as_str() {
            "terminal" => Ok(LogFormat::Terminal),
            "json" => Ok(LogFormat::Json),
            _ => Err("is not terminal or json".to_owned()),
        });
        LogSettings {
            level: level.unwrap_or(defaults.level),
            format: format.unwrap_or(defaults.format),
            file: self.log_file(),
        }
    }

    fn log_file(&mut self) -> Option<LogFileSettings> {
        let max_bytes = self.limit("log.max_bytes", |text| match parse_size(text)? {
            ..LEAST_LOG_FILE => Err("is less than 4KiB, so that a line might not fit".to_owned()),
            size => Ok(size as u64),
        });
        let files = self.parsed("log.files", |text| {
            let files = text.trim().parse().ok().filter(|files| (1..=1000).contains(files));
            files.ok_or_else(|| "is not a whole number from 1 to 1000".to_owned())
        });
        let path = self.text("log.file").filter(|path| !path.is_empty() && !path.eq_ignore_ascii_case("none"))?;
        let path = path.replace("{pid}", &std::process::id().to_string());
        if path.contains(['{', '}']) {
            self.refuse("log.file", "has braces round something else than pid; {pid} is all that is replaced");
        }
        Some(LogFileSettings { path: path.into(), max_bytes: max_bytes.flatten(), files: files.unwrap_or(1) })
    }
}

fn whole_seconds(text: &str) -> Result<u32, String> {
    let duration = parse_duration(text)?;
    if duration.subsec_nanos() != 0 || duration.is_zero() {
        return Err("is not a whole number of seconds of 1 or more, which is all that SLS takes".into());
    }
    u32::try_from(duration.as_secs()).map_err(|_| "is too large".into())
}

/// The value as it may be shown: nothing of a secret, nor of an address with a user part.
pub fn printable_value(key: &str, value: &Value) -> Option<String> {
    const ADDRESSES: [&str; 3] = ["source.endpoint", "source.connect", "destination.host"];
    let text = shown(&value.kind)?;
    let user_part = text.contains('@') && (text.contains("://") || ADDRESSES.contains(&key));
    let secret = keys::find(key).is_none_or(|key| key.secret) || user_part;
    (!secret).then_some(text)
}
