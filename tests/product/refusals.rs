//! Bad input of every kind: each has its own clear message, nothing is lost by it, and no secret is printed.
//!
//! Forwarders run at trace level here, so that every log of every library is looked at for the secret.

use std::net::SocketAddr;
use std::path::Path;

use crate::certs::{Authority, Identity, Validity, self_signed};
use crate::forwarder::Forwarder;
use crate::harness::{Folder, Receiver, SECRET, free_port};
use crate::hub::{Hub, group, log};

const SHARDS: u32 = 2;
const LOGS_PER_SHARD: u64 = 300;
const TRACE: (&str, &str) = ("log.level", "trace");

fn filled_hub(arguments: &[&str]) -> Hub {
    let hub = Hub::start_with(SHARDS, arguments);
    hub.put_numbered(0..LOGS_PER_SHARD, 50);
    hub
}

/// The receiver has everything, once and in order.
#[track_caller]
fn has_everything(receiver: Receiver) {
    let summary = receiver.finish();
    assert_eq!(summary["unique"], u64::from(SHARDS) * LOGS_PER_SHARD, "{summary}");
    for nothing in ["missing", "duplicates", "out_of_order", "gap_records"] {
        assert_eq!(summary[nothing], 0, "{summary}");
    }
}

/// The forwarder ends by itself with this code, having said these words.
#[track_caller]
fn ends_with(mut forwarder: Forwarder, code: i32, words: &[&str]) {
    let status = forwarder.process.wait();
    let output = forwarder.output();
    assert_eq!(status.code(), Some(code), "{output}");
    for word in words {
        assert!(output.contains(word), "{word:?} is missing:\n{output}");
    }
}

#[test]
fn wrong_key_ends_the_process_before_it_joins() {
    let hub = filled_hub(&[]);
    let receiver = Receiver::start(&[]);
    let wrong = "MARKER-of-a-wrong-secret";
    let forwarder = Forwarder::start_with_key("forwarder", &hub, receiver.address, "tcp", &[TRACE], wrong);
    let mut forwarder = forwarder;
    let status = forwarder.process.wait();
    let output = forwarder.output();
    assert_eq!(status.code(), Some(4), "{output}");
    assert!(output.contains("SignatureNotMatch"), "{output}");
    assert!(!output.contains(wrong), "the wrong secret was printed:\n{output}");
}

#[test]
fn wrong_project_ends_the_process_before_it_joins() {
    let hub = filled_hub(&[]);
    let receiver = Receiver::start(&[]);
    let settings = [TRACE, ("source.project", "no-such-project")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    ends_with(forwarder, 4, &["ProjectNotExist", "no-such-project"]);
}

#[test]
fn wrong_logstore_ends_the_process_before_it_joins() {
    let hub = filled_hub(&[]);
    let receiver = Receiver::start(&[]);
    let settings = [TRACE, ("source.logstore", "no-such-logstore")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    ends_with(forwarder, 4, &["LogStoreNotExist", "no-such-logstore"]);
}

#[test]
fn a_clock_that_is_off_is_named_with_its_remedy() {
    // The hub's clock is an hour ahead; puts are refused as well, so this hub stays empty.
    let hub = Hub::start_with(SHARDS, &["--clock-offset", "3600"]);
    let receiver = Receiver::start(&[]);
    let mut forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[TRACE]);
    forwarder.process.says("clock-skew");
    forwarder.process.says("set it (NTP)");
    forwarder.output();
}

#[test]
fn contradictory_settings_are_refused_with_the_number_to_change() {
    let hub = Hub::start(1);
    let receiver = Receiver::start(&[]);
    let settings = [("destination.framing", "lf"), ("destination.newlines", "keep")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    ends_with(forwarder, 3, &["destination.newlines", "lf"]);
}

/// A body that is broken for a while is pulled again, and nothing is lost.
#[track_caller]
fn survives(fault: &str, words: &[&str]) {
    survives_with(fault, words, "lz4");
}

#[track_caller]
fn survives_with(fault: &str, words: &[&str], compression: &str) {
    let hub = filled_hub(&["--fault", fault]);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [TRACE, ("source.compression", compression)];
    let mut forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    for word in words {
        forwarder.process.says(word);
    }
    hub.wait_until_committed();
    forwarder.stop();
    has_everything(receiver);
}

#[test]
fn a_body_cut_short_by_a_clean_close_is_pulled_again() {
    survives("cut-body:2", &["was cut off", "bad-body"]);
}

#[test]
fn a_corrupt_body_is_pulled_again() {
    survives("corrupt-lz4:2", &["bad-body", "no LZ4 block"]);
    survives_with("corrupt-lz4:2", &["bad-body", "no zstd frame"], "zstd");
}

#[test]
fn a_body_larger_than_declared_is_pulled_again() {
    survives("smaller-raw:2", &["bad-body"]);
}

#[test]
fn a_body_that_declares_a_terabyte_is_not_believed() {
    survives("huge-raw:1", &[]);
}

#[test]
fn a_body_without_next_cursor_is_not_believed() {
    survives("no-cursor:2", &["cursor"]);
}

#[test]
fn quotas_and_server_errors_only_delay() {
    survives("pull-quota:1", &["ShardReadQuotaExceed"]);
    survives("heartbeat-busy:1", &["ServerBusy"]);
    survives("commit-busy:1", &["ServerBusy"]);
}

// ---- Values --------------------------------------------------------------------------------------------------

#[test]
fn strange_values_arrive_whole() {
    let hub = Hub::start(1);
    let megabyte = vec![b'm'; 1 << 20];
    let values: [(&str, &[u8]); 4] =
        [("broken", b"a\xff\xfeb"), ("lines", b"one\r\ntwo\n"), ("large", &megabyte), ("tab", b"a\tb")];
    for (n, value) in values.iter().enumerate() {
        let number = n.to_string();
        hub.put(0, &group(vec![log(&[("stream", b"s0"), ("n", number.as_bytes()), *value])]));
    }
    let folder = Folder::new("values");
    let file = folder.path().join("received.json");
    let receiver = Receiver::start(&["--mode", "check", "--output", file.to_str().unwrap()]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[TRACE]);
    hub.wait_until_committed();
    forwarder.stop();
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&4.into(), &0.into()), "{summary}");
    let text = std::fs::read_to_string(&file).unwrap();
    let messages: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends_with = |n: usize, end: &str| {
        let msg = messages[n]["msg"].as_str().unwrap_or_else(|| panic!("{}", messages[n]));
        assert!(msg.ends_with(end), "{:?}", msg.chars().take(300).collect::<String>());
    };
    ends_with(0, "||broken=a\u{fffd}\u{fffd}b");
    ends_with(1, "||lines=one\\r\\ntwo\\n");
    ends_with(2, &format!("||large={}", "m".repeat(1 << 20)));
    ends_with(3, "||tab=a\tb");
}

// ---- The receiver's certificate ------------------------------------------------------------------------------

/// Certificates of one test: an authority that the forwarder trusts and a good server certificate.
struct Certificates {
    folder: Folder,
    trusted: Authority,
}

impl Certificates {
    fn new() -> Self {
        let folder = Folder::new("certificates");
        let trusted = Authority::new("trusted authority").unwrap();
        std::fs::write(folder.path().join("ca.pem"), trusted.pem()).unwrap();
        let certificates = Self { folder, trusted };
        certificates.write("good", &certificates.issue(Validity::Now));
        certificates
    }

    fn issue(&self, validity: Validity) -> Identity {
        self.trusted.issue(&["localhost", "127.0.0.1"], validity).unwrap()
    }

    fn write(&self, name: &str, identity: &Identity) {
        identity.write(self.folder.path(), name).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A receiver that shows the named certificate.
    fn receiver(&self, name: &str, address: SocketAddr, more: &[&str]) -> Receiver {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        let address = address.to_string();
        let own = ["--protocol", "tls", "--cert", &cert, "--key", &key, "--listen", &address, "--mode", "check"];
        Receiver::start(&[&own, more].concat())
    }
}

/// A receiver with a bad certificate is named with the reason and the line that would accept it; once it has a good
/// one, everything is delivered.
#[track_caller]
fn refuses_the_certificate(bad: impl Fn(&Certificates) -> Identity, words: &[&str]) {
    let certificates = Certificates::new();
    certificates.write("bad", &bad(&certificates));
    let hub = filled_hub(&[]);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let first = certificates.receiver("bad", address, &[]);
    let ca = certificates.path("ca.pem");
    let settings = [TRACE, ("destination.cert_path", ca.as_str())];
    let mut forwarder = Forwarder::start(&hub, address, "tls", &settings);
    for word in words {
        forwarder.process.says(word);
    }
    // Rule U7: the fingerprint, beside the line to add.
    forwarder.process.says("certificate SHA-256");
    let summary = first.finish();
    assert_eq!(summary["messages"], 0, "{summary}");
    let second = certificates.receiver("good", address, &[]);
    hub.wait_until_committed();
    forwarder.stop();
    has_everything(second);
}

#[test]
fn an_unknown_authority_is_refused() {
    let stranger = |_: &Certificates| {
        Authority::new("unknown authority").unwrap().issue(&["localhost", "127.0.0.1"], Validity::Now).unwrap()
    };
    refuses_the_certificate(stranger, &["signed by an unknown authority", "destination.tls.pin_sha256 ="]);
}

#[test]
fn a_wrong_host_name_is_refused() {
    let other = |own: &Certificates| own.trusted.issue(&["siem.example.com"], Validity::Now).unwrap();
    refuses_the_certificate(other, &["is for siem.example.com", "destination.tls.server_name ="]);
}

/// Rule U7: what is checked and sent is the name that is set, whatever name leads there.
#[test]
fn the_name_that_is_set_is_the_one_that_is_checked_over_tls_and_relp() {
    let certificates = Certificates::new();
    certificates.write("named", &certificates.trusted.issue(&["siem.example.com"], Validity::Now).unwrap());
    let (ca, cert, key) =
        (certificates.path("ca.pem"), certificates.path("named.pem"), certificates.path("named-key.pem"));
    for protocol in ["tls", "relp+tls"] {
        let hub = Hub::start(1);
        hub.put_numbered(0..50, 10);
        let receiver = Receiver::start(&["--protocol", protocol, "--cert", &cert, "--key", &key, "--mode", "check"]);
        let named = |name: &str| {
            let settings = [("destination.cert_path", ca.as_str()), ("destination.tls.server_name", name)];
            Forwarder::start(&hub, receiver.address, protocol, &settings)
        };
        let mut other = named("127.0.0.1");
        other.process.says("is for siem.example.com");
        other.stop();
        let right = named("siem.example.com");
        hub.wait_until_committed();
        right.stop();
        let summary = receiver.finish();
        assert_eq!((&summary["unique"], &summary["missing"]), (&50.into(), &0.into()), "{protocol}: {summary}");
    }
}

#[test]
fn an_expired_certificate_is_refused() {
    refuses_the_certificate(|own| own.issue(Validity::Expired), &["expired on", "destination.tls.pin_sha256 ="]);
}

#[test]
fn a_self_signed_certificate_is_refused() {
    refuses_the_certificate(
        |_| self_signed(&["localhost", "127.0.0.1"]).unwrap(),
        &["is signed by itself", "destination.tls.pin_sha256 ="],
    );
}

#[test]
fn a_self_signed_certificate_is_accepted_by_its_fingerprint() {
    let certificates = Certificates::new();
    let identity = self_signed(&["siem.example.com"]).unwrap();
    certificates.write("own", &identity);
    let hub = filled_hub(&[]);
    let receiver = certificates.receiver("own", SocketAddr::from(([127, 0, 0, 1], 0)), &[]);
    let fingerprint = fingerprint(&certificates.folder.path().join("own.pem"));
    let settings = [TRACE, ("destination.tls.pin_sha256", fingerprint.as_str())];
    let forwarder = Forwarder::start(&hub, receiver.address, "tls", &settings);
    hub.wait_until_committed();
    forwarder.stop();
    has_everything(receiver);
}

fn fingerprint(pem: &Path) -> String {
    use rustls::pki_types::pem::PemObject;
    let der = rustls::pki_types::CertificateDer::from_pem_file(pem).unwrap();
    // The product's own digest of bytes, in hexadecimal.
    sls_syslog_actors::wire::sls::sign::content_sha256(&der)
}

#[test]
fn a_client_certificate_refused_under_tls_1_3_confirms_nothing() {
    let certificates = Certificates::new();
    let stranger = Authority::new("another authority").unwrap();
    std::fs::write(certificates.folder.path().join("client-ca.pem"), stranger.pem()).unwrap();
    certificates.write("client", &certificates.issue(Validity::Now));
    let hub = filled_hub(&[]);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let client_ca = certificates.path("client-ca.pem");
    let first = certificates.receiver("good", address, &["--client-ca", &client_ca]);
    let (ca, cert, key) =
        (certificates.path("ca.pem"), certificates.path("client.pem"), certificates.path("client-key.pem"));
    let settings = [
        TRACE,
        ("destination.cert_path", ca.as_str()),
        ("destination.tls.client_cert", cert.as_str()),
        ("destination.tls.client_key", key.as_str()),
    ];
    let mut forwarder = Forwarder::start(&hub, address, "tls", &settings);
    forwarder.process.says("refuses our client certificate");
    let group = hub.logstore()["groups"][crate::hub::GROUP].clone();
    for shard in group["shards"].as_array().into_iter().flatten() {
        assert_eq!(shard["checkpoint"], "", "something was committed: {group}");
    }
    assert_eq!(first.finish()["messages"], 0);
    let second = certificates.receiver("good", address, &["--client-ca", &ca]);
    hub.wait_until_committed();
    assert!(!forwarder.output().contains(SECRET));
    forwarder.stop();
    has_everything(second);
}
