//! TLS towards SLS: whom the HTTP client trusts, and what a failed handshake means.

use std::path::Path;
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::io::pem;
use crate::wire::text::escape_foreign;

/// Builds the configuration that trusts the authorities in `ca_path`, or else the system's.
///
/// The provider is named, so that another default provider of an embedding application does not matter, and no ALPN is
/// offered, so that HTTP/1.1 is spoken. The error is one sentence with a remedy.
pub(super) fn client_config(ca_path: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca_path {
        Some(path) => roots_from_file(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

pub(super) fn roots_from_file(path: &Path) -> Result<RootCertStore, String> {
    let cannot = |why: String| format!("cannot use {}: {why}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| cannot(pem::problem(&error)))? {
        let certificate = certificate.map_err(|error| cannot(pem::problem(&error)))?;
        roots.add(certificate).map_err(|error| cannot(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(cannot("it holds no PEM certificate (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One unreadable certificate among a hundred is not our business; none at all is.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "is not set, and this system has no certificate authorities{why}; install ca-certificates, or name a PEM file"
        ));
    }
    Ok(roots)
}

/// Says in one sentence why the handshake with `name` failed, and what to do.
pub(super) fn explain(error: &rustls::Error, name: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            // A bad signature is what an authority looks like that was made anew under its old name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "the certificate of {name} is signed by nobody we trust: if a proxy or a private SLS stands there, \
                 name its certificate authority (PEM) in source.ca_path"
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate is not for {name}: check source.endpoint (and source.connect)")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {name} has expired, or this machine's clock is wrong")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {name} is not valid yet, or this machine's clock is wrong")
            }
            other => format!("the certificate of {name} is not valid: {}", escape_foreign(&other.to_string(), 200)),
        },
        rustls::Error::InvalidMessage(_) => {
            format!("{name} does not speak TLS on this port: check scheme and port of source.endpoint")
        }
        other => format!("no TLS with {name}: {}", escape_foreign(&other.to_string(), 200)),
    }
}
