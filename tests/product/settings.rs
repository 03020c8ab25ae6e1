//! Settings and command line, seen from outside.

use std::process::Command;

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-syslog"));
    command.env_clear();
    command
}

#[test]
fn help_teaches_layers_environment_and_exit_codes() {
    let output = binary().arg("--help").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("help is text");
    for word in
        ["sls-syslog demo", "SLS_AK_KEY", "SLS_SYSLOG__SECTION__KEY", "--set", "Exit codes:", "3    configuration"]
    {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
}

#[test]
fn an_unknown_subcommand_exits_as_usage_error() {
    let output = binary().arg("forward").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
}
