//! What an operator should know at start: each weakness that was chosen, named once.

use sls_syslog_actors::config::{Confirmation, ForwarderConfig, Protocol, Signature, SyslogForm, TimestampStyle};

use super::LogSettings;
use super::layers::Merged;

/// One sentence for each thing that is weaker than it could be. Said once at start, never again.
pub fn start_notes(config: &ForwarderConfig) -> Vec<String> {
    let mut notes = Vec::new();
    let (source, destination) = (&config.source, &config.destination);
    let local_source =
        source.connect.map_or_else(|| source.endpoint.is_loopback(), |address| address.ip().is_loopback());
    if !source.endpoint.https && !local_source {
        notes.push(format!(
            "source.endpoint {} is plain http: logs can be read and changed on their way; write https:// in front",
            source.endpoint
        ));
    }
    match destination.protocol {
        Protocol::Udp => notes.push(
            "destination.protocol udp confirms nothing and is not encrypted: what the network drops is lost unnoticed; \
             use tcp or tls where the receiver can"
                .to_owned(),
        ),
        Protocol::Tcp if !destination.is_loopback() => notes.push(
            "destination.protocol tcp is not encrypted: logs can be read and changed on their way; use tls where the \
             receiver can"
                .to_owned(),
        ),
        Protocol::Relp if !destination.is_loopback() => notes.push(
            "destination.protocol relp is not encrypted: logs can be read and changed on their way; use relp+tls where \
             the receiver can"
                .to_owned(),
        ),
        Protocol::Tcp | Protocol::Tls | Protocol::Relp | Protocol::RelpTls => {}
    }
    if destination.confirmation < Confirmation::TcpAcked && destination.protocol != Protocol::Udp {
        notes.push(format!(
            "destination.confirmation {} takes logs for delivered that the receiver's system has not acknowledged; \
             tcp_acked is stronger",
            destination.confirmation
        ));
    }
    if config.dead_letter.path.is_none() {
        notes.push(
            "there is no dead letter: of a log that the receiver does not take, only its gap record tells; set \
             dead_letter.path"
                .to_owned(),
        );
    }
    notes
}

/// What a message lacks that was to be the sample's.
pub fn unlike_the_sample(config: &ForwarderConfig, merged: &Merged) -> Option<String> {
    let is_default = |key| merged.get(key).is_none_or(|value| value.origin() == Some("default"));
    let style = config.destination.style;
    let sample = style.syslog == SyslogForm::Rfc5424 && style.timestamp != TimestampStyle::Rfc5424;
    let asked = sample && is_default("destination.utc_offset");
    asked.then(|| {
        "destination.compat writes times in UTC, and the sample wrote those of its machine; set destination.utc_offset, \
         for example to +08:00, or to Z if UTC is meant"
            .to_owned()
    })
}

/// One sentence for each key that somebody has set and that does nothing beside the others.
pub fn without_effect(config: &ForwarderConfig, log: &LogSettings, merged: &Merged) -> Vec<String> {
    let (source, destination) = (&config.source, &config.destination);
    let protocol = destination.protocol;
    let is_relp = matches!(protocol, Protocol::Relp | Protocol::RelpTls);
    let is_old = destination.style.syslog == SyslogForm::Rfc3164;
    let no_file = log.file.is_none();
    let unlimited = log.file.as_ref().is_some_and(|file| file.max_bytes.is_none());
    let rules: [(bool, &str, String); 11] = [
        (is_old, "destination.timestamp", "with rfc3164, which has its own".to_owned()),
        (is_old, "destination.structured_data", "with rfc3164, which has none".to_owned()),
        (!is_relp, "destination.relp.window", format!("with {protocol}, only relp and relp+tls have it")),
        (
            protocol == Protocol::Udp,
            "destination.confirm_after_connect",
            "with udp, which has no connection".to_owned(),
        ),
        (
            is_relp,
            "destination.confirm_after_connect",
            format!("with {protocol}, in which the receiver answers every message"),
        ),
        (
            destination.tls.pin_sha256.is_some(),
            "destination.cert_path",
            "beside destination.tls.pin_sha256, which replaces the check of chain and name".to_owned(),
        ),
        (source.signature == Signature::V1, "source.region", "with signature v1, only v4 names the region".to_owned()),
        (
            !source.endpoint.https,
            "source.ca_path",
            "with plain http; write https:// in front of source.endpoint".to_owned(),
        ),
        (
            !slog::Level::Info.is_at_least(log.level),
            "log.summary_interval",
            "at this log.level, the summary is told at info".to_owned(),
        ),
        (no_file, "log.max_bytes", "without log.file".to_owned()),
        (
            no_file || unlimited,
            "log.files",
            if unlimited { "with log.max_bytes = none" } else { "without log.file" }.to_owned(),
        ),
    ];
    let is_set = |key: &str| merged.get(key).filter(|value| value.origin() != Some("default"));
    rules
        .into_iter()
        .filter(|(idle, _, _)| *idle)
        .filter_map(|(_, key, why)| {
            let origin = is_set(key)?.origin().unwrap_or_default();
            Some(format!("{key} ({origin}) has no effect {why}"))
        })
        .collect()
}
