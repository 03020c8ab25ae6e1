//! What no receiver takes: kept where only its owner reads it, shown, and sent again until it is confirmed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sls_syslog_actors::wire::dead_letter::{Entry, SetAsideLog, Text};

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver, eventually, for_a_while, free_port};
use crate::hub::{GROUP, Hub, LOG_TIME, LOGSTORE, PROJECT, group, log, numbered_group};

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
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
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
    let hub = Hub::start(1);
    let receiver = Receiver::start(&[]);
    let path = path.to_str().unwrap();
    let mut forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[("dead_letter.path", path)]);
    forwarder.process.says("dead-letter-unwritable");
    hub.put_numbered(0..10, 10);
    hub.wait_until_committed();
    forwarder.stop();
}

/// Numbered logs of one shard, and amid them two that are too long for the receiver.
fn hub_with_long_logs() -> Hub {
    let hub = Hub::start(1);
    hub.put_numbered(0..500, 100);
    let mut logs = numbered_group(0, 500..520).logs;
    let long =
        |n: &str| log(&[("n", n.as_bytes()), ("raw", b"\xff\x00"), ("raw", b"again"), ("long", &[b'x'; TOO_LONG])]);
    logs.insert(3, long("first"));
    logs.insert(20, long("second"));
    hub.put(0, &group(logs));
    hub.put_numbered(520..LOGS, 100);
    hub
}

/// Logs of the hub that the receiver takes.
const LOGS: u64 = 2000;
const TOO_LONG: usize = 20_000;
const TAKEN: &str = "16384";
/// What is held up is not waited for at each stop.
const QUICK_DRAIN: (&str, &str) = ("source.drain_timeout", "2s");

fn picky_receiver(output: &Path) -> Receiver {
    Receiver::start(&["--protocol", "relp", "--relp-refuse-longer", TAKEN, "--output", output.to_str().unwrap()])
}

/// The messages of logs that a receiver has written to its file, and its gap records.
fn messages(output: &Path) -> (BTreeSet<u64>, usize) {
    let text = std::fs::read_to_string(output).unwrap_or_default();
    let messages: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let gaps = messages.iter().filter(|message| message["msgid"] == "gap").count();
    let number = |message: &serde_json::Value| {
        let text = message["msg"].as_str()?.split("||n=").nth(1)?.to_owned();
        text.split("||").next()?.parse().ok()
    };
    (messages.iter().filter_map(number).collect(), gaps)
}

fn assert_the_long_logs_are_kept(dead_letter: &DeadLetter) {
    let entries = dead_letter.entries();
    let first_field = |entry: &Entry| entry.log.contents[0].1.bytes();
    let kept: BTreeSet<_> = entries.iter().map(first_field).collect();
    assert_eq!(kept, BTreeSet::from(["first".into(), "second".into()]), "{} entries", entries.len());
    for entry in &entries {
        assert_eq!((entry.shard, entry.project.as_str(), entry.logstore.as_str()), (0, PROJECT, LOGSTORE));
        assert!(entry.reason.contains("500"), "{}", entry.reason);
        let contents = &entry.log.contents;
        assert_eq!(contents[1].1.bytes(), &b"\xff\x00"[..], "bytes that are no text");
        assert_eq!(contents[2].0.bytes(), &b"raw"[..], "a key that occurs again");
        assert_eq!(contents[3].1.bytes().len(), TOO_LONG);
        assert_eq!(entry.log.tags, [(Text::Utf8("__hostname__".into()), Text::Utf8("web-1".into()))]);
    }
    assert_eq!(dead_letter.mode(), 0o600);
}

#[test]
fn a_log_that_the_receiver_does_not_take_is_kept_and_arrives_when_it_is_sent_again_shorter() {
    let dead_letter = DeadLetter::new("set-aside");
    let output = dead_letter.folder.path().join("received.json");
    let hub = hub_with_long_logs();
    let receiver = picky_receiver(&output);
    let path = dead_letter.path();
    let stamped = ("destination.origin", "structured-data");
    let settings = [("dead_letter.path", path.to_str().unwrap()), stamped];
    let forwarder = Forwarder::start(&hub, receiver.address, "relp", &settings);
    hub.wait_until_committed();
    let said = forwarder.stop();
    assert!(said.contains("set-aside") && said.contains("message-refused"), "{said}");
    assert_the_long_logs_are_kept(&dead_letter);
    let (taken, gaps) = messages(&output);
    assert_eq!(taken.len() as u64, LOGS);
    assert!(gaps >= 2, "{gaps} gap records");

    // As they are, they are refused again, and stay; what is taken goes.
    let to_picky = ["destination.protocol=relp", "destination.origin=structured-data"];
    let lines: Vec<u8> = (5000..5010).flat_map(|n| entry(n, "short").to_line()).collect();
    std::io::Write::write_all(&mut std::fs::OpenOptions::new().append(true).open(&path).unwrap(), &lines).unwrap();
    let mut again = dead_letter.resend(receiver.address, &to_picky);
    assert_eq!(again.wait().code(), Some(1), "{}", again.output());
    assert!(again.output().contains("not taken: log"), "{}", again.output());
    assert_the_long_logs_are_kept(&dead_letter);

    let short = [&to_picky[..], &["destination.max_message_bytes=8KiB"]].concat();
    let mut resend = dead_letter.resend(receiver.address, &short);
    assert!(resend.wait().success(), "{}", resend.output());
    assert!(dead_letter.entries().is_empty());
    receiver.finish();
    let text = std::fs::read_to_string(&output).unwrap();
    for (name, index) in [("first", 3), ("second", 20)] {
        let line = text.lines().find(|line| line.contains(&format!("||n={name}||")));
        let line = line.unwrap_or_else(|| panic!("{name} did not arrive"));
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        let stamp = message["structured_data"].as_str().unwrap();
        assert!(stamp.contains(&format!("index=\"{index}\" logs=\"22\"")), "that of the first time: {stamp}");
    }
}

/// Full, or unwritable: the checkpoint stays before the log, whatever lies behind it; after space was made all settles.
#[test]
fn a_dead_letter_that_takes_nothing_holds_the_checkpoint_until_it_does() {
    for full in [true, false] {
        let dead_letter = DeadLetter::new(if full { "full" } else { "unwritable" });
        let output = dead_letter.folder.path().join("received.json");
        let hub = hub_with_long_logs();
        let receiver = picky_receiver(&output);
        let path = dead_letter.path();
        let code = if full {
            dead_letter.fill(&(0..200).map(|n| entry(n, &"x".repeat(1000))).collect::<Vec<_>>());
            "dead-letter-full"
        } else {
            std::fs::create_dir(&path).unwrap();
            "dead-letter-unwritable"
        };
        let settings = [("dead_letter.path", path.to_str().unwrap()), ("dead_letter.max_bytes", "200KiB"), QUICK_DRAIN];
        let mut forwarder = Forwarder::start(&hub, receiver.address, "relp", &settings);
        forwarder.process.says("logs cannot be set aside");
        assert!(forwarder.process.output().contains(code), "{code}");
        for_a_while(Duration::from_secs(3));
        let shard = &hub.logstore()["groups"][GROUP]["shards"][0];
        assert_eq!(shard["at_end"], false, "{shard}");
        assert_eq!(hub.owners().len(), 1, "it costs no lease");
        // A stop does not let the log fall either.
        forwarder.stop();
        assert_eq!(hub.logstore()["groups"][GROUP]["shards"][0]["at_end"], false);

        let mut forwarder = Forwarder::start(&hub, receiver.address, "relp", &settings);
        forwarder.process.says("logs cannot be set aside");
        if full {
            let elsewhere = Receiver::start(&[]);
            let mut resend = dead_letter.resend(elsewhere.address, &["destination.protocol=tcp"]);
            assert!(resend.wait().success(), "{}", resend.output());
        } else {
            std::fs::remove_dir(&path).unwrap();
        }
        hub.wait_until_committed();
        forwarder.stop();
        assert_the_long_logs_are_kept(&dead_letter);
        assert_eq!(messages(&output).0.len() as u64, LOGS);
    }
}

/// Killed when the gap record is confirmed and the log is not yet in the dead letter: it is sent, and refused, again.
#[test]
fn a_forwarder_that_is_killed_between_gap_record_and_dead_letter_loses_nothing() {
    let dead_letter = DeadLetter::new("between");
    let output = dead_letter.folder.path().join("received.json");
    let hub = hub_with_long_logs();
    let receiver = picky_receiver(&output);
    let path = dead_letter.path();
    std::fs::create_dir(&path).unwrap();
    let settings = [("dead_letter.path", path.to_str().unwrap())];
    let mut forwarder = Forwarder::start(&hub, receiver.address, "relp", &settings);
    forwarder.process.says("logs cannot be set aside");
    forwarder.process.kill();
    assert!(messages(&output).1 >= 1, "its gap record is there");
    std::fs::remove_dir(&path).unwrap();
    let forwarder = Forwarder::start(&hub, receiver.address, "relp", &settings);
    hub.wait_until_committed();
    forwarder.stop();
    assert_the_long_logs_are_kept(&dead_letter);
    assert_eq!(messages(&output).0.len() as u64, LOGS);
}
