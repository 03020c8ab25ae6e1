//! Which syslog is written, and the sample's preset with its parts.

use sls_syslog_actors::config::{InvalidUtf8, MessageStyle, SyslogForm, TimestampStyle};

use super::*;

fn destination(environment: &[(&str, &str)], set: &[&str]) -> DestinationConfig {
    Case { environment, set, ..Case::default() }.settings().forwarder.destination
}

#[test]
fn rfc3164_is_one_key() {
    let old = destination(&[], &["destination.syslog=RFC3164"]);
    assert_eq!(old.style, MessageStyle { syslog: SyslogForm::Rfc3164, ..MessageStyle::default() });
    assert!(!old.hostname.contains('.'), "{}", old.hostname);
    let named = destination(&[], &["destination.syslog=rfc3164", "destination.hostname=a.example.com"]);
    assert_eq!(named.hostname, "a.example.com");
    assert_eq!(destination(&[], &["destination.framing=nul"]).framing, Framing::Nul);
}

#[test]
fn compat_sets_what_the_sample_did_and_each_part_can_be_set_otherwise() {
    let sample = MessageStyle {
        syslog: SyslogForm::Rfc5424,
        timestamp: TimestampStyle::Sample,
        structured_data: false,
        invalid_utf8: InvalidUtf8::Drop,
        legacy_ns_tuple: false,
        final_lf: false,
    };
    for protocol in ["tcp", "tls"] {
        let compat = destination(&[("SYSLOG_PROTOCOL", protocol)], &["compat=python-sample"]);
        assert_eq!((compat.style, compat.framing, compat.newlines), (sample, Framing::Lf, NewlinePolicy::Escape));
    }
    let udp = destination(&[("SYSLOG_PROTOCOL", "udp")], &["destination.compat=python-sample"]);
    assert_eq!((udp.style, udp.newlines), (MessageStyle { final_lf: true, ..sample }, NewlinePolicy::Keep));
    let relp = destination(&[("SYSLOG_PROTOCOL", "relp")], &["compat=python-sample"]);
    assert_eq!((relp.style, relp.framing), (sample, Framing::OctetCounting));

    let otherwise = [
        "compat=python-sample",
        "destination.timestamp=sample-exact",
        "destination.structured_data=true",
        "destination.invalid_utf8=replace",
        "destination.legacy_ns_tuple=true",
        "destination.final_lf=false",
        "destination.newlines=space",
    ];
    let udp = destination(&[("SYSLOG_PROTOCOL", "udp")], &otherwise);
    assert_eq!(udp.newlines, NewlinePolicy::Space);
    let expected =
        MessageStyle { timestamp: TimestampStyle::SampleExact, legacy_ns_tuple: true, ..MessageStyle::default() };
    assert_eq!(udp.style, expected);
    let counted =
        destination(&[("SYSLOG_PROTOCOL", "tls")], &["compat=python-sample", "destination.framing=octet-counting"]);
    assert_eq!(counted.framing, Framing::OctetCounting);
    assert_eq!(destination(&[], &["compat=none"]).style, MessageStyle::default());
}

#[test]
fn what_contradicts_is_refused_with_what_to_change() {
    for (environment, set, expected) in [
        (
            &[][..],
            &["destination.syslog=rfc3164", "destination.origin=structured-data"][..],
            "destination.origin = structured-data (flag --set destination.origin): structured-data contradicts \
             destination.syslog = \"rfc3164\", which has none; set destination.origin to field, or destination.syslog to \
             rfc5424",
        ),
        (
            &[],
            &["compat=python-sample", "destination.origin=structured-data"],
            "destination.origin = structured-data (flag --set destination.origin): structured-data contradicts \
             destination.structured_data = false; set destination.origin to field, or destination.structured_data to true",
        ),
        (
            &[],
            &["compat=python-sample", "destination.syslog=rfc3164"],
            "destination.compat = python-sample (flag --set compat): python-sample contradicts destination.syslog = \
             \"rfc3164\": the sample wrote the other one; remove one of them",
        ),
        (
            &[],
            &["destination.syslog=rfc3164", "destination.tag=a:b"],
            "destination.tag = a:b (flag --set destination.tag): is no TAG of RFC 3164, which has at most 32 characters and \
             is ended by : and [; shorten it, or set destination.syslog to rfc5424",
        ),
        (
            &[],
            &["destination.framing=nul", "destination.newlines=keep"],
            "destination.newlines = keep (flag --set destination.newlines): keep contradicts destination.framing = \"nul\", \
             which ends a message at each NUL; set destination.newlines to escape or space, or destination.framing to \
             octet-counting",
        ),
        (
            &[],
            &["destination.final_lf=true"],
            "destination.final_lf = true (flag --set destination.final_lf): has no meaning with tcp, only with udp; leave it \
             out",
        ),
        (
            &[],
            &["destination.compat=perl"],
            "destination.compat = perl (flag --set destination.compat): is not none or python-sample",
        ),
        (
            &[],
            &["destination.format=rfc3164"],
            "destination.format (flag --set destination.format): is not a key; did you mean destination.syslog?",
        ),
        (
            &[("SYSLOG_FRAMING", "zero")],
            &[],
            "destination.framing = zero (environment variable SYSLOG_FRAMING): is not lf, nul or octet-counting",
        ),
    ] {
        assert_eq!(Case { environment, set, ..Case::default() }.load().unwrap_err(), [expected]);
    }
    let field = destination(&[], &["destination.syslog=rfc3164", "destination.origin=field"]);
    assert_eq!(field.style.syslog, SyslogForm::Rfc3164);
}

#[test]
fn what_the_preset_cannot_know_is_said_at_start() {
    let notes =
        |set: &[&str]| Case { environment: &[("SYSLOG_PROTOCOL", "tls")], set, ..Case::default() }.settings().notes;
    let told = notes(&["compat=python-sample"]);
    assert!(told.len() == 1 && told[0].starts_with("destination.compat writes times in UTC"), "{told:?}");
    for zone in ["Z", "+08:00"] {
        assert_eq!(notes(&["compat=python-sample", &format!("destination.utc_offset={zone}")]), [""; 0]);
    }
    let idle = notes(&["destination.syslog=rfc3164", "destination.timestamp=sample"]);
    assert!(idle.iter().any(|note| note.ends_with("has no effect with rfc3164, which has its own")), "{idle:?}");
}
