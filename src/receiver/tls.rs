//! The receiver's TLS: certificates from files, or made on the spot.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sls_syslog_actors::io::pem;

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

/// Makes an authority and a certificate for this machine's loopback names, in memory alone.
pub fn self_made() -> Result<ServerIdentity, String> {
    let (_, identity) = make(&LOOPBACK.map(str::to_owned)).map_err(|e| format!("cannot make certificates: {e}"))?;
    Ok(ServerIdentity { identity, client_ca_pem: None })
}

/// What every made server certificate is for.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// What a folder of certificates holds.
pub const FILES: [&str; 6] = ["ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"];

/// Makes an authority, a server certificate for loopback and `names`, and a client certificate, with their keys, unless
/// the folder has them already; answers whether they were made. Half a set is refused: it belongs to somebody.
pub fn make_into(folder: &Path, names: &[String]) -> Result<bool, String> {
    let (there, missing): (Vec<&str>, Vec<&str>) = FILES.into_iter().partition(|name| folder.join(name).exists());
    match (there.is_empty(), missing.is_empty()) {
        (false, true) => return Ok(false),
        (false, false) => {
            return Err(format!(
                "{} holds {} but not {}: name another folder, or remove them",
                folder.display(),
                there.join(", "),
                missing.join(", ")
            ));
        }
        (true, _) => {}
    }
    let names: Vec<String> = LOOPBACK.iter().map(|name| (*name).to_owned()).chain(names.iter().cloned()).collect();
    let cannot_make = |e: rcgen::Error| format!("cannot make certificates: {e}");
    let (authority, server) = make(&names).map_err(cannot_make)?;
    let client = authority.issue(&["sls-syslog client"], Validity::Now).map_err(cannot_make)?;
    let write = || {
        std::fs::create_dir_all(folder)?;
        authority.identity().write(folder, "ca")?;
        server.write(folder, "server")?;
        client.write(folder, "client")
    };
    write().map_err(|e| format!("cannot write certificates to {}: {e}", folder.display()))?;
    Ok(true)
}

/// The server's part of a folder that [`make_into`] has filled; asks for a client certificate of its authority.
pub fn from_folder(folder: &Path) -> Result<ServerIdentity, String> {
    let [ca, _, cert, key, ..] = FILES.map(|name| folder.join(name));
    from_files(&cert, &key, Some(&ca))
}

fn make(names: &[String]) -> Result<(Authority, Identity), rcgen::Error> {
    let authority = Authority::new("sls-syslog receiver made for trying out")?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = authority.issue(&names, Validity::Now)?;
    Ok((authority, server))
}

/// TLS 1.2 and 1.3 with this identity.
pub fn server_config(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.identity.cert_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| format!("cannot read the certificate: {}", pem::problem(&e)))?;
    let key = PrivateKeyDer::from_pem_slice(identity.identity.key_pem.as_bytes())
        .map_err(|e| format!("cannot read the private key: {}", pem::problem(&e)))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match &identity.client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let authority =
                    authority.map_err(|e| format!("cannot read the client authorities: {}", pem::problem(&e)))?;
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
