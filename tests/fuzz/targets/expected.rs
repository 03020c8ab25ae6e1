//! What a rendering has to be, said in the plainest way, and held against what it is.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use prost::Message as _;
use sls_syslog_actors::config::{DestinationConfig, Framing, InvalidUtf8, NewlinePolicy, Protocol};
use sls_syslog_actors::testing::seams::careful_renderer;
use sls_syslog_actors::wire::format::{Position, RenderError, RenderSettings, Rendered, Renderer};
use sls_syslog_actors::wire::sls::log_group::count_groups;
use sls_syslog_actors::wire::sls::proto::{Log, LogGroup, LogGroupList};
use sls_syslog_actors::wire::syslog::framing::{Deframer, next_frame};
use sls_syslog_actors::wire::syslog::parse::{Message, parse, split_escaped_key_values};

/// Separators that differ in what they can be confused with.
const SEPARATORS: [&str; 8] = ["||", "|", " ", "\t", "aba", ";;;", "日", "=|"];

/// Any settings that the process would accept, as far as they shape messages.
pub(super) fn settings(u: &mut Unstructured<'_>) -> Result<RenderSettings> {
    let mut destination = DestinationConfig::new("siem", Protocol::Tcp);
    destination.framing = *u.choose(&[Framing::OctetCounting, Framing::Lf, Framing::Nul])?;
    destination.newlines = *u.choose(&[NewlinePolicy::Escape, NewlinePolicy::Space, NewlinePolicy::Keep])?;
    destination.sep = (*u.choose(&SEPARATORS)?).to_owned();
    destination.kv_escape = u.arbitrary()?;
    destination.max_message_bytes = if u.ratio(1, 3)? { Some(u.int_in_range(40..=700)?) } else { None };
    destination.utc_offset_minutes = *u.choose(&[0, 480, -1080, 1])?;
    destination.facility = u.int_in_range(0..=23)?;
    destination.severity = u.int_in_range(0..=7)?;
    destination.hostname = "host".to_owned();
    destination.style.invalid_utf8 = *u.choose(&[InvalidUtf8::Replace, InvalidUtf8::Drop])?;
    Ok(RenderSettings::from(&destination))
}

type Outcome = std::result::Result<(Vec<u8>, Rendered), RenderError>;

fn whole(mut renderer: Renderer, raw: &[u8]) -> Outcome {
    let mut out = b"before".to_vec();
    match renderer.render(raw, &mut Position::default(), &mut out, usize::MAX) {
        Ok(rendered) => {
            assert!(rendered.done);
            Ok((out.split_off(6), rendered))
        }
        Err(error) => {
            assert_eq!(out, b"before", "after an error the buffer is as it was");
            Err(error)
        }
    }
}

/// Renders `raw` in every way there is and holds the results against each other and against the plain words of the
/// sample's payload. `limit` is that of the pieces.
pub(super) fn check(settings: &RenderSettings, raw: &[u8], limit: usize) {
    let fast = whole(Renderer::new(settings.clone()), raw);
    let careful = whole(careful_renderer(settings.clone()), raw);
    assert_eq!(fast, careful, "the fast and the slow path");
    let owned = LogGroupList::decode(raw);
    let (frames, rendered) = match fast {
        Ok(fast) => fast,
        Err(error) => {
            assert!(owned.is_err(), "prost reads what is refused here: {error}");
            return;
        }
    };
    assert_eq!(count_groups(raw), Ok(u64::from(rendered.log_groups)));
    let messages = split(settings.framing, &frames);
    assert_eq!(messages.len(), rendered.messages as usize);
    assert_eq!(rendered.logs, u64::from(rendered.messages));
    let parsed: Vec<Message<'_>> = messages.iter().map(|message| parse(message).expect("strict RFC 5424")).collect();
    check_pieces(settings, raw, limit, &frames);
    let Ok(owned) = owned else { return };
    let uncut = RenderSettings { max_message_bytes: None, ..settings.clone() };
    let uncut = settings.max_message_bytes.and_then(|_| whole(careful_renderer(uncut), raw).ok());
    let uncut = uncut.map(|(frames, _)| frames);
    let uncut = uncut.as_deref().map(|frames| split(settings.framing, frames));
    let logs = owned.log_groups.iter().flat_map(|group| group.logs.iter().map(move |log| (group, log)));
    assert_eq!(logs.clone().count(), parsed.len());
    for (index, (group, log)) in logs.enumerate() {
        let (message, parsed) = (messages[index], &parsed[index]);
        check_head(settings, parsed, log);
        match &uncut {
            Some(uncut) => check_cut(settings, message, parsed, uncut[index]),
            None => check_text(settings, parsed.msg.unwrap_or_default(), &fields(settings, group, log)),
        }
    }
}

/// The messages of frames that we rendered, by the two readers of frames that there are.
pub(super) fn split(framing: Framing, frames: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut messages) = (frames, Vec::new());
    while let Some((len, message)) = next_frame(framing, rest) {
        messages.push(&rest[message]);
        rest = &rest[len..];
    }
    assert!(rest.is_empty(), "{} bytes are in no frame", rest.len());
    let mut deframer = Deframer::new(frames.len());
    deframer.push(frames);
    for message in &messages {
        assert_eq!(deframer.next().expect("a stream of frames"), Some(*message));
    }
    assert_eq!(deframer.next(), Ok(None));
    assert_eq!(deframer.end(), Ok(()));
    messages
}

/// Pieces are whole messages, as many as fit, and together they are all of it.
fn check_pieces(settings: &RenderSettings, raw: &[u8], limit: usize, frames: &[u8]) {
    let (mut renderer, mut position) = (Renderer::new(settings.clone()), Position::default());
    let mut at = 0;
    loop {
        let mut piece = Vec::new();
        let rendered = renderer.render(raw, &mut position, &mut piece, limit).expect("it was rendered as a whole");
        assert!(piece.len() <= limit || rendered.messages == 1, "a piece of {} for {limit}", piece.len());
        assert!(frames[at..].starts_with(&piece), "pieces differ from the whole");
        assert_eq!(split(settings.framing, &piece).len(), rendered.messages as usize);
        at += piece.len();
        if rendered.done {
            break;
        }
        assert!(rendered.messages > 0, "a piece without progress");
    }
    assert_eq!(at, frames.len());
}

fn check_head(settings: &RenderSettings, message: &Message<'_>, log: &Log) {
    assert_eq!((message.facility, message.severity), (settings.facility, settings.severity));
    let time = message.time.expect("every log has a time");
    assert_eq!(time.timestamp(), i64::from(log.time));
    let nanoseconds = log.time_ns.filter(|nanoseconds| *nanoseconds < 1_000_000_000).unwrap_or(0);
    let expected = Duration::from_nanos(u64::from(nanoseconds)).as_micros();
    assert_eq!(u128::from(time.timestamp_subsec_micros()), expected);
    assert_eq!(message.hostname, Some("host"));
}

/// A message is what would have been written without a limit, cut where it has to be and at a character's border.
fn check_cut(settings: &RenderSettings, message: &[u8], parsed: &Message<'_>, uncut: &[u8]) {
    assert!(uncut.starts_with(message));
    let head = message.len() - parsed.msg.map_or(0, <[u8]>::len);
    let max = settings.max_message_bytes.unwrap_or(usize::MAX).max(head);
    assert!(message.len() <= max);
    assert!(message.len() == uncut.len() || message.len() + 4 > max, "cut to {} of {max}", message.len());
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Text, whatever the bytes are.
fn text_of(settings: &RenderSettings, bytes: &[u8]) -> String {
    match settings.style.invalid_utf8 {
        InvalidUtf8::Replace => String::from_utf8_lossy(bytes).into_owned(),
        InvalidUtf8::Drop => bytes.utf8_chunks().map(|chunk| chunk.valid()).collect(),
    }
}

/// The fields of the sample's payload: a key that occurs again keeps its place and takes the last value.
fn fields(settings: &RenderSettings, group: &LogGroup, log: &Log) -> Fields {
    let mut fields = Fields::new();
    // Where bytes are left out, what is left is the key.
    let key_of = |key: &[u8]| match settings.style.invalid_utf8 {
        InvalidUtf8::Replace => key.to_vec(),
        InvalidUtf8::Drop => text_of(settings, key).into_bytes(),
    };
    let mut set = |key: &[u8], value: &[u8]| match fields.iter_mut().find(|(known, _)| known == key) {
        Some(known) => known.1 = value.to_vec(),
        None => fields.push((key.to_vec(), value.to_vec())),
    };
    set(b"__topic__", group.topic.as_deref().unwrap_or_default());
    set(b"__source__", group.source.as_deref().unwrap_or_default());
    if let Some(nanoseconds) = log.time_ns.filter(|nanoseconds| *nanoseconds != 0) {
        set(b"__time_ns_part__", nanoseconds.to_string().as_bytes());
    }
    for tag in &group.log_tags {
        set(&[b"__tag__:", &key_of(&tag.key)[..]].concat(), &tag.value);
    }
    for content in &log.contents {
        let key = key_of(&content.key);
        if key != b"__time__" {
            set(&key, &content.value);
        }
    }
    fields
}

fn check_text(settings: &RenderSettings, text: &[u8], fields: &Fields) {
    let newlines = match (settings.framing, settings.newlines) {
        (Framing::Lf | Framing::Nul, NewlinePolicy::Keep) => NewlinePolicy::Escape,
        (_, newlines) => newlines,
    };
    let breaks = |text: &[u8]| {
        let text = text_of(settings, text);
        match newlines {
            NewlinePolicy::Keep => text,
            NewlinePolicy::Space => text.replace(['\n', '\r', '\0'], " "),
            NewlinePolicy::Escape => text.replace('\n', "\\n").replace('\r', "\\r").replace('\0', "\\0"),
        }
    };
    if !settings.kv_escape {
        let expected: String =
            fields.iter().map(|(key, value)| format!("{}{}={}", settings.sep, breaks(key), breaks(value))).collect();
        assert_eq!(text.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        return;
    }
    // What is escaped reads back as it was, whatever it holds.
    let plain = |text: &[u8]| match newlines {
        NewlinePolicy::Escape => text_of(settings, text).into_bytes(),
        _ => breaks(text).into_bytes(),
    };
    let expected: Fields = fields.iter().map(|(key, value)| (plain(key), plain(value))).collect();
    let read = split_escaped_key_values(text, settings.sep.as_bytes());
    assert_eq!(read, Some(expected), "{:?} between the fields of {}", settings.sep, text.escape_ascii());
}
