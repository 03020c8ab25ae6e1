//! The names of all settings: sectioned names, the sample's flat ones, and short names of the environment.

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// The name, with its section.
    pub name: &'static str,
    /// Another name, at the top level, as the sample writes it.
    pub flat: Option<&'static str>,
    /// Short name in the environment.
    pub short: Option<&'static str>,
    /// Never printed, and without flag.
    pub secret: bool,
}

const fn key(name: &'static str) -> Key {
    Key { name, flat: None, short: None, secret: false }
}

const fn flat(name: &'static str, flat: &'static str) -> Key {
    Key { name, flat: Some(flat), short: None, secret: false }
}

const fn named(name: &'static str, flat: &'static str, short: &'static str) -> Key {
    Key { name, flat: Some(flat), short: Some(short), secret: false }
}

const fn short(name: &'static str, short: &'static str) -> Key {
    Key { name, flat: None, short: Some(short), secret: false }
}

const fn secret(name: &'static str, short: &'static str) -> Key {
    Key { name, flat: None, short: Some(short), secret: true }
}

/// All settings, in the order of `config/default.toml`.
pub const KEYS: &[Key] = &[
    key("allow_readable_secrets"),
    named("source.endpoint", "endpoint", "SLS_ENDPOINT"),
    short("source.connect", "SLS_CONNECT"),
    short("source.ca_path", "SLS_CA"),
    named("source.project", "project", "SLS_PROJECT"),
    named("source.logstore", "logstore", "SLS_LOGSTORE"),
    named("source.consumer_group", "consumer_group", "SLS_CG"),
    flat("source.consumer_name", "consumer_name"),
    secret("source.access_key_id", "SLS_AK_ID"),
    secret("source.access_key_secret", "SLS_AK_KEY"),
    key("source.access_key_secret_file"),
    secret("source.security_token", "SLS_SECURITY_TOKEN"),
    key("source.security_token_file"),
    key("source.signature"),
    key("source.region"),
    named("source.cursor_start_time", "cursor_start_time", "SLS_CURSOR_START_TIME"),
    flat("source.heartbeat_interval", "heartbeat_interval"),
    key("source.group_timeout"),
    key("source.in_order"),
    key("source.manage_group"),
    flat("source.data_fetch_interval", "data_fetch_interval"),
    key("source.max_log_groups"),
    key("source.compression"),
    key("source.request_timeout"),
    key("source.commit_interval"),
    key("source.drain_timeout"),
    named("destination.host", "host", "SYSLOG_HOST"),
    named("destination.port", "port", "SYSLOG_PORT"),
    named("destination.protocol", "protocol", "SYSLOG_PROTOCOL"),
    short("destination.framing", "SYSLOG_FRAMING"),
    flat("destination.compat", "compat"),
    key("destination.syslog"),
    named("destination.cert_path", "cert_path", "SYSLOG_CA"),
    flat("destination.sep", "sep"),
    key("destination.kv_escape"),
    key("destination.newlines"),
    key("destination.invalid_utf8"),
    flat("destination.timeout", "timeout"),
    flat("destination.facility", "facility"),
    flat("destination.severity", "severity"),
    flat("destination.hostname", "hostname"),
    flat("destination.tag", "tag"),
    key("destination.origin"),
    key("destination.utc_offset"),
    key("destination.timestamp"),
    key("destination.structured_data"),
    key("destination.legacy_ns_tuple"),
    key("destination.final_lf"),
    key("destination.confirmation"),
    key("destination.confirm_after_connect"),
    key("destination.max_message_bytes"),
    key("destination.max_messages_per_second"),
    key("destination.connections"),
    key("destination.reconnect_min"),
    key("destination.reconnect_max"),
    key("destination.relp.window"),
    key("destination.tls.server_name"),
    key("destination.tls.pin_sha256"),
    key("destination.tls.client_cert"),
    key("destination.tls.client_key"),
    key("dead_letter.path"),
    key("dead_letter.max_bytes"),
    key("mailbox.coordinator"),
    key("mailbox.fetcher"),
    key("mailbox.formatter"),
    key("mailbox.connection"),
    key("limits.bytes_in_flight"),
    key("limits.workers"),
    key("limits.piece_bytes"),
    key("log.level"),
    key("log.format"),
    key("log.file"),
    key("log.max_bytes"),
    key("log.files"),
    key("log.summary_interval"),
];

/// Names that people take from the help page or from an SDK, and what they mean.
const MISTAKEN: &[(&str, &str)] = &[
    ("proto", "protocol"),
    ("consumer_group_name", "source.consumer_group"),
    ("group", "source.consumer_group"),
    ("access_key", "source.access_key_secret"),
    ("ca_path", "destination.cert_path"),
    ("separator", "destination.sep"),
    ("format", "destination.syslog"),
    ("rfc", "destination.syslog"),
    ("ns_tuple", "destination.legacy_ns_tuple"),
    ("origin_stamp", "destination.origin"),
    ("stamp", "destination.origin"),
];

/// The setting of this name, sectioned or flat.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.flat == Some(name))
}

/// The existing name that was probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let last = lower.rsplit('.').next().unwrap_or(&lower);
    if let Some((_, right)) =
        MISTAKEN.iter().find(|(wrong, _)| *wrong == lower || (*wrong == last && find(&lower).is_none()))
    {
        return Some(right);
    }
    let names = || KEYS.iter().flat_map(|key| std::iter::once(key.name).chain(key.flat));
    if let Some(same) = names().find(|known| *known == lower) {
        return Some(same);
    }
    // A name without its section, or in the wrong one.
    if let Some(key) = KEYS.iter().find(|key| key.name.rsplit('.').next() == Some(last)) {
        return Some(key.name);
    }
    names()
        .map(|known| {
            (distance(known, &lower).min(distance(known.rsplit('.').next().unwrap_or(known), last) + 1), known)
        })
        .filter(|(distance, _)| *distance <= 1 + last.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance, for names that are short enough to be meant.
pub fn distance(a: &str, b: &str) -> usize {
    if b.len() > 100 {
        return usize::MAX - 1;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistaken_names_are_answered_with_the_right_one() {
        for (wrong, right) in [
            ("proto", Some("protocol")),
            ("Port", Some("port")),
            ("destination.proto", Some("protocol")),
            ("destination.Port", Some("destination.port")),
            ("destination.prot", Some("destination.port")),
            ("source.host", Some("destination.host")),
            ("heartbeat_intervall", Some("heartbeat_interval")),
            ("limits.byte_in_flight", Some("limits.bytes_in_flight")),
            ("workers", Some("limits.workers")),
            ("completely.different", None),
        ] {
            assert_eq!(nearest(wrong), right, "{wrong}");
        }
    }

    #[test]
    fn names_are_lower_case_and_unique() {
        let mut names: Vec<_> = KEYS.iter().flat_map(|k| std::iter::once(k.name).chain(k.flat)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| *name == name.to_lowercase()));
    }
}
