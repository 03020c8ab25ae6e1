//! The payload of the Python sample: `sep key=value` for each field, the separator first.
//!
//! Fields and their order: `__topic__`, `__source__`, `__time_ns_part__` (only if the log has one that is not 0), the
//! group's tags as `__tag__:key`, the log's contents. A key that occurs again keeps its first position and takes the last
//! value. `__time__` is in the header only: a content of that name, which in the sample took the place of the log's
//! time, is left out and counted as an alteration, and TIMESTAMP stays the time that SLS has for the log. The origin
//! stamp, where it is a field, comes before all of these, and a content of its name is left out in the same way.
//!
//! Messages are written straight into the frame buffer, as if nothing could be wrong with them, and the finished text
//! is checked by windows of 32 KiB, which costs a tenth of checking value by value. Only when a window does not pass
//! are its logs rendered one by one, and only in the log that does not pass by itself each value is cleaned. Repeated
//! keys and the like are for `careful`. Nothing else allocates per log, and what logs share is rendered once: the header
//! per second, topic, source and tags per group, each key.

use std::collections::HashSet;
use std::ops::Range;

use super::keys::Keys;
use super::origin::Place;
use super::own::Own;
use super::position::{NextLog, OpenGroup, Position};
use super::shape::Shape;
use super::text::cut_at_character;
use super::{MAX_KEPT, RenderError, RenderSettings, Rendered, careful};
use crate::wire::sls::known_keys::Field;
use crate::wire::sls::log_group::{Group, LogTime, Malformed, next_group, next_log};
use crate::wire::syslog::gap::GapRecord;

/// Text that is checked at once: large enough to be quick, small enough to be in the first cache still.
const WINDOW: usize = 32 * 1024;

/// Renders log groups as messages. One per formatter: what it keeps between calls only saves time.
#[derive(Debug, Clone)]
pub struct Renderer {
    shape: Shape,
    /// Writes the payload in place of key=value.
    own: Option<Own>,
    shared: Shared,
    keys: Keys,
    scratch: Vec<u8>,
    /// Whether the last window did not pass: then the next one is better checked log by log at once.
    wary: bool,
    /// Sends every log of this group through the slow path.
    careful: bool,
}

/// What the messages of a group share, rendered.
#[derive(Debug, Clone, Default)]
struct Shared {
    /// Topic and source, then the tags.
    text: Vec<u8>,
    /// Where the tags begin.
    tags_at: usize,
    altered: bool,
    ambiguous: bool,
    /// Tags that differ may become the same.
    needs_care: bool,
}

impl Shared {
    fn render(&mut self, shape: &Shape, group: &Group<'_>) {
        self.text.clear();
        if self.text.capacity() > MAX_KEPT {
            self.text = Vec::new();
        }
        (self.altered, self.ambiguous) = (false, false);
        self.needs_care = shape.drops && group.tags.iter().any(|tag| simdutf8::basic::from_utf8(tag.key).is_err());
        self.field(shape, b"__topic__", b"", group.topic);
        self.field(shape, b"__source__", b"", group.source);
        self.tags_at = self.text.len();
        match group.tags.as_slice() {
            [] => {}
            tags if tags.len() <= 16 => {
                for (at, tag) in tags.iter().enumerate() {
                    if tags[..at].iter().all(|before| before.key != tag.key) {
                        let last = tags[at..].iter().rfind(|other| other.key == tag.key).unwrap_or(tag);
                        self.field(shape, b"__tag__:", tag.key, last.value);
                    }
                }
            }
            tags => {
                let last: std::collections::HashMap<_, _> = tags.iter().map(|tag| (tag.key, tag.value)).collect();
                let mut written = HashSet::with_capacity(last.len());
                for tag in tags.iter().filter(|tag| written.insert(tag.key)) {
                    self.field(shape, b"__tag__:", tag.key, last[tag.key]);
                }
            }
        }
    }

    fn field(&mut self, shape: &Shape, prefix: &[u8], key: &[u8], value: &[u8]) {
        self.text.extend_from_slice(&shape.sep);
        self.text.extend_from_slice(prefix);
        self.altered |= shape.cleaner.write(key, &mut self.text);
        self.text.push(b'=');
        self.altered |= shape.cleaner.write(value, &mut self.text);
        self.ambiguous |= shape.is_ambiguous(key) || shape.is_ambiguous(value);
    }
}

/// Whether there is more to render behind what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Group,
    Full,
}

impl Renderer {
    /// Compiles the settings.
    pub fn new(settings: RenderSettings) -> Self {
        let shape = Shape::new(&settings);
        Self {
            own: settings.format.map(|format| Own::new(format, &shape)),
            shape,
            shared: Shared::default(),
            keys: Keys::default(),
            scratch: Vec::new(),
            wary: false,
            careful: false,
        }
    }

    /// Renders from `position` on until `out` has grown by about `limit` bytes or the body ends, and moves `position`
    /// there. Whole messages only; a message that is longer than `limit` goes alone.
    ///
    /// `raw` is a decompressed body, the same in all calls with one position. After an error `out` is as it was.
    ///
    /// # Errors
    /// [`RenderError::Malformed`]: `raw` is no log group list.
    pub fn render(
        &mut self,
        raw: &[u8],
        position: &mut Position,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Rendered, RenderError> {
        let begin = out.len();
        let rendered = self.render_groups(raw, position, out, limit.saturating_add(begin));
        if rendered.is_err() {
            out.truncate(begin);
        }
        Ok(rendered?)
    }

    fn render_groups(
        &mut self,
        raw: &[u8],
        position: &mut Position,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Rendered, Malformed> {
        let mut rendered = Rendered::default();
        let (mut group, mut fields) = (Group::default(), Vec::with_capacity(64));
        loop {
            let open = match position.open.take() {
                Some(open) => open,
                None => match next_group(raw, position.at)? {
                    Some(bytes) => {
                        let index = position.alone.map_or(0, |(index, _)| index);
                        OpenGroup { next: NextLog { at: bytes.start, index }, bytes }
                    }
                    None => {
                        rendered.done = true;
                        return Ok(rendered);
                    }
                },
            };
            position.at = open.bytes.end;
            let open = position.open.insert(open);
            // Read once in one go, a group is in the cache when it is walked: walking goes from length to length, and
            // would wait for memory at each.
            let has_separator = self.shape.is_ambiguous(&raw[open.next.at..open.bytes.end]);
            group.read(raw, open.bytes.clone())?;
            self.shared.render(&self.shape, &group);
            self.careful = self.own.is_some() || self.shape.always_careful || self.shared.needs_care;
            if let Some(stamp) = &mut self.shape.stamp {
                let logs = position.alone.map_or(group.logs, |(_, logs)| logs);
                let place = Place { groups: position.groups, logs_before: position.logs, logs };
                stamp.begin_group(position.batch.as_ref(), place, &self.shape.cleaner);
            }
            let (group, end) = (&group, open.bytes.end);
            let mut pass = Pass { raw, group, end, has_separator, fields: &mut fields, limit, index: 0 };
            if self.render_group(&mut pass, &mut open.next, out, &mut rendered)? == Ended::Full {
                return Ok(rendered);
            }
            position.open = None;
            position.groups += 1;
            position.logs += group.logs;
            rendered.log_groups += 1;
        }
    }

    /// Renders the logs of a group from `next` on, in windows.
    fn render_group(
        &mut self,
        pass: &mut Pass<'_, '_>,
        next: &mut NextLog,
        out: &mut Vec<u8>,
        rendered: &mut Rendered,
    ) -> Result<Ended, Malformed> {
        loop {
            if std::mem::take(&mut self.wary) {
                if let Some(ended) = self.render_window(pass, next, usize::MAX, true, out, rendered)? {
                    return Ok(ended);
                }
                continue;
            }
            let (window_log, window_out, before) = (*next, out.len(), *rendered);
            let mut ended = self.render_window(pass, next, usize::MAX, false, out, rendered)?;
            if self.shape.is_suspicious(&out[window_out..], rendered.messages - before.messages) {
                let window_end = std::mem::replace(next, window_log).at;
                out.truncate(window_out);
                *rendered = before;
                let again = self.render_window(pass, next, window_end, true, out, rendered)?;
                // Messages can be longer now, so that fewer of them fit.
                ended = again.or(ended);
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// Renders logs until a window is full or `until` is reached, and says if the group or the room ended before.
    fn render_window(
        &mut self,
        pass: &mut Pass<'_, '_>,
        next: &mut NextLog,
        until: usize,
        check_each: bool,
        out: &mut Vec<u8>,
        rendered: &mut Rendered,
    ) -> Result<Option<Ended>, Malformed> {
        let enough = if until == usize::MAX { out.len() + WINDOW } else { usize::MAX };
        while out.len() < enough && next.at < until {
            let Some(log) = next_log(pass.raw, next.at, pass.end)? else {
                next.at = pass.end;
                return Ok(Some(Ended::Group));
            };
            let log_end = log.end;
            pass.index = next.index;
            // The first message goes whatever its length.
            let room = if rendered.messages == 0 { usize::MAX } else { pass.limit.saturating_sub(out.len()) };
            if !self.render_log(pass, log, room, check_each, out, rendered)? {
                return Ok(Some(Ended::Full));
            }
            *next = NextLog { at: log_end, index: next.index + 1 };
            rendered.messages += 1;
            rendered.logs += 1;
        }
        Ok(None)
    }

    /// Renders one log, unless its frame needs more than `room`.
    fn render_log(
        &mut self,
        pass: &mut Pass<'_, '_>,
        log: Range<usize>,
        room: usize,
        check: bool,
        out: &mut Vec<u8>,
        rendered: &mut Rendered,
    ) -> Result<bool, Malformed> {
        if self.careful {
            return self.render_carefully(pass, log, room, out, rendered);
        }
        let Some(time) = self.keys.read_log(pass.raw, log.clone(), &self.shape, pass.fields)? else {
            return self.render_carefully(pass, log, room, out, rendered);
        };
        let (raw, fields) = (pass.raw, &*pass.fields);
        let needs_escape = |field: &Field| self.shape.cleaner.needs_escape(&raw[field.value.clone()]);
        if self.shape.escapes && fields.iter().any(needs_escape) {
            return self.render_cleaned(pass, log, &time, room, out, rendered);
        }

        let shape = &mut self.shape;
        let fraction = shape.fraction(&time);
        let mut digits = itoa::Buffer::new();
        let nanoseconds = match time.nanoseconds {
            None | Some(0) => "",
            Some(nanoseconds) => digits.format(nanoseconds),
        };
        shape.header.set_second(i64::from(time.seconds));
        let (before_nanoseconds, behind_nanoseconds) = shape.nanoseconds;
        let nanoseconds_len = match nanoseconds.len() {
            0 => 0,
            digits => shape.sep.len() + before_nanoseconds.len() + digits + behind_nanoseconds.len(),
        };
        let stamp_len = shape.stamp.as_ref().map_or(0, |stamp| stamp.len(pass.index));
        let message_len = shape.header.len(fraction.is_some())
            + stamp_len
            + self.shared.text.len()
            + nanoseconds_len
            + self.keys.len(fields);
        if shape.max_message_bytes.is_some_and(|max| message_len > max) {
            return self.render_carefully(pass, log, room, out, rendered);
        }
        let frame_len = shape.frame_len(message_len);
        if frame_len > room {
            return Ok(false);
        }

        let (start, longest) = (out.len(), rendered.longest);
        make_room(frame_len, rendered, out);
        shape.begin_frame(message_len, out);
        shape.header.write(fraction, out);
        if let Some(stamp) = &shape.stamp {
            stamp.write(pass.index, out);
        }
        if nanoseconds.is_empty() {
            out.extend_from_slice(&self.shared.text);
        } else {
            let (before, tags) = self.shared.text.split_at(self.shared.tags_at);
            out.extend_from_slice(before);
            out.extend_from_slice(&shape.sep);
            out.extend_from_slice(before_nanoseconds);
            out.extend_from_slice(nanoseconds.as_bytes());
            out.extend_from_slice(behind_nanoseconds);
            out.extend_from_slice(tags);
        }
        self.keys.write(raw, fields, out);
        shape.end_frame(out);
        debug_assert_eq!(out.len(), start + frame_len, "the length is known before the message is written");
        if check && shape.is_suspicious(&out[start..], 1) {
            // Cleaned it may be shorter.
            out.truncate(start);
            rendered.longest = longest;
            self.wary = true;
            return self.render_cleaned(pass, log, &time, room, out, rendered);
        }

        rendered.altered += u64::from(self.shared.altered);
        rendered.bad_nanoseconds += u64::from(fraction.is_none() && !nanoseconds.is_empty());
        rendered.ambiguous += u64::from(self.is_ambiguous(pass, log));
        Ok(true)
    }

    /// Whether a key or value of the log in `pass.fields` holds the separator, or what it shares with others does. Nearly
    /// no group has it anywhere; those that do are looked at closely.
    #[inline(always)]
    fn is_ambiguous(&self, pass: &Pass<'_, '_>, log: Range<usize>) -> bool {
        self.shared.ambiguous || (pass.has_separator && self.holds_separator(pass, log))
    }

    fn holds_separator(&self, pass: &Pass<'_, '_>, log: Range<usize>) -> bool {
        let shape = &self.shape;
        let holds =
            |field: &Field| self.keys.is_ambiguous(field.key) || shape.is_ambiguous(&pass.raw[field.value.clone()]);
        shape.is_ambiguous(&pass.raw[log]) && pass.fields.iter().any(holds)
    }

    /// Renders the log in `pass.fields`, whose keys are [`Keys`], with each value cleaned.
    fn render_cleaned(
        &mut self,
        pass: &Pass<'_, '_>,
        log: Range<usize>,
        time: &LogTime,
        room: usize,
        out: &mut Vec<u8>,
        rendered: &mut Rendered,
    ) -> Result<bool, Malformed> {
        let (shape, message) = (&mut self.shape, &mut self.scratch);
        message.clear();
        message.shrink_to(MAX_KEPT);
        let (fraction, mut altered) = (shape.fraction(time), self.shared.altered);
        shape.header.set_second(i64::from(time.seconds));
        shape.header.write(fraction, message);
        if let Some(stamp) = &shape.stamp {
            stamp.write(pass.index, message);
        }
        let (before, tags) = self.shared.text.split_at(self.shared.tags_at);
        message.extend_from_slice(before);
        let nanoseconds = time.nanoseconds.filter(|nanoseconds| *nanoseconds != 0);
        if let Some(nanoseconds) = nanoseconds {
            message.extend_from_slice(&shape.sep);
            let (before, behind) = shape.nanoseconds;
            message.extend_from_slice(before);
            message.extend_from_slice(itoa::Buffer::new().format(nanoseconds).as_bytes());
            message.extend_from_slice(behind);
        }
        message.extend_from_slice(tags);
        for field in &*pass.fields {
            message.extend_from_slice(self.keys.text(field.key));
            altered |= shape.cleaner.write(&pass.raw[field.value.clone()], message);
        }
        let message_len = message.len();
        if shape.max_message_bytes.is_some_and(|max| message_len > max) {
            return self.render_carefully(pass, log, room, out, rendered);
        }
        let frame_len = shape.frame_len(message_len);
        if frame_len > room {
            return Ok(false);
        }
        make_room(frame_len, rendered, out);
        shape.begin_frame(message_len, out);
        out.extend_from_slice(message);
        shape.end_frame(out);
        rendered.altered += u64::from(altered);
        rendered.bad_nanoseconds += u64::from(fraction.is_none() && nanoseconds.is_some());
        rendered.ambiguous += u64::from(self.is_ambiguous(pass, log));
        Ok(true)
    }

    #[cold]
    fn render_carefully(
        &mut self,
        pass: &Pass<'_, '_>,
        log: Range<usize>,
        room: usize,
        out: &mut Vec<u8>,
        rendered: &mut Rendered,
    ) -> Result<bool, Malformed> {
        self.scratch.clear();
        self.scratch.shrink_to(MAX_KEPT);
        let (shape, place, message) = (&mut self.shape, (log, pass.index), &mut self.scratch);
        let care = match &mut self.own {
            Some(own) => own.message(shape, pass.raw, pass.group, place, message)?,
            None => careful::message(shape, pass.raw, pass.group, place, message)?,
        };
        let frame_len = self.shape.frame_len(self.scratch.len());
        if frame_len > room {
            return Ok(false);
        }
        make_room(frame_len, rendered, out);
        self.shape.begin_frame(self.scratch.len(), out);
        out.extend_from_slice(&self.scratch);
        self.shape.end_frame(out);
        rendered.altered += u64::from(care.altered);
        rendered.truncated += u64::from(care.truncated);
        rendered.ambiguous += u64::from(care.ambiguous);
        rendered.bad_nanoseconds += u64::from(care.bad_nanoseconds);
        Ok(true)
    }

    /// Writes a gap record as one frame: severity err, MSGID `gap` (RFC 3164 has none: `gap ` before the fields), TIMESTAMP
    /// the second when it was noticed.
    pub fn gap(&mut self, gap: &GapRecord, out: &mut Vec<u8>) {
        let message = &mut self.scratch;
        message.clear();
        self.shape.gap_header.set_second(gap.noticed_s);
        self.shape.gap_header.write(None, message);
        message.extend_from_slice(self.shape.gap_start);
        let max = self.shape.max_message_bytes.map_or(usize::MAX, |max| max.max(message.len()));
        let shard = gap.shard.to_string();
        for (key, value) in [
            ("project", &gap.project),
            ("logstore", &gap.logstore),
            ("shard", &shard),
            ("from", &gap.from),
            ("to", &gap.to),
            ("reason", &gap.reason),
        ] {
            message.extend_from_slice(&self.shape.sep);
            message.extend_from_slice(key.as_bytes());
            message.push(b'=');
            self.shape.cleaner.write(value.as_bytes(), message);
        }
        let kept = cut_at_character(message, max).len();
        message.truncate(kept);
        self.shape.begin_frame(message.len(), out);
        out.extend_from_slice(message);
        self.shape.end_frame(out);
    }
}

/// Reserves memory for a frame, which `out` has already if it was given with room for `limit` bytes, unless the frame is
/// longer than that and alone: then no more than it needs.
#[inline]
fn make_room(frame_len: usize, rendered: &mut Rendered, out: &mut Vec<u8>) {
    rendered.longest = rendered.longest.max(frame_len);
    if rendered.messages == 0 { out.reserve_exact(frame_len) } else { out.reserve(frame_len) }
}

/// What stays the same while the logs of a group are rendered.
struct Pass<'a, 'b> {
    raw: &'a [u8],
    group: &'b Group<'a>,
    /// The group's end.
    end: usize,
    /// Whether the separator is anywhere in it.
    has_separator: bool,
    /// The log's contents; filled for each anew.
    fields: &'b mut Vec<Field>,
    /// Length that `out` should not exceed.
    limit: usize,
    /// The log's place in the group.
    index: u64,
}

#[cfg(any(test, feature = "testing"))]
impl Renderer {
    /// One that takes the slow path for every log: what the fast path has to agree with.
    pub(crate) fn careful(settings: RenderSettings) -> Self {
        let mut renderer = Self::new(settings);
        renderer.shape.always_careful = true;
        renderer
    }
}
