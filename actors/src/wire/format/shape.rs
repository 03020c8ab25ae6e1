//! The settings of a format, compiled once: headers, separator, cleaning, and the frame round a message.

use memchr::memmem::Finder;

use super::RenderSettings;
use super::origin::Stamper;
use super::text::Cleaner;
use crate::config::{Framing, InvalidUtf8, NewlinePolicy, SyslogForm};
use crate::wire::sls::log_group::LogTime;
use crate::wire::syslog::header::Header;
use crate::wire::syslog::rfc3164::GAP;
use crate::wire::syslog::rfc5424::MAX_NANOSECONDS;

/// Severity of gap records: err.
const GAP_SEVERITY: u8 = 3;

/// The settings, compiled.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) header: Header,
    pub(super) gap_header: Header,
    /// What tells a gap record from a log where its header cannot.
    pub(super) gap_start: &'static [u8],
    pub(super) sep: Vec<u8>,
    pub(super) cleaner: Cleaner,
    pub(super) max_message_bytes: Option<usize>,
    pub(super) stamp: Option<Stamper>,
    /// What is before and behind the nanoseconds of a log.
    pub(super) nanoseconds: (&'static [u8], &'static [u8]),
    /// Whether `sep`, `=` and `\` are escaped.
    pub(super) escapes: bool,
    /// Whether every log has to take the slow path.
    pub(super) always_careful: bool,
    /// Whether bytes are left out, so that keys which differ may become the same.
    pub(super) drops: bool,
    counted: bool,
    /// What is behind each message; part of what is counted.
    end: Option<u8>,
    sep_finder: Finder<'static>,
}

impl Shape {
    /// Compiles the settings.
    pub(super) fn new(settings: &RenderSettings) -> Self {
        let style = settings.style;
        let newlines = match (settings.framing, settings.newlines) {
            (Framing::Lf | Framing::Nul, NewlinePolicy::Keep) => NewlinePolicy::Escape,
            (_, policy) => policy,
        };
        let end = match settings.framing {
            Framing::Lf => Some(b'\n'),
            Framing::Nul => Some(0),
            Framing::OctetCounting => style.final_lf.then_some(b'\n'),
        };
        // A separator with line breaks in it would break frames as a value would.
        let mut sep = Vec::new();
        Cleaner::new(newlines, None).write(settings.sep.as_bytes(), &mut sep);
        let cleaner =
            Cleaner::new(newlines, settings.kv_escape.then(|| sep.clone())).with_invalid_utf8(style.invalid_utf8);
        let stamp = settings.origin.as_ref().and_then(|origin| Stamper::new(origin, &sep, &cleaner));
        let stamp = stamp.filter(|stamp| style.syslog == SyslogForm::Rfc5424 || !stamp.is_structured_data());
        let header = |severity: u8, msgid| {
            let priority = settings.facility.min(23) * 8 + severity.min(7);
            let fields = (settings.hostname.as_str(), settings.tag.as_str(), msgid);
            Header::with_style(style, priority, fields, settings.utc_offset_minutes)
        };
        let log_header = header(settings.severity, "-");
        let structured = stamp.as_ref().is_some_and(Stamper::is_structured_data);
        let counted = settings.framing == Framing::OctetCounting;
        // Windows are no test of text without separators, nor is it worth one to tell `a` as separator from text.
        let is_text = sep.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let in_tuple = settings.kv_escape || sep.iter().any(|byte| b"(',)".contains(byte));
        Self {
            always_careful: is_text || (style.legacy_ns_tuple && in_tuple),
            header: if structured { log_header.before_structured_data() } else { log_header },
            gap_header: header(GAP_SEVERITY, "gap"),
            gap_start: if style.syslog == SyslogForm::Rfc3164 { GAP } else { b"" },
            cleaner,
            // What is counted counts for the limit too.
            max_message_bytes: settings
                .max_message_bytes
                .map(|max| max.saturating_sub(usize::from(counted && end.is_some()))),
            stamp,
            nanoseconds: match style.legacy_ns_tuple {
                false => (b"__time_ns_part__=", b""),
                true => (b"__time_ns_part__=('", b"',)"),
            },
            escapes: settings.kv_escape,
            drops: style.invalid_utf8 == InvalidUtf8::Drop,
            counted,
            end,
            sep_finder: Finder::new(&sep).into_owned(),
            sep,
        }
    }

    /// The nanoseconds that go into the TIMESTAMP.
    pub(super) fn fraction(&self, time: &LogTime) -> Option<u32> {
        time.nanoseconds.filter(|nanoseconds| (1..=MAX_NANOSECONDS).contains(nanoseconds))
    }

    /// Whether a reader would find the separator in this key or value.
    pub(super) fn is_ambiguous(&self, text: &[u8]) -> bool {
        !self.escapes && !self.sep.is_empty() && self.sep_finder.find(text).is_some()
    }

    /// Whether finished frames hold something that must not be there.
    pub(super) fn is_suspicious(&self, text: &[u8], frames: u32) -> bool {
        !self.cleaner.is_clean(text, if self.end.is_some() { frames as usize } else { 0 })
    }

    pub(super) fn frame_len(&self, message_len: usize) -> usize {
        let len = message_len + usize::from(self.end.is_some());
        let digits = len.checked_ilog10().map_or(1, |log| log as usize + 1);
        if self.counted { digits + 1 + len } else { len }
    }

    #[inline]
    pub(super) fn begin_frame(&self, message_len: usize, out: &mut Vec<u8>) {
        if self.counted {
            let len = message_len + usize::from(self.end.is_some());
            out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
            out.push(b' ');
        }
    }

    #[inline]
    pub(super) fn end_frame(&self, out: &mut Vec<u8>) {
        if let Some(end) = self.end {
            out.push(end);
        }
    }
}
