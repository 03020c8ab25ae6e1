//! Any log groups under any settings: every frame is found where it should be, is strict RFC 5424, and reads back as the
//! log that it was; the fast path, the slow one and any pieces are the same bytes.

use arbitrary::{Result, Unstructured};
use prost::Message as _;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::wire::format::Renderer;
use sls_syslog_actors::wire::sls::proto::{Content, Log, LogGroup, LogGroupList, LogTag};
use sls_syslog_actors::wire::syslog::gap::GapRecord;
use sls_syslog_actors::wire::syslog::parse::parse;

use super::expected;

/// Runs it.
pub fn run(data: &[u8]) {
    // Too few bytes are as good as none.
    let _ = with(&mut Unstructured::new(data));
}

fn with(u: &mut Unstructured<'_>) -> Result<()> {
    let settings = expected::settings(u)?;
    let limit = if u.arbitrary()? { usize::MAX } else { u.int_in_range(0..=4000)? };
    let gap = u.ratio(1, 16)?;
    let list = LogGroupList { log_groups: many(u, 4, group)? };
    expected::check(&settings, &list.encode_to_vec(), limit);
    if gap {
        let mut text = || Ok(String::from_utf8_lossy(&text(u)?).into_owned());
        let (project, logstore, from, to, reason) = (text()?, text()?, text()?, text()?, text()?);
        let record = GapRecord { project, logstore, shard: ShardId(7), from, to, reason, noticed_s: 1_700_000_000 };
        let mut frames = Vec::new();
        Renderer::new(settings.clone()).gap(&record, &mut frames);
        let messages = expected::split(settings.framing, &frames);
        assert_eq!(messages.len(), 1);
        assert_eq!(parse(messages[0]).expect("strict RFC 5424").msgid, Some("gap"));
    }
    Ok(())
}

/// Up to `max` of something.
fn many<T>(u: &mut Unstructured<'_>, max: usize, one: fn(&mut Unstructured<'_>) -> Result<T>) -> Result<Vec<T>> {
    let count = u.int_in_range(0..=max)?;
    (0..count).map(|_| one(u)).collect()
}

fn group(u: &mut Unstructured<'_>) -> Result<LogGroup> {
    let optional = |u: &mut Unstructured<'_>| Ok(if u.arbitrary()? { Some(text(u)?.into()) } else { None });
    Ok(LogGroup {
        category: optional(u)?,
        topic: optional(u)?,
        source: optional(u)?,
        machine_uuid: None,
        log_tags: many(u, 4, |u| Ok(LogTag { key: key(u)?.into(), value: text(u)?.into() }))?,
        logs: many(u, 6, log)?,
    })
}

fn log(u: &mut Unstructured<'_>) -> Result<Log> {
    Ok(Log {
        time: if u.ratio(3, 4)? { 1_700_000_000 + u.int_in_range(0..=2)? } else { u.arbitrary()? },
        time_ns: if u.ratio(1, 3)? { Some(u.arbitrary()?) } else { None },
        contents: many(u, 6, |u| Ok(Content { key: key(u)?.into(), value: text(u)?.into() }))?,
    })
}

/// Keys repeat, from log to log and within one.
fn key(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    const KEYS: [&str; 10] =
        ["a", "b", "c", "status", "__topic__", "__source__", "__time__", "__time_ns_part__", "__tag__:a", "__tag__:"];
    if u.ratio(3, 4)? { Ok(u.choose(&KEYS)?.as_bytes().to_vec()) } else { text(u) }
}

/// Text that is plain, long, or has what is special somewhere.
fn text(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    const PARTS: [&[u8]; 14] = [
        b"||",
        b"|",
        b"=",
        b"\\",
        b"\n",
        b"\r",
        b"\0",
        "日".as_bytes(),
        b"\xff",
        b"\xe6\x97",
        b" ",
        b"\t",
        b"\x1b",
        b"]",
    ];
    match u.int_in_range(0..=7)? {
        0..=2 => Ok(b"plain text".to_vec()),
        3 => Ok(vec![b'v'; u.int_in_range(0..=20_000)?]),
        4 => Ok({
            let length = u.int_in_range(0..=12)?;
            u.bytes(length)?.to_vec()
        }),
        _ => {
            let mut text = Vec::new();
            for _ in 0..u.int_in_range(0..=8)? {
                text.extend_from_slice(if u.arbitrary()? { u.choose(&PARTS)? } else { b"x" });
            }
            Ok(text)
        }
    }
}
