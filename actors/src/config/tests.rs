//! What constructors fill in, what is refused, and how text is read.

use std::time::Duration;

use super::*;
use crate::model::cursor::StartPosition;

fn config(protocol: Protocol) -> ForwarderConfig {
    let credentials = Credentials::new("id", "secret");
    let source = SourceConfig::new("cn-hangzhou.log.aliyuncs.com", "shop", "access", "siem", credentials)
        .expect("an endpoint as users write it");
    let mut config = ForwarderConfig::new(source, DestinationConfig::new("siem.example.com", protocol));
    config.limits.workers = 2;
    config
}

#[test]
fn what_constructors_fill_in_is_valid_for_every_protocol() {
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls, Protocol::Relp, Protocol::RelpTls] {
        assert_eq!(config(protocol).problems(), []);
    }
}

type Change = fn(&mut ForwarderConfig);

/// Each row: protocol, what is changed, the one refusal that follows.
#[test]
fn every_contradiction_is_refused_with_the_number_to_change() {
    use Protocol::{Relp, Tcp, Tls, Udp};
    let rows: &[(Protocol, Change, &str)] = &[
        (
            Tcp,
            |c| c.source.heartbeat_interval = Duration::from_millis(99),
            "source.heartbeat_interval: 99 ms is not between 100 ms and 1800 s",
        ),
        (
            Tcp,
            |c| c.source.heartbeat_interval = Duration::from_millis(20_500),
            "source.heartbeat_interval: 20500 ms is more than half of source.group_timeout, 40 s: one late heartbeat would lose the shards; lower source.heartbeat_interval to 20 s or raise source.group_timeout to 41 s",
        ),
        (Tcp, |c| c.source.max_log_groups = 1001, "source.max_log_groups: 1001 is not between 1 and 1000"),
        (
            Tcp,
            |c| c.source.request_timeout = Duration::ZERO,
            "source.request_timeout: 0 s is not between 1 s and 600 s",
        ),
        (
            Tcp,
            |c| c.source.drain_timeout = Duration::from_secs(601),
            "source.drain_timeout: 601 s is not between 10 ms and 600 s",
        ),
        (
            Tcp,
            |c| c.source.commit_interval = Duration::ZERO,
            "source.commit_interval: 0 s is not between 10 ms and 3600 s",
        ),
        (Tcp, |c| c.source.project.clear(), "source.project: is empty"),
        (
            Tcp,
            |c| c.source.logstore = "a/b".into(),
            "source.logstore: is not made of 1 to 128 letters, digits, hyphens and underscores",
        ),
        (
            Tcp,
            |c| c.source.consumer_name = "a\nb".into(),
            "source.consumer_name: is empty, longer than 256 bytes or has control characters; leave it out for a unique one",
        ),
        (
            Tcp,
            |c| c.source.endpoint.host = "shop.cn-hangzhou.log.aliyuncs.com".into(),
            "source.endpoint: contains the project, which is put in front by itself; write cn-hangzhou.log.aliyuncs.com",
        ),
        (
            Tcp,
            |c| c.source.credentials.access_key_id = "a b".into(),
            "source.access_key_id: is empty or has characters that no key has",
        ),
        (
            Tcp,
            |c| c.source.signature = Signature::V4 { region: String::new() },
            "source.region: is no region; write for example cn-hangzhou",
        ),
        (
            Tcp,
            |c| c.destination.host = "siem:514".into(),
            "destination.host: has a port; write it into destination.port",
        ),
        (
            Tcp,
            |c| c.destination.host = "tcp://siem".into(),
            "destination.host: is not a host; write name or address alone",
        ),
        (Tcp, |c| c.destination.port = 0, "destination.port: 0 is not between 1 and 65535"),
        (
            Tcp,
            |c| c.destination.newlines = NewlinePolicy::Keep,
            "destination.newlines: keep contradicts destination.framing = \"lf\", which ends a message at each line break; set destination.newlines to escape or space, or destination.framing to octet-counting",
        ),
        (
            Tcp,
            |c| (c.destination.framing, c.destination.newlines) = (Framing::Nul, NewlinePolicy::Keep),
            "destination.newlines: keep contradicts destination.framing = \"nul\", which ends a message at each NUL; set destination.newlines to escape or space, or destination.framing to octet-counting",
        ),
        (
            Tls,
            |c| {
                c.destination.style.syslog = SyslogForm::Rfc3164;
                c.destination.origin = OriginStamp::StructuredData;
            },
            "destination.origin: structured-data contradicts destination.syslog = \"rfc3164\", which has none; set destination.origin to field, or destination.syslog to rfc5424",
        ),
        (
            Tls,
            |c| c.destination.style.final_lf = true,
            "destination.final_lf: has no meaning with tls, only with udp; leave it out",
        ),
        (
            Udp,
            |c| c.destination.framing = Framing::Lf,
            "destination.framing: has no meaning with udp, where a datagram is a message; leave it out",
        ),
        (
            Relp,
            |c| c.destination.framing = Framing::Lf,
            "destination.framing: has no meaning with relp, which has frames of its own; leave it out",
        ),
        (
            Relp,
            |c| c.destination.confirmation = Confirmation::TcpAcked,
            "destination.confirmation: tcp_acked is not relp's level, whose receivers answer every message; set destination.confirmation to app_acked or leave it out",
        ),
        (
            Tls,
            |c| c.destination.confirmation = Confirmation::AppAcked,
            "destination.confirmation: app_acked needs answers, which only relp has; set destination.confirmation to tcp_acked, or destination.protocol to relp or relp+tls",
        ),
        (Relp, |c| c.destination.relp_window = 0, "destination.relp.window: 0 is not between 1 and 65536"),
        (
            Relp,
            |c| c.destination.tls.pin_sha256 = Some([0; 32]),
            "destination.tls.pin_sha256: is set, but relp is not encrypted; set destination.protocol to relp+tls or leave it out",
        ),
        (
            Udp,
            |c| c.destination.confirmation = Confirmation::TcpAcked,
            "destination.confirmation: tcp_acked cannot be had with udp, which confirms nothing; set destination.confirmation to sent, or destination.protocol to tcp or tls",
        ),
        (
            Tls,
            |c| c.destination.confirmation = Confirmation::Sent,
            "destination.confirmation: sent is udp's level; set destination.confirmation to tcp_acked or written",
        ),
        (
            Udp,
            |c| c.destination.max_message_bytes = Some(65_508),
            "destination.max_message_bytes: 65508 is more than a UDP datagram holds; lower it to 65507",
        ),
        (
            Udp,
            |c| c.destination.max_message_bytes = None,
            "destination.max_message_bytes: no limit is more than a UDP datagram holds; lower it to 65507",
        ),
        (
            Tcp,
            |c| c.destination.max_message_bytes = Some(479),
            "destination.max_message_bytes: 479 is less than 480, which every receiver has to take; raise it",
        ),
        (
            Tcp,
            |c| c.destination.sep = "\n".into(),
            "destination.sep: is not 1 to 32 bytes of text; a tab is the only control character allowed",
        ),
        (
            Tcp,
            |c| (c.destination.sep, c.destination.origin) = ("/-".into(), OriginStamp::Field),
            "destination.origin: field contradicts destination.sep, which can occur in the stamp itself; set destination.origin to structured-data, or destination.sep to one with another character, such as ||",
        ),
        (
            Tcp,
            |c| c.destination.hostname = "a b".into(),
            "destination.hostname: is not 1 to 255 printable ASCII characters without spaces",
        ),
        (
            Tcp,
            |c| c.destination.tag = "é".into(),
            "destination.tag: is not 1 to 48 printable ASCII characters without spaces; - means none",
        ),
        (Tcp, |c| c.destination.facility = 24, "destination.facility: 24 is not between 0 and 23"),
        (Tcp, |c| c.destination.severity = 8, "destination.severity: 8 is not between 0 and 7"),
        (
            Tcp,
            |c| c.destination.confirm_after_connect = Duration::from_secs(120),
            "destination.confirm_after_connect: 120 s is not shorter than destination.timeout, 120 s: nothing would be confirmed in time; lower destination.confirm_after_connect or raise destination.timeout",
        ),
        (
            Tcp,
            |c| c.destination.reconnect.0 = Duration::from_secs(31),
            "destination.reconnect_min: 31 s is more than destination.reconnect_max, 30 s; lower the one or raise the other",
        ),
        (Tcp, |c| c.destination.connections = 0, "destination.connections: 0 is not between 1 and 64"),
        (
            Tcp,
            |c| c.destination.max_messages_per_second = Some(0),
            "destination.max_messages_per_second: a pace of 0 sends nothing",
        ),
        (
            Tcp,
            |c| c.destination.tls.ca_path = Some("ca.pem".into()),
            "destination.cert_path: is set, but tcp is not encrypted; set destination.protocol to tls or leave it out",
        ),
        (
            Tls,
            |c| c.destination.tls.server_name = Some(String::new()),
            "destination.tls.server_name: is neither a host name nor an address",
        ),
        (Tcp, |c| c.mailbox.formatter = 0, "mailbox.formatter: 0 lets nothing be in flight; set it to 1 or more"),
        (
            Tcp,
            |c| c.mailbox.fetcher = 64,
            "mailbox.fetcher: 64 cannot hold the settlements of the 128 batches that mailbox.formatter lets be in flight; raise mailbox.fetcher to 128 or lower mailbox.formatter to 64",
        ),
        (
            Tcp,
            |c| c.limits.bytes_in_flight = 31 << 20,
            "limits.bytes_in_flight: 31 MiB for 2 worker(s) is less than the 16 MiB that each needs; raise limits.bytes_in_flight to 32 MiB or lower limits.workers to 1",
        ),
        (
            Tcp,
            |c| c.limits.bytes_in_flight = 1 << 20,
            "limits.bytes_in_flight: 1 MiB for 2 worker(s) is less than the 16 MiB that each needs; raise limits.bytes_in_flight to 32 MiB",
        ),
        (Tcp, |c| c.limits.workers = 0, "limits.workers: 0 is not between 1 and 64"),
        (Tcp, |c| c.limits.piece_bytes = 5 << 20, "limits.piece_bytes: 5 MiB is not between 64 KiB and 4 MiB"),
        (Tcp, |c| c.summary_interval = Duration::ZERO, "log.summary_interval: 0 s is not between 1 s and 86400 s"),
    ];
    for (protocol, change, refusal) in rows {
        let mut config = config(*protocol);
        change(&mut config);
        let problems: Vec<_> = config.problems().iter().map(ConfigError::to_string).collect();
        assert_eq!(problems, [*refusal]);
        assert_eq!(config.validate().map_err(|e| e.to_string()), Err((*refusal).to_owned()));
    }
}

#[test]
fn endpoints_are_read_as_users_write_them() {
    let rows = [
        ("cn-hangzhou.log.aliyuncs.com", "https://cn-hangzhou.log.aliyuncs.com", Some("cn-hangzhou")),
        (" http://CN-Hangzhou.log.aliyuncs.com/ ", "http://cn-hangzhou.log.aliyuncs.com", Some("cn-hangzhou")),
        (
            "https://eu-central-1-intranet.log.aliyuncs.com//",
            "https://eu-central-1-intranet.log.aliyuncs.com",
            Some("eu-central-1"),
        ),
        ("us-east-1-vpc.log.aliyuncs.com", "https://us-east-1-vpc.log.aliyuncs.com", Some("us-east-1")),
        ("cn-beijing.sls.aliyuncs.com", "https://cn-beijing.sls.aliyuncs.com", Some("cn-beijing")),
        ("log-global.aliyuncs.com", "https://log-global.aliyuncs.com", None),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", None),
        ("sls.example.com", "http://sls.example.com", None),
    ];
    for (text, rendered, region) in rows {
        let endpoint = Endpoint::parse(text).expect(text);
        assert_eq!((endpoint.to_string().as_str(), endpoint.region()), (rendered, region), "{text}");
        let automatic = Signature::automatic(&endpoint, None);
        assert_eq!(matches!(automatic, Signature::V4 { .. }), region.is_some(), "{text}");
    }
    let given = Signature::automatic(&Endpoint::parse("127.0.0.1:80").expect("address"), Some("cn-x"));
    assert_eq!(given, Signature::V4 { region: "cn-x".into() });
}

#[test]
fn what_is_no_endpoint_is_refused_and_a_user_part_never_repeated() {
    for (text, what) in [
        ("", "is empty; write the region's endpoint, for example cn-hangzhou.log.aliyuncs.com"),
        ("https://", "is empty; write the region's endpoint, for example cn-hangzhou.log.aliyuncs.com"),
        (
            "https://MARKER:MARKER@h",
            "has a user part; keys belong into source.access_key_id and source.access_key_secret",
        ),
        ("h/path", "has a path; write host and port alone, for example cn-hangzhou.log.aliyuncs.com"),
        ("h:0", "has a port that is not a number from 1 to 65535"),
        ("h:65536", "has a port that is not a number from 1 to 65535"),
        ("[::1]:80", "is an IPv6 address; write a host name and the address into source.connect"),
        ("a..b", "is not a host name; write for example cn-hangzhou.log.aliyuncs.com"),
        ("ftp://h", "has a scheme that is neither https nor http"),
    ] {
        assert_eq!(Endpoint::parse(text), Err(ConfigError::new("source.endpoint", what)), "{text}");
    }
}

#[test]
fn start_times_are_read_as_the_sample_writes_them() {
    let at = |seconds| StartPosition::UnixSeconds(seconds);
    for (text, position, zone_assumed) in [
        ("begin", StartPosition::Begin, false),
        ("END", StartPosition::End, false),
        ("1545782400", at(1_545_782_400), false),
        ("2018-12-26 0:0:0", at(1_545_782_400), true),
        ("2018-12-26 0:0:0+8:00", at(1_545_753_600), false),
        ("2018-12-26 0:0:0 +08:00", at(1_545_753_600), false),
        ("2018-12-26T00:00:00Z", at(1_545_782_400), false),
        ("2018-12-26T00:00:00.500-05:30", at(1_545_802_200), false),
        ("2018-12-26T00:00", at(1_545_782_400), true),
        ("2018-12-26", at(1_545_782_400), true),
    ] {
        assert_eq!(parse_start_time(text), Ok(StartTime { position, zone_assumed }), "{text}");
    }
    let rule = "is not begin, end, unix seconds or a time such as 2018-12-26 0:0:0+8:00";
    for (text, what) in [
        ("", rule),
        ("yesterday", rule),
        ("2018-13-01 0:0:0", rule),
        ("2018-12-26 0:0:0+99", rule),
        ("é2018-12-26", rule),
        ("1545782400000", "is too large for unix seconds; are these milliseconds?"),
        ("1969-12-31T00:00:00Z", "is before 1970"),
    ] {
        assert_eq!(parse_start_time(text), Err(what.to_owned()), "{text}");
    }
}

#[test]
fn durations_and_sizes_are_read_with_and_without_unit() {
    for (text, millis) in [
        ("20", 20_000),
        ("0.1", 100),
        ("100ms", 100),
        ("5m", 300_000),
        ("1.5 s", 1500),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "s", "1.2.3", "-1", "5 weeks", "1e9", "400d", "é"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    for (text, bytes) in
        [("4096", 4096), ("64KiB", 65_536), ("128 MiB", 128 << 20), ("1GiB", 1 << 30), ("10MB", 10_000_000)]
    {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["", "-1", "1.5MiB", "12 apples", "99999999999GiB"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn rendered_durations_and_sizes_are_read_back() {
    for millis in [0, 1, 100, 999, 1000, 1500, 86_400_000] {
        let duration = Duration::from_millis(millis);
        assert_eq!(parse_duration(&render_duration(duration)), Ok(duration));
    }
    for bytes in [0, 1, 1023, 1024, 65_507, 4 << 20, 3 << 30] {
        assert_eq!(parse_size(&render_size(bytes)), Ok(bytes));
    }
}

#[test]
fn all_facilities_and_severities_have_their_rfc_5424_code() {
    let facilities = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
        "audit", "alert", "clock2", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    for (code, name) in (0u8..).zip(facilities) {
        let sample = format!("FAC_{}", name.to_uppercase());
        for text in [name, &code.to_string(), &sample, &format!("syslogclient.{sample}")] {
            assert_eq!(parse_facility(text), Ok(code), "{text}");
        }
    }
    for (code, name) in (0u8..).zip(["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]) {
        for text in [name, &code.to_string(), &format!("SEV_{}", name.to_uppercase())] {
            assert_eq!(parse_severity(text), Ok(code), "{text}");
        }
    }
    assert_eq!(parse_facility("128"), Err("is a shifted code as C writes it; the facility is 16".into()));
    assert_eq!(parse_facility("25"), Err("is not a facility from 0 to 23".into()));
    assert_eq!(
        parse_facility("security"),
        Err("means auth (4) to some programs and audit (13) to others; write auth or audit".into())
    );
    assert_eq!(parse_severity("8"), Err("is not a severity from 0 to 7".into()));
}

#[test]
fn fingerprints_are_read_with_and_without_colons() {
    let plain = "00ff".repeat(16);
    let colons =
        plain.as_bytes().chunks(2).map(|c| std::str::from_utf8(c).expect("ascii")).collect::<Vec<_>>().join(":");
    let expected = parse_fingerprint(&plain).expect("64 digits");
    assert_eq!((expected[0], expected[1]), (0x00, 0xff));
    for text in [colons.to_uppercase(), format!("sha256:{plain}"), format!("SHA256:{colons}")] {
        assert_eq!(parse_fingerprint(&text), Ok(expected), "{text}");
    }
    for text in ["", "00ff", &"zz".repeat(32), &"00".repeat(33)] {
        assert!(parse_fingerprint(text).is_err(), "{text}");
    }
}

#[test]
fn group_timeout_is_twice_the_heartbeat_in_whole_seconds() {
    for (millis, seconds) in [(100, 1), (500, 1), (501, 2), (20_000, 40)] {
        assert_eq!(SourceConfig::group_timeout_for(Duration::from_millis(millis)), seconds);
    }
}

#[test]
fn consumer_names_of_two_forwarders_differ() {
    let name = SourceConfig::unique_consumer_name("siem");
    assert!(name.starts_with("siem-"), "{name}");
    assert_ne!(name, SourceConfig::unique_consumer_name("siem"));
}

#[test]
fn secrets_are_not_in_debug_output() {
    let mut config = config(Protocol::Tcp);
    config.source.credentials = Credentials::new("MARKER-id", "MARKER-secret");
    config.source.credentials.security_token = Some("MARKER-token".to_owned().into());
    assert!(!format!("{config:?}").contains("MARKER"));
}
