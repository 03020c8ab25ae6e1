//! What an operator should know at start: each weakness that was chosen, named once.

use sls_syslog_actors::config::{Confirmation, ForwarderConfig, Protocol};

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
    if destination.tls.pin_sha256.is_some() && destination.tls.ca_path.is_some() {
        notes.push(
            "destination.cert_path has no effect beside destination.tls.pin_sha256, which replaces the check of chain \
             and name"
                .to_owned(),
        );
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
