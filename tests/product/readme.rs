//! README.md as its reader uses it: every command runs as it is written, with the binary that the tests have built. What
//! a block needs around it comes from its environment, never from a change of its text.
//!
//! A block's info string says how it runs: `sh` to its end; `sh serves` until Ctrl-C; `sh terminal N` until Ctrl-C, beside
//! the other terminals of its section; `sh not-here: why` not at all.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::faults::network::Network;
use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver, SECRET, eventually};
use crate::hub::{GROUP, Hub, KEY_ID, LOGSTORE, PROJECT};

/// The sections whose commands are run, each by a test below.
const SECTIONS: [&str; 5] = ["Install", "Quick start", "Without SLS and without a SIEM", "Configuration", "Monitoring"];

#[derive(Debug, Clone)]
struct Block {
    section: String,
    info: String,
    text: String,
}

/// The fenced blocks of a language, in their order.
fn blocks(language: &str) -> Vec<Block> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (mut blocks, mut section, mut open) = (Vec::new(), String::new(), None::<Block>);
    for line in readme.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, Some(info)) => {
                open = Some(Block { section: section.clone(), info: info.to_owned(), text: String::new() });
            }
            (None, None) => {
                if let Some(heading) = line.strip_prefix('#') {
                    section = heading.trim_start_matches('#').trim().to_owned();
                }
            }
        }
    }
    assert!(open.is_none(), "a block without end: {open:?}");
    blocks.retain(|block| block.info.split(' ').next() == Some(language));
    blocks
}

/// The blocks of a section that run.
fn runnable(section: &str) -> Vec<Block> {
    let blocks: Vec<_> = blocks("sh").into_iter().filter(|block| block.section == section).collect();
    assert!(!blocks.is_empty(), "nothing to run in {section:?}");
    blocks.into_iter().filter(|block| !block.info.starts_with("sh not-here: ")).collect()
}

/// A shell that reads a block, with the binary on its path and nothing of this machine's environment.
fn shell(mut command: Command, script: &str, folder: &Folder, environment: &[(&str, String)]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_sls-syslog"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    // A group of its own, so that Ctrl-C reaches it as a terminal would have it.
    command.args(["-euc", script]).current_dir(folder.path()).env_clear().process_group(0);
    command.env("PATH", path).env("HOME", folder.path()).env("STATE_DIRECTORY", folder.path());
    command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
    command
}

fn bash(script: &str, folder: &Folder, environment: &[(&str, String)]) -> Process {
    Process::start(script, &mut shell(Command::new("bash"), script, folder, environment))
}

#[track_caller]
fn ends_well(mut process: Process) -> String {
    let status = process.wait();
    assert!(status.success(), "{status}:\n{}", process.output());
    process.output()
}

/// Ctrl-C; what served ends well then.
#[track_caller]
fn interrupted(process: Process) -> String {
    let group = format!("-{}", process.pid());
    assert!(Command::new("kill").args(["-s", "INT", "--", &group]).status().unwrap().success());
    ends_well(process)
}

/// Serving: what forwards has delivered, anything else has said something.
fn does_its_work(process: &Process, block: &Block) {
    let word = if block.text.contains("sls-syslog run") { "the first batch is" } else { "" };
    eventually(&block.text, || {
        let output = process.output();
        if !output.is_empty() && output.contains(word) { Ok(()) } else { Err(output) }
    });
}

/// The environment of somebody who has an account and a receiver: here the embedded ones.
fn account(hub: &Hub, receiver: &Receiver) -> Vec<(&'static str, String)> {
    vec![
        ("SLS_ENDPOINT", hub.address.to_string()),
        ("SLS_PROJECT", PROJECT.to_owned()),
        ("SLS_LOGSTORE", LOGSTORE.to_owned()),
        ("SLS_CG", GROUP.to_owned()),
        ("SLS_AK_ID", KEY_ID.to_owned()),
        ("SLS_AK_KEY", SECRET.to_owned()),
        ("SYSLOG_HOST", receiver.address.ip().to_string()),
        ("SYSLOG_PORT", receiver.address.port().to_string()),
        ("SYSLOG_PROTOCOL", "tcp".to_owned()),
    ]
}

#[test]
fn every_command_is_run_by_a_test_or_says_why_not() {
    for block in blocks("sh") {
        let Block { section, info, text } = &block;
        assert!(SECTIONS.contains(&section.as_str()), "no test runs the commands of {section:?}");
        match info.strip_prefix("sh not-here: ") {
            Some(why) => println!("not run here, {why}:\n{text}"),
            None => assert!(["sh", "sh serves"].contains(&info.as_str()) || info.starts_with("sh terminal "), "{info}"),
        }
    }
}

#[test]
fn the_demo_runs_as_it_is_written() {
    for block in runnable("Install") {
        let folder = Folder::new("readme-demo");
        let shown = ends_well(bash(&block.text, &folder, &[]));
        assert_eq!(shown.matches("it holds: ").count(), block.text.lines().count(), "{shown}");
    }
}

#[test]
fn the_quick_start_runs_as_it_is_written() {
    let blocks = runnable("Quick start");
    let [names, commands] = &blocks[..] else { panic!("{blocks:?}") };
    let folder = Folder::new("readme-quick-start");
    // The names are right, and nothing is missing; the file of the last one is not on this machine.
    ends_well(bash(&format!("{}SYSLOG_CA= sls-syslog config check", names.text), &folder, &[]));

    let hub = Hub::start(2);
    hub.put_numbered(0..100, 10);
    let receiver = Receiver::start(&["--mode", "check"]);
    let forwarder = bash(&commands.text, &folder, &account(&hub, &receiver));
    does_its_work(&forwarder, commands);
    hub.wait_until_committed();
    interrupted(forwarder);
    assert_eq!(receiver.finish()["unique"], 200);
}

/// The ports are those of the page, so the terminals stand in a network of their own where the machine permits it.
#[test]
fn three_terminals_run_as_they_are_written() {
    let network = Network::start();
    if let Err(why) = &network {
        println!("in this machine's own network, since there is no other: {why}");
    }
    let folder = Folder::new("readme-terminals");
    let mut terminals: BTreeMap<String, (Process, Block)> = BTreeMap::new();
    let mut exports: BTreeMap<String, String> = BTreeMap::new();
    for block in runnable("Without SLS and without a SIEM") {
        // A terminal that is used again has done its work.
        if let Some((process, before)) = terminals.remove(&block.info) {
            does_its_work(&process, &before);
            interrupted(process);
        }
        let exports = exports.entry(block.info.clone()).or_default();
        let script = format!("{exports}{}", block.text);
        exports.extend(block.text.lines().filter(|line| line.starts_with("export ")).map(|line| format!("{line}\n")));
        let command = match &network {
            Ok(network) => network.command("bash"),
            Err(_) => Command::new("bash"),
        };
        let process = Process::start(&block.info, &mut shell(command, &script, &folder, &[]));
        does_its_work(&process, &block);
        terminals.insert(block.info.clone(), (process, block));
    }
    assert_eq!(terminals.len(), 3);
    // The receiver of the second one prints what came over mutual TLS.
    let (received, _) = &terminals["sh terminal 2"];
    eventually("messages", || {
        let printed = received.stdout().join("\n");
        if printed.contains("||__topic__=") { Ok(()) } else { Err(printed) }
    });
    // Those who deliver first.
    for (process, _) in terminals.into_values().rev() {
        interrupted(process);
    }
}

#[test]
fn settings_are_shown_and_checked_as_it_is_written() {
    let (hub, receiver) = (Hub::start(1), Receiver::start(&[]));
    let folder = Folder::new("readme-settings");
    let environment = account(&hub, &receiver);
    for block in runnable("Configuration") {
        let shown = ends_well(bash(&block.text, &folder, &environment));
        assert!(shown.contains("destination.port") && !shown.contains(SECRET), "{shown}");
    }
    let files = blocks("toml");
    assert!(!files.is_empty());
    for (at, block) in files.iter().enumerate() {
        let file = folder.path().join(format!("{at}.toml"));
        std::fs::write(&file, &block.text).unwrap();
        ends_well(bash(&format!("sls-syslog config check --config {at}.toml"), &folder, &environment));
    }
}

#[test]
fn monitoring_runs_as_it_is_written() {
    let hub = Hub::start(2);
    hub.put_numbered(0..10, 10);
    let receiver = Receiver::start(&[]);
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &[]);
    hub.wait_until_committed();
    for block in runnable("Monitoring") {
        let folder = Folder::new("readme-monitoring");
        let shown = ends_well(bash(&block.text, &folder, &account(&hub, &receiver)));
        assert!(shown.contains("forwarder"), "{shown}");
    }
    forwarder.stop();
}
