//! The header of a message, with what repeats kept ready.
//!
//! `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD ` differs between the messages of one destination only in the
//! timestamp, and there mostly only in the fraction, so the text of the last second is kept. PROCID is always `-`: what a
//! log carries is in the message. STRUCTURED-DATA is `-` as well, or follows the header, or is left out as the Python
//! sample did. In RFC 3164 `<PRI>TIMESTAMP HOSTNAME TAG: ` is all.

use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};

use super::rfc3164;
use super::rfc5424::{MAX_APP_NAME, MAX_HOSTNAME, MAX_MSGID, field};
use crate::config::{MessageStyle, SyslogForm, TimestampStyle};

/// Writes the headers of one kind of message.
#[derive(Debug, Clone)]
pub struct Header {
    style: MessageStyle,
    utc_offset_s: i64,
    /// What is before the timestamp: `<PRI>1 `, or `<PRI>`.
    start: String,
    /// What is behind it: ` HOSTNAME APP-NAME - MSGID - ` and the zone in front; without its last `- ` if structured data
    /// follows or there is none. Or ` HOSTNAME TAG: `.
    end: String,
    /// The header of `second`, without fraction.
    text: Vec<u8>,
    second: Option<i64>,
    /// Where in `text` the fraction goes; 0 where it has none.
    fraction_at: usize,
}

impl Header {
    /// A header of RFC 5424 with these fields, cleaned here. `priority` is facility × 8 + severity.
    #[cfg(test)]
    pub fn new(priority: u8, hostname: &str, app_name: &str, msgid: &str, utc_offset_minutes: i32) -> Self {
        Self::with_style(MessageStyle::default(), priority, (hostname, app_name, msgid), utc_offset_minutes)
    }

    /// A header in this style with HOSTNAME, APP-NAME and MSGID; RFC 3164 has the first two, the latter as TAG.
    pub fn with_style(
        style: MessageStyle,
        priority: u8,
        (hostname, app_name, msgid): (&str, &str, &str),
        utc_offset_minutes: i32,
    ) -> Self {
        let hostname = field(hostname, MAX_HOSTNAME);
        let (start, end) = match style.syslog {
            SyslogForm::Rfc3164 => (format!("<{priority}>"), format!(" {hostname} {}: ", rfc3164::tag(app_name))),
            SyslogForm::Rfc5424 => {
                let (app_name, msgid) = (field(app_name, MAX_APP_NAME), field(msgid, MAX_MSGID));
                let zone = zone(style.timestamp, utc_offset_minutes);
                let structured_data = if style.structured_data { "- " } else { "" };
                (format!("<{priority}>1 "), format!("{zone} {hostname} {app_name} - {msgid} {structured_data}"))
            }
        };
        let utc_offset_s = i64::from(utc_offset_minutes) * 60;
        Self { style, utc_offset_s, start, end, text: Vec::new(), second: None, fraction_at: 0 }
    }

    /// The same header without its STRUCTURED-DATA: whoever uses it writes that behind it, and a space.
    pub fn before_structured_data(mut self) -> Self {
        if self.style.syslog == SyslogForm::Rfc5424 && self.style.structured_data {
            self.end.truncate(self.end.len() - "- ".len());
        }
        self.style.structured_data = false;
        self.second = None;
        self
    }

    /// Makes the header of this second the current one. Seconds beyond the year 9999 have no timestamp; RFC 3164, which has
    /// no word for none, then begins its year.
    #[inline]
    pub fn set_second(&mut self, unix_seconds: i64) {
        if self.second != Some(unix_seconds) {
            self.render(unix_seconds);
        }
    }

    fn render(&mut self, unix_seconds: i64) {
        self.second = Some(unix_seconds);
        self.fraction_at = 0;
        self.text.clear();
        self.text.extend_from_slice(self.start.as_bytes());
        let local = unix_seconds
            .checked_add(self.utc_offset_s)
            .and_then(|local| DateTime::from_timestamp(local, 0))
            .map(|time| time.naive_utc());
        match (self.style.syslog, local.filter(|time| (0..=9999).contains(&time.year()))) {
            (SyslogForm::Rfc3164, time) => rfc3164::write_timestamp(time.unwrap_or_default(), &mut self.text),
            (SyslogForm::Rfc5424, Some(time)) => {
                write_date_time(time, &mut self.text);
                match self.style.timestamp {
                    TimestampStyle::Rfc5424 => self.fraction_at = self.text.len(),
                    TimestampStyle::Sample | TimestampStyle::SampleExact => self.text.extend_from_slice(b".000000"),
                }
            }
            (SyslogForm::Rfc5424, None) => {
                self.text.push(b'-');
                let fields = self.end.find(' ').unwrap_or(self.end.len());
                self.text.extend_from_slice(&self.end.as_bytes()[fields..]);
                return;
            }
        }
        self.text.extend_from_slice(self.end.as_bytes());
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

/// `YYYY-MM-DDThh:mm:ss`.
fn write_date_time(time: NaiveDateTime, out: &mut Vec<u8>) {
    let year = time.year().unsigned_abs();
    for (number, behind) in [
        (year / 100, None),
        (year % 100, Some(b'-')),
        (time.month(), Some(b'-')),
        (time.day(), Some(b'T')),
        (time.hour(), Some(b':')),
        (time.minute(), Some(b':')),
        (time.second(), None),
    ] {
        out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
        out.extend(behind);
    }
}

fn zone(style: TimestampStyle, utc_offset_minutes: i32) -> String {
    let sign = if utc_offset_minutes < 0 { '-' } else { '+' };
    let (hours, minutes) = (utc_offset_minutes.unsigned_abs() / 60, utc_offset_minutes.unsigned_abs() % 60);
    match style {
        // Its offset is `local time - UTC` without the day, where UTC was asked a moment later.
        TimestampStyle::SampleExact => match ((utc_offset_minutes * 60 - 1).rem_euclid(86_400) + 1800) / 3600 {
            0 => "Z".to_owned(),
            hours => format!("+{hours:02}00"),
        },
        _ if utc_offset_minutes == 0 => "Z".to_owned(),
        TimestampStyle::Sample => format!("{sign}{hours:02}{minutes:02}"),
        TimestampStyle::Rfc5424 => format!("{sign}{hours:02}:{minutes:02}"),
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
    fn rfc3164_has_english_months_and_days_padded_with_a_space() {
        let style = MessageStyle { syslog: SyslogForm::Rfc3164, ..MessageStyle::default() };
        let mut utc = Header::with_style(style, 134, ("web-1", "nginx", "-"), 0);
        assert_eq!(header(&mut utc, 1_767_582_245, None), "<134>Jan  5 03:04:05 web-1 nginx: ");
        assert_eq!(header(&mut utc, 1_767_582_245, Some(5)), "<134>Jan  5 03:04:05 web-1 nginx: ");
        assert_eq!(header(&mut utc, 1_798_761_599, None), "<134>Dec 31 23:59:59 web-1 nginx: ");
        assert_eq!(header(&mut utc, i64::MAX, None), "<134>Jan  1 00:00:00 web-1 nginx: ");
        let mut shanghai = Header::with_style(style, 14, ("h", "-", "gap"), 480);
        assert_eq!(header(&mut shanghai, 1_798_761_599, None), "<14>Jan  1 07:59:59 h sls: ");
        assert_eq!(header(&mut shanghai.before_structured_data(), 0, None), "<14>Jan  1 08:00:00 h sls: ");
    }

    #[test]
    fn the_samples_timestamps_have_six_zeros_and_an_offset_without_colon() {
        let of = |timestamp, offset| {
            let style = MessageStyle { timestamp, structured_data: false, ..MessageStyle::default() };
            let mut header = Header::with_style(style, 14, ("myhost", "-", "-"), offset);
            self::header(&mut header, 1_700_028_800, Some(5))
        };
        assert_eq!(of(TimestampStyle::Sample, 480), "<14>1 2023-11-15T14:13:20.000000+0800 myhost - - - ");
        for (offset, meant, written) in [
            (0, "Z", "+2400"),
            (480, "+0800", "+0800"),
            (330, "+0530", "+0500"),
            (345, "+0545", "+0600"),
            (-300, "-0500", "+1900"),
            (30, "+0030", "Z"),
        ] {
            assert!(of(TimestampStyle::Sample, offset).contains(&format!(".000000{meant} ")), "{offset}");
            assert!(of(TimestampStyle::SampleExact, offset).contains(&format!(".000000{written} ")), "{offset}");
        }
    }
}
