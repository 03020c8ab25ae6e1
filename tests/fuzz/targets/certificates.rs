//! Certificates and keys: what a peer shows, and what operators' PEM files hold. What cannot be used is refused with
//! words fit for a log; nothing that a peer writes into its certificate reaches a terminal as it is.

use std::path::PathBuf;
use std::sync::OnceLock;

use sls_syslog_actors::config::{DestinationConfig, Protocol};
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::testing::seams::sentences_about_certificate;

use crate::certs::Identity;
use crate::receiver::tls::{ServerIdentity, server_config};

/// What is told of a file, which is never what is in it: it may be a key.
#[track_caller]
fn assert_tells_nothing(told: &str, max: usize) {
    super::assert_printable(told, max);
    assert!(!told.contains("[45, 45") && !told.contains("MI"), "the content is told: {told}");
}

/// Runs it: the first byte says what the others are. Several PEM files are told apart by a line of their own.
pub fn run(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    if which % 4 == 0 {
        for sentence in sentences_about_certificate(bytes) {
            super::assert_printable(&sentence, 20_000);
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut files = text.splitn(3, "8<\n");
    let (cert, key, ca) = (files.next().unwrap_or_default(), files.next(), files.next());
    match which % 4 {
        1 => {
            let identity = Identity { cert_pem: cert.to_owned(), key_pem: key.unwrap_or_default().to_owned() };
            let identity = ServerIdentity { identity, client_ca_pem: ca.map(str::to_owned) };
            if let Err(what) = server_config(&identity) {
                assert_tells_nothing(&what, 400);
            }
        }
        2 => {
            let names = ["chain.pem", "key.pem", "ca.pem"].map(|name| folder().join(name));
            for (name, text) in names.iter().zip([Some(cert), key, ca]) {
                std::fs::write(name, text.unwrap_or_default()).expect("the temporary folder takes a file");
            }
            let [chain, key_path, ca_path] = names;
            let mut destination = DestinationConfig::new("siem.example.com", Protocol::Tls);
            destination.tls.ca_path = Some(if ca.is_some() { ca_path } else { chain.clone() });
            destination.tls.client = key.map(|_| (chain, key_path));
            if let Err(error) = Destination::new(&destination) {
                assert_tells_nothing(&error.to_string(), 600);
            }
        }
        _ => {
            let mut destination = DestinationConfig::new("siem.example.com", Protocol::RelpTls);
            destination.tls.server_name = Some(text.chars().take(300).collect());
            destination.tls.pin_sha256 = Some([0; 32]);
            if let Err(error) = Destination::new(&destination) {
                super::assert_printable(&error.to_string(), 6000);
            }
        }
    }
}

/// One for the process; its files are written anew each time.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("sls-syslog-fuzz-certificates-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        folder
    })
}
