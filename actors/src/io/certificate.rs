//! What can be said of a peer's certificate, and one sentence for each way in which TLS fails.
//!
//! For people only: what is trusted is decided by the verifiers. Text from a certificate is foreign: it is escaped and
//! cut before anybody sees it (rule M4).

use std::fmt;
use std::io;
use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Names shown of one certificate.
const MOST_NAMES: usize = 10;
/// Characters shown of one name.
const LONGEST_NAME: usize = 100;

/// A certificate, as far as it can be read. All text is escaped and cut: it may be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// SHA-256 of its DER, 64 hexadecimal digits: what `destination.tls.pin_sha256` takes.
    pub sha256: String,
    /// Subject.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// DNS names and IP addresses that it is for, at most ten.
    pub names: Vec<String>,
    /// First moment of its validity.
    pub not_before: String,
    /// Last moment of its validity.
    pub not_after: String,
    /// Whether subject and issuer are the same.
    pub self_signed: bool,
}

impl Facts {
    /// Reads what it can of a certificate in DER; what cannot be read stays empty.
    pub fn of(der: &[u8]) -> Self {
        let sha256 = data_encoding::HEXUPPER.encode(&Sha256::digest(der));
        let Ok(certificate) = Certificate::from_der(der) else { return Self { sha256, ..Self::default() } };
        let tbs = certificate.tbs_certificate();
        let alternative = tbs.get_extension::<SubjectAltName>().ok().flatten().map(|(_, names)| names.0);
        let names = alternative.unwrap_or_default().iter().filter_map(name_text).take(MOST_NAMES).collect();
        Self {
            sha256,
            subject: printable(&tbs.subject().to_string()),
            issuer: printable(&tbs.issuer().to_string()),
            names,
            not_before: tbs.validity().not_before.to_string(),
            not_after: tbs.validity().not_after.to_string(),
            self_signed: tbs.subject() == tbs.issuer(),
        }
    }

    /// The setting that trusts this very certificate.
    pub fn pin_line(&self) -> String {
        format!("destination.tls.pin_sha256 = \"{}\"", self.sha256)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate SHA-256 {}, subject {:?}", self.sha256, self.subject)
    }
}

fn name_text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(printable(name.as_str())),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn printable(text: &str) -> String {
    text.chars().take(LONGEST_NAME).flat_map(char::escape_debug).collect()
}

/// What TLS errors are explained with.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// The receiver, as it is shown.
    pub(crate) place: String,
    /// The name that was checked.
    pub(crate) server_name: String,
    /// Whether we have a client certificate.
    pub(crate) has_client_certificate: bool,
    /// The peer's certificate, once it was seen.
    pub(crate) seen: Option<Facts>,
}

impl Attempt {
    /// One sentence: what failed, whose certificate it was, and what to change.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        let place = &self.place;
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(tls) => self.explain_tls(tls),
            None if error.kind() == io::ErrorKind::UnexpectedEof => format!(
                "{place} closed the connection during the TLS handshake{}: it may not speak TLS on this port \
                 (destination.port, destination.protocol)",
                self.seen()
            ),
            None => format!("the TLS handshake with {place} failed{}: {error}", self.seen()),
        }
    }

    /// One sentence for an error of the TLS layer.
    pub(crate) fn explain_tls(&self, error: &Error) -> String {
        let place = &self.place;
        match error {
            Error::InvalidCertificate(why) => match &self.seen {
                Some(facts) => self.explain_certificate(why, facts),
                None => format!("the certificate of {place} is not accepted: {why}"),
            },
            Error::AlertReceived(alert) => self.explain_alert(*alert),
            Error::InvalidMessage(_) => format!(
                "{place} does not speak TLS{}: it answered something else (destination.protocol without tls, or another \
                 destination.port)",
                self.seen()
            ),
            Error::PeerIncompatible(why) => format!(
                "{place} and we have no TLS version or cipher in common{}: {why:?}; the receiver must offer TLS 1.2 \
                 with ECDHE and AES-GCM, or TLS 1.3",
                self.seen()
            ),
            other => format!("TLS with {place} failed{}: {other}", self.seen()),
        }
    }

    fn explain_certificate(&self, why: &CertificateError, facts: &Facts) -> String {
        let place = &self.place;
        let pin = facts.pin_line();
        match why {
            CertificateError::ApplicationVerificationFailure => {
                format!(
                    "{place} shows another certificate than the pinned one ({facts}): if it was changed on purpose, set {pin}"
                )
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let names = if facts.names.is_empty() { "no name".to_owned() } else { facts.names.join(", ") };
                let remedy = match facts.names.iter().find(|name| !name.starts_with("*.")) {
                    Some(name) => format!("destination.tls.server_name = {name:?}"),
                    None => pin,
                };
                format!(
                    "the certificate of {place} is for {names}, not for {} ({facts}): set {remedy} if that is the receiver",
                    self.server_name
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
                "the certificate of {place} expired on {} ({facts}): renew it, check this machine's clock, or set {pin}",
                facts.not_after
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
                "the certificate of {place} is valid from {} only ({facts}): check this machine's clock, or set {pin}",
                facts.not_before
            ),
            _ if facts.self_signed => {
                format!(
                    "the certificate of {place} is signed by itself ({facts}): to trust this very certificate, set {pin}"
                )
            }
            // A bad signature is that of another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the certificate of {place} is signed by an unknown authority, {:?} ({facts}): set \
                 destination.cert_path to the PEM file of that authority, or {pin}",
                facts.issuer
            ),
            other => {
                format!("the certificate of {place} is not accepted: {other} ({facts}); to trust it anyway, set {pin}")
            }
        }
    }

    fn explain_alert(&self, alert: AlertDescription) -> String {
        use AlertDescription as Alert;
        let place = &self.place;
        let seen = self.seen();
        match alert {
            Alert::CertificateRequired | Alert::NoCertificate => format!(
                "{place} demands a client certificate{seen}: set destination.tls.client_cert and \
                 destination.tls.client_key"
            ),
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
                if self.has_client_certificate =>
            {
                format!(
                    "{place} refuses our client certificate ({alert:?}){seen}: set destination.tls.client_cert \
                     and destination.tls.client_key to one that it trusts"
                )
            }
            Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity => format!(
                "{place} refuses the TLS handshake ({alert:?}){seen}: it must offer TLS 1.2 with ECDHE and AES-GCM, or \
                 TLS 1.3; if it demands a client certificate, set destination.tls.client_cert and \
                 destination.tls.client_key"
            ),
            Alert::UnrecognisedName => format!(
                "{place} does not know the name {}{seen}: set destination.tls.server_name to one that it knows",
                self.server_name
            ),
            _ => format!("{place} ended TLS with the alert {alert:?}{seen}"),
        }
    }

    fn seen(&self) -> String {
        self.seen.as_ref().map(|facts| format!(" ({facts})")).unwrap_or_default()
    }
}
