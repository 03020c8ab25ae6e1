//! `sls-syslog check`: what the user reads for each thing that can be wrong, and that looking changes nothing.

use std::net::SocketAddr;
use std::path::Path;

use crate::certs::{Authority, Validity, self_signed};
use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver, SECRET, eventually, free_port};
use crate::hub::{ENDPOINT, GROUP, Hub, KEY_ID, LOGSTORE, PROJECT};
use crate::peers::{Input, rsyslog};
use crate::snapshot::{fits_a_terminal, is_as_kept, steady};

/// One run of `check`, in a folder where its files are named as they are in snapshots.
struct Checked {
    code: Option<i32>,
    output: String,
}

struct Case<'a> {
    hub: SocketAddr,
    receiver: SocketAddr,
    protocol: &'a str,
    folder: Option<&'a Path>,
    settings: &'a [(&'a str, &'a str)],
    arguments: &'a [&'a str],
    secret: &'a str,
}

impl<'a> Case<'a> {
    fn new(hub: SocketAddr, receiver: SocketAddr, protocol: &'a str) -> Self {
        Self { hub, receiver, protocol, folder: None, settings: &[], arguments: &[], secret: SECRET }
    }

    fn run(&self) -> Checked {
        let mut command = Process::sls_syslog(&["check", "--within", "5"]);
        command
            .env("SLS_ENDPOINT", format!("http://{ENDPOINT}"))
            .env("SLS_CONNECT", self.hub.to_string())
            .env("SLS_PROJECT", PROJECT)
            .env("SLS_LOGSTORE", LOGSTORE)
            .env("SLS_CG", GROUP)
            .env("SLS_AK_ID", KEY_ID)
            .env("SLS_AK_KEY", self.secret)
            .env("SYSLOG_HOST", self.receiver.ip().to_string())
            .env("SYSLOG_PORT", self.receiver.port().to_string())
            .env("SYSLOG_PROTOCOL", self.protocol)
            .env("STATE_DIRECTORY", "/nonexistent")
            .args(self.arguments);
        let always = [("source.signature", "v1"), ("destination.hostname", "forwarder-1")];
        // RELP does not have it.
        let quick: &[_] = match self.protocol.starts_with("relp") {
            true => &[],
            false => &[("destination.confirm_after_connect", "300ms")],
        };
        for (key, value) in always.iter().chain(quick).chain(self.settings) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        let mut process = Process::start("check", &mut command);
        let code = process.wait().code();
        let output = process.stdout().join("\n") + "\n";
        assert!(!process.output().contains(SECRET), "the secret was printed");
        assert_eq!(process.stderr(), [""; 0]);
        Checked { code, output }
    }

    /// Runs it and holds its output against what is kept.
    #[track_caller]
    fn reads_as(&self, name: &str, code: i32) -> Checked {
        let checked = self.run();
        let mut output = steady(&checked.output)
            .replace(&format!(":{}", self.hub.port()), ":<HUB>")
            .replace(&format!(":{}", self.receiver.port()), ":<RCV>")
            .replace(&format!("port {}", self.receiver.port()), "port <RCV>");
        if let Some((_, mark)) = output.split_once("||sls_syslog_check=") {
            output = output.replace(&mark[..8].to_owned(), "XXXXXXXX");
        }
        // Clocks are read in whole seconds.
        for (near, exact) in [("299 s", "300 s"), ("301 s", "300 s"), ("3599 s", "3600 s"), ("3601 s", "3600 s")] {
            output = output.replace(near, exact);
        }
        assert_eq!(checked.code, Some(code), "{output}");
        // The bytes have a test of their own, and a message is one line, however long.
        let is_bytes = |line: &str| line.len() > 6 && line.as_bytes()[..6].iter().all(u8::is_ascii_hexdigit);
        let lines: Vec<&str> = output.lines().filter(|line| !is_bytes(line)).collect();
        let framed: Vec<&str> = lines.iter().copied().filter(|line| !line.starts_with('<')).collect();
        fits_a_terminal(&framed.join("\n"));
        is_as_kept(&format!("check-{name}"), &(lines.join("\n") + "\n"));
        checked
    }
}

/// A LogHub with logs in one of its two shards.
fn hub(arguments: &[&str]) -> Hub {
    let hub = Hub::start_with(2, arguments);
    hub.put(0, &crate::hub::numbered_group(0, 0..3));
    hub
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[test]
fn what_is_in_place_is_said_and_nothing_is_changed_by_looking() {
    let hub = hub(&[]);
    let receiver = Receiver::start(&[]);
    let before = hub.logstore();
    Case::new(hub.address, receiver.address, "tcp").reads_as("new-group", 0);
    let show = ["--send", "--show", "2"];
    assert_eq!(Case { arguments: &show, ..Case::new(hub.address, receiver.address, "tcp") }.run().code, Some(0));
    // No group, no consumer, no heartbeat, no commit: the whole state is as it was.
    assert_eq!(hub.logstore(), before);
    assert_eq!(before["groups"], serde_json::json!({}));
}

#[test]
fn a_group_that_exists_goes_on_as_if_nobody_had_looked() {
    let hub = hub(&[]);
    let receiver = Receiver::start(&["--mode", "check"]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[]);
    hub.put(1, &crate::hub::numbered_group(1, 0..3));
    hub.wait_until_committed();
    forwarder.stop();
    hub.put(1, &crate::hub::numbered_group(1, 3..6));
    let before = hub.logstore();
    assert!(before["groups"][GROUP]["heartbeats"].as_u64() > Some(0), "{before}");
    let settings = [("source.heartbeat_interval", "1"), ("source.group_timeout", "2")];
    Case { settings: &settings, ..Case::new(hub.address, receiver.address, "tcp") }.reads_as("known-group", 0);
    let mut after = hub.logstore();
    // Consumers expire by themselves, whoever looks.
    for state in ["consumers", "shards"] {
        after["groups"][GROUP][state] = before["groups"][GROUP][state].clone();
    }
    assert_eq!(after, before);
}

#[test]
fn what_is_wrong_with_sls_is_said_with_its_remedy() {
    let receiver = Receiver::start(&[]);
    let good = hub(&[]);
    let case = |hub: &Hub| Case::new(hub.address, receiver.address, "tcp");
    Case { secret: "wrong", ..case(&good) }.reads_as("wrong-secret", 1);
    Case { settings: &[("source.project", "no-such-project")], ..case(&good) }.reads_as("wrong-project", 1);
    Case { settings: &[("source.logstore", "no-such-logstore")], ..case(&good) }.reads_as("wrong-logstore", 1);
    Case::new(nowhere(), receiver.address, "tcp").reads_as("sls-refuses-connections", 1);
    case(&Hub::start_with(2, &["--clock-offset", "300"])).reads_as("clock-off", 0);
    case(&Hub::start_with(2, &["--clock-offset=-3600"])).reads_as("clock-far-off", 1);
    case(&Hub::start_with(2, &["--fault", "html-error:3"])).reads_as("proxy-page", 1);
    // SLS says so to the first three requests, one of which asks for each of the rights.
    case(&Hub::start_with(2, &["--fault", "unauthorized:3"])).reads_as("no-rights", 1);
    case(&hub(&["--fault", "corrupt-lz4"])).reads_as("unreadable-logs", 1);
    // A plain listener that never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut hanging = Case::new(silent.local_addr().unwrap(), receiver.address, "tcp");
    hanging.settings = &[("source.request_timeout", "1")];
    hanging.reads_as("sls-silent", 1);
}

#[test]
fn an_sls_that_shows_a_foreign_certificate_is_named_with_the_key_to_set() {
    let folder = Folder::new("check-https");
    let authority = Authority::new("private authority").unwrap();
    authority.identity().write(folder.path(), "ca").unwrap();
    Authority::new("another authority").unwrap().identity().write(folder.path(), "other").unwrap();
    let name = format!("{PROJECT}.{ENDPOINT}");
    let (cert, key) = authority.issue(&[&name], Validity::Now).unwrap().write(folder.path(), "sls").unwrap();
    let hub = Hub::start_with(1, &["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let receiver = Receiver::start(&[]);
    let endpoint = format!("https://{ENDPOINT}");
    let with = |ca| [("source.endpoint", endpoint.as_str()), ("source.ca_path", ca)];
    let case = Case { folder: Some(folder.path()), ..Case::new(hub.address, receiver.address, "tcp") };
    Case { settings: &with("other.pem"), ..case }.reads_as("sls-unknown-authority", 1);
    let trusted = Case { folder: Some(folder.path()), ..Case::new(hub.address, receiver.address, "tcp") };
    let trusted = Case { settings: &with("ca.pem"), ..trusted }.run();
    assert_eq!(trusted.code, Some(0), "{}", trusted.output);
}

#[test]
fn what_is_wrong_with_a_receiver_is_said_with_its_remedy() {
    let hub = hub(&[]);
    let case = |receiver: SocketAddr, protocol: &'static str| Case::new(hub.address, receiver, protocol);
    case(nowhere(), "tcp").reads_as("receiver-refuses-connections", 1);
    Case { arguments: &["--send"], ..case(nowhere(), "udp") }.reads_as("udp-refused-port", 1);
    let plain = Receiver::start(&[]);
    Case { settings: &[("destination.timeout", "1")], ..case(plain.address, "tls") }.reads_as("plain-not-tls", 1);
    Case { settings: &[("destination.timeout", "1")], ..case(plain.address, "relp") }.reads_as("plain-not-relp", 1);
    let full = Receiver::start(&["--max-connections", "0"]);
    case(full.address, "tcp").reads_as("closes-at-once", 1);
    let refusing = Receiver::start(&["--protocol", "relp", "--relp-refuse", "1"]);
    let mut refused = case(refusing.address, "relp");
    refused.arguments = &["--send"];
    let refused = refused.run();
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    assert!(refused.output.contains("FAILED  test event: "), "{}", refused.output);
}

#[test]
fn what_is_wrong_with_certificates_is_said_with_the_settings_that_accept_them() {
    let hub = hub(&[]);
    let folder = Folder::new("check-certificates");
    let trusted = Authority::new("trusted authority").unwrap();
    std::fs::write(folder.path().join("ca.pem"), trusted.pem()).unwrap();
    let names = ["localhost", "127.0.0.1"];
    let stranger = Authority::new("unknown authority").unwrap();
    std::fs::write(folder.path().join("client-ca.pem"), stranger.pem()).unwrap();
    trusted.issue(&["client"], Validity::Now).unwrap().write(folder.path(), "client").unwrap();
    trusted.issue(&names, Validity::Now).unwrap().write(folder.path(), "good").unwrap();
    let receiver = |name: &str, more: &[&str]| {
        let path = |file: String| folder.path().join(file).to_str().unwrap().to_owned();
        let (cert, key) = (path(format!("{name}.pem")), path(format!("{name}-key.pem")));
        Receiver::start(&[&["--protocol", "tls", "--cert", &cert, "--key", &key], more].concat())
    };
    let settings = [("destination.cert_path", "ca.pem")];
    let case = |receiver: &Receiver| Case {
        folder: Some(folder.path()),
        settings: &settings,
        ..Case::new(hub.address, receiver.address, "tls")
    };
    for (name, identity) in [
        ("unknown-authority", stranger.issue(&names, Validity::Now).unwrap()),
        ("wrong-name", trusted.issue(&["siem.example.com"], Validity::Now).unwrap()),
        ("expired", trusted.issue(&names, Validity::Expired).unwrap()),
        ("self-signed", self_signed(&names).unwrap()),
    ] {
        identity.write(folder.path(), name).unwrap();
        let receiver = receiver(name, &[]);
        let refused = case(&receiver).reads_as(name, 1);
        // The lines to add do what they say.
        let lines: Vec<_> = refused.output.lines().skip_while(|line| *line != "[destination.tls]").take(2).collect();
        std::fs::write(folder.path().join("pinned.toml"), lines.join("\n")).unwrap();
        let pinned = Case { arguments: &["--config", "pinned.toml"], ..case(&receiver) }.run();
        assert_eq!(pinned.code, Some(0), "{}", pinned.output);
    }
    case(&receiver("good", &[])).reads_as("tls", 0);
    let client_ca = folder.path().join("client-ca.pem").to_str().unwrap().to_owned();
    let mutual = receiver("good", &["--client-ca", &client_ca]);
    case(&mutual).reads_as("client-certificate-wanted", 1);
    let wrong =
        [settings[0], ("destination.tls.client_cert", "client.pem"), ("destination.tls.client_key", "client-key.pem")];
    Case { settings: &wrong, ..case(&mutual) }.reads_as("client-certificate-refused", 1);
}

#[test]
fn a_test_event_arrives_with_the_bytes_that_were_printed_and_logs_are_only_shown() {
    let hub = hub(&[]);
    let folder = Folder::new("check-send");
    for (protocol, framing) in [("tcp", "lf"), ("tcp", "octet-counting"), ("udp", ""), ("relp", "")] {
        let file = folder.path().join(format!("{protocol}{framing}"));
        let output = ["--output", file.to_str().unwrap(), "--output-format", "raw"];
        let receiver = Receiver::start(&[&["--protocol", protocol][..], &output].concat());
        let settings = [("destination.framing", framing)];
        let case = Case {
            settings: if framing.is_empty() { &[] } else { &settings },
            arguments: &["--send", "--show", "2", "--json"],
            ..Case::new(hub.address, receiver.address, protocol)
        };
        let checked = case.run();
        assert_eq!(checked.code, Some(0), "{}", checked.output);
        let whole: serde_json::Value = serde_json::from_str(&checked.output).unwrap();
        let messages = whole["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 3, "{whole:#}");
        let text = messages[0]["text"].as_str().unwrap();
        eventually("the event in the receiver's file", || {
            let received = std::fs::read_to_string(&file).unwrap_or_default();
            if received.contains(text) { Ok(()) } else { Err(received) }
        });
        assert_eq!(receiver.finish()["messages"], 1, "logs were sent too");
        assert!(text.starts_with("<14>1 20") && text.contains(" forwarder-1 - - - - ||"), "{text}");
        let wire = match framing {
            "lf" => format!("{text}\n"),
            "octet-counting" => format!("{} {text}", text.len()),
            _ => text.to_owned(),
        };
        let hex: String = wire.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(messages[0]["hex"], hex);
        for (n, message) in messages[1..].iter().enumerate() {
            let text = message["text"].as_str().unwrap();
            assert!(text.contains("||stream=s0||") && text.contains(&format!("||n={n}||")), "{text}");
            assert!(text.starts_with("<14>1 2026-01-02T03:04:05Z forwarder-1 - - - - ||__topic__=nginx||"), "{text}");
        }
    }
}

#[test]
fn rsyslog_is_found_in_order_and_what_it_refuses_is_said() {
    for (input, protocol) in [(Input::Tls, "tls"), (Input::RelpTls, "relp+tls"), (Input::Relp, "relp")] {
        let Some(daemon) = rsyslog(input, free_port()) else { return };
        let address = SocketAddr::from(([127, 0, 0, 1], daemon.port));
        let hub = hub(&[]);
        let full = [
            ("destination.cert_path", "ca.pem"),
            ("destination.tls.client_cert", "client.pem"),
            ("destination.tls.client_key", "client-key.pem"),
        ];
        let settings = if protocol == "relp" { &full[..0] } else { &full[..] };
        let case = Case {
            folder: Some(daemon.folder.path()),
            settings,
            arguments: &["--send"],
            ..Case::new(hub.address, address, protocol)
        };
        let sent = case.run();
        assert_eq!(sent.code, Some(0), "{}", sent.output);
        let mark = sent.output.split("test event: ").nth(1).unwrap()[..8].to_owned();
        eventually("the test event in rsyslog", || {
            let received = daemon.received();
            let found = received.iter().any(|message| message.msg.contains(&format!("||sls_syslog_check={mark}||")));
            found.then_some(()).ok_or_else(|| format!("{received:?}"))
        });
        if protocol != "relp" {
            let name = format!("rsyslog-{}", protocol.replace('+', "-"));
            Case { arguments: &[], ..case }.reads_as(&name, 0);
            let without = Case { settings: &full[..1], arguments: &[], ..Case::new(hub.address, address, protocol) };
            Case { folder: Some(daemon.folder.path()), ..without }.reads_as(&format!("{name}-no-client"), 1);
        }
    }
}
