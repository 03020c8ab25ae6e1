//! What every rendering has to keep, whatever the logs hold.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use prost::Message as _;

use super::origin::Batch;
use super::*;
use crate::config::{InvalidUtf8, SyslogForm, TimestampStyle};
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::wire::sls::log_group::count_groups;
use crate::wire::sls::proto::{Content, Log, LogGroup, LogGroupList, LogTag};
use crate::wire::syslog::framing::next_frame;
use crate::wire::syslog::gap::GapRecord;
use crate::wire::syslog::parse::{parse, split_escaped_key_values, split_key_values};

pub(super) fn content(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Content {
    Content { key: key.as_ref().to_vec().into(), value: value.as_ref().to_vec().into() }
}

pub(super) fn tag(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> LogTag {
    LogTag { key: key.as_ref().to_vec().into(), value: value.as_ref().to_vec().into() }
}

pub(super) fn log(time: u32, contents: &[(&str, &str)]) -> Log {
    Log { time, contents: contents.iter().map(|(key, value)| content(key, value)).collect(), time_ns: None }
}

pub(super) fn group(topic: &str, source: &str, tags: &[(&str, &str)], logs: Vec<Log>) -> LogGroup {
    LogGroup {
        logs,
        topic: Some(topic.to_owned().into()),
        source: Some(source.to_owned().into()),
        log_tags: tags.iter().map(|(key, value)| tag(key, value)).collect(),
        ..LogGroup::default()
    }
}

pub(super) fn encode(log_groups: Vec<LogGroup>) -> Vec<u8> {
    LogGroupList { log_groups }.encode_to_vec()
}

pub(super) fn settings() -> RenderSettings {
    RenderSettings {
        facility: 1,
        severity: 6,
        hostname: "myhost".into(),
        tag: "-".into(),
        sep: "||".into(),
        kv_escape: false,
        newlines: NewlinePolicy::Escape,
        framing: Framing::Lf,
        max_message_bytes: None,
        utc_offset_minutes: 0,
        style: MessageStyle::default(),
        origin: None,
        format: None,
    }
}

/// Where bodies come from.
fn batch() -> Batch {
    Batch::new(ShardId(7), Cursor::new("MTQ0NzI5OTYwNjg5NjYzMjM1Ng==").unwrap())
}

/// All of a body at once.
pub(super) fn whole(mut renderer: Renderer, raw: &[u8]) -> (Vec<u8>, Rendered) {
    let (mut out, mut position) = (Vec::new(), Position::of(batch()));
    let rendered = renderer.render(raw, &mut position, &mut out, usize::MAX).unwrap();
    assert!(rendered.done);
    (out, rendered)
}

fn text(settings: RenderSettings, groups: Vec<LogGroup>) -> (String, Rendered) {
    let raw = encode(groups);
    let (out, rendered) = whole(Renderer::new(settings.clone()), &raw);
    assert_eq!(whole(Renderer::careful(settings), &raw), (out.clone(), rendered));
    (String::from_utf8(out).unwrap(), rendered)
}

#[test]
fn fields_and_order_are_those_of_the_sample() {
    let groups = vec![group(
        "nginx",
        "10.0.0.1",
        &[("__hostname__", "web-1")],
        vec![log(1_700_028_800, &[("b", "2"), ("a", "x")])],
    )];
    let expected = "<14>1 2023-11-15T06:13:20Z myhost - - - - ||__topic__=nginx||__source__=10.0.0.1\
                    ||__tag__:__hostname__=web-1||b=2||a=x\n";
    assert_eq!(text(settings(), groups).0, expected);
}

#[test]
fn a_repeated_key_keeps_its_first_position_and_takes_the_last_value() {
    let mut one =
        log(1_700_000_000, &[("__topic__", "over"), ("k2", "v"), ("k", "w"), ("k2", "v-last"), ("__tag__:z", "2")]);
    one.contents.push(content("bytes", b"ab\xff\xfecd"));
    let mut two = log(1_700_000_001, &[("__source__", "me"), ("__time__", "5"), ("__time_ns_part__", "6")]);
    two.time_ns = Some(982_097_408);
    let three = log(1_700_000_002, &[("__time_ns_part__", "6"), ("x", "y")]);
    let (text, rendered) =
        text(settings(), vec![group("t", "s", &[("a", "b"), ("z", "1"), ("a", "c")], vec![one, two, three])]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "<14>1 2023-11-14T22:13:20Z myhost - - - - ||__topic__=over||__source__=s||__tag__:a=c||__tag__:z=2||k2=v-last||k=w\
             ||bytes=ab\u{fffd}\u{fffd}cd",
            "<14>1 2023-11-14T22:13:21.982097Z myhost - - - - ||__topic__=t||__source__=me||__time_ns_part__=6||__tag__:a=c\
             ||__tag__:z=1",
            "<14>1 2023-11-14T22:13:22Z myhost - - - - ||__topic__=t||__source__=s||__tag__:a=c||__tag__:z=1\
             ||__time_ns_part__=6||x=y",
        ]
    );
    // The bytes that are no UTF-8, and the `__time__` left out.
    assert_eq!((rendered.messages, rendered.logs, rendered.altered), (3, 3, 2));
}

#[test]
fn octet_counting_counts_the_bytes_of_the_message() {
    let mut settings = settings();
    (settings.facility, settings.hostname, settings.tag, settings.sep) =
        (16, "web-1".into(), "nginx".into(), " ".into());
    settings.framing = Framing::OctetCounting;
    let mut one = log(1_767_323_045, &[("日", "志\n")]);
    one.time_ns = Some(678_901_234);
    let message = "<134>1 2026-01-02T03:04:05.678901Z web-1 nginx - - -  __topic__= __source__= __time_ns_part__=678901234 日=志\\n";
    assert_eq!(text(settings, vec![group("", "", &[], vec![one])]).0, format!("{} {message}", message.len()));
}

#[test]
fn nanoseconds_are_in_the_timestamp_only_if_they_are_a_part_of_a_second() {
    let logs = [None, Some(0), Some(999_999_999), Some(1_000_000_000), Some(u32::MAX)];
    let logs = logs.map(|time_ns| Log { time_ns, ..log(0, &[]) }).to_vec();
    let (text, rendered) = text(settings(), vec![group("", "", &[], logs)]);
    let heads: Vec<&str> = text.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let plain = "1970-01-01T00:00:00Z";
    assert_eq!(heads, [plain, plain, "1970-01-01T00:00:00.999999Z", plain, plain]);
    assert_eq!(rendered.bad_nanoseconds, 2);
    let parts: Vec<Option<&str>> =
        text.lines().map(|line| line.split_once("__time_ns_part__=").map(|(_, n)| n)).collect();
    assert_eq!(parts, [None, None, Some("999999999"), Some("1000000000"), Some("4294967295")]);
}

#[test]
fn a_line_break_never_makes_a_second_message() {
    let forged = "x\n<0>1 - - - - - - forged\r\n200 OK\0<0>";
    let groups = || {
        vec![group(forged, forged, &[(forged, forged)], vec![log(0, &[("a", "plain")]), log(0, &[(forged, forged)])])]
    };
    for newlines in [NewlinePolicy::Escape, NewlinePolicy::Space, NewlinePolicy::Keep] {
        let (text, rendered) = text(RenderSettings { newlines, ..settings() }, groups());
        assert_eq!(text.matches('\n').count(), 2);
        assert_eq!(text.matches(['\r', '\0']).count(), 0);
        assert_eq!((rendered.messages, rendered.altered), (2, 2));
    }
    let kept = RenderSettings { newlines: NewlinePolicy::Keep, framing: Framing::OctetCounting, ..settings() };
    let (text, rendered) = text(kept, groups());
    assert_eq!(text.matches(forged).count(), 10);
    assert_eq!(rendered.altered, 0);
}

#[test]
fn long_messages_are_cut_at_a_character_border_and_counted() {
    let groups = || vec![group("", "", &[], vec![log(0, &[("k", &"日本".repeat(10))]), log(0, &[("k", "日")])])];
    let uncut = text(settings(), groups()).0;
    for framing in [Framing::Lf, Framing::OctetCounting] {
        for max in 60..140 {
            let (text, rendered) =
                text(RenderSettings { max_message_bytes: Some(max), framing, ..settings() }, groups());
            let (mut rest, mut cut) = (text.as_bytes(), 0);
            for uncut in uncut.lines() {
                let (len, message) = next_frame(framing, rest).unwrap();
                let message = std::str::from_utf8(&rest[message]).unwrap();
                rest = &rest[len..];
                assert!(uncut.starts_with(message));
                assert!(message == uncut || (max - 2..=max).contains(&message.len()), "{max}: {message}");
                cut += u64::from(message != uncut);
            }
            assert_eq!((rendered.truncated, rendered.altered), (cut, cut));
        }
    }
    // The header is never cut.
    let (text, _) =
        text(RenderSettings { max_message_bytes: Some(1), ..settings() }, vec![group("", "", &[], vec![log(0, &[])])]);
    assert_eq!(text, "<14>1 1970-01-01T00:00:00Z myhost - - - - \n");
}

#[test]
fn logs_with_the_separator_in_a_key_or_value_are_counted_once() {
    let logs =
        vec![log(0, &[("a", "x||y"), ("b||", "||")]), log(0, &[("a", "x|"), ("b", "|y")]), log(0, &[("a", "||")])];
    let (_, rendered) = text(settings(), vec![group("", "", &[], logs.clone())]);
    assert_eq!(rendered.ambiguous, 2);
    let (_, rendered) = text(settings(), vec![group("||", "", &[], logs.clone())]);
    assert_eq!(rendered.ambiguous, 3);
    let (_, rendered) = text(RenderSettings { kv_escape: true, ..settings() }, vec![group("||", "", &[], logs)]);
    assert_eq!(rendered.ambiguous, 0);
}

#[test]
fn a_gap_record_is_a_message_of_its_own() {
    let gap = GapRecord {
        project: "p".into(),
        logstore: "l".into(),
        shard: ShardId(7),
        from: "MTcw".into(),
        to: String::new(),
        reason: "the oldest\nlogs expired".into(),
        noticed_s: 1_700_000_000,
    };
    let expected = "<11>1 2023-11-14T22:13:20Z myhost - - gap - ||project=p||logstore=l||shard=7||from=MTcw||to=\
                    ||reason=the oldest\\nlogs expired";
    let mut out = Vec::new();
    Renderer::new(settings()).gap(&gap, &mut out);
    assert_eq!(String::from_utf8(out.clone()).unwrap(), format!("{expected}\n"));
    assert_eq!(parse(&out[..out.len() - 1]).unwrap().msgid, Some("gap"));
    Renderer::new(RenderSettings { framing: Framing::OctetCounting, ..settings() }).gap(&gap, &mut out);
    let counted = format!("{expected}\n{} {expected}", expected.len());
    assert_eq!(String::from_utf8(out).unwrap(), counted);
}

#[test]
fn ten_gigabytes_of_messages_are_rendered_in_bounded_memory() {
    let tag = "t".repeat(1_000_000);
    let raw = encode(vec![group("", "", &[("big", &tag)], vec![log(0, &[("a", "b")]); 10_000])]);
    let limit = 4 << 20;
    let (mut renderer, mut position) = (Renderer::new(settings()), Position::default());
    let mut out = Vec::with_capacity(limit);
    for _ in 0..5 {
        out.clear();
        let rendered = renderer.render(&raw, &mut position, &mut out, limit).unwrap();
        assert_eq!((rendered.messages, rendered.done), (4, false));
    }
    assert_eq!(out.capacity(), limit);
    // One that is longer than the limit goes alone.
    out.clear();
    assert_eq!(renderer.render(&raw, &mut position, &mut out, 1000).unwrap().messages, 1);
}

/// The optimistic text of a group fits into a piece, what it has to become does not: the rest belongs to the next piece.
#[test]
fn logs_that_grow_beyond_the_piece_when_cleaned_are_in_the_next_one() {
    let breaks = "\n".repeat(100);
    let raw =
        encode(vec![group("", "", &[], vec![log(0, &[("a", &breaks)]); 10]), group("", "", &[], vec![log(0, &[])])]);
    let (expected, _) = whole(Renderer::new(settings()), &raw);
    for limit in 1..=expected.len() {
        let (mut renderer, mut position) = (Renderer::new(settings()), Position::default());
        let (mut pieces, mut messages) = (Vec::new(), 0);
        loop {
            let mut piece = Vec::with_capacity(limit);
            let rendered = renderer.render(&raw, &mut position, &mut piece, limit).unwrap();
            assert!(piece.len() <= limit || rendered.messages == 1);
            pieces.extend_from_slice(&piece);
            messages += rendered.messages;
            if rendered.done {
                break;
            }
        }
        assert_eq!(messages, 11);
        assert!(pieces == expected, "limit {limit}");
    }
}

#[test]
fn ten_thousand_repeated_keys_take_linear_time() {
    let same = vec![content("key", "value"); 100_000];
    let distinct = (0..100_000).map(|n| content(format!("key{n}"), "")).collect();
    let tags = (0..100_000).map(|n| tag(format!("key{}", n / 2 * 2 % 60_000), "")).collect();
    let logs = [same, distinct].map(|contents| Log { time: 0, contents, time_ns: None }).to_vec();
    let raw = encode(vec![LogGroup { log_tags: tags, ..group("", "", &[], logs) }]);
    let start = Instant::now();
    let (out, rendered) = whole(Renderer::new(settings()), &raw);
    // Quadratic would be minutes.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(rendered.messages, 2);
    let first = out.split(|b| *b == b'\n').next().unwrap();
    assert_eq!(split_key_values(parse(first).unwrap().msg.unwrap(), b"||").unwrap().len(), 2 + 30_000 + 1);
}

#[test]
fn an_error_says_where_and_leaves_the_buffer_as_it_was() {
    let mut raw = encode(vec![group("", "", &[], vec![log(0, &[("a", "b")])])]);
    let good = raw.len();
    raw.extend_from_slice(&[0x0a, 0x05, 0x0a]);
    let mut out = b"before".to_vec();
    let error = Renderer::new(settings()).render(&raw, &mut Position::default(), &mut out, usize::MAX).unwrap_err();
    let RenderError::Malformed(malformed) = error;
    assert_eq!(malformed.offset, good + 1);
    assert_eq!(out, b"before");
}

// ---- Any log group list ----------------------------------------------------------------------------------------

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z0-9 |=\\\\]{0,12}".prop_map(String::into_bytes),
        2 => "\\PC{0,8}".prop_map(String::into_bytes),
        1 => "[a|\n\r\u{0}\t\u{7f}日]{0,6}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (100_usize..9000).prop_map(|len| vec![b'v'; len]),
    ]
}

/// Keys of contents, also of those that stand for something.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d", "long_key_of_a_field", "status"]).prop_map(|key| key.as_bytes().to_vec()),
        1 => prop::sample::select(vec!["__topic__", "__source__", "__time__", "__time_ns_part__", "__tag__:a", "__tag__:b", "__origin__"])
            .prop_map(|key| key.as_bytes().to_vec()),
        1 => bytes(),
    ]
}

fn pairs(max: usize) -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    prop::collection::vec((key(), bytes()), 0..max)
}

fn any_log() -> impl Strategy<Value = Log> {
    let time = prop_oneof![3 => 1_700_000_000_u32..1_700_000_003, 1 => any::<u32>()];
    let nanoseconds = prop_oneof![2 => Just(None), 1 => any::<u32>().prop_map(Some), 1 => (0..3_u32).prop_map(Some)];
    (time, pairs(6), nanoseconds).prop_map(|(time, contents, time_ns)| Log {
        time,
        contents: contents.into_iter().map(|(key, value)| content(key, value)).collect(),
        time_ns,
    })
}

pub(super) fn any_list() -> impl Strategy<Value = LogGroupList> {
    let text = || proptest::option::of(bytes().prop_map(bytes::Bytes::from));
    let group = (prop::collection::vec(any_log(), 0..12), [text(), text(), text(), text()], pairs(4)).prop_map(
        |(logs, [category, topic, source, machine_uuid], tags)| LogGroup {
            logs,
            category,
            topic,
            source,
            machine_uuid,
            log_tags: tags.into_iter().map(|(key, value)| tag(key, value)).collect(),
        },
    );
    prop::collection::vec(group, 0..4).prop_map(|log_groups| LogGroupList { log_groups })
}

fn any_settings() -> impl Strategy<Value = RenderSettings> {
    let newlines = prop::sample::select(vec![NewlinePolicy::Escape, NewlinePolicy::Space, NewlinePolicy::Keep]);
    let framing = prop::sample::select(vec![Framing::Lf, Framing::Nul, Framing::OctetCounting]);
    let sep = prop::sample::select(vec!["||", "|", " ", "\t", "日", "a", "", "\n"]);
    let max = proptest::option::weighted(0.2, 1_usize..400);
    let stamp = prop::sample::select(vec![OriginStamp::Off, OriginStamp::StructuredData, OriginStamp::Field]);
    (newlines, framing, sep, any::<bool>(), max, -900..900_i32, stamp, any_style()).prop_map(
        |(newlines, framing, sep, kv_escape, max, offset, stamp, style)| RenderSettings {
            newlines,
            framing,
            sep: sep.into(),
            kv_escape,
            max_message_bytes: max,
            utc_offset_minutes: offset,
            style,
            origin: Some(OriginSettings { stamp, project: "my-project".into(), logstore: "web_access".into() }),
            ..settings()
        },
    )
}

/// RFC 5424 mostly, and everything that it can be instead.
fn any_style() -> impl Strategy<Value = MessageStyle> {
    let syslog = prop::sample::select(vec![SyslogForm::Rfc5424, SyslogForm::Rfc5424, SyslogForm::Rfc3164]);
    let timestamps = [TimestampStyle::Rfc5424, TimestampStyle::Sample, TimestampStyle::SampleExact];
    let invalid_utf8 = prop::sample::select(vec![InvalidUtf8::Replace, InvalidUtf8::Drop]);
    let rest = (prop::sample::select(timestamps.to_vec()), any::<bool>(), any::<bool>(), any::<bool>());
    let other = (syslog, invalid_utf8, rest).prop_map(|(syslog, invalid_utf8, rest)| {
        let (timestamp, structured_data, legacy_ns_tuple, final_lf) = rest;
        MessageStyle { syslog, timestamp, structured_data, invalid_utf8, legacy_ns_tuple, final_lf }
    });
    prop_oneof![1 => Just(MessageStyle::default()), 2 => other]
}

/// The fields of a log as the sample has them, by the letter of the rules and with nothing of the renderer.
fn expected_fields(group: &LogGroup, log: &Log) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut set = |key: Vec<u8>, value: &[u8]| match fields.iter_mut().find(|(other, _)| *other == key) {
        Some(field) => field.1 = value.to_vec(),
        None => fields.push((key, value.to_vec())),
    };
    set(b"__time__".to_vec(), b"");
    set(b"__topic__".to_vec(), group.topic.as_deref().unwrap_or_default());
    set(b"__source__".to_vec(), group.source.as_deref().unwrap_or_default());
    if let Some(nanoseconds) = log.time_ns.filter(|nanoseconds| *nanoseconds != 0) {
        set(b"__time_ns_part__".to_vec(), nanoseconds.to_string().as_bytes());
    }
    for tag in &group.log_tags {
        set([b"__tag__:", &tag.key[..]].concat(), &tag.value);
    }
    for content in &log.contents {
        set(content.key.to_vec(), &content.value);
    }
    fields.remove(0);
    fields
}

fn lossy(fields: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lossy = |text: Vec<u8>| String::from_utf8_lossy(&text).into_owned().into_bytes();
    fields.into_iter().map(|(key, value)| (lossy(key), lossy(value))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The slow path is plain enough to be believed; the fast path has to agree with it to the byte, and in what it counts.
    #[test]
    fn the_fast_path_writes_what_the_slow_path_writes(list in any_list(), settings in any_settings()) {
        let raw = list.encode_to_vec();
        let fast = whole(Renderer::new(settings.clone()), &raw);
        let slow = whole(Renderer::careful(settings), &raw);
        prop_assert_eq!(fast, slow);
    }

    /// However small the pieces are, together they are the whole, and none holds more than it may.
    #[test]
    fn pieces_make_the_same_bytes_whatever_the_limit(list in any_list(), settings in any_settings(), limit in 0_usize..20_000) {
        let raw = list.encode_to_vec();
        let (expected, total) = whole(Renderer::new(settings.clone()), &raw);
        let frames = std::iter::successors(Some(0), |at| Some(at + next_frame(settings.framing, &expected[*at..])?.0));
        let borders: Vec<_> = frames.collect();
        prop_assert_eq!(total.longest, borders.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0));
        let (mut renderer, mut position) = (Renderer::new(settings), Position::of(batch()));
        let (mut pieces, mut sum) = (Vec::new(), Rendered::default());
        while !sum.done {
            let mut piece = b"kept".to_vec();
            let rendered = renderer.render(&raw, &mut position, &mut piece, limit).unwrap();
            prop_assert!(rendered.messages > 0 || rendered.done);
            prop_assert!(piece.len() - 4 <= limit || rendered.messages == 1);
            pieces.extend_from_slice(&piece[4..]);
            sum = Rendered {
                messages: sum.messages + rendered.messages,
                longest: sum.longest.max(rendered.longest),
                logs: sum.logs + rendered.logs,
                log_groups: sum.log_groups + rendered.log_groups,
                done: rendered.done,
                altered: sum.altered + rendered.altered,
                truncated: sum.truncated + rendered.truncated,
                ambiguous: sum.ambiguous + rendered.ambiguous,
                bad_nanoseconds: sum.bad_nanoseconds + rendered.bad_nanoseconds,
            };
        }
        prop_assert_eq!(sum, total);
        prop_assert_eq!(u64::from(sum.log_groups), count_groups(&raw).unwrap());
        prop_assert!(pieces == expected);
    }

    /// What a strict receiver reads, fields included, is what SLS holds.
    #[test]
    fn every_message_reads_back_to_its_log(list in any_list(), sep in prop::sample::select(vec!["||", ";", "日", " | "]), counted: bool) {
        let framing = if counted { Framing::OctetCounting } else { Framing::Lf };
        let settings = RenderSettings { kv_escape: true, framing, sep: sep.into(), utc_offset_minutes: 345, ..settings() };
        let (out, rendered) = whole(Renderer::new(settings), &list.encode_to_vec());
        let mut rest = out.as_slice();
        for group in &list.log_groups {
            for log in &group.logs {
                let (len, message) = next_frame(framing, rest).expect("a frame for each log");
                let message = parse(&rest[message]).unwrap();
                rest = &rest[len..];
                let nanoseconds = log.time_ns.filter(|nanoseconds| *nanoseconds < 1_000_000_000).unwrap_or(0);
                let expected_micros = i64::from(log.time) * 1_000_000 + i64::from(nanoseconds / 1000);
                prop_assert_eq!(message.time.unwrap().timestamp_micros(), expected_micros);
                prop_assert_eq!((message.hostname, message.app_name, message.msgid), (Some("myhost"), None, None));
                let fields = split_escaped_key_values(message.msg.unwrap(), sep.as_bytes());
                prop_assert_eq!(fields.unwrap(), lossy(expected_fields(group, log)));
            }
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(rendered.logs, list.log_groups.iter().map(|group| group.logs.len() as u64).sum::<u64>());
    }

    /// Bytes that are no list, or one that was damaged, are an error or a rendering, never a panic; and where prost reads
    /// them, so do we.
    #[test]
    fn damaged_lists_never_panic(list in any_list(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut: prop::sample::Index) {
        let mut raw = list.encode_to_vec();
        if !raw.is_empty() {
            for (at, byte) in damage {
                let at = at.index(raw.len());
                raw[at] = byte;
            }
            raw.truncate(cut.index(raw.len() + 1));
        }
        let oracle = LogGroupList::decode(raw.as_slice());
        let (mut out, mut position) = (Vec::new(), Position::default());
        let rendered = Renderer::new(settings()).render(&raw, &mut position, &mut out, usize::MAX);
        prop_assert!(oracle.is_err() || rendered.is_ok(), "prost reads it: {:?}", rendered);
        if let (Ok(oracle), Ok(rendered)) = (oracle, rendered) {
            prop_assert_eq!(rendered.logs, oracle.log_groups.iter().map(|group| group.logs.len() as u64).sum::<u64>());
            prop_assert!(out == whole(Renderer::new(settings()), &oracle.encode_to_vec()).0);
        }
    }
}
