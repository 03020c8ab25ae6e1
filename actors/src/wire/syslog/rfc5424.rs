//! The header of RFC 5424, with what repeats kept ready.
//!
//! `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD ` differs between the messages of one destination only in the
//! timestamp, and there mostly only in the fraction, so the text of the last second is kept. PROCID is always `-`: what a
//! log carries is in the message. STRUCTURED-DATA is `-` as well, or follows the header.

use chrono::{DateTime, Datelike, Timelike};

/// Longest HOSTNAME, in bytes.
pub const MAX_HOSTNAME: usize = 255;
/// Longest APP-NAME, in bytes.
pub const MAX_APP_NAME: usize = 48;
/// Longest MSGID, in bytes.
pub const MAX_MSGID: usize = 32;
/// Nanoseconds above this are no part of a second.
pub const MAX_NANOSECONDS: u32 = 999_999_999;

/// Makes a header field of any text: each character outside of 33 to 126 becomes `_`, what is too long is cut, and
/// nothing becomes `-`.
pub fn field(text: &str, max_len: usize) -> String {
    let field: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(max_len).collect();
    if field.is_empty() { "-".to_owned() } else { field }
}

/// Writes a PARAM-VALUE without its quotes: `"`, `\\` and `]` get a backslash (RFC 5424 6.3.3), and control characters,
/// which some receivers end a message at, become spaces.
pub fn write_param_value(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\' | b']') {
            out.push(b'\\');
        }
        out.push(if byte.is_ascii_control() { b' ' } else { byte });
    }
}

/// Writes the headers of one kind of message.
#[derive(Debug, Clone)]
pub struct Header {
    utc_offset_s: i64,
    /// `<PRI>1 `.
    start: String,
    /// ` HOSTNAME APP-NAME - MSGID - `, behind the zone; without its last `- ` if structured data follows.
    end: String,
    /// The header of `second`, without fraction.
    text: Vec<u8>,
    second: Option<i64>,
    /// Where in `text` the fraction goes.
    fraction_at: usize,
}

impl Header {
    /// A header with these fields, cleaned here. `priority` is facility × 8 + severity.
    pub fn new(priority: u8, hostname: &str, app_name: &str, msgid: &str, utc_offset_minutes: i32) -> Self {
        let zone = match utc_offset_minutes {
            0 => "Z".to_owned(),
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", offset.unsigned_abs() / 60, offset.unsigned_abs() % 60)
            }
        };
        let (hostname, app_name, msgid) =
            (field(hostname, MAX_HOSTNAME), field(app_name, MAX_APP_NAME), field(msgid, MAX_MSGID));
        Self {
            utc_offset_s: i64::from(utc_offset_minutes) * 60,
            start: format!("<{priority}>1 "),
            end: format!("{zone} {hostname} {app_name} - {msgid} - "),
            text: Vec::new(),
            second: None,
            fraction_at: 0,
        }
    }

    /// The same header without its STRUCTURED-DATA: whoever uses it writes that behind it, and a space.
    pub fn before_structured_data(mut self) -> Self {
        self.end.truncate(self.end.len() - "- ".len());
        self.second = None;
        self
    }

    /// Makes the header of this second the current one. Seconds beyond the year 9999 have no timestamp.
    #[inline]
    pub fn set_second(&mut self, unix_seconds: i64) {
        if self.second != Some(unix_seconds) {
            self.render(unix_seconds);
        }
    }

    fn render(&mut self, unix_seconds: i64) {
        self.second = Some(unix_seconds);
        self.text.clear();
        self.text.extend_from_slice(self.start.as_bytes());
        let local = unix_seconds.checked_add(self.utc_offset_s).and_then(|local| DateTime::from_timestamp(local, 0));
        match local {
            Some(time) if (0..=9999).contains(&time.year()) => {
                let date = time.date_naive();
                let year = date.year().unsigned_abs();
                for (number, behind) in [
                    (year / 100, None),
                    (year % 100, Some(b'-')),
                    (date.month(), Some(b'-')),
                    (date.day(), Some(b'T')),
                    (time.hour(), Some(b':')),
                    (time.minute(), Some(b':')),
                    (time.second(), None),
                ] {
                    self.text.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
                    self.text.extend(behind);
                }
                self.fraction_at = self.text.len();
                self.text.extend_from_slice(self.end.as_bytes());
            }
            _ => {
                self.text.push(b'-');
                self.fraction_at = 0;
                let fields = self.end.find(' ').unwrap_or(self.end.len());
                self.text.extend_from_slice(&self.end.as_bytes()[fields..]);
            }
        }
    }

    /// How long the header of the current second is, with or without fraction.
    #[inline]
    pub fn len(&self, with_fraction: bool) -> usize {
        self.text.len() + if with_fraction && self.fraction_at > 0 { 7 } else { 0 }
    }

    /// Writes the header of the current second, with six digits of the nanoseconds (cut, not rounded: rounding could
    /// reach the next second) where there are any.
    #[inline]
    pub fn write(&self, nanoseconds: Option<u32>, out: &mut Vec<u8>) {
        match nanoseconds {
            Some(nanoseconds) if self.fraction_at > 0 => {
                let mut fraction = *b".000000";
                let mut rest = nanoseconds / 1000;
                for digit in fraction[1..].iter_mut().rev() {
                    *digit = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
                let (before, behind) = self.text.split_at(self.fraction_at);
                out.extend_from_slice(before);
                out.extend_from_slice(&fraction);
                out.extend_from_slice(behind);
            }
            _ => out.extend_from_slice(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(header: &mut Header, second: i64, nanoseconds: Option<u32>) -> String {
        let mut out = Vec::new();
        header.set_second(second);
        header.write(nanoseconds, &mut out);
        assert_eq!(out.len(), header.len(nanoseconds.is_some()));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn timestamps_are_those_of_the_rfc() {
        let mut utc = Header::new(134, "web-1", "nginx", "-", 0);
        assert_eq!(
            header(&mut utc, 1_767_323_045, Some(678_901_234)),
            "<134>1 2026-01-02T03:04:05.678901Z web-1 nginx - - - "
        );
        assert_eq!(header(&mut utc, 1_767_323_045, None), "<134>1 2026-01-02T03:04:05Z web-1 nginx - - - ");
        // Cut, never rounded up into the next second.
        assert!(header(&mut utc, 0, Some(999_999_999)).contains("1970-01-01T00:00:00.999999Z"));
        assert!(header(&mut utc, 0, Some(1)).contains("1970-01-01T00:00:00.000000Z"));
        assert!(header(&mut utc, 951_782_400, None).contains("2000-02-29T00:00:00Z"));
        assert!(header(&mut utc, i64::from(u32::MAX), None).contains("2106-02-07T06:28:15Z"));
    }

    #[test]
    fn offsets_have_a_colon_and_shift_the_time() {
        let mut kolkata = Header::new(14, "h", "a", "-", 330);
        assert_eq!(header(&mut kolkata, 1_700_000_000, None), "<14>1 2023-11-15T03:43:20+05:30 h a - - - ");
        let mut new_york = Header::new(14, "h", "a", "-", -300);
        assert_eq!(
            header(&mut new_york, 1_700_000_000, Some(5_000)),
            "<14>1 2023-11-14T17:13:20.000005-05:00 h a - - - "
        );
        let mut st_johns = Header::new(14, "h", "a", "-", -210);
        assert!(header(&mut st_johns, 1_700_000_000, None).contains("18:43:20-03:30 "));
        let mut before_1970 = Header::new(14, "h", "a", "-", -60);
        assert!(header(&mut before_1970, 0, None).contains("1969-12-31T23:00:00-01:00 "));
    }

    #[test]
    fn structured_data_can_follow_the_header_in_place_of_its_dash() {
        let mut utc = Header::new(14, "h", "a", "gap", 0).before_structured_data();
        assert_eq!(header(&mut utc, 0, None), "<14>1 1970-01-01T00:00:00Z h a - gap ");
        assert_eq!(header(&mut utc, i64::MAX, Some(5)), "<14>1 - h a - gap ");
        let mut value = Vec::new();
        write_param_value("a\"b\\c]d\ne\u{65e5}[=", &mut value);
        assert_eq!(value, "a\\\"b\\\\c\\]d e\u{65e5}[=".as_bytes());
    }

    #[test]
    fn a_time_beyond_four_digits_of_year_has_no_timestamp() {
        let mut utc = Header::new(14, "h", "a", "-", 0);
        assert_eq!(header(&mut utc, 253_402_300_800, None), "<14>1 - h a - - - ");
        let mut out = Vec::new();
        utc.write(Some(5), &mut out);
        assert_eq!(out, b"<14>1 - h a - - - ");
        assert!(header(&mut utc, i64::MAX, None).contains("1 - h"));
    }

    #[test]
    fn header_fields_are_printable_ascii_of_bounded_length() {
        assert_eq!(field("my app/日志", MAX_APP_NAME), "my_app/__");
        assert_eq!(field("", MAX_APP_NAME), "-");
        assert_eq!(field("a\tb\u{7f}c~!", MAX_APP_NAME), "a_b_c~!");
        assert_eq!(field(&"日".repeat(300), MAX_HOSTNAME), "_".repeat(255));
        assert_eq!(field(&"x".repeat(49), MAX_APP_NAME).len(), 48);
    }
}
