//! The certificate and key files that settings name, looked into before anything is started.

use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::{http_tls, tls};
use crate::config::{ConfigError, ForwarderConfig};

/// All that is wrong with the files that the settings name: unreadable, without a certificate or key, or not belonging
/// together. Looks at nothing of the system's own.
pub fn file_problems(config: &ForwarderConfig) -> Vec<ConfigError> {
    let mut problems = Vec::new();
    if let Some(path) = config.source.ca_path.as_deref().filter(|_| config.source.endpoint.https)
        && let Err(why) = http_tls::roots_from_file(path)
    {
        problems.push(ConfigError::new("source.ca_path", why));
    }
    if !config.destination.protocol.is_encrypted() {
        return problems;
    }
    let tls = &config.destination.tls;
    // A fingerprint replaces the authorities, which are not read then.
    if let Some(path) = tls.ca_path.as_deref().filter(|_| tls.pin_sha256.is_none())
        && let Err(error) = tls::roots_from_file(path)
    {
        problems.push(ConfigError::new("destination.cert_path", error.0));
    }
    let Some((chain_path, key_path)) = &tls.client else { return problems };
    let (chain, key) = (tls::read_chain(chain_path), tls::read_key(key_path));
    if let Err(error) = &chain {
        problems.push(ConfigError::new("destination.tls.client_cert", error.0.clone()));
    }
    if let Err(error) = &key {
        problems.push(ConfigError::new("destination.tls.client_key", error.0.clone()));
    }
    if let (Ok(chain), Ok(key)) = (chain, key) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        if let Err(error) = CertifiedKey::from_der(chain, key, &provider) {
            let what = format!("does not work together with destination.tls.client_cert: {error}");
            problems.push(ConfigError::new("destination.tls.client_key", what));
        }
    }
    problems
}
