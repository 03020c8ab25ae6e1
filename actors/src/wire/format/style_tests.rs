//! What is written besides strict RFC 5424: RFC 3164, the Python sample's bytes, NUL framing.

use super::origin::{FoundGap, Stamp};
use super::tests::{content, encode, group, log, settings, whole};
use super::*;
use crate::config::{Framing, InvalidUtf8, Protocol, SyslogForm, TimestampStyle};
use crate::model::ids::ShardId;
use crate::wire::sls::proto::{Log, LogGroup};
use crate::wire::syslog::framing::next_frame;
use crate::wire::syslog::gap::GapRecord;
use crate::wire::syslog::rfc3164;

fn old() -> RenderSettings {
    let style = MessageStyle { syslog: SyslogForm::Rfc3164, ..MessageStyle::default() };
    RenderSettings { style, tag: "nginx".into(), ..settings() }
}

/// What the preset makes of a destination of this protocol, in Shanghai.
fn sample(protocol: Protocol) -> RenderSettings {
    let mut destination = DestinationConfig::new("siem", protocol);
    destination.imitate_python_sample();
    destination.utc_offset_minutes = 480;
    destination.hostname = "myhost".into();
    RenderSettings::from(&destination)
}

/// Both paths.
fn bytes(settings: RenderSettings, groups: Vec<LogGroup>) -> (Vec<u8>, Rendered) {
    let raw = encode(groups);
    let out = whole(Renderer::new(settings.clone()), &raw);
    assert_eq!(whole(Renderer::careful(settings), &raw), out);
    out
}

fn text(settings: RenderSettings, groups: Vec<LogGroup>) -> String {
    String::from_utf8(bytes(settings, groups).0).unwrap()
}

fn gap() -> GapRecord {
    GapRecord {
        project: "p".into(),
        logstore: "l".into(),
        shard: ShardId(7),
        from: "MTcw".into(),
        to: String::new(),
        reason: "expired".into(),
        noticed_s: 1_700_000_000,
    }
}

#[test]
fn what_is_left_out_of_a_frame_does_not_count_for_its_length() {
    let style = MessageStyle { invalid_utf8: InvalidUtf8::Drop, ..MessageStyle::default() };
    let mut one = log(1_700_000_000, &[]);
    one.contents.push(content("a", b"\xff\xff"));
    let (frames, rendered) = bytes(RenderSettings { style, ..settings() }, vec![group("", "", &[], vec![one])]);
    assert_eq!(rendered.longest, frames.len());
}

#[test]
fn rfc3164_has_the_same_fields_behind_its_tag() {
    let mut one = log(1_767_582_245, &[("b", "2"), ("a", "x\ny")]);
    one.time_ns = Some(678_901_234);
    let expected = "<14>Jan  5 03:04:05 myhost nginx: ||__topic__=t||__source__=s||__time_ns_part__=678901234\
                    ||__tag__:k=v||b=2||a=x\\ny\n";
    let sent = text(old(), vec![group("t", "s", &[("k", "v")], vec![one])]);
    assert_eq!(sent, expected);
    assert_eq!(rfc3164::parse(&sent.as_bytes()[..sent.len() - 1]).unwrap().tag, "nginx");
}

#[test]
fn a_gap_record_of_rfc3164_is_told_from_a_log_that_poses_as_one() {
    let mut out = Vec::new();
    Renderer::new(old()).gap(&gap(), &mut out);
    let expected =
        "<11>Nov 14 22:13:20 myhost nginx: gap ||project=p||logstore=l||shard=7||from=MTcw||to=||reason=expired\n";
    assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
    let found = FoundGap::find(&out[..out.len() - 1]).unwrap();
    assert_eq!((found.shard, &*found.from, found.reason.as_str()), (7, "MTcw", "expired"));
    let fields = [
        ("gap ", "gap "),
        ("project", "p"),
        ("logstore", "l"),
        ("shard", "7"),
        ("from", ""),
        ("to", ""),
        ("reason", "forged"),
    ];
    let posing = text(old(), vec![group("gap ", "", &[], vec![log(0, &fields)])]);
    assert!(!rfc3164::parse(posing.trim_end().as_bytes()).unwrap().is_gap());
    assert_eq!(FoundGap::find(posing.trim_end().as_bytes()), None);
}

#[test]
fn the_stamp_of_rfc3164_is_a_field_or_none() {
    let with = |stamp| {
        let origin = OriginSettings { stamp, project: "p".into(), logstore: "l".into() };
        text(RenderSettings { origin: Some(origin), ..old() }, vec![group("", "", &[], vec![log(0, &[("a", "b")])])])
    };
    let field = with(OriginStamp::Field);
    assert!(field.contains(" nginx: ||__origin__=p/l/7/"), "{field}");
    assert_eq!(Stamp::find(field.as_bytes()).unwrap().logs, Some(1));
    assert_eq!(with(OriginStamp::StructuredData), with(OriginStamp::Off));
}

#[test]
fn the_sample_is_imitated_where_it_was_not_wrong() {
    let groups = vec![group(
        "nginx",
        "10.0.0.1",
        &[("__hostname__", "web-1")],
        vec![log(1_700_028_800, &[("b", "2"), ("a", "x")])],
    )];
    for protocol in [Protocol::Tcp, Protocol::Tls] {
        let expected = "<14>1 2023-11-15T14:13:20.000000+0800 myhost - - - ||__topic__=nginx||__source__=10.0.0.1\
                        ||__tag__:__hostname__=web-1||b=2||a=x\n";
        assert_eq!(text(sample(protocol), groups.clone()), expected);
    }
}

#[test]
fn what_is_no_utf8_is_left_out_and_keys_that_become_the_same_are_one_as_in_the_sample() {
    let mut one = log(0, &[("k", "1")]);
    one.contents.extend([content(b"k\xff", b"2\xfe3"), content(b"\xe6\x97__time__", "5"), content("x", b"\xff")]);
    let tags = vec![super::tests::tag(b"a\xff", "1"), super::tests::tag("a", "2")];
    let groups = vec![LogGroup { log_tags: tags, ..group("t", "s", &[], vec![one]) }];
    let (out, rendered) = bytes(sample(Protocol::Tcp), groups);
    let expected =
        "<14>1 1970-01-01T08:00:00.000000+0800 myhost - - - ||__topic__=t||__source__=s||__tag__:a=2||k=23||x=\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!(rendered.altered, 1);
}

#[test]
fn nanoseconds_are_a_number_or_the_tuple_that_the_sample_wrote() {
    let logs = || vec![Log { time_ns: Some(123_456_789), ..log(0, &[("a", "b")]) }];
    let part = |legacy_ns_tuple, sep: &str, kv_escape| {
        let mut settings = RenderSettings { sep: sep.into(), kv_escape, ..sample(Protocol::Tcp) };
        settings.style.legacy_ns_tuple = legacy_ns_tuple;
        let text = text(settings, vec![group("", "", &[], logs())]);
        text.split_once("__time_ns_part__=").unwrap().1.split_once("a=b").unwrap().0.to_owned()
    };
    assert_eq!(part(false, "||", false), "123456789||");
    assert_eq!(part(true, "||", false), "('123456789',)||");
    assert_eq!(part(true, ",", false), "('123456789',),");
    assert_eq!(part(true, ",", true), "('123456789'\\,),");
}

#[test]
fn datagrams_of_the_sample_end_with_a_line_feed_and_keep_others() {
    let groups = || vec![group("", "", &[], vec![log(0, &[("a", "x\ny")]), log(0, &[("a", "z")])])];
    let (out, _) = bytes(sample(Protocol::Udp), groups());
    let (length, message) = next_frame(Framing::OctetCounting, &out).unwrap();
    assert!(out[message].ends_with(b"||a=x\ny\n"));
    let (second, message) = next_frame(Framing::OctetCounting, &out[length..]).unwrap();
    assert!(out[length..][message].ends_with(b"||a=z\n"));
    assert_eq!(length + second, out.len());
    // The line feed counts for the limit, and is what stays.
    let cut = RenderSettings { max_message_bytes: Some(60), ..sample(Protocol::Udp) };
    let (out, rendered) = bytes(cut, groups());
    let (_, message) = next_frame(Framing::OctetCounting, &out).unwrap();
    assert_eq!((message.len(), out[message].last(), rendered.truncated), (60, Some(&b'\n'), 2));
}

#[test]
fn nul_framing_escapes_what_lf_framing_escapes() {
    for newlines in [NewlinePolicy::Escape, NewlinePolicy::Keep] {
        let settings = RenderSettings { framing: Framing::Nul, newlines, ..settings() };
        let groups = vec![group("", "", &[], vec![log(0, &[("a", "x\ny\0z")]), log(0, &[("b", "c")])])];
        let sent = text(settings.clone(), groups);
        let messages: Vec<&str> = sent.split_terminator('\0').collect();
        assert_eq!(messages.len(), 2);
        assert!(messages[0].ends_with("||a=x\\ny\\0z") && messages[1].ends_with("||b=c") && !sent.contains('\n'));
        let mut out = Vec::new();
        Renderer::new(settings).gap(&gap(), &mut out);
        assert_eq!(next_frame(Framing::Nul, &out).unwrap().0, out.len());
    }
}

/// What would make the imitation exact; the receiver then has no valid times.
#[test]
fn each_difference_to_the_sample_has_its_switch() {
    let mut exact = sample(Protocol::Tcp);
    (exact.style.timestamp, exact.utc_offset_minutes) = (TimestampStyle::SampleExact, 0);
    let plain = vec![group("", "", &[], vec![log(0, &[("a", b"x\xff".escape_ascii().to_string().as_str())])])];
    assert!(text(exact.clone(), plain).starts_with("<14>1 1970-01-01T00:00:00.000000+2400 myhost - - - ||"));
    (exact.style.structured_data, exact.style.invalid_utf8) = (true, InvalidUtf8::Replace);
    let mut one = log(0, &[]);
    one.contents.push(content("a", b"x\xff"));
    assert!(
        text(exact, vec![group("", "", &[], vec![one])])
            .ends_with(" myhost - - - - ||__topic__=||__source__=||a=x\u{fffd}\n")
    );
}
