//! Whom the client trusts over https.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use sls_syslog_actors::config::{Endpoint, SourceConfig};
use sls_syslog_actors::io::log_hub::SlsSetup;
use sls_syslog_actors::ports::LogHub;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{ok, read_request};
use crate::{client, source, transport};

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sls-client-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves `[]` over TLS as `name` until the test ends; answers address and authority (PEM).
async fn tls_server(name: &str) -> (SocketAddr, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            while read_request(&mut stream, 0).await.is_some() {
                answer(&mut stream).await;
            }
        }
    });
    (address, authority_certificate.pem())
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin)) {
    let _ = stream.write_all(&ok("[]").bytes).await;
    let _ = stream.flush().await;
}

fn https(address: SocketAddr, host: &str, ca_path: PathBuf) -> SourceConfig {
    SourceConfig {
        endpoint: Endpoint { https: true, host: host.to_owned(), port: Some(address.port()) },
        connect: Some(address),
        ca_path: Some(ca_path),
        ..source(address)
    }
}

#[actix_rt::test]
async fn https_works_with_an_authority_of_ones_own() {
    let scratch = Scratch::new("own-ca");
    let (address, pem) = tls_server("proj1.sls.test").await;
    let ca = scratch.file("ca.pem", &pem);
    let client = client(&https(address, "sls.test", ca));
    for _ in 0..2 {
        assert_eq!(client.heartbeat(&[]).await.unwrap(), []);
    }
    let (address, pem) = tls_server("127.0.0.1").await;
    let ca = scratch.file("ip.pem", &pem);
    let by_address = SourceConfig { connect: None, ..https(address, "127.0.0.1", ca) };
    assert_eq!(crate::client(&by_address).heartbeat(&[]).await.unwrap(), []);
}

#[actix_rt::test]
async fn a_wrong_certificate_is_refused_with_the_remedy() {
    let scratch = Scratch::new("wrong-ca");
    let (address, pem) = tls_server("proj1.sls.test").await;
    let (_, other) = tls_server("proj1.sls.test").await;
    let refused = async |host: &str, pem: &str| {
        let ca = scratch.file("ca.pem", pem);
        transport(client(&https(address, host, ca)).heartbeat(&[]).await.unwrap_err())
    };
    let what = refused("sls.test", &other).await;
    assert!(what.contains("proj1.sls.test") && what.contains("source.ca_path"), "{what}");
    let what = refused("other.test", &pem).await;
    assert!(what.contains("not for proj1.other.test"), "{what}");
}

#[actix_rt::test]
async fn plain_http_behind_an_https_endpoint_is_named() {
    let scratch = Scratch::new("plain");
    let (_, pem) = tls_server("proj1.sls.test").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        // Kept open until the client hangs up.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let ca = scratch.file("ca.pem", &pem);
    let what = transport(client(&https(address, "sls.test", ca)).heartbeat(&[]).await.unwrap_err());
    assert!(what.contains("does not speak TLS"), "{what}");
}

#[test]
fn unusable_authorities_are_refused_at_setup() {
    let scratch = Scratch::new("no-ca");
    let address = "127.0.0.1:9".parse().unwrap();
    let refused = |path: PathBuf| SlsSetup::new(&https(address, "sls.test", path)).unwrap_err().to_string();
    let missing = refused(scratch.0.join("missing.pem"));
    assert!(missing.contains("missing.pem"), "{missing}");
    let empty = refused(scratch.file("empty.pem", "nothing here"));
    assert!(empty.contains("no PEM certificate"), "{empty}");
}
