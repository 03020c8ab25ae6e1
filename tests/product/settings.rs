//! Settings and command line, seen from outside.

use std::process::{Command, Output};

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-syslog"));
    command.env_clear();
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is text")
}

/// Each subcommand that reads settings, with a complete environment in which secrets are marked.
fn with_settings(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    binary()
        .args(arguments)
        .envs([
            ("SLS_ENDPOINT", "127.0.0.1:9"),
            ("SLS_AK_ID", "MARKER"),
            ("SLS_AK_KEY", "MARKER"),
            ("SLS_SECURITY_TOKEN", "MARKER"),
            ("SLS_PROJECT", "shop"),
            ("SLS_LOGSTORE", "access"),
            ("SLS_CG", "siem"),
            ("SYSLOG_HOST", "127.0.0.1"),
            ("SYSLOG_PROTOCOL", "tcp"),
        ])
        .envs(environment.iter().copied())
        .output()
        .expect("the binary runs")
}

#[test]
fn help_teaches_layers_environment_and_exit_codes() {
    let output = binary().arg("--help").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0));
    for word in
        ["sls-syslog demo", "SLS_AK_KEY", "SLS_SYSLOG__SECTION__KEY", "--set", "Exit codes:", "3    configuration"]
    {
        assert!(text(&output.stdout).contains(word), "`{word}` is missing in:\n{}", text(&output.stdout));
    }
}

#[test]
fn an_unknown_subcommand_exits_as_usage_error() {
    let output = binary().arg("forward").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn config_check_says_ok_or_everything_that_is_wrong() {
    let good = with_settings(&["config", "check"], &[]);
    assert_eq!((good.status.code(), text(&good.stdout)), (Some(0), "ok\n"));
    let bad = with_settings(&["config", "check", "--port", "0"], &[("SLS_SYSLOG__MAILBOX__FORMATTER", "0")]);
    assert_eq!(bad.status.code(), Some(3));
    assert_eq!(
        text(&bad.stderr),
        "error: destination.port = 0 (flag --port): is not a port from 1 to 65535\n\
         error: mailbox.formatter = 0 (environment variable SLS_SYSLOG__MAILBOX__FORMATTER): 0 lets nothing be in \
         flight; set it to 1 or more\n"
    );
}

#[test]
fn run_refuses_a_wrong_configuration_before_it_starts_anything() {
    let output = with_settings(&["run"], &[("SYSLOG_PROTOCOL", "carrier-pigeon")]);
    assert_eq!(output.status.code(), Some(3));
    let refusal = "error: destination.protocol = carrier-pigeon (environment variable SYSLOG_PROTOCOL): \
                   is not udp, tcp, tls, relp or relp+tls\n";
    assert_eq!(text(&output.stderr), refusal);
}

#[test]
fn secrets_never_leave_the_process_by_way_of_settings() {
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["config", "show", "--set", "source.access_key_secret=MARKER"],
        &["config", "show", "--set", "unknown=MARKER"],
        &["config", "show", "--set", "MARKER"],
        &["config", "show", "--endpoint", "http://MARKER:MARKER@host"],
    ] {
        let output = with_settings(arguments, &[("SLS_SYSLOG__SOURCE__ACCESS_KEY", "MARKER")]);
        assert!(!text(&output.stdout).contains("MARKER"), "{}", text(&output.stdout));
        assert!(!text(&output.stderr).contains("MARKER"), "{}", text(&output.stderr));
    }
}

#[test]
fn config_show_tells_every_value_with_its_origin() {
    let output = with_settings(&["config", "show", "--json", "--set", "limits.workers=2"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let settings = &shown["settings"];
    assert_eq!(settings["limits.workers"]["value"], "2");
    assert_eq!(settings["limits.workers"]["origin"], "flag --set limits.workers");
    assert_eq!(settings["source.project"]["origin"], "environment variable SLS_PROJECT");
    assert_eq!(settings["source.access_key_secret"]["value"], "***");
    assert_eq!(shown["follows"]["memory for bodies and raw logs, per worker"], "32 MiB");
}
