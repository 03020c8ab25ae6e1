//! Files of YAML say what files of TOML say, and are refused with the same words.

use super::*;

/// `config/example-tls.toml` would do for texts; here is each kind of value.
const TOML: &str = r#"
port = 601
allow_readable_secrets = true
[source]
endpoint = "cn-hangzhou.log.aliyuncs.com"
consumer_group = "2024"
consumer_name = "c"
cursor_start_time = "2018-12-26 0:0:0+8:00"
heartbeat_interval = 10
in_order = true
[destination]
sep = "||"
tag = "2024"
hostname = "h"
timeout = 30.5
max_message_bytes = "64KiB"
severity = "SEV_INFO"
tls.server_name = "siem.example.com"
[destination.relp]
window = 5
[log]
level = "warn"
"#;
const YAML: &str = r#"
port: 601
allow_readable_secrets: true
source:
  endpoint: cn-hangzhou.log.aliyuncs.com
  consumer_group: "2024"
  consumer_name: c
  cursor_start_time: 2018-12-26 0:0:0+8:00
  heartbeat_interval: 10
  in_order: true
destination:
  sep: "||"
  tag: "2024"
  hostname: h
  timeout: 30.5
  max_message_bytes: 64KiB
  severity: SEV_INFO
  tls: { server_name: siem.example.com }
  relp.window: 5
log:
  level: warn
"#;

#[test]
fn the_same_file_in_both_formats_gives_the_same_settings() {
    let told = |end: &str, content: &str| {
        let file = TempFile::of_format(end, content, 0o600);
        let environment = &[("SYSLOG_PROTOCOL", "tls")];
        let settings = Case { file: Some(file.path()), environment, ..Case::default() }.settings();
        // Its notes name it.
        format!("{settings:#?}").replace(&file.path().display().to_string(), "FILE")
    };
    let lines = |text: String| text.lines().filter(|line| !line.contains("FILE")).collect::<String>();
    let toml = lines(told("toml", TOML));
    assert!(toml.contains("2024") && toml.contains("601"), "{toml}");
    for end in ["yaml", "yml", "YAML"] {
        assert_eq!(lines(told(end, YAML)), toml, "{end}");
    }
}

#[test]
fn the_format_is_told_by_the_files_name() {
    let file = TempFile::of_format("toml", YAML, 0o600);
    let refused = Case { file: Some(file.path()), ..Case::default() }.load().expect_err("no TOML");
    assert!(refused[0].contains("is not valid TOML, line 2"), "{refused:?}");
}

#[test]
fn refusals_of_a_yaml_file_name_it_with_the_line_and_never_quote_it() {
    let deep = "a: ".to_owned() + &"{a: ".repeat(100_000);
    let rows = [
        ("destination:\n  port: \"MARKER", "file {} is not valid YAML, line 2, column 9"),
        (
            "destination:\n  port: [1]",
            "destination.port (destination.port in file {}, line 2): is a list; write a single value",
        ),
        (
            "destination:\n  tag: 7",
            "destination.tag = 7 (destination.tag in file {}, line 2): is not text; put it in quotes",
        ),
        (
            "destination:\n\n  tag:\n",
            "destination.tag (destination.tag in file {}, line 3): has no value; write one, or remove the line",
        ),
        ("proto: tcp", "proto (proto in file {}, line 1): is not a key; did you mean protocol?"),
        (
            "source: {\n access_key: MARKER }",
            "source.access_key (source.access_key in file {}, line 2): is not a key; did you mean source.access_key_secret?",
        ),
        ("port: 0", "destination.port = 0 (port in file {}, line 1): is not a port from 1 to 65535"),
        (
            "port: 1\ndestination:\n  port: 2",
            "destination.port: is set to different values by destination.port in file {}, line 3 and by port in file {}, line 1; remove one of them",
        ),
        ("port: 1\nsep: x\nport: 1", "file {} has a key twice, first on line 1 and again, line 3, column 1"),
        ("tag: &a MARKER\nsep: *a", "file {} has an alias; write the value itself, line 2, column 6"),
        ("tag: a\n---\ntag: b", "file {} has a second document; write one, line 2, column 1"),
        ("? [a]\n: b", "file {} has a key that is no text, line 1, column 3"),
        ("MARKER", "file {} is not valid YAML of keys and values"),
        (&deep, "file {} has too many sections in sections, line 1, column 64"),
    ];
    for (content, refusal) in rows {
        let file = TempFile::of_format("yaml", content, 0o600);
        let result = Case { file: Some(file.path()), ..Case::default() }.load();
        let expected = refusal.replace("{}", &file.path().display().to_string());
        assert_eq!(result.err().unwrap_or_default().join("\n"), expected);
    }
}

#[test]
fn secrets_in_a_yaml_file_that_everyone_can_read_are_refused() {
    let content = "source:\n  access_key_id: a\n  access_key_secret: MARKER";
    let file = TempFile::of_format("yaml", content, 0o644);
    let environment = &[("SLS_AK_ID", ""), ("SLS_AK_KEY", "")];
    let refused = Case { file: Some(file.path()), environment, ..Case::default() }.load().expect_err("a secret");
    assert!(refused[0].contains("is a secret in a file that everyone on this machine can read"), "{refused:?}");
    assert!(!refused[0].contains("MARKER") && refused[0].contains("line 3"), "{refused:?}");
}

#[test]
fn the_usual_file_may_be_yaml() {
    let file = TempFile::of_format("yaml", "tag: yaml", 0o600);
    let world = World { usual_file: file.path().with_extension("toml"), ..Case::default().world() };
    let settings = load_from(&Case::default().layers(), &world).1.expect("settings that are accepted");
    assert_eq!(settings.forwarder.destination.tag, "yaml");
}
