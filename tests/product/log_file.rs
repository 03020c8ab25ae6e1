//! The log's copy in a file: rotated, nobody else's, opened anew on request, and never in the way of delivery.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver, SECRET, eventually};
use crate::hub::{Hub, numbered_group};

const JSON: (&str, &str) = ("log.format", "json");
const UNWRITABLE: &str = "log-file-unwritable";
/// The signal that each time makes a line in the log.
const CHATTER: &str = "HUP";

/// The lines of a file, each of which is whole.
#[track_caller]
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "{} ends amid a line", path.display());
    assert!(!text.contains(SECRET));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"))).collect()
}

/// What is said in a file that may not be there yet.
fn told(path: &Path, text: &str) -> Result<(), String> {
    let content = fs::read_to_string(path).map_err(|e| e.to_string())?;
    if content.contains(text) { Ok(()) } else { Err(format!("{} bytes", content.len())) }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    format!("{}.{number}", path.display()).into()
}

#[test]
fn a_log_file_is_rotated_and_holds_what_stderr_says() {
    let folder = Folder::new("rotated");
    let path = folder.path().join("sls.log");
    let hub = Hub::start(2);
    hub.put_numbered(0..100, 10);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [JSON, ("log.file", path.to_str().unwrap()), ("log.max_bytes", "4KiB"), ("log.files", "2")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    hub.wait_until_committed();
    eventually("two old files", || {
        forwarder.process.signal(CHATTER);
        fs::metadata(numbered(&path, 2)).map(drop).map_err(|e| e.to_string())
    });
    let output = forwarder.stop();
    assert_eq!(receiver.finish()["unique"], 200);

    let message = |line: &Value| line["msg"].as_str().unwrap().to_owned();
    let on_stderr: BTreeSet<String> =
        output.lines().map(|line| message(&serde_json::from_str(line).unwrap())).collect();
    let files = [numbered(&path, 2), numbered(&path, 1), path.clone()];
    for file in &files {
        let lines = lines(file);
        assert!(!lines.is_empty() && lines.iter().all(|line| on_stderr.contains(&message(line))));
        let meta = fs::metadata(file).unwrap();
        assert!(meta.len() <= 4096 || lines.len() == 1, "{} has {} bytes", file.display(), meta.len());
        assert_eq!(meta.permissions().mode() & 0o777, 0o640);
    }
    let last = lines(&path);
    assert_eq!(message(last.last().unwrap()), message(&serde_json::from_str(output.lines().last().unwrap()).unwrap()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "a third old file");
}

#[test]
fn two_processes_never_share_a_log_file() {
    let folder = Folder::new("shared");
    let (path, link) = (folder.path().join("sls.log"), folder.path().join("link.log"));
    let hub = Hub::start(2);
    let receiver = Receiver::start(&[]);
    let start = |consumer: &str, file: &Path| {
        let settings = [("log.file", file.to_str().unwrap())];
        Forwarder::start_named(consumer, &hub, receiver.address, "tcp", &settings)
    };
    let first = start("first", &path);
    eventually("its file", || told(&path, "first"));
    symlink(&path, &link).unwrap();
    for same in [&path, &link] {
        let mut second = start("second", same);
        assert_eq!(second.process.wait().code(), Some(3));
        let refusal = format!(
            "error: log.file = {}: cannot be written: another process writes it; give each its own, for example with \
             {{pid}} in the name, or stop the other",
            same.display()
        );
        assert_eq!(second.process.stderr(), [refusal]);
    }
    // What is left of one that has ended hinders nobody, and stays.
    first.stop();
    let again = start("again", &path);
    eventually("its lines behind the others", || told(&path, "again"));
    told(&path, "first").unwrap();

    let own = folder.path().join("sls-{pid}.log");
    let others = ["third", "fourth"].map(|consumer| start(consumer, &own));
    for other in others {
        let path = folder.path().join(format!("sls-{}.log", other.process.pid()));
        eventually("a file of its own", || told(&path, &other.consumer));
        other.stop();
    }
    again.stop();
}

#[test]
fn a_hangup_opens_the_log_file_anew() {
    let folder = Folder::new("hangup");
    let path = folder.path().join("sls.log");
    let hub = Hub::start(1);
    let receiver = Receiver::start(&[]);
    let settings = [JSON, ("log.file", path.to_str().unwrap()), ("log.max_bytes", "none")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    let old = numbered(&path, 1);
    // The signal is listened to before anything is told.
    eventually("its first line", || told(&path, "\n"));
    fs::rename(&path, &old).unwrap();
    forwarder.process.signal("HUP");
    eventually("a new file", || told(&path, "SIGHUP"));
    let length = fs::metadata(&old).unwrap().len();
    hub.put(0, &numbered_group(0, 0..10));
    hub.wait_until_committed();
    forwarder.stop();
    assert_eq!(fs::metadata(&old).unwrap().len(), length, "the old file grew");
    assert!(!lines(&old).is_empty() && lines(&path).len() > 1);
}

#[test]
fn a_full_disk_costs_lines_of_the_file_and_no_log() {
    let folder = Folder::new("full");
    let path = folder.path().join("sls.log");
    symlink("/dev/full", &path).unwrap();
    let hub = Hub::start(1);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [JSON, ("log.file", path.to_str().unwrap())];
    let mut forwarder = Forwarder::start(&hub, receiver.address, "tcp", &settings);
    forwarder.process.says("make space on its disk; lines are dropped, delivery goes on");
    hub.put_numbered(0..1000, 100);
    hub.wait_until_committed();

    fs::remove_file(&path).unwrap();
    forwarder.process.signal("HUP");
    forwarder.process.says("can be written again");
    let output = forwarder.stop();
    assert_eq!(receiver.finish()["unique"], 1000);
    assert!(output.contains(UNWRITABLE));
    let lines = lines(&path);
    assert!(lines[0]["msg"].as_str().unwrap().contains("were dropped"), "{}", lines[0]);
    assert!(lines[0]["dropped"].as_u64().unwrap() > 0, "{}", lines[0]);
    assert!(!lines.iter().any(|line| line["code"] == UNWRITABLE), "that is for stderr");
}

#[test]
fn of_a_line_that_does_not_fit_nothing_stays() {
    let folder = Folder::new("torn");
    let path = folder.path().join("sls.log");
    let hub = Hub::start(1);
    hub.put_numbered(0..100, 10);
    let receiver = Receiver::start(&["--mode", "check"]);
    let settings = [JSON, ("log.file", path.to_str().unwrap())];
    let command = Forwarder::command("forwarder", &hub, receiver.address, "tcp", &settings, SECRET);
    let mut process = Process::start("forwarder", &mut with_small_files(&command));
    // After the first line it listens to signals.
    process.says("\"msg\"");
    eventually("a file that is full", || {
        process.signal(CHATTER);
        if process.output().contains(UNWRITABLE) { Ok(()) } else { Err(format!("{} lines", process.stderr().len())) }
    });
    hub.wait_until_committed();
    assert!(process.stop().success());
    assert_eq!(receiver.finish()["unique"], 100);
    assert!(lines(&path).len() > 10);
}

/// The same, but no file of it may grow beyond some kilobytes: the last write is cut short.
fn with_small_files(command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}
