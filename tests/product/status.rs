//! `sls-syslog status`: what SLS tells of a group, and its exit codes.

use std::process::Command;

use crate::forwarder::Forwarder;
use crate::harness::{Process, Receiver, SECRET, eventually, free_port};
use crate::hub::{ENDPOINT, GROUP, Hub, KEY_ID, LOGSTORE, PROJECT, numbered_group};
use crate::snapshot::{fits_a_terminal, is_as_kept, steady};

/// `status` with the environment of the source alone: it needs no receiver.
fn status(hub: &str, secret: &str, arguments: &[&str]) -> Command {
    let mut command = Process::sls_syslog(&["status", "--set", "source.signature=v1"]);
    command
        .env("SLS_ENDPOINT", format!("http://{ENDPOINT}"))
        .env("SLS_CONNECT", hub)
        .env("SLS_PROJECT", PROJECT)
        .env("SLS_LOGSTORE", LOGSTORE)
        .env("SLS_CG", GROUP)
        .env("SLS_AK_ID", KEY_ID)
        .env("SLS_AK_KEY", secret)
        .args(arguments);
    command
}

fn run(hub: &str, secret: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut process = Process::start("status", &mut status(hub, secret, arguments));
    let code = process.wait().code();
    assert!(!process.output().contains(SECRET));
    (code, process.stdout().join("\n") + "\n", process.stderr().join("\n") + "\n")
}

#[test]
fn a_group_is_shown_with_owners_checkpoints_and_lag_and_is_left_alone() {
    let hub = Hub::start(2);
    let address = hub.address.to_string();
    let (code, table, _) = run(&address, SECRET, &[]);
    assert_eq!(code, Some(1), "{table}");
    fits_a_terminal(&table);
    is_as_kept("status-no-group", &steady(&table));

    hub.put_numbered(0..3, 3);
    let receiver = Receiver::start(&[]);
    let forwarder = Forwarder::start_named("siem-1", &hub, receiver.address, "tcp", &[]);
    hub.wait_until_committed();
    let (code, json, _) = run(&address, SECRET, &["--json"]);
    assert_eq!(code, Some(0), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["timeout_s"], &json["order"], &json["warnings"]),
        (&2.into(), &false.into(), &serde_json::json!([]))
    );
    for (n, shard) in json["shards"].as_array().unwrap().iter().enumerate() {
        let known = &hub.logstore()["groups"][GROUP]["shards"][n];
        assert_eq!((&shard["shard"], &shard["owner"], &shard["lag_s"]), (&n.into(), &"siem-1".into(), &0.into()));
        assert_eq!(shard["checkpoint"], known["checkpoint"]);
        assert!(shard["checkpoint_time"].as_i64() > Some(1_700_000_000), "{shard}");
        assert_eq!(shard["committed"], known["updated_us"].as_i64().unwrap() / 1_000_000);
    }
    let (code, table, _) = run(&address, SECRET, &[]);
    assert_eq!(code, Some(0), "{table}");
    fits_a_terminal(&table);
    let idle = |line: &str| match line.rsplit_once(' ') {
        Some((rest, seconds)) if line.contains("CURSOR") && seconds.parse::<u32>().is_ok() => {
            format!("{} N", rest.trim_end())
        }
        _ => line.to_owned(),
    };
    is_as_kept("status", &(steady(&table).lines().map(idle).collect::<Vec<_>>().join("\n") + "\n"));

    // What nobody has delivered yet lags.
    forwarder.stop();
    let before = hub.logstore()["groups"][GROUP]["commits"].clone();
    hub.put(0, &numbered_group(0, 3..6));
    eventually("a lag", || {
        let (_, json, _) = run(&address, SECRET, &["--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let lags = [&json["shards"][0]["lag_s"], &json["shards"][1]["lag_s"]].map(|lag| lag.as_i64().unwrap());
        if lags[0] >= 1 && lags[1] == 0 { Ok(()) } else { Err(format!("{lags:?}")) }
    });
    assert_eq!(hub.logstore()["groups"][GROUP]["commits"], before);
}

#[test]
fn watching_goes_on_until_a_signal_and_tells_one_object_a_line() {
    let hub = Hub::start(1);
    let mut process =
        Process::start("status", &mut status(&hub.address.to_string(), SECRET, &["--json", "--watch", "1"]));
    eventually("two looks", || {
        let lines = process.stdout();
        if lines.len() >= 2 { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    assert!(process.stop().success());
    for line in process.stdout() {
        let seen: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&seen["group"], &seen["exists"]), (&GROUP.into(), &false.into()));
    }
}

#[test]
fn what_sls_refuses_and_what_cannot_be_reached_have_their_exit_codes() {
    let hub = Hub::start(1);
    let (code, _, error) = run(&hub.address.to_string(), "wrong", &[]);
    assert_eq!(code, Some(4), "{error}");
    fits_a_terminal(&error);
    assert!(error.starts_with("error: SLS answered 401 SignatureNotMatch"), "{error}");
    let (code, _, error) = run(&format!("127.0.0.1:{}", free_port()), SECRET, &[]);
    assert_eq!(code, Some(5), "{error}");
    let (code, _, error) = run("nowhere", SECRET, &[]);
    assert_eq!(code, Some(3), "{error}");
    assert!(!error.contains("destination"), "{error}");
}
