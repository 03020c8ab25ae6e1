//! Precedence, aliases, refusals with their exact words, and secrets that stay secret.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use sls_syslog_actors::config::{
    Confirmation, Credentials, DestinationConfig, ForwarderConfig, Framing, NewlinePolicy, Protocol, Signature,
    SourceConfig,
};
use sls_syslog_actors::model::cursor::StartPosition;

mod log_file;
mod style;
mod yaml;

use super::keys::KEYS;
use super::layers::{DEFAULT_TOML, World};
use super::{Flags, Layers, LogFormat, LogSettings, Settings, load_from, show};

/// A settings file of its own, gone at the end.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: &str, mode: u32) -> Self {
        Self::of_format("toml", content, mode)
    }

    fn of_format(end: &str, content: &str, mode: u32) -> Self {
        let name = format!("sls-syslog-{}-{:016x}.{end}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).expect("the temporary directory takes a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("the file is ours");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The help page's environment, plus a receiver.
const COMPLETE: &[(&str, &str)] = &[
    ("SLS_ENDPOINT", "cn-hangzhou.log.aliyuncs.com"),
    ("SLS_AK_ID", "MARKER-id"),
    ("SLS_AK_KEY", "MARKER-key"),
    ("SLS_PROJECT", "shop"),
    ("SLS_LOGSTORE", "access"),
    ("SLS_CG", "siem"),
    ("SYSLOG_HOST", "siem.example.com"),
    ("SYSLOG_PROTOCOL", "tcp"),
    ("STATE_DIRECTORY", "/nonexistent/state"),
];

#[derive(Default)]
struct Case<'a> {
    file: Option<&'a Path>,
    /// Over the complete environment; an empty value unsets.
    environment: &'a [(&'a str, &'a str)],
    set: &'a [&'a str],
}

impl Case<'_> {
    fn layers(&self) -> Layers {
        Layers {
            config: self.file.map(Path::to_owned),
            set: self.set.iter().map(|&text| text.to_owned()).collect(),
            named: Vec::new(),
        }
    }

    fn world(&self) -> World {
        let replaced = |name: &str| self.environment.iter().any(|(key, _)| *key == name);
        let environment = COMPLETE.iter().filter(|(key, _)| !replaced(key)).chain(self.environment);
        World {
            environment: environment.map(|(key, value)| (key.into(), value.into())).collect(),
            usual_file: "/nonexistent/config.toml".into(),
            is_root: false,
        }
    }

    fn load(&self) -> Result<Settings, Vec<String>> {
        let result = load_from(&self.layers(), &self.world()).1;
        result.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn settings(&self) -> Settings {
        self.load().expect("settings that are accepted")
    }
}

#[test]
fn the_help_pages_environment_and_a_receiver_are_enough() {
    let settings = Case::default().settings();
    let ForwarderConfig { source, destination, .. } = &settings.forwarder;
    assert_eq!(source.endpoint.to_string(), "https://cn-hangzhou.log.aliyuncs.com");
    assert_eq!(source.signature, Signature::V4 { region: "cn-hangzhou".into() });
    assert_eq!((source.heartbeat_interval, source.group_timeout_s), (Duration::from_secs(20), 40));
    assert_eq!(source.cursor_start_time, StartPosition::Begin);
    assert_eq!((destination.port, destination.framing), (514, Framing::Lf));
    assert_eq!(destination.confirmation, Confirmation::TcpAcked);
}

#[test]
fn relp_has_its_own_port_level_and_frames_and_may_keep_line_breaks() {
    for (protocol, expected) in [
        ("relp", Protocol::Relp),
        ("RELP", Protocol::Relp),
        ("relp+tls", Protocol::RelpTls),
        ("RELP+TLS", Protocol::RelpTls),
    ] {
        let environment = &[("SYSLOG_PROTOCOL", protocol)];
        let set = &["destination.newlines=keep", "destination.relp.window=500"];
        let settings = Case { environment, set, ..Case::default() }.settings();
        let destination = &settings.forwarder.destination;
        assert_eq!((destination.protocol, destination.port), (expected, 2514));
        assert_eq!(destination.confirmation, Confirmation::AppAcked);
        assert_eq!((destination.newlines, destination.relp_window), (NewlinePolicy::Keep, 500));
    }
}

/// The file and the constructors are two writings of the same defaults.
#[test]
fn the_documented_defaults_are_those_of_the_code() {
    // The process has a place for state, an embedding application names one.
    let fixed = &["source.consumer_name=c", "destination.hostname=h", "dead_letter.path=none"];
    let settings = Case { set: fixed, ..Case::default() }.settings();
    let mut source =
        SourceConfig::new("cn-hangzhou.log.aliyuncs.com", "shop", "access", "siem", Credentials::new("a", "b"))
            .expect("an endpoint");
    source.consumer_name = "c".into();
    let mut destination = DestinationConfig::new("siem.example.com", Protocol::Tcp);
    destination.hostname = "h".into();
    assert_eq!(format!("{:#?}", settings.forwarder), format!("{:#?}", ForwarderConfig::new(source, destination)));
    assert_eq!(settings.log, LogSettings::default());
}

#[test]
fn every_key_of_the_code_is_in_the_documented_file_and_no_other() {
    let mut section = String::new();
    let mut documented = Vec::new();
    let mut commented = true;
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        }
        let line = line.strip_prefix('#').unwrap_or(line);
        let name = line.split(" = ").next().filter(|name| {
            line.contains(" = ") && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        });
        match name {
            Some(name) => {
                assert!(commented, "{section}{name} has no comment above it");
                documented.push(format!("{section}{name}"));
            }
            None => commented = !line.trim().is_empty(),
        }
    }
    let known: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(documented, known);
    for name in KEYS.iter().filter_map(|key| key.short) {
        assert!(DEFAULT_TOML.contains(name), "{name} is not documented");
    }
}

#[test]
fn later_layers_win_and_the_origin_is_told() {
    let file = TempFile::new("[destination]\nport = 1001\ntag = \"file\"\nsep = \"~\"\n", 0o600);
    let case = Case {
        file: Some(file.path()),
        environment: &[("SLS_SYSLOG__DESTINATION__PORT", "1002"), ("SLS_SYSLOG__DESTINATION__TAG", "environment")],
        set: &["destination.port=1003"],
    };
    let (merged, result) = load_from(&case.layers(), &case.world());
    let destination = result.expect("settings that are accepted").forwarder.destination;
    assert_eq!((destination.port, destination.tag.as_str(), destination.sep.as_str()), (1003, "environment", "~"));
    let origin = |key| merged.get(key).and_then(config::Value::origin).expect("an origin").to_owned();
    assert_eq!(origin("destination.port"), "flag --set destination.port");
    assert_eq!(origin("destination.tag"), "environment variable SLS_SYSLOG__DESTINATION__TAG");
    assert_eq!(origin("destination.sep"), format!("destination.sep in file {}, line 4", file.path().display()));
    assert_eq!(origin("destination.timeout"), "default");
}

#[test]
fn the_samples_flat_names_are_read_in_files_and_environment() {
    let file = TempFile::new(
        "port = 601\nsep = \"##\"\ntimeout = 30.5\nfacility = \"FAC_LOCAL0\"\nseverity = 4\nhostname = \"h\"\ntag = \"t\"\n\
         cursor_start_time = \"2018-12-26 0:0:0\"\nheartbeat_interval = 10\ndata_fetch_interval = 2\nconsumer_name = \"c\"\n",
        0o644,
    );
    let environment = [("SYSLOG_PROTOCOL", ""), ("SLS_SYSLOG__PROTOCOL", "UDP")];
    let settings = Case { file: Some(file.path()), environment: &environment, ..Case::default() }.settings();
    let ForwarderConfig { source, destination, .. } = &settings.forwarder;
    assert_eq!((destination.protocol, destination.port, destination.sep.as_str()), (Protocol::Udp, 601, "##"));
    assert_eq!((destination.facility, destination.severity), (16, 4));
    assert_eq!(destination.timeout, Duration::from_millis(30_500));
    assert_eq!((source.heartbeat_interval, source.group_timeout_s), (Duration::from_secs(10), 20));
    assert_eq!(source.cursor_start_time, StartPosition::UnixSeconds(1_545_782_400));
    assert_eq!(source.consumer_name, "c");
    assert!(settings.notes.iter().any(|note| note.contains("read as UTC")), "{:?}", settings.notes);
}

#[test]
fn flags_of_run_are_the_topmost_layer() {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        layers: Layers,
        #[command(flatten)]
        flags: Flags,
    }
    let line =
        Line::parse_from(["x", "--port", "99", "--protocol", "tls", "--log-format", "json", "--set", "log.level=warn"]);
    let environment = Case { environment: &[("SYSLOG_PORT", "98")], ..Case::default() }.world();
    let settings = load_from(&line.layers.with_flags(line.flags), &environment).1.expect("settings that are accepted");
    assert_eq!((settings.forwarder.destination.port, settings.forwarder.destination.protocol), (99, Protocol::Tls));
    assert_eq!(settings.log, LogSettings { level: slog::Level::Warning, format: LogFormat::Json, file: None });
}

#[test]
fn a_file_is_found_by_flag_then_environment_then_usual_place() {
    let [by_flag, by_variable, usual] =
        ["flag", "variable", "usual"].map(|t| TempFile::new(&format!("tag = \"{t}\""), 0o600));
    let tag = |flag: Option<&Path>, variable: &str| {
        let environment = [("SLS_SYSLOG_CONFIG", variable)];
        let case = Case { file: flag, environment: &environment, ..Case::default() };
        let world = World { usual_file: usual.path().to_owned(), ..case.world() };
        load_from(&case.layers(), &world).1.expect("settings that are accepted").forwarder.destination.tag
    };
    let variable = by_variable.path().to_str().expect("a text");
    assert_eq!(tag(Some(by_flag.path()), variable), "flag");
    assert_eq!(tag(None, variable), "variable");
    assert_eq!(tag(None, ""), "usual");
}

/// Each row: environment, flags, the only refusal.
#[test]
fn every_refusal_names_key_value_layer_and_rule() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
    let rows: &[Row<'_>] = &[
        (
            &[("SLS_ENDPOINT", "")],
            &[],
            "source.endpoint: is missing; set it as SLS_ENDPOINT in the environment, in a file, or with --set source.endpoint=...",
        ),
        (
            &[("SLS_AK_KEY", "")],
            &[],
            "source.access_key_secret: is missing; set it as SLS_AK_KEY in the environment, or in a file",
        ),
        (
            &[("SYSLOG_PROTOCOL", "")],
            &[],
            "destination.protocol: is missing; set it as SYSLOG_PROTOCOL in the environment, in a file, or with --set destination.protocol=...",
        ),
        (
            &[("SYSLOG_PORT", "70000")],
            &[],
            "destination.port = 70000 (environment variable SYSLOG_PORT): is not a port from 1 to 65535",
        ),
        (
            &[("SLS_SYSLOG__DESTINATION__ORIGIN", "sd")],
            &[],
            "destination.origin = sd (environment variable SLS_SYSLOG__DESTINATION__ORIGIN): is not off, structured-data or field",
        ),
        (
            &[],
            &["destination.stamp=MARKER"],
            "destination.stamp (flag --set destination.stamp): is not a key; did you mean destination.origin?",
        ),
        (
            &[],
            &["destination.sep=/", "destination.origin=field"],
            "destination.origin = field (flag --set destination.origin): field contradicts destination.sep, which can occur in the stamp itself; set destination.origin to structured-data, or destination.sep to one with another character, such as ||",
        ),
        (
            &[("SYSLOG_PROTOCOL", "relay")],
            &[],
            "destination.protocol = relay (environment variable SYSLOG_PROTOCOL): is not udp, tcp, tls, relp or relp+tls",
        ),
        (
            &[("SYSLOG_PORT", "1"), ("SLS_SYSLOG__PORT", "2")],
            &[],
            "destination.port: is set to different values by environment variable SLS_SYSLOG__PORT and by environment variable SYSLOG_PORT; remove one of them",
        ),
        (
            &[("SLS_SYSLOG__DESTINATION__PROTO", "MARKER")],
            &[],
            "destination.proto (environment variable SLS_SYSLOG__DESTINATION__PROTO): is not a key; did you mean protocol?",
        ),
        (
            &[("SLS_SYSLOG__SOURCE", "MARKER")],
            &[],
            "source (environment variable SLS_SYSLOG__SOURCE): is a section, not a key",
        ),
        (
            &[],
            &["destination.framin=MARKER"],
            "destination.framin (flag --set destination.framin): is not a key; did you mean destination.framing?",
        ),
        (
            &[],
            &["quite.different=MARKER"],
            "quite.different (flag --set quite.different): is not a key; config/default.toml and `sls-syslog config show` list them all",
        ),
        (&[], &["MARKER"], "flag --set needs KEY=VALUE, as in --set destination.port=6514"),
        (
            &[],
            &["source.access_key_secret=MARKER"],
            "source.access_key_secret (flag --set source.access_key_secret): has no flag, because command lines can be read by everyone; use the environment or a file",
        ),
        (
            &[("SLS_ENDPOINT", "https://MARKER:MARKER@h")],
            &[],
            "source.endpoint (environment variable SLS_ENDPOINT): has a user part; keys belong into source.access_key_id and source.access_key_secret",
        ),
        (
            &[("SLS_AK_ID", "MARKER id")],
            &[],
            "source.access_key_id (environment variable SLS_AK_ID): is empty or has characters that no key has",
        ),
        (
            &[("SLS_CONNECT", "MARKER:MARKER@10.0.0.7:80")],
            &[],
            "source.connect (environment variable SLS_CONNECT): is not an address with port such as 10.0.0.7:443",
        ),
        (
            &[("SLS_CONNECT", "sls:80")],
            &[],
            "source.connect = sls:80 (environment variable SLS_CONNECT): is not an address with port such as 10.0.0.7:443",
        ),
        (
            &[("SLS_CA", "/nonexistent/ca.pem")],
            &[],
            "source.ca_path = /nonexistent/ca.pem (environment variable SLS_CA): cannot be read: No such file or directory (os error 2)",
        ),
        (
            &[],
            &["source.heartbeat_interval=0.05"],
            "source.heartbeat_interval = 0.05 (flag --set source.heartbeat_interval): 50 ms is not between 100 ms and 1800 s",
        ),
        (
            &[],
            &["source.heartbeat_interval=soon"],
            "source.heartbeat_interval = soon (flag --set source.heartbeat_interval): is not a duration; write seconds, or a number with ms, s, m, h or d",
        ),
        (
            &[],
            &["source.group_timeout=1500ms"],
            "source.group_timeout = 1500ms (flag --set source.group_timeout): is not a whole number of seconds of 1 or more, which is all that SLS takes",
        ),
        (
            &[],
            &["source.group_timeout=30"],
            "source.heartbeat_interval = 20 (default): 20 s is more than half of source.group_timeout, 30 s: one late heartbeat would lose the shards; lower source.heartbeat_interval to 15 s or raise source.group_timeout to 40 s",
        ),
        (
            &[("SLS_CURSOR_START_TIME", "yesterday")],
            &[],
            "source.cursor_start_time = yesterday (environment variable SLS_CURSOR_START_TIME): is not begin, end, unix seconds or a time such as 2018-12-26 0:0:0+8:00",
        ),
        (&[], &["source.in_order=maybe"], "source.in_order = maybe (flag --set source.in_order): is not true or false"),
        (
            &[],
            &["source.max_log_groups=-1"],
            "source.max_log_groups = -1 (flag --set source.max_log_groups): is not a whole number from 1 to 1000",
        ),
        (&[], &["source.signature=v5"], "source.signature = v5 (flag --set source.signature): is not auto, v1 or v4"),
        (
            &[("SLS_ENDPOINT", "127.0.0.1:80")],
            &["source.signature=v4"],
            "source.signature = v4 (flag --set source.signature): needs source.region, which this endpoint does not tell; set it",
        ),
        (
            &[],
            &["destination.facility=128"],
            "destination.facility = 128 (flag --set destination.facility): is a shifted code as C writes it; the facility is 16",
        ),
        (
            &[],
            &["destination.newlines=keep"],
            "destination.newlines = keep (flag --set destination.newlines): keep contradicts destination.framing = \"lf\", which ends a message at each line break; set destination.newlines to escape or space, or destination.framing to octet-counting",
        ),
        (
            &[("SYSLOG_PROTOCOL", "udp")],
            &["destination.confirmation=tcp_acked"],
            "destination.confirmation = tcp_acked (flag --set destination.confirmation): tcp_acked cannot be had with udp, which confirms nothing; set destination.confirmation to sent, or destination.protocol to tcp or tls",
        ),
        (
            &[("SYSLOG_PROTOCOL", "relp"), ("SYSLOG_FRAMING", "lf")],
            &[],
            "destination.framing = lf (environment variable SYSLOG_FRAMING): has no meaning with relp, which has frames of its own; leave it out",
        ),
        (
            &[("SYSLOG_PROTOCOL", "relp")],
            &["destination.confirmation=written"],
            "destination.confirmation = written (flag --set destination.confirmation): written is not relp's level, whose receivers answer every message; set destination.confirmation to app_acked or leave it out",
        ),
        (
            &[("SYSLOG_PROTOCOL", "relp"), ("SYSLOG_CA", "/dev/null")],
            &[],
            "destination.cert_path = /dev/null (environment variable SYSLOG_CA): is set, but relp is not encrypted; set destination.protocol to relp+tls or leave it out",
        ),
        (
            &[("SYSLOG_PROTOCOL", "relp")],
            &["destination.relp.window=0"],
            "destination.relp.window = 0 (flag --set destination.relp.window): 0 is not between 1 and 65536",
        ),
        (
            &[("SYSLOG_PROTOCOL", "udp")],
            &["destination.max_message_bytes=64KiB"],
            "destination.max_message_bytes = 64KiB (flag --set destination.max_message_bytes): 65536 is more than a UDP datagram holds; lower it to 65507",
        ),
        (
            &[("SYSLOG_PROTOCOL", "tls")],
            &["destination.tls.pin_sha256=12:34"],
            "destination.tls.pin_sha256 = 12:34 (flag --set destination.tls.pin_sha256): is not a SHA-256 fingerprint of 64 hexadecimal digits",
        ),
        (
            &[("SYSLOG_PROTOCOL", "tls")],
            &["destination.tls.client_cert=/dev/null"],
            "destination.tls.client_cert = /dev/null (flag --set destination.tls.client_cert): needs destination.tls.client_key, which is not set",
        ),
        (
            &[("SYSLOG_CA", "/dev/null")],
            &[],
            "destination.cert_path = /dev/null (environment variable SYSLOG_CA): is set, but tcp is not encrypted; set destination.protocol to tls or leave it out",
        ),
        (
            &[],
            &["mailbox.formatter=0"],
            "mailbox.formatter = 0 (flag --set mailbox.formatter): 0 lets nothing be in flight; set it to 1 or more",
        ),
        (
            &[],
            &["limits.workers=4", "limits.bytes_in_flight=48MiB"],
            "limits.bytes_in_flight = 48MiB (flag --set limits.bytes_in_flight): 48 MiB for 4 worker(s) is less than the 16 MiB that each needs; raise limits.bytes_in_flight to 64 MiB or lower limits.workers to 3",
        ),
        (
            &[],
            &["log.level=loud"],
            "log.level = loud (flag --set log.level): is not trace, debug, info, warning, error or critical",
        ),
        (&[], &["log.format=xml"], "log.format = xml (flag --set log.format): is not terminal or json"),
    ];
    for (environment, set, refusal) in rows {
        let result = Case { environment, set, ..Case::default() }.load();
        assert_eq!(result.err().unwrap_or_default(), [*refusal]);
    }
}

#[test]
fn refusals_of_a_file_name_it_and_never_quote_it() {
    let rows = [
        ("[destination]\nport = \"MARKER", 0o600, "file {} is not valid TOML, line 2, column 15"),
        (
            "[destination]\nport = [1]",
            0o600,
            "destination.port (destination.port in file {}, line 2): is a list; write a single value",
        ),
        (
            "[destination]\ntag = 7",
            0o600,
            "destination.tag = 7 (destination.tag in file {}, line 2): is not text; put it in quotes",
        ),
        ("proto = \"tcp\"", 0o600, "proto (proto in file {}, line 1): is not a key; did you mean protocol?"),
        ("Port = 514", 0o600, "Port (Port in file {}, line 1): is not a key; did you mean port?"),
        (
            "[source]\naccess_key = \"MARKER\"",
            0o600,
            "source.access_key (source.access_key in file {}, line 2): is not a key; did you mean source.access_key_secret?",
        ),
        (
            "port = 1\n[destination]\nport = 2",
            0o600,
            "destination.port: is set to different values by destination.port in file {0}, line 3 and by port in file {0}, line 1; remove one of them",
        ),
        ("[source]\nsecurity_token = \"MARKER\"\naccess_key_id = \"a\"\naccess_key_secret=\"MARKER\"", 0o640, ""),
    ];
    for (content, mode, refusal) in rows {
        let file = TempFile::new(content, mode);
        let environment: &[_] = if refusal.is_empty() { &[("SLS_AK_ID", ""), ("SLS_AK_KEY", "")] } else { &[] };
        let result = Case { file: Some(file.path()), environment, ..Case::default() }.load();
        let path = file.path().display().to_string();
        let expected = refusal.replace("{}", &path).replace("{0}", &path);
        assert_eq!(result.err().unwrap_or_default().join("\n"), expected);
    }
    let missing = Case { file: Some(Path::new("/nonexistent/c.toml")), ..Case::default() }.load();
    assert_eq!(
        missing.err().unwrap_or_default(),
        ["file /nonexistent/c.toml cannot be read: No such file or directory (os error 2)"]
    );
}

#[test]
fn secrets_in_files_that_everyone_can_read_are_refused_unless_allowed() {
    let how = "chmod o= it, or set allow_readable_secrets = true";
    let config = TempFile::new("[source]\naccess_key_id = \"a\"\naccess_key_secret = \"MARKER\"", 0o644);
    let secret = TempFile::new("MARKER\n", 0o644);
    let secret_path = secret.path().to_str().expect("a text");
    let unset = [("SLS_AK_ID", ""), ("SLS_AK_KEY", "")];
    let by_file = [("SLS_AK_KEY", ""), ("SLS_SYSLOG__SOURCE__ACCESS_KEY_SECRET_FILE", secret_path)];
    let cases = [
        (
            Case { file: Some(config.path()), environment: &unset, ..Case::default() },
            format!(
                "source.access_key_secret (source.access_key_secret in file {}, line 3): is a secret in a file that everyone on this machine can read; {how}",
                config.path().display()
            ),
        ),
        (
            Case { environment: &by_file, ..Case::default() },
            format!(
                "source.access_key_secret_file = {secret_path} (environment variable SLS_SYSLOG__SOURCE__ACCESS_KEY_SECRET_FILE): is a secret that everyone on this machine can read; {how}"
            ),
        ),
    ];
    for (case, refusal) in cases {
        assert_eq!(case.load().err().unwrap_or_default(), [refusal]);
        let allowed = Case { set: &["allow_readable_secrets=true"], ..case }.settings();
        assert_eq!(expose(&allowed).0, "MARKER");
    }
}

fn expose(settings: &Settings) -> (String, Option<String>) {
    use secrecy::ExposeSecret;
    let credentials = &settings.forwarder.source.credentials;
    let token = credentials.security_token.as_ref().map(|token| token.expose_secret().to_owned());
    (credentials.access_key_secret.expose_secret().to_owned(), token)
}

/// U2: never a secret of one family with the id of another.
#[test]
fn credentials_come_from_one_family_as_a_whole() {
    let ambient = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ambient-id"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ambient-key"),
        ("ALIBABA_CLOUD_SECURITY_TOKEN", "ambient-token"),
    ];
    let own = Case { environment: &ambient, ..Case::default() }.settings();
    assert_eq!(expose(&own), ("MARKER-key".to_owned(), None));

    let only_ambient = [&ambient[..], &[("SLS_AK_ID", ""), ("SLS_AK_KEY", "")]].concat();
    let alone = Case { environment: &only_ambient, ..Case::default() }.settings();
    assert_eq!(expose(&alone), ("ambient-key".to_owned(), Some("ambient-token".to_owned())));

    let mixed = [&ambient[..], &[("SLS_AK_ID", "")]].concat();
    let refused = Case { environment: &mixed, ..Case::default() }.load();
    assert_eq!(
        refused.err().unwrap_or_default(),
        ["source.access_key_id: is missing; set it as SLS_AK_ID in the environment, or in a file"]
    );

    let file = TempFile::new(
        "[source]\naccess_key_id = \"f\"\naccess_key_secret = \"file-key\"\nsecurity_token = \"file-token\"",
        0o600,
    );
    let above = Case { file: Some(file.path()), ..Case::default() }.settings();
    assert_eq!(expose(&above), ("MARKER-key".to_owned(), None));
    let key_only = [("SLS_AK_ID", ""), ("SLS_AK_KEY", "env-key")];
    let joined = Case { file: Some(file.path()), environment: &key_only, ..Case::default() }.settings();
    assert_eq!(expose(&joined), ("env-key".to_owned(), Some("file-token".to_owned())));
}

#[test]
fn a_secret_that_looks_like_a_number_stays_as_written() {
    for secret in ["0123", "1e5", "true"] {
        let settings = Case { environment: &[("SLS_AK_KEY", secret)], ..Case::default() }.settings();
        assert_eq!(expose(&settings).0, secret);
    }
}

#[test]
fn show_tells_values_and_origins_and_never_a_secret() {
    let environment = [("SLS_SECURITY_TOKEN", "MARKER-token")];
    let case = Case { environment: &environment, set: &["mailbox.formatter=77"], ..Case::default() };
    let (merged, result) = load_from(&case.layers(), &case.world());
    let settings = result.expect("settings that are accepted");
    for text in
        [show::render(&merged, Some(&settings)), show::render_json(&merged, Some(&settings)), format!("{settings:?}")]
    {
        assert!(!text.contains("MARKER"), "{text}");
        assert!(text.contains("77"), "{text}");
    }
    let table = show::render(&merged, Some(&settings));
    let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line("source.access_key_secret ").ends_with("***                  $SLS_AK_KEY"));
    assert!(line("  batches in flight, per worker").ends_with(" 77"));
    assert!(line("  a lease is held for").ends_with(" 36 s"));
}

#[test]
fn what_is_weak_is_named_once_at_start() {
    let notes =
        |environment: &[(&str, &str)], set: &[&str]| Case { environment, set, ..Case::default() }.settings().notes;
    assert_eq!(notes(&[("SYSLOG_PROTOCOL", "tls")], &[]), [""; 0]);
    assert_eq!(notes(&[("SYSLOG_HOST", "127.0.0.1"), ("SLS_ENDPOINT", "127.0.0.1:80")], &[]), [""; 0]);
    for (environment, set, start) in [
        (
            &[("SYSLOG_PROTOCOL", "tls"), ("SLS_ENDPOINT", "http://sls.example.com")][..],
            &[][..],
            "source.endpoint http://sls.example.com is plain http",
        ),
        (&[("SYSLOG_PROTOCOL", "udp")], &[], "destination.protocol udp confirms nothing"),
        (&[("SYSLOG_PROTOCOL", "tcp")], &[], "destination.protocol tcp is not encrypted"),
        (&[("SYSLOG_PROTOCOL", "relp")], &[], "destination.protocol relp is not encrypted"),
        (
            &[("SYSLOG_PROTOCOL", "tls")],
            &["destination.confirmation=written"],
            "destination.confirmation written takes",
        ),
        (
            &[("SYSLOG_PROTOCOL", "tls")],
            &["source.cursor_start_time=2018-12-26 0:0:0"],
            "source.cursor_start_time names no time zone",
        ),
    ] {
        let notes = notes(environment, set);
        assert!(notes.len() == 1 && notes[0].starts_with(start), "{notes:?}");
    }
}

#[test]
fn the_example_is_accepted_as_it_is() {
    let example = TempFile::new(include_str!("../../config/example-tls.toml"), 0o644);
    let unset = ["SLS_ENDPOINT", "SLS_PROJECT", "SLS_LOGSTORE", "SLS_CG", "SYSLOG_HOST", "SYSLOG_PROTOCOL"];
    let settings =
        Case { file: Some(example.path()), environment: &unset.map(|name| (name, "")), ..Case::default() }.settings();
    assert_eq!(settings.forwarder.destination.protocol, Protocol::Tls);
    assert_eq!(settings.notes, [""; 0]);
}

#[test]
fn the_dead_letter_lies_where_this_system_keeps_state() {
    let path = |environment: &[(&str, &str)], is_root: bool| {
        let environment = [&[("STATE_DIRECTORY", "")], environment].concat();
        let case = Case { environment: &environment, ..Case::default() };
        let world = World { is_root, ..case.world() };
        let settings = load_from(&case.layers(), &world).1.expect("settings that are accepted");
        settings.forwarder.dead_letter.path.map(|path| path.to_string_lossy().into_owned())
    };
    let home = ("HOME", "/home/me");
    for (environment, is_root, expected) in [
        (&[home][..], true, Some("/var/lib/sls-syslog/dead-letter.jsonl")),
        (&[("XDG_STATE_HOME", "/xdg"), home], false, Some("/xdg/sls-syslog/dead-letter.jsonl")),
        (&[("XDG_STATE_HOME", "xdg"), home], false, Some("/home/me/.local/state/sls-syslog/dead-letter.jsonl")),
        (&[("SLS_SYSLOG__DEAD_LETTER__PATH", "/d.jsonl"), home], false, Some("/d.jsonl")),
        (&[("SLS_SYSLOG__DEAD_LETTER__PATH", "none"), home], false, None),
        (&[], false, None),
    ] {
        assert_eq!(path(environment, is_root).as_deref(), expected, "{environment:?}");
    }
    let given = Case { environment: &[("STATE_DIRECTORY", "/state/a:/state/b")], ..Case::default() }.settings();
    assert_eq!(given.forwarder.dead_letter.path, Some("/state/a/dead-letter.jsonl".into()));
}

#[test]
fn a_dead_letter_that_is_switched_off_is_said_at_start() {
    let off = Case { set: &["dead_letter.path="], ..Case::default() }.settings();
    assert_eq!(off.forwarder.dead_letter.path, None);
    assert!(off.notes.iter().any(|note| note.contains("no dead letter")), "{:?}", off.notes);
    let on = Case { set: &["dead_letter.path=/d.jsonl", "dead_letter.max_bytes=1MiB"], ..Case::default() }.settings();
    assert_eq!(on.forwarder.dead_letter.max_bytes, 1 << 20);
    assert!(!on.notes.iter().any(|note| note.contains("dead letter")), "{:?}", on.notes);
    let refused = Case { set: &["dead_letter.max_bytes=5"], ..Case::default() }.load().expect_err("too small");
    assert!(refused[0].starts_with("dead_letter.max_bytes"), "{refused:?}");
}

#[test]
fn keys_that_do_nothing_beside_the_others_are_named_with_where_they_were_set() {
    let notes =
        |environment: &[(&str, &str)], set: &[&str]| Case { environment, set, ..Case::default() }.settings().notes;
    let local = [("SYSLOG_HOST", "127.0.0.1"), ("SLS_ENDPOINT", "127.0.0.1:80")];
    for (set, note) in [
        (
            "destination.relp.window=5",
            "destination.relp.window (flag --set destination.relp.window) has no effect with tcp, only relp and \
             relp+tls have it",
        ),
        (
            "source.ca_path=/dev/null",
            "source.ca_path (flag --set source.ca_path) has no effect with plain http; write https:// in front of \
             source.endpoint",
        ),
    ] {
        assert_eq!(notes(&local, &[set]), [note]);
    }
    let v1 = ["source.region=cn-hangzhou", "source.signature=v1"];
    assert_eq!(
        notes(&local, &v1),
        ["source.region (flag --set source.region) has no effect with signature v1, only v4 names the region"]
    );
    let quiet = ["log.level=error", "log.summary_interval=5"];
    assert!(
        notes(&local, &quiet)[0].starts_with("log.summary_interval (flag --set log.summary_interval) has no effect")
    );
    let udp = [local[0], local[1], ("SYSLOG_PROTOCOL", "udp")];
    let told = notes(&udp, &["destination.confirm_after_connect=3"]);
    assert!(told.iter().any(|note| note.ends_with("has no effect with udp, which has no connection")), "{told:?}");
    let pin = format!("destination.tls.pin_sha256={}", "0".repeat(64));
    let tls = [local[0], local[1], ("SYSLOG_PROTOCOL", "tls"), ("SYSLOG_CA", "/dev/null")];
    assert!(
        notes(&tls, &[&pin])[0].starts_with("destination.cert_path (environment variable SYSLOG_CA) has no effect")
    );
}

#[test]
fn mistyped_variables_are_answered_with_the_right_name() {
    let refused =
        |environment: &[(&str, &str)]| Case { environment, ..Case::default() }.load().err().unwrap_or_default();
    assert_eq!(
        refused(&[("SYSLOG_PROTOCOL", ""), ("SYSLOG_PROTO", "MARKER")]),
        [
            "environment variable SYSLOG_PROTO is not read; did you mean SYSLOG_PROTOCOL?",
            "destination.protocol: is missing; set it as SYSLOG_PROTOCOL in the environment, in a file, or with --set \
             destination.protocol=..."
        ]
    );
    assert_eq!(
        refused(&[("SLS_SYSLOG_LIMITS_WORKERS", "2")]),
        ["environment variable SLS_SYSLOG_LIMITS_WORKERS is not read; did you mean SLS_SYSLOG__LIMITS__WORKERS?"]
    );
    // What is set all the same, and what may be somebody else's, is only noted.
    let environment = &[("SYSLOG_PROTOCOL", "tls"), ("SYSLOG_PROTO", "x"), ("SLS_REGION", "cn-beijing")];
    assert_eq!(
        Case { environment, ..Case::default() }.settings().notes,
        [
            "environment variable SLS_REGION is not read; did you mean SLS_SYSLOG__SOURCE__REGION?",
            "environment variable SYSLOG_PROTO is not read; did you mean SYSLOG_PROTOCOL?"
        ]
    );
}

#[test]
fn an_endpoint_with_the_project_in_it_is_answered_with_the_one_to_write() {
    let environment = &[("SLS_ENDPOINT", "shop.cn-hangzhou.log.aliyuncs.com")];
    assert_eq!(
        Case { environment, ..Case::default() }.load().err().unwrap_or_default(),
        ["source.endpoint = shop.cn-hangzhou.log.aliyuncs.com (environment variable SLS_ENDPOINT): contains the \
          project, which is put in front by itself; write cn-hangzhou.log.aliyuncs.com"]
    );
}

#[test]
fn certificate_and_key_files_are_looked_into() {
    let identity = |name: &str| crate::certs::self_signed(&[name]).expect("a certificate");
    let (one, other) = (identity("one"), identity("other"));
    let files =
        [&one.cert_pem, &one.key_pem, &other.key_pem, &"no certificate".to_owned()].map(|t| TempFile::new(t, 0o600));
    let [cert, key, wrong_key, nothing] = files.each_ref().map(|file| file.path().to_str().expect("a path"));
    let load = |ca: &str, cert: &str, key: &str| {
        let set = [format!("destination.tls.client_cert={cert}"), format!("destination.tls.client_key={key}")];
        let environment = &[("SYSLOG_PROTOCOL", "tls"), ("SYSLOG_CA", ca)];
        Case { environment, set: &set.each_ref().map(String::as_str), ..Case::default() }
            .load()
            .err()
            .unwrap_or_default()
    };
    assert_eq!(load(cert, cert, key), [""; 0]);
    for (problems, key, words) in [
        (load(nothing, cert, key), "destination.cert_path = ", "it holds none"),
        (load(cert, nothing, key), "destination.tls.client_cert = ", "it holds none"),
        (load(cert, cert, nothing), "destination.tls.client_key = ", "holds no private key"),
        (load(cert, cert, wrong_key), "destination.tls.client_key = ", "does not work together with"),
    ] {
        assert!(problems.len() == 1 && problems[0].starts_with(key) && problems[0].contains(words), "{problems:?}");
    }
    assert_eq!(load(nothing, nothing, wrong_key).len(), 2);
}
