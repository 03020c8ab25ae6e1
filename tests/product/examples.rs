//! The examples of the library, each run to its end.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Process, Receiver, SECRET, eventually};
use crate::hub::{Hub, KEY_ID, LOGSTORE, PROJECT};

const LOGS: u64 = 500;

/// These bring their own LogHub and receiver, and fail by themselves if a log is missing.
#[test]
fn the_examples_of_single_actors_deliver_everything_and_end() {
    for (name, says) in [
        ("own_format", "10000 logs arrived as JSON"),
        ("own_output", "10000 logs kept"),
        ("syslog_pool", "10000 messages arrived over 2 connections"),
    ] {
        let mut example = Process::start(name, &mut Command::new(example(name)));
        assert!(example.wait().success(), "{name}: {}", example.output());
        assert!(example.output().contains(says), "{name}: {}", example.output());
    }
}

#[test]
fn the_example_runs_in_an_actix_web_application() {
    let hub = Hub::start(1);
    hub.put_numbered(0..LOGS, 50);
    let receiver = Receiver::start(&["--mode", "check"]);
    let mut command = Command::new(example("embed"));
    command
        .env("SLS_ENDPOINT", hub.address.to_string())
        .env("SLS_PROJECT", PROJECT)
        .env("SLS_LOGSTORE", LOGSTORE)
        .env("SLS_CG", "embedded")
        .env("SLS_AK_ID", KEY_ID)
        .env("SLS_AK_KEY", SECRET)
        .env("SYSLOG_HOST", "127.0.0.1")
        .env("SYSLOG_PORT", receiver.address.port().to_string());
    let mut example = Process::start("embed", &mut command);
    example.says("event: Joined");
    let listening = eventually("the example's address", || {
        let lines = example.stdout();
        let address = lines.iter().find_map(|line| line.strip_prefix("listening on "));
        address.map(str::to_owned).ok_or_else(|| "not listening".to_owned())
    });
    let ask = |request: &str| {
        let request = format!("{request} HTTP/1.1\r\nhost: example\r\nconnection: close\r\n\r\n");
        String::from_utf8_lossy(&crate::hub::http(listening.parse().expect("an address"), request.as_bytes()))
            .into_owned()
    };
    eventually("everything delivered", || match ask("GET /status") {
        answer if answer.contains(&format!("\"logs_delivered\":{LOGS}")) => Ok(()),
        answer => Err(answer),
    });
    let stopped = ask("POST /stop");
    assert!(stopped.contains(&format!("\"logs_delivered\":{LOGS}")), "{stopped}");
    assert!(example.wait().success());
    assert!(!example.output().contains(SECRET));
    assert_eq!(receiver.finish()["missing"], 0);
}

/// The example's binary: built along with the tests of the whole workspace, else now.
fn example(name: &str) -> PathBuf {
    let deps = std::env::current_exe().expect("a path");
    let path = deps.ancestors().nth(2).expect("target/debug").join("examples").join(name);
    if !path.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--all-features", "--examples"])
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the examples do not build");
    }
    path
}
