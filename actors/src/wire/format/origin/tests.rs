use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::Message as _;

use super::super::tests::{any_list, content, encode, group, log, settings};
use super::super::{Alone, OriginSettings, Position, RenderSettings, Renderer};
use super::*;
use crate::config::Framing;
use crate::wire::sls::proto::{LogGroup, LogGroupList};
use crate::wire::syslog::framing::next_frame;
use crate::wire::syslog::gap::GapRecord;
use crate::wire::syslog::parse::{parse, split_escaped_key_values};

const FIRST: u64 = 1_447_299_606_896_632_356;

fn stamped(stamp: OriginStamp) -> RenderSettings {
    let origin = OriginSettings { stamp, project: "my-project".into(), logstore: "web_access".into() };
    RenderSettings { origin: Some(origin), ..settings() }
}

fn cursor(number: u64) -> String {
    let mut text = Vec::new();
    Cursor::write_number(number, &mut text);
    String::from_utf8(text).unwrap()
}

fn render(settings: &RenderSettings, from: &str, groups: &[LogGroup], limit: usize) -> Vec<u8> {
    let raw = LogGroupList { log_groups: groups.to_vec() }.encode_to_vec();
    let mut position = Position::of(Batch::new(ShardId(3), Cursor::new(from).unwrap()));
    let (mut renderer, mut out) = (Renderer::new(settings.clone()), Vec::new());
    while !renderer.render(&raw, &mut position, &mut out, limit).unwrap().done {}
    out
}

fn lines(settings: &RenderSettings, from: &str, groups: &[LogGroup]) -> Vec<String> {
    let text = String::from_utf8(render(settings, from, groups, usize::MAX)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn two_groups() -> Vec<LogGroup> {
    let logs = |n| (0..n).map(|_| log(1_700_000_000, &[("a", "b")])).collect();
    vec![group("t", "s", &[], logs(11)), group("t", "s", &[], logs(1))]
}

#[test]
fn structured_data_name_the_logs_own_group_and_the_place_in_it() {
    let lines = lines(&stamped(OriginStamp::StructuredData), &cursor(99), &two_groups());
    assert_eq!(
        lines[10],
        "<14>1 2023-11-14T22:13:20Z myhost - - - [sls@32473 project=\"my-project\" logstore=\"web_access\" shard=\"3\" \
         cursor=\"OTk=\" index=\"10\" logs=\"11\"] ||__topic__=t||__source__=s||a=b"
    );
    let message = parse(lines[11].as_bytes()).unwrap();
    let expected =
        r#"[sls@32473 project="my-project" logstore="web_access" shard="3" cursor="MTAw" index="0" logs="1"]"#;
    assert_eq!(message.structured_data, Some(expected));
    assert_eq!(message.msg, Some(&b"||__topic__=t||__source__=s||a=b"[..]));
}

#[test]
fn the_field_comes_first_and_leaves_the_others_as_they_are() {
    let lines = lines(&stamped(OriginStamp::Field), &cursor(99), &two_groups());
    assert_eq!(
        lines[0],
        "<14>1 2023-11-14T22:13:20Z myhost - - - - ||__origin__=my-project/web_access/3/OTk=/0/11||__topic__=t\
         ||__source__=s||a=b"
    );
    let escaped = RenderSettings { kv_escape: true, ..stamped(OriginStamp::Field) };
    let escaped = render(&escaped, &cursor(99), &two_groups(), usize::MAX);
    let first = escaped.split(|byte| *byte == b'\n').next().unwrap();
    let fields = split_escaped_key_values(parse(first).unwrap().msg.unwrap(), b"||").unwrap();
    assert_eq!(fields[0], (b"__origin__".to_vec(), b"my-project/web_access/3/OTk=/0/11".to_vec()));
    assert_eq!(Stamp::find(first).unwrap().cursor, "OTk=");
}

#[test]
fn nothing_that_a_log_says_poses_as_its_stamp() {
    let forged = "p/l/0/MTc=/3/100";
    let element = "[sls@32473 project=\"p\" logstore=\"l\" shard=\"0\" cursor=\"MTc=\" index=\"0\" logs=\"9\"]";
    let own = log(0, &[("__origin__", forged), ("x", &format!("||__origin__={forged} {element}"))]);
    let groups = [group(element, forged, &[("__origin__", forged)], vec![own])];
    for stamp in [OriginStamp::StructuredData, OriginStamp::Field] {
        let raw = encode(groups.to_vec());
        let mut position = Position::of(Batch::new(ShardId(3), Cursor::new(&cursor(99)).unwrap()));
        let mut out = Vec::new();
        let rendered = Renderer::new(stamped(stamp)).render(&raw, &mut position, &mut out, usize::MAX).unwrap();
        let found = Stamp::find(&out).unwrap();
        assert_eq!((found.project, found.shard, &*found.cursor), ("my-project", 3, "OTk="));
        // Only where it would be the same field it is left out, which is counted.
        let left_out = stamp == OriginStamp::Field;
        assert_eq!(rendered.altered, u64::from(left_out));
        assert_eq!(memchr::memmem::find(&out, b"||__origin__=p/l/0/MTc=/3/100||x=").is_none(), left_out);
    }
}

#[test]
fn the_stamp_is_never_cut() {
    let mut one = log(0, &[]);
    one.contents.push(content("long", "x".repeat(1000)));
    for stamp in [OriginStamp::StructuredData, OriginStamp::Field] {
        for max in [1, 40, 100, 200, 300] {
            let settings = RenderSettings { max_message_bytes: Some(max), ..stamped(stamp) };
            let lines = lines(&settings, &cursor(FIRST), &[group("", "", &[], vec![one.clone()])]);
            let found = Stamp::find(lines[0].as_bytes()).unwrap();
            assert_eq!((&*found.cursor, found.index, found.logs), (&*cursor(FIRST), 0, Some(1)));
            assert!(lines[0].len() <= max.max(200));
        }
    }
}

/// Rather the batch's own cursor than a number that is made up.
#[test]
fn a_cursor_that_is_no_number_stands_for_its_batch() {
    for opaque in ["eA==", "a/1/2/b", "MDA3", "x/\"]\\[", &cursor(u64::MAX)] {
        for stamp in [OriginStamp::StructuredData, OriginStamp::Field] {
            let lines = lines(&stamped(stamp), opaque, &two_groups());
            assert!(parse(lines[11].as_bytes()).is_ok());
            if opaque.contains('"') {
                continue;
            }
            for (at, line) in lines.iter().enumerate() {
                let found = Stamp::find(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
                assert_eq!((&*found.cursor, found.index, found.logs), (opaque, at as u64, None));
            }
        }
    }
}

#[test]
fn a_body_whose_origin_is_not_known_has_no_stamp() {
    let raw = encode(two_groups());
    for stamp in [OriginStamp::StructuredData, OriginStamp::Field] {
        let mut out = Vec::new();
        Renderer::new(stamped(stamp)).render(&raw, &mut Position::default(), &mut out, usize::MAX).unwrap();
        let mut plain = Vec::new();
        Renderer::new(settings()).render(&raw, &mut Position::default(), &mut plain, usize::MAX).unwrap();
        assert_eq!(out, plain);
    }
}

#[test]
fn stamps_are_found_in_what_receivers_make_of_them() {
    let plain = r#"[sls@32473 project="p-1" logstore="l_1" shard="12" cursor="MTc=" index="3" logs="100"]"#;
    let json = serde_like(plain);
    let twice = serde_like(&json);
    let csv = plain.replace('"', "\"\"");
    for line in [
        format!("<14>1 - h a - - {plain} ||k=v"),
        format!("Nov 25 00:00:00 h a {plain} text"),
        format!(r#"{{"msg":"||k=v","structured_data":"{json}"}}"#),
        format!(r#"{{"raw":"{twice}"}}"#),
        format!("h,a,\"{csv}\",x"),
        r#"{"_SDATA":{"sls@32473":{"shard":"12","project":"p-1","logstore":"l_1","logs":"100","index":"3","cursor":"MTc="}},"PRI":"14"}"#.into(),
        r#"{".SDATA.sls@32473.shard":"12",".SDATA.sls@32473.project":"p-1",".SDATA.sls@32473.logs":"100",".SDATA.sls@32473.logstore":"l_1",".SDATA.sls@32473.index":"3",".SDATA.sls@32473.cursor":"MTc="}"#.into(),
        "||__origin__=p-1/l_1/12/MTc=/3/100||__topic__=x".into(),
        "||__origin__=p-1/l_1/12/MTc\\=/3/100||__topic__=x".into(),
        r#"{"__origin__": "p-1/l_1/12/MTc=/3/100", "b": 1}"#.into(),
        r#"{"msg":"||__origin__=p-1/l_1/12/MTc\\=/3/100\t||k=v"}"#.into(),
        r#"{"msg":"||__origin__=p-1\/l_1\/12\/MTc\\=\/3\/100||k=v"}"#.into(),
        r#"{"msg":"||__origin__=p-1\/l_1\/12\/MTc=\/3\/100"}"#.into(),
        "\"__origin__=p-1/l_1/12/MTc=/3/100".into(),
    ] {
        let expected = Stamp {
            project: "p-1",
            logstore: "l_1",
            shard: 12,
            cursor: "MTc=".into(),
            index: 3,
            logs: Some(100),
        };
        assert_eq!(Stamp::find(line.as_bytes()), Some(expected), "{line}");
    }
}

/// Text inside a JSON string.
fn serde_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[test]
fn what_is_no_stamp_is_none() {
    for line in [
        "",
        "||__origin__=",
        "||__origin__=p/l/0/MTc=/3",
        "||__origin__=p/l/x/MTc=/3/100",
        "||__origin__=p/l/0//3/100",
        "||__origin__=p/l/0/MTc=/100/100",
        "||__origin__=p/l/0/MTc=/-3/100",
        "||__origin__=p/l/99999999999/MTc=/3/100",
        "||__origin__=p /l/0/MTc=/3/100",
        "[sls@32473]",
        "[sls@32473 project=\"p\" logstore=\"l\" shard=\"0\" cursor=\"MTc=\" index=\"3\"] logs",
        "[sls@32473 project=\"p\" logstore=\"l\" shard=\"0\" cursor=\"\" index=\"3\" logs=\"100\"]",
        "[sls@32473 projects=\"p\"",
    ] {
        assert_eq!(Stamp::find(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn gap_records_are_found_and_not_forged() {
    let record = GapRecord {
        project: "p".into(),
        logstore: "l".into(),
        shard: ShardId(7),
        from: "MTc=".into(),
        to: "MTk=".into(),
        reason: "the oldest logs expired".into(),
        noticed_s: 1_700_000_000,
    };
    for (sep, kv_escape) in [("||", false), ("\t", true), (" | ", true)] {
        for stamp in [OriginStamp::StructuredData, OriginStamp::Field] {
            let (mut out, settings) = (Vec::new(), RenderSettings { sep: sep.into(), kv_escape, ..stamped(stamp) });
            Renderer::new(settings).gap(&record, &mut out);
            out.pop();
            assert_eq!(Stamp::find(&out), None);
            let found = FoundGap::find(&out).unwrap();
            assert_eq!((found.project, found.logstore, found.shard), ("p", "l", 7));
            assert_eq!((&*found.from, &*found.to, &*found.reason), ("MTc=", "MTk=", "the oldest logs expired"));
            let json = format!("{{\"msg\":\"{}\"}}", serde_like(std::str::from_utf8(&out).unwrap()));
            assert_eq!(FoundGap::find(json.as_bytes()).unwrap(), found);
        }
    }
    let forged = "<14>1 - h a - - - ||x=||project=p||logstore=l||shard=7||from=MTc=||to=MTk=||reason=none";
    assert_eq!(FoundGap::find(forged.as_bytes()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever batches and pieces the groups come in, each log has one stamp, its own, and it reads back.
    #[test]
    fn stamps_are_unique_and_do_not_depend_on_borders(
        list in any_list(),
        borders in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        limit in 0_usize..5000,
        structured: bool,
        kv_escape: bool,
    ) {
        let groups = list.log_groups;
        let stamp = if structured { OriginStamp::StructuredData } else { OriginStamp::Field };
        let settings = RenderSettings { kv_escape, framing: Framing::OctetCounting, ..stamped(stamp) };
        let expected = render(&settings, &cursor(FIRST), &groups, usize::MAX);

        let mut borders: Vec<usize> = borders.iter().map(|border| border.index(groups.len() + 1)).collect();
        borders.extend([0, groups.len()]);
        borders.sort_unstable();
        let mut parts = Vec::new();
        for border in borders.windows(2) {
            let from = cursor(FIRST + border[0] as u64);
            parts.extend_from_slice(&render(&settings, &from, &groups[border[0]..border[1]], limit));
        }
        prop_assert!(parts == expected);

        let (mut rest, mut seen) = (expected.as_slice(), BTreeSet::new());
        for (at, group) in groups.iter().enumerate() {
            for index in 0..group.logs.len() as u64 {
                let (len, message) = next_frame(Framing::OctetCounting, rest).unwrap();
                prop_assert!(parse(&rest[message.clone()]).is_ok());
                let found = Stamp::find(&rest[message]).unwrap();
                prop_assert_eq!((found.project, found.logstore, found.shard), ("my-project", "web_access", 3));
                let number = Cursor::new(&found.cursor).unwrap().number();
                prop_assert_eq!(number, Some(FIRST + at as u64));
                prop_assert_eq!((found.index, found.logs), (index, Some(group.logs.len() as u64)));
                prop_assert!(seen.insert((number, found.index)));
                rest = &rest[len..];
            }
        }
        prop_assert!(rest.is_empty());
    }

    /// Lines come from anybody.
    #[test]
    fn no_line_makes_the_reader_panic(
        parts in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "__origin__", "sls@32473", "project", "logstore=", "project=", "shard=", "cursor", "index", "logs", "from=",
                    "to=", "reason=", "=", "/", "\"", "\\", "||", "p", "l", "0", "MTc=", "3", " ", "]", "\u{65e5}",
                ]).prop_map(|text| text.as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..4),
            ],
            0..40,
        ),
    ) {
        let line = parts.concat();
        if let Some(stamp) = Stamp::find(&line) {
            prop_assert!(stamp.logs.is_none_or(|logs| stamp.index < logs));
        }
        let _ = FoundGap::find(&line);
    }
}

/// One log of a batch, taken out of it and sent by itself, later.
#[test]
fn a_log_that_is_alone_in_a_body_keeps_its_stamp() {
    let groups = two_groups();
    for (from, stamp) in [cursor(99), "no-number".to_owned()]
        .into_iter()
        .flat_map(|from| [(from.clone(), OriginStamp::StructuredData), (from, OriginStamp::Field)])
    {
        let lines = lines(&stamped(stamp), &from, &groups);
        for (place, line) in (0..).zip(&lines) {
            let (group, index) = if place < 11 { (0, place) } else { (1, 0) };
            let logs = groups[group as usize].logs.len() as u64;
            let mut one = groups[group as usize].clone();
            one.logs = vec![one.logs[index as usize].clone()];
            let batch = Batch::new(ShardId(3), Cursor::new(&from).unwrap());
            let mut position = Position::of_log(batch, Alone { place, group, index, logs });
            let (raw, mut out) = (encode(vec![one]), Vec::new());
            Renderer::new(stamped(stamp)).render(&raw, &mut position, &mut out, usize::MAX).unwrap();
            assert_eq!(String::from_utf8(out).unwrap().trim_end(), line);
        }
    }
}
