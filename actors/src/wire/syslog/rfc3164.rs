//! RFC 3164, the older syslog: `<PRI>Mmm dd hh:mm:ss HOSTNAME TAG: CONTENT`, and a strict parser of it.
//!
//! Its time has neither year nor zone nor fraction, and there is no word for a field without value. CONTENT is ours: a log
//! begins with the separator of its fields, a gap record, for which there is no MSGID here, with [`GAP`].

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};

/// Longest TAG, in bytes.
pub const MAX_TAG: usize = 32;
/// The TAG of messages that have none.
pub const DEFAULT_TAG: &str = "sls";
/// What the CONTENT of a gap record begins with.
pub const GAP: &[u8] = b"gap ";

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Makes a TAG of any text: as a header field, and `_` for what would end it; [`DEFAULT_TAG`] for `-`.
pub(super) fn tag(text: &str) -> String {
    let tag = super::rfc5424::field(text, MAX_TAG).replace([':', '[', ']'], "_");
    if tag == "-" { DEFAULT_TAG.to_owned() } else { tag }
}

/// `Mmm dd hh:mm:ss`, the day in two columns.
pub(super) fn write_timestamp(time: NaiveDateTime, out: &mut Vec<u8>) {
    let digit = |number: u32| b'0' + (number % 10) as u8;
    out.extend_from_slice(MONTHS[time.month0() as usize].as_bytes());
    let day = time.day();
    out.extend_from_slice(&[b' ', if day < 10 { b' ' } else { digit(day / 10) }, digit(day)]);
    for (before, number) in [(b' ', time.hour()), (b':', time.minute()), (b':', time.second())] {
        out.extend_from_slice(&[before, digit(number / 10), digit(number)]);
    }
}

/// A message, taken apart; everything is borrowed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Facility, 0 to 23.
    pub facility: u8,
    /// Severity, 0 to 7.
    pub severity: u8,
    /// TIMESTAMP as sent.
    pub timestamp: &'a str,
    /// HOSTNAME.
    pub hostname: &'a str,
    /// TAG, without process id.
    pub tag: &'a str,
    /// What stands in brackets behind the TAG.
    pub procid: Option<&'a str>,
    /// CONTENT behind `TAG: `.
    pub msg: &'a [u8],
}

impl Message<'_> {
    /// Whether it is a gap record.
    pub fn is_gap(&self) -> bool {
        self.msg.starts_with(GAP)
    }
}

/// What RFC 3164 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not RFC 3164: {what} at byte {at}")]
pub struct ParseError {
    /// What is wrong.
    pub what: &'static str,
    /// Where, in bytes from the start of the message.
    pub at: usize,
}

/// Whether a message that neither parser takes was probably meant as RFC 3164: a letter follows PRI where the other has its
/// version.
pub fn is_meant(message: &[u8]) -> bool {
    let end = message.iter().take(6).position(|byte| *byte == b'>');
    end.is_some_and(|end| message.get(end + 1).is_some_and(u8::is_ascii_alphabetic))
}

/// Takes one message apart; without framing. Stricter than receivers are: PRI, time, HOSTNAME and `TAG: ` have to be there.
///
/// # Errors
/// [`ParseError`]: what is missing, and where.
pub fn parse(message: &[u8]) -> Result<Message<'_>, ParseError> {
    let wrong = |what, at| ParseError { what, at };
    if message.first() != Some(&b'<') {
        return Err(wrong("no `<`", 0));
    }
    let digits = message[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let priority = text(message, 1, 1 + digits).filter(|text| *text == "0" || !text.starts_with('0'));
    let priority: u8 =
        priority.and_then(|text| text.parse().ok()).filter(|number| *number <= 191).ok_or(wrong("PRI", 1))?;
    let time_at = digits + 2;
    if message.get(time_at - 1) != Some(&b'>') {
        return Err(wrong("no `>` behind PRI", time_at - 1));
    }
    let timestamp = text(message, time_at, time_at + 15).ok_or(wrong("no TIMESTAMP", time_at))?;
    if !is_timestamp(timestamp) {
        return Err(wrong("a TIMESTAMP that is none", time_at));
    }
    let hostname_at = time_at + 16;
    if message.get(hostname_at - 1) != Some(&b' ') {
        return Err(wrong("no space behind TIMESTAMP", hostname_at - 1));
    }
    let (hostname, tag_at) = word(message, hostname_at, b" ").ok_or(wrong("no HOSTNAME", hostname_at))?;
    let tag_at = tag_at + 1;
    let (tag, mut at) = word(message, tag_at, b":[")
        .filter(|(tag, _)| tag.len() <= MAX_TAG)
        .ok_or(wrong("no TAG of at most 32 characters", tag_at))?;
    let mut procid = None;
    if message[at] == b'[' {
        let (id, end) = word(message, at + 1, b"]").ok_or(wrong("no end of the brackets behind TAG", at))?;
        (procid, at) = (Some(id), end + 1);
    }
    let msg = message[at..].strip_prefix(b": ").ok_or(wrong("no `: ` behind TAG", at))?;
    let (facility, severity) = (priority / 8, priority % 8);
    Ok(Message { facility, severity, timestamp, hostname, tag, procid, msg })
}

fn text(message: &[u8], from: usize, to: usize) -> Option<&str> {
    std::str::from_utf8(message.get(from..to)?).ok()
}

/// At least one printable character of ASCII, up to one of `ends`, which is there; and where that is.
fn word<'a>(message: &'a [u8], from: usize, ends: &[u8]) -> Option<(&'a str, usize)> {
    let rest = message.get(from..)?;
    let len = rest.iter().position(|byte| ends.contains(byte) || !byte.is_ascii_graphic())?;
    (len > 0 && ends.contains(&rest[len])).then_some((text(message, from, from + len)?, from + len))
}

/// A day that exists in some year, at a time that exists.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let month = MONTHS.iter().position(|month| text.starts_with(month));
    let number = |at: usize| {
        let digits = bytes.get(at..at + 2).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        Some(u32::from(digits[0] - b'0') * 10 + u32::from(digits[1] - b'0'))
    };
    let day = match bytes.get(4..6) {
        Some([b' ', day @ b'1'..=b'9']) => Some(u32::from(day - b'0')),
        Some([b'1'..=b'3', _]) => number(4),
        _ => None,
    };
    let date = month.zip(day).and_then(|(month, day)| NaiveDate::from_ymd_opt(2024, month as u32 + 1, day));
    let separators = [(3, b' '), (6, b' '), (9, b':'), (12, b':')];
    let time = number(7).zip(number(10)).zip(number(13));
    date.is_some()
        && separators.iter().all(|(at, byte)| bytes.get(*at) == Some(byte))
        && time.is_some_and(|((hour, minute), second)| hour < 24 && minute < 60 && second < 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_parse() {
        let one = parse(b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8").unwrap();
        assert_eq!((one.facility, one.severity, one.timestamp), (4, 2, "Oct 11 22:14:15"));
        assert_eq!((one.hostname, one.tag, one.procid), ("mymachine", "su", None));
        assert!(one.msg.starts_with(b"'su root'"));
        let two = parse(b"<13>Feb  5 17:32:18 10.0.0.99 cron[123]: \xff\n").unwrap();
        assert_eq!((two.hostname, two.tag, two.procid, two.msg), ("10.0.0.99", "cron", Some("123"), &b"\xff\n"[..]));
        assert!(parse(b"<0>Feb 29 00:00:00 h t: ").unwrap().msg.is_empty());
        assert!(parse(b"<11>Feb 29 00:00:00 h t: gap ||project=p").unwrap().is_gap());
    }

    /// Each of these is written by some sender; the place is that of the defect.
    #[test]
    fn what_the_rfc_does_not_allow_is_refused_with_the_place() {
        for (message, at) in [
            (&b""[..], 0),
            (b"Feb  5 17:32:18 h t: m", 0),
            (b"<192>Feb  5 17:32:18 h t: m", 1),
            (b"<01>Feb  5 17:32:18 h t: m", 1),
            (b"<>Feb  5 17:32:18 h t: m", 1),
            (b"<999999999999>Feb  5 17:32:18 h t: m", 1),
            (b"<13 Feb  5 17:32:18 h t: m", 3),
            (b"<13>Feb 05 17:32:18 h t: m", 4),
            (b"<13>Feb 5 17:32:18 h t: m", 4),
            (b"<13>feb  5 17:32:18 h t: m", 4),
            (b"<13>Feb 30 17:32:18 h t: m", 4),
            (b"<13>Feb  5 24:32:18 h t: m", 4),
            (b"<13>1 2026-01-02T03:04:05Z h a - - - m", 4),
            (b"<13>Feb  5 17:3", 4),
            (b"<13>Feb  5 17:32:18", 19),
            (b"<13>Feb  5 17:32:18  t: m", 20),
            (b"<13>Feb  5 17:32:18 h\xc3\xa9 t: m", 20),
            (b"<13>Feb  5 17:32:18 h t m", 22),
            (b"<13>Feb  5 17:32:18 h t", 22),
            (b"<13>Feb  5 17:32:18 h t[1 m", 23),
            (b"<13>Feb  5 17:32:18 h t:m", 23),
            (b"<13>Feb  5 17:32:18 h 012345678901234567890123456789012: m", 22),
        ] {
            let refused = parse(message).expect_err(&String::from_utf8_lossy(message));
            assert_eq!(refused.at, at, "{}: {refused}", String::from_utf8_lossy(message));
        }
        assert!(is_meant(b"<13>feb") && !is_meant(b"<13>1 - ") && !is_meant(b"feb  5") && !is_meant(b"<13>"));
    }

    #[test]
    fn nothing_that_a_peer_sends_panics() {
        let whole = b"<165>Oct 11 22:14:15 host tag[12]: message";
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
            for byte in [0, b' ', b'9', b'[', b':', b'>', 0xff] {
                let mut changed = whole.to_vec();
                changed[end] = byte;
                let _ = (parse(&changed), is_meant(&changed));
            }
        }
    }

    #[test]
    fn tags_are_short_and_not_ended_early() {
        assert_eq!(tag("-"), "sls");
        assert_eq!(tag(""), "sls");
        assert_eq!(tag("a:b[1] c/日"), "a_b_1__c/_");
        assert_eq!(tag(&"x".repeat(50)).len(), 32);
    }
}
