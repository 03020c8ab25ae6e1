//! What no receiver takes: kept where only its owner reads it, shown, and sent again until it is confirmed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sls_syslog_actors::wire::dead_letter::{Entry, SetAsideLog, Text};

use crate::harness::{Folder, Process, Receiver, eventually};
use crate::hub::LOG_TIME;

/// A dead letter in a folder of its own.
struct DeadLetter {
    folder: Folder,
}

impl DeadLetter {
    fn new(name: &str) -> Self {
        Self { folder: Folder::new(name) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("dead-letter.jsonl")
    }

    /// Fills it as a forwarder would have.
    fn fill(&self, entries: &[Entry]) {
        let lines: Vec<u8> = entries.iter().flat_map(Entry::to_line).collect();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create_new(true).write(true).mode(0o600).open(self.path()).unwrap();
        std::io::Write::write_all(&mut file, &lines).unwrap();
    }

    fn entries(&self) -> Vec<Entry> {
        read_entries(&self.path())
    }

    fn mode(&self) -> u32 {
        std::fs::metadata(self.path()).unwrap().permissions().mode() & 0o777
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Process::sls_syslog(&["dead-letter"]);
        command.args(arguments).arg("--file").arg(self.path());
        command
    }

    fn show(&self, arguments: &[&str]) -> (String, bool) {
        let output = self.command(&[&["show"], arguments].concat()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }

    fn resend(&self, to: SocketAddr, settings: &[&str]) -> Process {
        let mut command = self.command(&["resend"]);
        let (host, port) = (format!("destination.host={}", to.ip()), format!("destination.port={}", to.port()));
        let quick = ["destination.confirm_after_connect=300ms", "destination.reconnect_max=500ms"];
        for setting in [&host, &port].into_iter().map(String::as_str).chain(quick).chain(settings.iter().copied()) {
            command.args(["--set", setting]);
        }
        Process::start("resend", &mut command)
    }
}

fn read_entries(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| Entry::from_line(line.as_bytes()).unwrap()).collect()
}

fn entry(n: u64, value: &str) -> Entry {
    let text = |text: &str| Text::Utf8(text.to_owned());
    Entry {
        when: "2026-01-02T03:04:06Z".into(),
        project: "test-project".into(),
        logstore: "web-access".into(),
        shard: 1,
        cursor: "MTIzNDU=".into(),
        place: n + 7,
        group: 2,
        index: n,
        logs: 10_000,
        reason: "the receiver does not take it".into(),
        log: SetAsideLog {
            topic: text("nginx"),
            source: text("10.0.0.1"),
            tags: vec![(text("__hostname__"), text("web-1"))],
            time: LOG_TIME,
            nanoseconds: None,
            contents: vec![
                (text("n"), text(&n.to_string())),
                (text("value"), text(value)),
                (text("value"), Text::Other { base64: "AP8=".into() }),
            ],
        },
    }
}

/// The numbers of all messages that a receiver has written to its file.
fn received(output: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    let number = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = message["msg"].as_str().unwrap().to_owned();
        let number = text.split("||n=").nth(1).unwrap_or_else(|| panic!("{text}"));
        number.split("||").next().unwrap().parse().unwrap()
    };
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(number).collect()
}

#[test]
fn show_prints_for_people_as_json_and_byte_by_byte() {
    let dead_letter = DeadLetter::new("show");
    let entries = [entry(1, "a\u{1b}[31mred\nline"), entry(2, &"x".repeat(5000))];
    dead_letter.fill(&entries);
    let (text, well) = dead_letter.show(&[]);
    assert!(well && text.contains("test-project/web-access shard 1 cursor MTIzNDU= place 8"), "{text}");
    assert!(text.contains("value = a\\u{1b}[31mred\\nline") && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("(5000 bytes)") && text.len() < 2000, "{text}");
    let (json, _) = dead_letter.show(&["--json"]);
    assert_eq!(json, std::fs::read_to_string(dead_letter.path()).unwrap());
    let (hex, _) = dead_letter.show(&["--hex"]);
    assert!(hex.contains(&"78".repeat(5000)) && hex.contains("00ff"), "whole, also what is no text");
    std::fs::write(dead_letter.path(), "{\"torn").unwrap();
    assert!(!dead_letter.show(&[]).1, "what cannot be read is not passed over in silence");
}

#[test]
fn resend_delivers_and_removes_what_is_confirmed() {
    for (protocol, more) in [("tcp", &[][..]), ("relp", &["--protocol", "relp"])] {
        let dead_letter = DeadLetter::new("resend");
        let output = dead_letter.folder.path().join("received.json");
        let receiver = Receiver::start(&[&["--output", output.to_str().unwrap()], more].concat());
        dead_letter.fill(&(0..500).map(|n| entry(n, "v")).collect::<Vec<_>>());
        let protocol = format!("destination.protocol={protocol}");
        let dry = dead_letter
            .command(&["resend", "--dry-run", "--set", &protocol, "--set", "destination.host=127.0.0.1"])
            .output()
            .unwrap();
        let said = String::from_utf8(dry.stdout).unwrap();
        assert!(dry.status.success() && said.contains("500 log(s) would be sent"), "{said}");
        assert_eq!(dead_letter.entries().len(), 500);

        let mut resend = dead_letter.resend(receiver.address, &[&protocol]);
        let status = resend.wait();
        assert!(status.success(), "{status}");
        assert!(resend.output().contains("500 of 500 log(s) sent; 0 left"), "{}", resend.output());
        assert!(resend.stderr().iter().any(|line| line.contains("500 of 500 sent")), "progress is shown");
        assert_eq!((dead_letter.entries().len(), dead_letter.mode()), (0, 0o600));
        receiver.finish();
        assert_eq!(received(&output), (0..500).collect::<Vec<u64>>());
        let text = std::fs::read_to_string(&output).unwrap();
        assert!(text.contains("2026-01-02T03:04:05Z"), "with its own time: {}", &text[..500]);
    }
}

#[test]
fn resend_without_a_receiver_keeps_everything_and_fails() {
    let dead_letter = DeadLetter::new("no-receiver");
    dead_letter.fill(&[entry(1, "v")]);
    let nobody = SocketAddr::from(([127, 0, 0, 1], crate::harness::free_port()));
    let before = dead_letter.entries();
    let mut command = dead_letter.command(&["resend", "--give-up-after", "1s"]);
    let (host, port) = (format!("destination.host={}", nobody.ip()), format!("destination.port={}", nobody.port()));
    command.args(["--set", &host, "--set", &port, "--set", "destination.protocol=tcp"]);
    let mut resend = Process::start("resend", &mut command);
    assert_eq!(resend.wait().code(), Some(1));
    assert!(resend.output().contains("gave up"), "{}", resend.output());
    assert_eq!(dead_letter.entries(), before);
}

/// Killed while it sends: each log is still in the file, or was received, or both.
#[test]
fn a_resend_that_is_killed_loses_nothing() {
    let dead_letter = DeadLetter::new("killed");
    let output = dead_letter.folder.path().join("received.json");
    let receiver = Receiver::start(&["--output", output.to_str().unwrap(), "--protocol", "relp"]);
    let all: BTreeSet<u64> = (0..6000).collect();
    dead_letter.fill(&all.iter().map(|n| entry(*n, &"v".repeat(500))).collect::<Vec<_>>());
    for round in 1..=3 {
        let mut resend = dead_letter.resend(receiver.address, &["destination.protocol=relp"]);
        eventually("some are received", || match received(&output).len() {
            count if count >= round * 600 => Ok(()),
            count => Err(format!("{count} received")),
        });
        resend.kill();
        let left = dead_letter.entries().iter().map(|entry| entry.index).collect::<BTreeSet<_>>();
        let there = received(&output).into_iter().collect::<BTreeSet<_>>();
        let missing: Vec<_> = all.iter().filter(|n| !left.contains(n) && !there.contains(n)).collect();
        assert!(missing.is_empty(), "lost: {missing:?}");
    }
    let mut resend = dead_letter.resend(receiver.address, &["destination.protocol=relp"]);
    assert!(resend.wait().success());
    receiver.finish();
    assert_eq!(received(&output).into_iter().collect::<BTreeSet<_>>(), all);
    assert!(dead_letter.entries().is_empty());
}

#[test]
fn a_dead_letter_that_could_not_be_used_is_said_at_start() {
    let folder = Folder::new("said");
    let path = folder.path().join("dead-letter.jsonl");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let hub = crate::hub::Hub::start(1);
    let receiver = Receiver::start(&[]);
    let path = path.to_str().unwrap();
    let mut forwarder =
        crate::forwarder::Forwarder::start(&hub, receiver.address, "tcp", &[("dead_letter.path", path)]);
    forwarder.process.says("dead-letter-unwritable");
    hub.put_numbered(0..10, 10);
    hub.wait_until_committed();
    forwarder.stop();
}
