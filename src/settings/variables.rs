//! Variables of the environment that look as if they were meant for us, and what they should be called.

use super::keys::{self, KEYS, Key, distance};

/// The variable that was probably meant.
#[derive(Debug, PartialEq, Eq)]
pub struct Meant {
    /// Its setting.
    pub key: &'static str,
    /// Its right name.
    pub variable: String,
    /// Whether the wrong name can hardly be anybody else's.
    pub certain: bool,
}

/// Names that people take from other tools.
const MISTAKEN: &[(&str, &str)] = &[
    ("SLS_ACCESS_KEY_ID", "source.access_key_id"),
    ("SLS_ACCESS_KEY", "source.access_key_secret"),
    ("SLS_ACCESS_KEY_SECRET", "source.access_key_secret"),
    ("SLS_AK_SECRET", "source.access_key_secret"),
    ("SLS_CONSUMER_GROUP", "source.consumer_group"),
    ("SLS_TOKEN", "source.security_token"),
    ("SLS_STS_TOKEN", "source.security_token"),
    ("SYSLOG_PROTO", "destination.protocol"),
    ("SYSLOG_SERVER", "destination.host"),
    ("SYSLOG_CERT_PATH", "destination.cert_path"),
];

/// Our own prefix, with one underscore too few.
const SINGLE: &str = "SLS_SYSLOG_";
/// Variables of ours that are no settings, the second by its beginning.
const NO_SETTING: [&str; 2] = ["SLS_SYSLOG_CONFIG", "SLS_SYSLOG_TEST_"];

/// What a variable that is not read was probably meant to be.
pub fn meant_by(name: &str) -> Option<Meant> {
    let upper = name.to_ascii_uppercase();
    let is_read =
        KEYS.iter().any(|key| key.short == Some(name)) || name == NO_SETTING[0] || name.starts_with(NO_SETTING[1]);
    if is_read || name.starts_with("SLS_SYSLOG__") || name.len() > 100 {
        return None;
    }
    if let Some(rest) = upper.strip_prefix(SINGLE) {
        return by_long_name(&rest.trim_start_matches('_').to_ascii_lowercase());
    }
    if !upper.starts_with("SLS_") && !upper.starts_with("SYSLOG_") {
        return None;
    }
    let by_short = |key: &'static Key| {
        let variable = key.short.map_or_else(|| long_variable(key), str::to_owned);
        Some(Meant { key: key.name, variable, certain: true })
    };
    if let Some((_, meant)) = MISTAKEN.iter().find(|(wrong, _)| *wrong == upper) {
        return KEYS.iter().find(|key| key.name == *meant).and_then(by_short);
    }
    let near = KEYS.iter().filter_map(|key| Some((distance(key.short?, &upper), key))).min_by_key(|(near, _)| *near);
    // In a short name one letter makes another word.
    let tolerance = if upper.len() >= 12 { 2 } else { 1 };
    if let Some((_, key)) = near.filter(|(distance, _)| *distance <= tolerance) {
        return by_short(key);
    }
    // The prefix of one of our sections, and the name of a key that has no short one.
    let (section, rest) = match upper.strip_prefix("SYSLOG_") {
        Some(rest) => ("destination.", rest),
        None => ("source.", upper.strip_prefix("SLS_")?),
    };
    let rest = rest.to_ascii_lowercase();
    let key = KEYS.iter().find(|key| key.name.strip_prefix(section) == Some(rest.as_str()))?;
    Some(Meant { key: key.name, variable: long_variable(key), certain: false })
}

/// A key written with single underscores, with or without its section.
fn by_long_name(rest: &str) -> Option<Meant> {
    let written = |key: &Key| key.name.replace('.', "_");
    let last = |key: &Key| key.name.rsplit('.').next().unwrap_or(key.name);
    let exact = KEYS.iter().find(|key| written(key) == rest || key.flat == Some(rest) || last(key) == rest);
    let near = || {
        let near = KEYS.iter().map(|key| (distance(&written(key), rest), key)).min_by_key(|(near, _)| *near);
        near.filter(|(distance, _)| *distance <= 2).map(|(_, key)| key)
    };
    let meant = |key: &Key, certain| Meant { key: key.name, variable: long_variable(key), certain };
    if let Some(key) = exact.or_else(near) {
        return Some(meant(key, true));
    }
    // Another section, another word for it, more than a slip: worth a hint, since the prefix is ours.
    let dotted = [rest.to_owned(), rest.replacen('_', ".", 1), rest.replacen('_', ".", 2)];
    let key = dotted.iter().find_map(|name| keys::find(keys::nearest(name)?))?;
    Some(meant(key, false))
}

fn long_variable(key: &Key) -> String {
    format!("SLS_SYSLOG__{}", key.name.replace('.', "__").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_nearly_right_is_answered_with_the_right_one() {
        for (wrong, right, certain) in [
            ("SYSLOG_PROTO", "SYSLOG_PROTOCOL", true),
            ("SYSLOG_HOSTS", "SYSLOG_HOST", true),
            ("sls_endpoint", "SLS_ENDPOINT", true),
            ("SLS_ENDPIONT", "SLS_ENDPOINT", true),
            ("SLS_AK_SECRET", "SLS_AK_KEY", true),
            ("SLS_SYSLOG_DESTINATION_PORT", "SLS_SYSLOG__DESTINATION__PORT", true),
            ("SLS_SYSLOG_PORT", "SLS_SYSLOG__DESTINATION__PORT", true),
            ("SLS_SYSLOG_DESTINATION_TLS_SERVER_NAME", "SLS_SYSLOG__DESTINATION__TLS__SERVER_NAME", true),
            ("SLS_SYSLOG_LIMITS_WORKER", "SLS_SYSLOG__LIMITS__WORKERS", true),
            ("SLS_SYSLOG_PROTO", "SLS_SYSLOG__DESTINATION__PROTOCOL", false),
            ("SLS_SYSLOG_TARGET_HOST", "SLS_SYSLOG__DESTINATION__HOST", false),
            ("SLS_SYSLOG_DESTINATION_PROT", "SLS_SYSLOG__DESTINATION__PORT", true),
            ("SLS_SYSLOG_HEARTBEATINTERVALL", "SLS_SYSLOG__SOURCE__HEARTBEAT_INTERVAL", false),
            ("SLS_SYSLOG_OUTPUT_TLS_SERVERNAME", "SLS_SYSLOG__DESTINATION__TLS__SERVER_NAME", false),
            ("SYSLOG_FACILITY", "SLS_SYSLOG__DESTINATION__FACILITY", false),
            ("SLS_REGION", "SLS_SYSLOG__SOURCE__REGION", false),
        ] {
            let meant = meant_by(wrong).unwrap_or_else(|| panic!("{wrong}"));
            assert_eq!((meant.variable.as_str(), meant.certain), (right, certain), "{wrong}");
        }
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        for name in [
            "SYSLOG_HOST",
            "SLS_SYSLOG_CONFIG",
            "SLS_SYSLOG__DESTINATION__PROTO",
            "SLS_SYSLOG_TEST_RSYSLOGD",
            "SLS_SYSLOG_SEEDS",
            "SLS_SYSLOG_FAULTS",
            "SLS_SYSLOG_FAULT_SEED",
            "SLS_SYSLOG_BLESS",
            "SYSLOG_SERVICE_HOST",
            "SYSLOG_PORT_514_TCP",
            "SYSLOG_IDENTIFIER",
            "SLS",
            "PATH",
        ] {
            assert_eq!(meant_by(name), None, "{name}");
        }
    }
}
