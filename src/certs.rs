//! Certificates made on the spot, for trying out and for tests: an authority and what it issues, in memory or as files.
//!
//! Not for production: keys are made anew at every call, and nothing can be revoked.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Issues certificates that whoever trusts [`Authority::pem`] accepts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    identity: Identity,
}

/// A certificate with its private key, both as PEM text.
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: String,
}

/// For how long a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From 2020 to 2099.
    Now,
    /// It ended in 2021.
    Expired,
}

impl Authority {
    /// An authority of this name, with a key of its own.
    pub fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, Validity::Now);
        let key = KeyPair::generate()?;
        let identity = Identity { cert_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() };
        Ok(Self { issuer: Issuer::new(params, key), identity })
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.identity.cert_pem
    }

    /// The authority's own certificate and key.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A certificate for server and client use, for these DNS names and IP addresses; the first is also its common name.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Result<Identity, rcgen::Error> {
        let (params, key) = end_entity(names, validity)?;
        Ok(Identity { cert_pem: params.signed_by(&key, &self.issuer)?.pem(), key_pem: key.serialize_pem() })
    }
}

/// A certificate that no authority has signed.
pub fn self_signed(names: &[&str]) -> Result<Identity, rcgen::Error> {
    let (params, key) = end_entity(names, Validity::Now)?;
    Ok(Identity { cert_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
}

fn end_entity(names: &[&str], validity: Validity) -> Result<(CertificateParams, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("sls-syslog"));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    set_validity(&mut params, validity);
    Ok((params, KeyPair::generate()?))
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let (begin, end) = match validity {
        Validity::Now => (2020, 2099),
        Validity::Expired => (2020, 2021),
    };
    params.not_before = rcgen::date_time_ymd(begin, 1, 1);
    params.not_after = rcgen::date_time_ymd(end, 1, 1);
}

impl Identity {
    /// Writes `NAME.pem` and `NAME-key.pem` into `folder`, the key readable by its owner alone; answers the two paths.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}-key.pem")));
        std::fs::write(&cert, &self.cert_pem)?;
        write_private(&key, &self.key_pem)?;
        Ok((cert, key))
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // An existing file would keep its mode, so a new one is made.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}
