//! The connection over TLS: what it trusts, what it says when it does not, and what it never believes.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::rig::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use sls_syslog_actors::config::{DestinationConfig, Protocol};
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::messages::ReceiverState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A certificate and its key.
struct Identity {
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    fn sha256(&self) -> String {
        data_encoding::HEXUPPER.encode(&Sha256::digest(&self.der))
    }
}

/// An authority, an identity that it issued for 127.0.0.1, and files that name them.
struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let der = params.self_signed(&key).expect("sign").der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, until_year: i32) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "receiver");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().expect("key");
        let der = params.signed_by(&key, &self.issuer).expect("sign").der().clone();
        Identity { der, key }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a root");
        Arc::new(roots)
    }
}

fn self_signed(is_ca: bool) -> Identity {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, "appliance");
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().expect("key");
    let der = params.self_signed(&key).expect("sign").der().clone();
    Identity { der, key }
}

/// Files of one test, gone with it.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("connection-tls-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("write");
        path
    }

    fn cert(&self, name: &str, der: &[u8]) -> PathBuf {
        let base64 = data_encoding::BASE64.encode(der);
        self.write(name, &format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn server(
    identity: &Identity,
    client_roots: Option<Arc<RootCertStore>>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).expect("versions");
    let builder = match client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots, provider).build().expect("a verifier"),
        ),
    };
    let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
    Arc::new(builder.with_single_cert(vec![identity.der.clone()], key.into()).expect("a pair"))
}

/// A receiver that reads everything; answers what each connection brought until it ended well.
async fn receive(config: Arc<ServerConfig>) -> (u16, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
    actix_rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await else { continue };
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).await.is_ok() {
                let _ = stream.shutdown().await;
                let _ = tx.send(all);
            }
        }
    });
    (port, rx)
}

/// What is said of a receiver that cannot be trusted, or does not trust us.
async fn complaint(settings: &DestinationConfig, text: &str) -> String {
    let mut rig = Rig::new(settings);
    rig.send(&numbered(0, 10, 300)).await;
    let why = rig.down_with(text).await;
    rig.nothing_settled();
    rig.close(Duration::ZERO).await;
    why
}

/// Both versions, with client certificates, large enough to fill every buffer: all is confirmed, and the receiver sees a
/// polite end.
#[test]
fn what_is_read_over_tls_is_delivered_under_both_versions_with_client_certificates() {
    for versions in [TLS12, TLS13] {
        run(async {
            let files = Files::new(&format!("delivered-{}", versions[0].version.as_str().unwrap_or("")));
            let authority = Authority::new();
            let ours = authority.issue("client", 2099);
            let (port, mut received) =
                receive(server(&authority.issue("127.0.0.1", 2099), Some(authority.roots()), versions)).await;
            let mut settings = config(Protocol::Tls, port);
            settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
            let key = files.write("key.pem", &ours.key.serialize_pem());
            settings.tls.client = Some((files.cert("client.pem", &ours.der), key));
            settings.confirm_after_connect = Duration::from_millis(50);
            let mut rig = Rig::new(&settings);
            let mut expected = Vec::new();
            for batch in 0..20 {
                let messages = numbered(batch * 2_000, 2_000, 300);
                rig.send(&messages).await;
                expected.extend(messages);
            }
            assert_eq!(rig.state().await, ReceiverState::Ready);
            rig.delivered(0..20).await;
            let counters = Arc::clone(&rig.counters);
            rig.close(PATIENCE).await;
            let received = soon("the polite end", received.recv()).await.expect("receiver");
            assert!(received == counted(&expected));
            assert_eq!(counters.snapshot().bytes_confirmed, received.len() as u64);
            assert_eq!(counters.snapshot().connections_cut, 0);
        });
    }
}

#[test]
fn an_unknown_authority_is_named_with_fingerprint_and_the_keys_to_set() {
    run(async {
        let files = Files::new("unknown");
        let theirs = Authority::new().issue("127.0.0.1", 2099);
        let (port, _received) = receive(server(&theirs, None, TLS13)).await;
        let mut settings = config(Protocol::Tls, port);
        settings.tls.ca_path = Some(files.cert("ca.pem", &Authority::new().der));
        let why = complaint(&settings, "unknown authority").await;
        assert!(why.contains("Test Authority") && why.contains("destination.cert_path"), "{why}");
        assert!(why.contains(&format!("destination.tls.pin_sha256 = \"{}\"", theirs.sha256())), "{why}");
    });
}

#[test]
fn a_wrong_host_name_is_answered_with_the_names_in_the_certificate() {
    run(async {
        let files = Files::new("name");
        let authority = Authority::new();
        let theirs = authority.issue("siem.example.com", 2099);
        let (port, _received) = receive(server(&theirs, None, TLS13)).await;
        let mut settings = config(Protocol::Tls, port);
        settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
        let why = complaint(&settings, "siem.example.com").await;
        assert!(why.contains("destination.tls.server_name = \"siem.example.com\""), "{why}");
        assert!(why.contains("not for 127.0.0.1") && why.contains(&theirs.sha256()), "{why}");
        settings.tls.server_name = Some("siem.example.com".to_owned());
        let mut rig = Rig::new(&settings);
        rig.send(&numbered(0, 10, 300)).await;
        rig.delivered(0..1).await;
        rig.close(PATIENCE).await;
    });
}

#[test]
fn an_expired_certificate_is_answered_with_its_date() {
    run(async {
        let files = Files::new("expired");
        let authority = Authority::new();
        let theirs = authority.issue("127.0.0.1", 2021);
        let (port, _received) = receive(server(&theirs, None, TLS13)).await;
        let mut settings = config(Protocol::Tls, port);
        settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
        let why = complaint(&settings, "expired on 2021-01-01").await;
        assert!(why.contains(&theirs.sha256()) && why.contains("clock"), "{why}");
    });
}

/// An appliance's own certificate, an authority's or not: refused without a pin, accepted with it, and another one is
/// refused although the pin is set.
#[test]
fn a_self_signed_certificate_needs_its_pin_and_no_other_certificate_passes_for_it() {
    for is_ca in [false, true] {
        run(async {
            let files = Files::new(&format!("pin-{is_ca}"));
            let (theirs, other) = (self_signed(is_ca), self_signed(is_ca));
            let (port, _received) = receive(server(&theirs, None, TLS13)).await;
            let mut settings = config(Protocol::Tls, port);
            settings.tls.ca_path = Some(files.cert("ca.pem", &Authority::new().der));
            let why = complaint(&settings, "signed by itself").await;
            assert!(why.contains(&format!("destination.tls.pin_sha256 = \"{}\"", theirs.sha256())), "{why}");

            settings.tls.pin_sha256 = Some(Sha256::digest(&other.der).into());
            let why = complaint(&settings, "another certificate than the pinned one").await;
            assert!(why.contains(&theirs.sha256()), "{why}");

            settings.tls.pin_sha256 = Some(Sha256::digest(&theirs.der).into());
            let mut rig = Rig::new(&settings);
            rig.send(&numbered(0, 10, 300)).await;
            rig.delivered(0..1).await;
            rig.close(PATIENCE).await;
        });
    }
}

/// Under TLS 1.2 the handshake fails; under 1.3 it succeeds and the alert comes later.
#[test]
fn a_demanded_client_certificate_is_asked_for_under_both_versions() {
    let protocols = [Protocol::Tls, Protocol::RelpTls];
    for (versions, protocol) in [TLS12, TLS13].into_iter().flat_map(|versions| protocols.map(|p| (versions, p))) {
        run(async {
            let version = versions[0].version.as_str().unwrap_or("");
            let files = Files::new(&format!("demanded-{version}-{protocol}"));
            let authority = Authority::new();
            let theirs = authority.issue("127.0.0.1", 2099);
            let (port, _received) = receive(server(&theirs, Some(authority.roots()), versions)).await;
            let mut settings = config(protocol, port);
            settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
            settings.confirm_after_connect = Duration::from_secs(1);
            let why = complaint(&settings, "destination.tls.client_cert").await;
            assert!(why.contains(&theirs.sha256()) && !why.contains("RELP"), "{why}");
        });
    }
}

/// A receiver that takes its time to refuse our certificate: its TCP has acknowledged everything long before the alert
/// comes, and still nothing is confirmed (rule C2).
#[test]
fn a_late_refusal_of_the_client_certificate_confirms_nothing() {
    run(async {
        let files = Files::new("late");
        let authority = Authority::new();
        let theirs = authority.issue("127.0.0.1", 2099);
        let stranger = Authority::new().issue("client", 2099);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let (refuse, may_refuse) = std::sync::mpsc::channel();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let inner = WebPkiClientVerifier::builder_with_provider(authority.roots(), Arc::clone(&provider))
            .build()
            .expect("a verifier");
        let tls = Arc::new(
            ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(TLS13)
                .expect("versions")
                .with_client_cert_verifier(Arc::new(Slow { inner, may_refuse: std::sync::Mutex::new(may_refuse) }))
                .with_single_cert(vec![theirs.der.clone()], PrivatePkcs8KeyDer::from(theirs.key.serialize_der()).into())
                .expect("a pair"),
        );
        // A thread of its own, because the refusal waits.
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut session = rustls::ServerConnection::new(Arc::clone(&tls)).expect("a session");
                let _ = session.complete_io(&mut stream);
                let _ = stream.flush();
            }
        });
        let mut settings = config(Protocol::Tls, port);
        settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
        let key = files.write("key.pem", &stranger.key.serialize_pem());
        settings.tls.client = Some((files.cert("client.pem", &stranger.der), key));
        settings.confirm_after_connect = Duration::from_secs(1);
        let mut rig = Rig::new(&settings);
        rig.send(&numbered(0, 10, 300)).await;
        let counters = Arc::clone(&rig.counters);
        until("bytes on the wire", || counters.snapshot().bytes_sent > 0).await;
        // Time for their TCP to acknowledge and for us to look.
        tokio::time::sleep(Duration::from_millis(50)).await;
        refuse.send(()).expect("the receiver waits");
        let why = rig.down_with("refuses our client certificate").await;
        assert!(why.contains(&theirs.sha256()), "{why}");
        assert_eq!(rig.counters.snapshot().bytes_confirmed, 0);
        rig.nothing_settled();
        rig.close(Duration::ZERO).await;
    });
}

/// Refuses what the inner one refuses, when it may.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn ClientCertVerifier>,
    may_refuse: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl ClientCertVerifier for Slow {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let _ = self.may_refuse.lock().expect("one connection at a time").recv_timeout(PATIENCE);
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[test]
fn a_receiver_that_does_not_speak_tls_is_recognised() {
    run(async {
        let files = Files::new("plain");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        actix_rt::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"220 syslog ready\r\n").await;
                let _ = stream.read(&mut [0; 1024]).await;
                actix_rt::spawn(async move { while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {} });
            }
        });
        let mut settings = config(Protocol::Tls, port);
        settings.tls.ca_path = Some(files.cert("ca.pem", &Authority::new().der));
        let why = complaint(&settings, "does not speak TLS").await;
        assert!(why.contains("destination.protocol"), "{why}");
    });
}

/// A plain syslog receiver says nothing at all: the handshake ends with the time-out, which names the keys.
#[test]
fn a_silent_receiver_is_given_up_during_the_handshake() {
    run(async {
        let files = Files::new("silent");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let mut settings = config(Protocol::Tls, listener.local_addr().expect("address").port());
        settings.timeout = Duration::from_millis(200);
        settings.tls.ca_path = Some(files.cert("ca.pem", &Authority::new().der));
        complaint(&settings, "did not finish the TLS handshake").await;
    });
}

/// The receiver's process is cut off in the middle; the next connection goes on without a gap.
#[test]
fn after_a_cut_over_tls_nothing_is_left_out() {
    run(async {
        let files = Files::new("cut");
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let mut settings = config(Protocol::Tls, listener.local_addr().expect("address").port());
        settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
        let acceptor = TlsAcceptor::from(server(&authority.issue("127.0.0.1", 2099), None, TLS13));
        let mut rig = Rig::new(&settings);
        let messages = numbered(0, 40_000, 300);
        rig.send(&messages).await;

        let (stream, _) = soon("a connection", listener.accept()).await.expect("accept");
        let mut stream = soon("a handshake", acceptor.accept(stream)).await.expect("handshake");
        let mut first = vec![0; 5_000_000];
        soon("half", stream.read_exact(&mut first)).await.expect("read");
        let first = uncounted(&first);
        socket2::SockRef::from(stream.get_ref().0).set_linger(Some(Duration::ZERO)).expect("linger");
        drop(stream);

        let (stream, _) = soon("a connection", listener.accept()).await.expect("accept");
        let mut stream = soon("a handshake", acceptor.accept(stream)).await.expect("handshake");
        let mut rest = Vec::new();
        while uncounted(&rest).last() != messages.last() {
            let mut chunk = vec![0; 1 << 20];
            let n = soon("the rest", stream.read(&mut chunk)).await.expect("read");
            assert!(n > 0, "closed before all was sent");
            rest.extend(&chunk[..n]);
        }
        let rest = uncounted(&rest);
        let begins_at = number(&rest[0]);
        assert!(begins_at > 0, "what was confirmed is not sent again");
        assert!(begins_at <= first.len(), "messages {}..{begins_at} are missing", first.len());
        assert!(rest[..] == messages[begins_at..]);
        rig.delivered(0..1).await;
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn files_that_cannot_be_used_are_refused_at_start_with_the_remedy() {
    let files = Files::new("files");
    let authority = Authority::new();
    let ours = authority.issue("client", 2099);
    let refused = |change: &dyn Fn(&mut DestinationConfig)| {
        let mut settings = config(Protocol::Tls, 6514);
        settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
        change(&mut settings);
        Destination::new(&settings).err().expect("refused").to_string()
    };
    let encrypted = files
        .write("encrypted.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let chain = files.cert("client.pem", &ours.der);
    let why = refused(&|s| s.tls.client = Some((chain.clone(), encrypted.clone())));
    assert!(why.contains("openssl pkey -in") && why.contains("encrypted.pem"), "{why}");
    let other_key = files.write("other.pem", &authority.issue("other", 2099).key.serialize_pem());
    let why = refused(&|s| s.tls.client = Some((chain.clone(), other_key.clone())));
    assert!(why.contains("do not work together"), "{why}");
    let why = refused(&|s| s.tls.ca_path = Some("/no/such/ca.pem".into()));
    assert!(why.contains("/no/such/ca.pem"), "{why}");
    let empty = files.write("empty.pem", "nothing\n");
    let why = refused(&|s| s.tls.ca_path = Some(empty.clone()));
    assert!(why.contains("empty.pem"), "{why}");
    let why = refused(&|s| s.tls.server_name = Some("not a name".to_owned()));
    assert!(why.contains("destination.tls.server_name"), "{why}");
}

/// The reader of PEM quotes the line that it cannot read: a key that was pasted as one line stood in the log, byte by byte.
#[test]
fn a_key_that_cannot_be_read_is_not_told() {
    let files = Files::new("pasted-key");
    let authority = Authority::new();
    let chain = files.cert("client.pem", &authority.issue("client", 2099).der);
    for (name, text) in [
        ("escaped", "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49\\n-----END PRIVATE KEY-----\\n"),
        ("joined", "-----BEGIN PRIVATE KEY----- MIGHAgEAMBMGByqGSM49 -----END PRIVATE KEY-----\n"),
        ("cut", "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n"),
        ("no base64", "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49!\n-----END PRIVATE KEY-----\n"),
    ] {
        let key = files.write("key.pem", text);
        let mut settings = config(Protocol::Tls, 6514);
        settings.tls.ca_path = Some(files.cert("ca.pem", &authority.der));
        settings.tls.client = Some((chain.clone(), key));
        let why = Destination::new(&settings).err().expect("refused").to_string();
        assert!(why.contains("key.pem holds no private key in PEM form: "), "{name}: {why}");
        let byte_by_byte = format!("{:?}", b"MIGHAg").replace(['[', ']'], "");
        assert!(!why.contains("MIGHAg") && !why.contains(&byte_by_byte), "{name}: {why}");
    }
}
