//! Values as people write them: times, durations, sizes, facilities, severities, fingerprints.
//!
//! Each parser answers with the rule when the text breaks it, never with the text itself: the caller knows whether it
//! may be shown.

use std::time::Duration;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use crate::model::cursor::StartPosition;

/// Where to begin, and whether a time zone had to be assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartTime {
    /// Where to begin.
    pub position: StartPosition,
    /// The text named a time without zone; it was read as UTC.
    pub zone_assumed: bool,
}

const START_RULE: &str = "is not begin, end, unix seconds or a time such as 2018-12-26 0:0:0+8:00";

/// Reads `begin`, `end`, unix seconds, ISO times and the sample's `2018-12-26 0:0:0` with or without `+8:00`.
///
/// # Errors
/// The rule.
pub fn parse_start_time(text: &str) -> Result<StartTime, String> {
    let text = text.trim();
    let at = |position| Ok(StartTime { position, zone_assumed: false });
    if text.eq_ignore_ascii_case("begin") {
        return at(StartPosition::Begin);
    }
    if text.eq_ignore_ascii_case("end") {
        return at(StartPosition::End);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<i64>() {
            Ok(seconds) if seconds < 100_000_000_000 => at(StartPosition::UnixSeconds(seconds)),
            _ => Err("is too large for unix seconds; are these milliseconds?".into()),
        };
    }
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(gap) => (&text[..gap], text[gap + 1..].trim_start()),
        None => (text, "0:0:0"),
    };
    let zone_at = rest.find(['Z', 'z', '+', '-']);
    let (time, zone) = rest.split_at(zone_at.unwrap_or(rest.len()));
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").map_err(|_| START_RULE)?;
    let time = NaiveTime::parse_from_str(time.trim_end(), "%H:%M:%S%.f")
        .or_else(|_| NaiveTime::parse_from_str(time.trim_end(), "%H:%M"))
        .map_err(|_| START_RULE)?;
    let offset = if zone.is_empty() { 0 } else { parse_utc_offset(zone).map_err(|_| START_RULE)? };
    let seconds = NaiveDateTime::new(date, time).and_utc().timestamp() - i64::from(offset) * 60;
    if seconds < 0 {
        return Err("is before 1970".into());
    }
    Ok(StartTime { position: StartPosition::UnixSeconds(seconds), zone_assumed: zone.is_empty() })
}

/// Reads an offset from UTC: `Z`, `+8:00`, `+08:00`, `-0530`, `+8`; in minutes.
///
/// # Errors
/// The rule.
pub fn parse_utc_offset(text: &str) -> Result<i32, String> {
    let rule = || "is not an offset from UTC such as Z, +08:00 or -05:30".to_owned();
    let text = text.trim();
    if text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Ok(0);
    }
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        _ => return Err(rule()),
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    let number = |part: &str| {
        let plausible = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        plausible.then(|| part.parse::<i32>().ok()).flatten()
    };
    match (number(hours), number(minutes)) {
        (Some(hours), Some(minutes)) if hours <= 18 && minutes < 60 => Ok(sign * (hours * 60 + minutes)),
        _ => Err(rule()),
    }
}

/// Reads a duration: a number is seconds (`20`, `0.1`), or with a unit `100ms`, `20s`, `5m`, `1h`, `1d`.
///
/// # Errors
/// The rule.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "s" | "sec" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("is not a duration; write seconds, or a number with ms, s, m, h or d".into()),
    };
    let number: f64 =
        number.parse().map_err(|_| "is not a duration; write seconds, or a number with ms, s, m, h or d".to_owned())?;
    // Rounded, so that 0.1 is exactly 100 ms; a year is longer than anything here means.
    let micros = (number * scale * 1e6).round();
    if !(0.0..=366.0 * 86_400.0 * 1e6).contains(&micros) {
        return Err("is negative or longer than a year".into());
    }
    Ok(Duration::from_micros(micros as u64))
}

/// Reads a size: bytes, or with a unit `64KiB`, `128MiB`, `1GiB` (and KB, MB, GB by thousands).
///
/// # Errors
/// The rule.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let rule = || "is not a size; write bytes, or a number with KiB, MiB or GiB".to_owned();
    let (number, unit) = split_unit(text);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(rule()),
    };
    let number: u64 = number.parse().map_err(|_| rule())?;
    number.checked_mul(scale).and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(|| "is too large".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number.trim(), unit.trim())
}

/// Writes a duration as [`parse_duration`] reads it.
pub fn render_duration(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else if duration.as_micros().is_multiple_of(1000) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_secs_f64())
    }
}

/// Writes a size as [`parse_size`] reads it, in the largest unit that keeps it exact.
pub fn render_size(bytes: usize) -> String {
    match bytes {
        0 => "0".to_owned(),
        n if n % (1 << 30) == 0 => format!("{} GiB", n >> 30),
        n if n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => n.to_string(),
    }
}

/// Names by code, the usual one first.
const FACILITIES: [&[&str]; 24] = [
    &["kern", "kernel"],
    &["user", "user-level"],
    &["mail"],
    &["daemon", "system"],
    &["auth"],
    &["syslog", "syslogd"],
    &["lpr", "printer"],
    &["news"],
    &["uucp"],
    &["cron", "clock"],
    &["authpriv", "security2"],
    &["ftp"],
    &["ntp"],
    &["audit", "log_audit", "logaudit"],
    &["alert", "log_alert", "console"],
    &["clock2", "solaris-cron", "cron2"],
    &["local0"],
    &["local1"],
    &["local2"],
    &["local3"],
    &["local4"],
    &["local5"],
    &["local6"],
    &["local7"],
];

const SEVERITIES: [&[&str]; 8] = [
    &["emerg", "emergency", "panic"],
    &["alert"],
    &["crit", "critical"],
    &["err", "error"],
    &["warning", "warn"],
    &["notice"],
    &["info", "informational", "information"],
    &["debug", "trace"],
];

/// Reads a facility: 0 to 23, a name (`user`, `local0`) or the sample's `FAC_USER`, in any case.
///
/// # Errors
/// The rule.
pub fn parse_facility(text: &str) -> Result<u8, String> {
    let name = text.trim().to_ascii_lowercase();
    let name = name.strip_prefix("syslogclient.").unwrap_or(&name);
    let name = name.strip_prefix("fac_").unwrap_or(name);
    if let Ok(code) = name.parse::<u32>() {
        return match code {
            0..=23 => Ok(code as u8),
            _ if code % 8 == 0 && code / 8 <= 23 => {
                Err(format!("is a shifted code as C writes it; the facility is {}", code / 8))
            }
            _ => Err("is not a facility from 0 to 23".into()),
        };
    }
    if name == "security" {
        return Err("means auth (4) to some programs and audit (13) to others; write auth or audit".into());
    }
    position(&FACILITIES, &name.replace("local_", "local"))
        .ok_or_else(|| "is not a facility: 0 to 23 or a name such as user, auth, local0".into())
}

/// Reads a severity: 0 to 7, a name (`info`, `warning`) or the sample's `SEV_INFO`, in any case.
///
/// # Errors
/// The rule.
pub fn parse_severity(text: &str) -> Result<u8, String> {
    let name = text.trim().to_ascii_lowercase();
    let name = name.strip_prefix("syslogclient.").unwrap_or(&name);
    let name = name.strip_prefix("sev_").unwrap_or(name);
    if let Ok(code) = name.parse::<u32>() {
        return u8::try_from(code).ok().filter(|&c| c < 8).ok_or_else(|| "is not a severity from 0 to 7".into());
    }
    position(&SEVERITIES, name).ok_or_else(|| "is not a severity: 0 to 7 or a name such as info, warning, err".into())
}

fn position(names: &[&[&str]], name: &str) -> Option<u8> {
    names.iter().position(|aliases| aliases.contains(&name)).map(|code| code as u8)
}

/// Reads a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons, with or without `sha256:` in front.
///
/// # Errors
/// The rule.
pub fn parse_fingerprint(text: &str) -> Result<[u8; 32], String> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256/")).unwrap_or(&text);
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    data_encoding::HEXLOWER
        .decode(digits.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "is not a SHA-256 fingerprint of 64 hexadecimal digits".into())
}
