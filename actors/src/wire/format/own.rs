//! Formats that an application brings: what a message says, with everything around it done by the library.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use super::careful::{self, Care};
use super::shape::Shape;
use super::text::Cleaner;
use crate::wire::sls::log_group::{Group, LogTime, Malformed, Pair, read_log};

/// Writes what messages say: the payload, behind the header.
///
/// All else is the library's: header, origin stamp, frame, pieces of bounded size, gap records. What a format writes is made
/// safe for its frame as any payload is: invalid UTF-8 and line breaks go by the settings, and what is longer than
/// `max_message_bytes` is cut. Each log becomes one message, also one for which nothing is written. So a format can write
/// what it likes, and can neither break a frame nor lose a log.
///
/// One value serves all workers of a forwarder, and is called once for each log.
///
/// ```
/// use sls_syslog_actors::wire::format::{Format, LogView};
///
/// /// The log's fields as `key="value"`, and nothing else.
/// #[derive(Debug)]
/// struct Quoted;
///
/// impl Format for Quoted {
///     fn write(&self, log: &LogView<'_>, out: &mut Vec<u8>) {
///         log.contents(|key, value| {
///             for part in [if out.is_empty() { "".as_bytes() } else { b" " }, key, b"=\"", value, b"\""] {
///                 out.extend_from_slice(part);
///             }
///         });
///     }
/// }
/// ```
///
/// [`ForwarderBuilder::format`](crate::forwarder::ForwarderBuilder::format) hands one to a forwarder,
/// [`RenderSettings::format`](super::RenderSettings::format) to a single formatter.
pub trait Format: Debug + Send + Sync {
    /// Writes the payload of `log` behind what is in `out`, which is empty.
    ///
    /// # Panics
    ///
    /// It should not: a panic counts against the body that holds the log (rule O2). The body is pulled again, in the end
    /// log group by log group, and the log group on which it panics three times alone is replaced by its gap record.
    fn write(&self, log: &LogView<'_>, out: &mut Vec<u8>);
}

/// One log, read where it lies. Texts are bytes, because producers need not send UTF-8.
#[derive(Debug)]
pub struct LogView<'a> {
    group: &'a Group<'a>,
    list: &'a [u8],
    log: Range<usize>,
    time: LogTime,
}

impl<'a> LogView<'a> {
    /// Topic of its log group, empty if it has none.
    pub fn topic(&self) -> &'a [u8] {
        self.group.topic
    }

    /// Source of its log group, empty if it has none.
    pub fn source(&self) -> &'a [u8] {
        self.group.source
    }

    /// Tags of its log group, in their order. A key may come again; key=value then takes the last value.
    pub fn tags(&self) -> &'a [Pair<'a>] {
        &self.group.tags
    }

    /// Its own time, which the header has already.
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// Gives key and value of each content, in their order. A key may come again; key=value then takes the last value.
    pub fn contents(&self, mut each: impl FnMut(&'a [u8], &'a [u8])) {
        // It was read to its end once, so there is nothing wrong with it.
        let _ = read_log(self.list, self.log.clone(), |content| each(content.key, content.value));
    }
}

/// An application's format, made ready.
#[derive(Debug, Clone)]
pub(super) struct Own {
    format: Arc<dyn Format>,
    cleaner: Cleaner,
    payload: Vec<u8>,
}

impl Own {
    pub(super) fn new(format: Arc<dyn Format>, shape: &Shape) -> Self {
        Self { format, cleaner: shape.cleaner.clone().without_escapes(), payload: Vec::new() }
    }

    /// Writes the message of one log, given with its place in the group, into `message`, without frame.
    pub(super) fn message(
        &mut self,
        shape: &mut Shape,
        list: &[u8],
        group: &Group<'_>,
        (log, index): (Range<usize>, u64),
        message: &mut Vec<u8>,
    ) -> Result<Care, Malformed> {
        let time = read_log(list, log.clone(), |_| {})?;
        let (mut care, max) = careful::begin(shape, &time, index, message);
        self.payload.clear();
        self.payload.shrink_to(super::MAX_KEPT);
        self.format.write(&LogView { group, list, log, time }, &mut self.payload);
        care.altered = self.cleaner.write(&self.payload, message);
        careful::cut(max, &mut care, message);
        Ok(care)
    }
}

#[cfg(test)]
mod tests {
    use super::super::origin::Batch;
    use super::super::tests::{encode, group, log, settings, tag, whole};
    use super::super::{Position, RenderSettings, Rendered, Renderer};
    use super::*;
    use crate::config::{Framing, NewlinePolicy, OriginStamp};
    use crate::loghub::Block;
    use crate::loghub::generate::{Generator, Kind};
    use crate::model::cursor::Cursor;
    use crate::model::ids::ShardId;
    use crate::wire::format::OriginSettings;
    use crate::wire::sls::body::decompress;
    use crate::wire::sls::reply::Compression;
    use crate::wire::syslog::framing::next_frame;

    /// Key=value once more, from what a format is told.
    #[derive(Debug)]
    struct Again;

    impl Format for Again {
        fn write(&self, log: &LogView<'_>, out: &mut Vec<u8>) {
            let mut field = |prefix: &str, key: &[u8], value: &[u8]| {
                for part in [b"||", prefix.as_bytes(), key, b"=", value] {
                    out.extend_from_slice(part);
                }
            };
            field("__topic__", b"", log.topic());
            field("__source__", b"", log.source());
            if let Some(nanoseconds) = log.time().nanoseconds.filter(|nanoseconds| *nanoseconds != 0) {
                field("__time_ns_part__", b"", nanoseconds.to_string().as_bytes());
            }
            for tag in log.tags() {
                field("__tag__:", tag.key, tag.value);
            }
            log.contents(|key, value| field("", key, value));
        }
    }

    /// The topic alone, as it is.
    #[derive(Debug)]
    struct Topic;

    impl Format for Topic {
        fn write(&self, log: &LogView<'_>, out: &mut Vec<u8>) {
            out.extend_from_slice(log.topic());
        }
    }

    fn with(format: impl Format + 'static, settings: RenderSettings) -> Renderer {
        Renderer::new(RenderSettings { format: Some(Arc::new(format)), ..settings })
    }

    fn messages(framing: Framing, mut frames: &[u8]) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some((length, message)) = next_frame(framing, frames) {
            messages.push(String::from_utf8(frames[message].to_vec()).unwrap());
            frames = &frames[length..];
        }
        assert!(frames.is_empty(), "whole frames");
        messages
    }

    #[test]
    fn a_format_that_writes_the_same_fields_makes_the_same_frames_in_the_same_pieces() {
        for (kind, framing) in
            [(Kind::Web, Framing::Lf), (Kind::Audit, Framing::OctetCounting), (Kind::Tiny, Framing::Nul)]
        {
            let (block, _): (Block, _) =
                Generator::new(kind, 3).block("s", 0, 500, 20, 1 << 20, 1_764_000_000).unwrap();
            let mut buffer = Vec::new();
            let raw = decompress(block.lz4(), Compression::Lz4, block.raw_size(), &mut buffer).unwrap();
            let stamp =
                OriginSettings { stamp: OriginStamp::StructuredData, project: "p".into(), logstore: "l".into() };
            let settings = RenderSettings { framing, origin: Some(stamp), ..settings() };
            let (mut own, mut usual) = (with(Again, settings.clone()), Renderer::new(settings));
            let begin = || Position::of(Batch::new(ShardId(1), Cursor::new("MTc=").unwrap()));
            let (mut own_at, mut usual_at) = (begin(), begin());
            loop {
                let (mut mine, mut theirs) = (Vec::new(), Vec::new());
                let rendered = own.render(raw, &mut own_at, &mut mine, 10_000).unwrap();
                assert_eq!(usual.render(raw, &mut usual_at, &mut theirs, 10_000).unwrap(), rendered);
                assert_eq!((mine, &own_at), (theirs, &usual_at), "{kind:?}");
                if rendered.done {
                    break;
                }
            }
        }
    }

    #[test]
    fn no_payload_breaks_its_frame_and_each_log_is_one_message() {
        let mut nasty = group("", "", &[], vec![log(1_700_000_000, &[]), log(1_700_000_000, &[])]);
        nasty.topic = Some(b"a\n<14>1 posing\r\0\xff||b=\\"[..].to_vec().into());
        let raw = encode(vec![nasty, group("", "", &[], vec![log(1_700_000_001, &[("a", "b")])])]);
        for (framing, newlines, expected) in [
            (Framing::Lf, NewlinePolicy::Keep, "a\\n<14>1 posing\\r\\0\u{fffd}||b=\\"),
            (Framing::Nul, NewlinePolicy::Space, "a <14>1 posing  \u{fffd}||b=\\"),
            (Framing::OctetCounting, NewlinePolicy::Keep, "a\n<14>1 posing\r\0\u{fffd}||b=\\"),
        ] {
            let settings = RenderSettings { framing, newlines, kv_escape: true, ..settings() };
            let (frames, rendered) = whole(with(Topic, settings), &raw);
            let (head, tail) =
                ("<14>1 2023-11-14T22:13:20Z myhost - - - - ", "<14>1 2023-11-14T22:13:21Z myhost - - - - ");
            let expected = format!("{head}{expected}");
            assert_eq!(messages(framing, &frames), [expected.as_str(), &expected, tail]);
            assert_eq!((rendered.messages, rendered.logs, rendered.altered), (3, 3, 2));
        }
    }

    #[test]
    fn a_payload_is_cut_at_the_limit_and_the_header_is_not() {
        let raw = encode(vec![group("日日日日", "", &[], vec![log(1_700_000_000, &[])])]);
        let head = "<14>1 2023-11-14T22:13:20Z myhost - - - - ";
        for (max, expected) in [(head.len() + 7, "日日"), (10, "")] {
            let settings = RenderSettings { max_message_bytes: Some(max), ..settings() };
            let (frames, rendered) = whole(with(Topic, settings), &raw);
            assert_eq!(messages(Framing::Lf, &frames), [format!("{head}{expected}")]);
            assert_eq!((rendered.truncated, rendered.altered), (1, 1));
        }
    }

    #[test]
    fn what_a_format_is_told_is_what_the_log_holds() {
        #[derive(Debug)]
        struct Told;
        impl Format for Told {
            fn write(&self, log: &LogView<'_>, out: &mut Vec<u8>) {
                let mut contents = Vec::new();
                log.contents(|key, value| contents.push((key.to_vec(), value.to_vec())));
                assert_eq!((log.topic(), log.source()), (&b"t"[..], &b"s"[..]));
                assert_eq!(log.time(), LogTime { seconds: 5, nanoseconds: Some(6) });
                assert_eq!(log.tags(), [Pair { key: b"k", value: b"1" }, Pair { key: b"k2", value: b"\xff" }]);
                assert_eq!(contents, [("a", "1"), ("b", ""), ("a", "2")].map(|(k, v)| (k.into(), v.into())));
                out.push(b'.');
            }
        }
        let mut one = log(5, &[("a", "1"), ("b", ""), ("a", "2")]);
        one.time_ns = Some(6);
        let mut all = group("t", "s", &[("k", "1")], vec![one]);
        all.log_tags.push(tag("k2", b"\xff"));
        let (_, rendered) = whole(with(Told, settings()), &encode(vec![all]));
        assert_eq!(
            rendered,
            Rendered {
                messages: 1,
                logs: 1,
                log_groups: 1,
                done: true,
                longest: rendered.longest,
                ..Rendered::default()
            }
        );
    }
}
