//! The receiver's TLS: certificates from files, or made on the spot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::certs::{Authority, Identity, Validity};

/// What a server shows, and whom it lets in, as PEM text.
pub struct ServerIdentity {
    /// Certificate chain and key.
    pub identity: Identity,
    /// Authorities of client certificates; without them none is asked for.
    pub client_ca_pem: Option<String>,
}

/// Reads the files that an operator names.
pub fn from_files(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<ServerIdentity, String> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
    Ok(ServerIdentity {
        identity: Identity { cert_pem: read(cert)?, key_pem: read(key)? },
        client_ca_pem: client_ca.map(read).transpose()?,
    })
}

/// Makes an authority and a certificate for this machine's loopback names. With a folder it also leaves there what a
/// client needs: `ca.pem`, and a client certificate with its key; then that certificate is asked for.
pub fn self_made(folder: Option<&PathBuf>) -> Result<ServerIdentity, String> {
    let made = || -> Result<_, rcgen::Error> {
        let authority = Authority::new("sls-syslog receiver made for trying out")?;
        let server = authority.issue(&["localhost", "127.0.0.1", "::1"], Validity::Now)?;
        let client = authority.issue(&["sls-syslog client"], Validity::Now)?;
        Ok((authority, server, client))
    };
    let (authority, server, client) = made().map_err(|e| format!("cannot make certificates: {e}"))?;
    let client_ca_pem = match folder {
        None => None,
        Some(folder) => {
            let write = || {
                std::fs::create_dir_all(folder)?;
                std::fs::write(folder.join("ca.pem"), authority.pem())?;
                server.write(folder, "server")?;
                client.write(folder, "client")
            };
            write().map_err(|e| format!("cannot write certificates to {}: {e}", folder.display()))?;
            Some(authority.pem().to_owned())
        }
    };
    Ok(ServerIdentity { identity: server, client_ca_pem })
}

/// TLS 1.2 and 1.3 with this identity.
pub fn server_config(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.identity.cert_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| format!("cannot read the certificate: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.identity.key_pem.as_bytes())
        .map_err(|e| format!("cannot read the private key: {e}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match &identity.client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let authority = authority.map_err(|e| format!("cannot read the client authorities: {e}"))?;
                roots.add(authority).map_err(|e| format!("cannot use the client authorities: {e}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| format!("cannot use the client authorities: {e}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|e| format!("certificate and key do not fit: {e}"))?;
    Ok(Arc::new(config))
}
