//! A strict parser of RFC 5424, for receivers that want to know whether a sender keeps to the letter.
//!
//! It accepts what the grammar of section 6 accepts and nothing else, and says what was wrong and where. Also the
//! reverse of our key=value payload.

use chrono::{DateTime, FixedOffset, NaiveDate};

/// A message, taken apart; everything is borrowed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Facility, 0 to 23.
    pub facility: u8,
    /// Severity, 0 to 7.
    pub severity: u8,
    /// TIMESTAMP as sent; `None` for `-`.
    pub timestamp: Option<&'a str>,
    /// TIMESTAMP as a time.
    pub time: Option<DateTime<FixedOffset>>,
    /// HOSTNAME; `None` for `-`, as the following.
    pub hostname: Option<&'a str>,
    /// APP-NAME.
    pub app_name: Option<&'a str>,
    /// PROCID.
    pub procid: Option<&'a str>,
    /// MSGID.
    pub msgid: Option<&'a str>,
    /// STRUCTURED-DATA as sent.
    pub structured_data: Option<&'a str>,
    /// MSG without its BOM; `None` if the message ends behind STRUCTURED-DATA.
    pub msg: Option<&'a [u8]>,
}

/// What the grammar does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not RFC 5424: {what} at byte {at}")]
pub struct ParseError {
    /// What is wrong.
    pub what: &'static str,
    /// Where, in bytes from the start of the message.
    pub at: usize,
}

/// Takes one message apart; without framing.
///
/// # Errors
/// [`ParseError`]: what RFC 5424 does not allow, and where.
pub fn parse(message: &[u8]) -> Result<Message<'_>, ParseError> {
    let mut text = Cursor { bytes: message, at: 0 };
    text.expect(b'<', "no `<`")?;
    let priority = text.number(3, 191, "PRI")?;
    text.expect(b'>', "no `>` behind PRI")?;
    let version_at = text.at;
    if text.token()? != "1" {
        return Err(ParseError { what: "VERSION is not 1", at: version_at });
    }
    text.expect(b' ', "no space behind VERSION")?;
    let timestamp_at = text.at;
    let timestamp = text.field(64, "TIMESTAMP")?;
    let time = timestamp.map(|timestamp| parse_timestamp(timestamp, timestamp_at)).transpose()?;
    let hostname = text.field(255, "HOSTNAME")?;
    let app_name = text.field(48, "APP-NAME")?;
    let procid = text.field(128, "PROCID")?;
    let msgid = text.field(32, "MSGID")?;
    let structured_data = text.structured_data()?;
    let msg = match text.bytes.get(text.at) {
        None => None,
        Some(b' ') => Some(text.msg()?),
        Some(_) => return Err(text.error("neither space nor end behind STRUCTURED-DATA")),
    };
    Ok(Message {
        facility: (priority / 8) as u8,
        severity: (priority % 8) as u8,
        timestamp,
        time,
        hostname,
        app_name,
        procid,
        msgid,
        structured_data,
        msg,
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, what: &'static str) -> ParseError {
        ParseError { what, at: self.at }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), ParseError> {
        if self.bytes.get(self.at) != Some(&byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    fn number(&mut self, max_digits: usize, max: u32, what: &'static str) -> Result<u32, ParseError> {
        let rest = &self.bytes[self.at..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > max_digits || (digits > 1 && rest[0] == b'0') {
            return Err(self.error(what));
        }
        let number = rest[..digits].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        if number > max {
            return Err(self.error(what));
        }
        self.at += digits;
        Ok(number)
    }

    /// Printable ASCII up to a space or the end; at least one character.
    fn token(&mut self) -> Result<&'a str, ParseError> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take_while(|b| b.is_ascii_graphic()).count();
        if len == 0 {
            return Err(self.error("an empty field"));
        }
        self.at += len;
        std::str::from_utf8(&rest[..len]).map_err(|_| self.error("a field that is not ASCII"))
    }

    /// A header field and the space behind it.
    fn field(&mut self, max_len: usize, what: &'static str) -> Result<Option<&'a str>, ParseError> {
        let start = self.at;
        let token = self.token()?;
        if token.len() > max_len {
            return Err(ParseError { what, at: start });
        }
        self.expect(b' ', what)?;
        Ok((token != "-").then_some(token))
    }

    fn structured_data(&mut self) -> Result<Option<&'a str>, ParseError> {
        let start = self.at;
        if self.bytes.get(start) == Some(&b'-') {
            self.at += 1;
            return Ok(None);
        }
        let mut ids = std::collections::HashSet::new();
        while self.bytes.get(self.at) == Some(&b'[') {
            self.at += 1;
            let id_at = self.at;
            if !ids.insert(self.sd_name()?) {
                return Err(ParseError { what: "an SD-ID that occurs twice", at: id_at });
            }
            while self.bytes.get(self.at) == Some(&b' ') {
                self.at += 1;
                self.sd_name()?;
                self.expect(b'=', "no `=` behind a PARAM-NAME")?;
                self.param_value()?;
            }
            self.expect(b']', "no `]` behind an SD-ELEMENT")?;
        }
        if self.at == start {
            return Err(self.error("no STRUCTURED-DATA"));
        }
        std::str::from_utf8(&self.bytes[start..self.at])
            .map(Some)
            .map_err(|error| ParseError { what: "a PARAM-VALUE that is not UTF-8", at: start + error.valid_up_to() })
    }

    fn sd_name(&mut self) -> Result<&'a [u8], ParseError> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take_while(|b| b.is_ascii_graphic() && !matches!(b, b'=' | b']' | b'"')).count();
        if len == 0 || len > 32 {
            return Err(self.error("an SD-NAME that is none"));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn param_value(&mut self) -> Result<(), ParseError> {
        self.expect(b'"', "no `\"` before a PARAM-VALUE")?;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.error("a PARAM-VALUE without end")),
                Some(b'"') => break,
                Some(b']') => return Err(self.error("a `]` that is not escaped")),
                // Before any other character a backslash is a backslash.
                Some(b'\\') if matches!(self.bytes.get(self.at + 1), Some(b'"' | b'\\' | b']')) => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    fn msg(&mut self) -> Result<&'a [u8], ParseError> {
        let msg = &self.bytes[self.at + 1..];
        match msg.strip_prefix(b"\xef\xbb\xbf") {
            None => Ok(msg),
            Some(text) => match std::str::from_utf8(text) {
                Ok(_) => Ok(text),
                Err(error) => {
                    let at = self.at + 4 + error.valid_up_to();
                    Err(ParseError { what: "a MSG with BOM that is not UTF-8", at })
                }
            },
        }
    }
}

/// `YYYY-MM-DDThh:mm:ss[.f{1,6}](Z|±hh:mm)`, and a date that exists.
fn parse_timestamp(text: &str, offset: usize) -> Result<DateTime<FixedOffset>, ParseError> {
    let bytes = text.as_bytes();
    let wrong = |what, at| ParseError { what, at: offset + at };
    let digits = |at: usize, len: usize| -> Result<u32, ParseError> {
        let digits = bytes.get(at..at + len).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let digits = digits.ok_or(wrong("TIMESTAMP without a digit", at))?;
        Ok(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    };
    for (at, expected) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if bytes.get(at) != Some(&expected) {
            return Err(wrong("TIMESTAMP without a separator", at));
        }
    }
    let date = NaiveDate::from_ymd_opt(digits(0, 4)? as i32, digits(5, 2)?, digits(8, 2)?)
        .ok_or(wrong("TIMESTAMP with a date that does not exist", 0))?;
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    let mut at = 19;
    let mut micros = 0;
    if bytes.get(at) == Some(&b'.') {
        let len = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=6).contains(&len) {
            return Err(wrong("TIMESTAMP with a fraction not of 1 to 6 digits", at));
        }
        micros = digits(at + 1, len)? * 10_u32.pow(6 - len as u32);
        at += 1 + len;
    }
    let time = date
        .and_hms_micro_opt(hour, minute, second, micros)
        .filter(|_| second < 60)
        .ok_or(wrong("TIMESTAMP with a time that does not exist", 11))?;
    let zone_at = at;
    let zone_s = match bytes.get(at) {
        Some(b'Z') => {
            at += 1;
            0
        }
        Some(sign @ (b'+' | b'-')) => {
            let (hours, minutes) = (digits(at + 1, 2)?, digits(at + 4, 2)?);
            if bytes[at + 3] != b':' || hours > 23 || minutes > 59 {
                return Err(wrong("TIMESTAMP with an offset that is none", zone_at));
            }
            at += 6;
            let seconds = (hours * 3600 + minutes * 60) as i32;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return Err(wrong("TIMESTAMP without zone", at)),
    };
    if at != bytes.len() {
        return Err(wrong("TIMESTAMP with more behind it", at));
    }
    FixedOffset::east_opt(zone_s)
        .and_then(|zone| time.and_local_timezone(zone).single())
        .ok_or(wrong("TIMESTAMP with an offset that is none", zone_at))
}

/// Takes an unescaped key=value payload apart: `sep key=value sep key=value`. A value that contains `sep` cannot be
/// told from two fields, and is not. `None` if `msg` does not begin with `sep` or a field has no `=`.
pub fn split_key_values<'a>(msg: &'a [u8], sep: &[u8]) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    let mut rest = msg.strip_prefix(sep)?;
    let mut fields = Vec::new();
    loop {
        let end = memchr::memmem::find(rest, sep);
        let field = &rest[..end.unwrap_or(rest.len())];
        let equals = memchr::memchr(b'=', field)?;
        fields.push((&field[..equals], &field[equals + 1..]));
        match end {
            Some(end) => rest = &rest[end + sep.len()..],
            None => return Some(fields),
        }
    }
}

/// Takes an escaped key=value payload (`kv_escape`) apart and undoes the escapes, those of line breaks included.
pub fn split_escaped_key_values(msg: &[u8], sep: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut rest = msg.strip_prefix(sep)?;
    let mut fields = Vec::new();
    let (mut key, mut text) = (None, Vec::new());
    loop {
        match rest {
            [b'\\', escaped, behind @ ..] => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b'0' => 0,
                    other => *other,
                });
                rest = behind;
            }
            [b'=', behind @ ..] if key.is_none() => {
                key = Some(std::mem::take(&mut text));
                rest = behind;
            }
            _ if rest.is_empty() || rest.starts_with(sep) => {
                fields.push((key.take()?, std::mem::take(&mut text)));
                match rest.strip_prefix(sep) {
                    Some(behind) => rest = behind,
                    None => return Some(fields),
                }
            }
            [byte, behind @ ..] => {
                text.push(*byte);
                rest = behind;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_parse() {
        let one =
            parse(b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed")
                .unwrap();
        assert_eq!((one.facility, one.severity), (4, 2));
        assert_eq!((one.hostname, one.app_name, one.procid), (Some("mymachine.example.com"), Some("su"), None));
        assert_eq!((one.msgid, one.structured_data, one.msg), (Some("ID47"), None, Some(&b"'su root' failed"[..])));
        assert_eq!(one.time.unwrap().timestamp_millis(), 1_065_910_455_003);
        let two = parse(b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time").unwrap();
        assert_eq!(two.time.unwrap().timestamp_micros(), 1_061_727_255_000_003);
        let three = br#"<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="A\"p\\\]"][x@1] m"#;
        let three = parse(three).unwrap();
        assert!(three.structured_data.unwrap().ends_with("[x@1]"));
        assert_eq!(parse(b"<0>1 - - - - - -").unwrap().msg, None);
        assert_eq!(parse(b"<0>1 - - - - - - ").unwrap().msg, Some(&b""[..]));
        assert_eq!(parse(b"<0>1 - - - - - - \xff\0\n").unwrap().msg, Some(&b"\xff\0\n"[..]));
    }

    /// Each of these is written by some sender; the place is that of the defect.
    #[test]
    fn what_the_grammar_does_not_allow_is_refused_with_the_place() {
        let long_app = format!("<1>1 - h {} - - -", "a".repeat(49));
        for (message, at) in [
            (&b""[..], 0),
            (b"x", 0),
            (b"<192>1 - - - - - -", 1),
            (b"<01>1 - - - - - -", 1),
            (b"<>1 - - - - - -", 1),
            (b"<1>2 - - - - - -", 3),
            (b"<1>1  - - - - - -", 5),
            (b"<1>1 2003-10-11T22:14:15 h a - - - m", 24),
            (b"<1>1 2003-10-11T22:14:15+0800 h a - - - m", 28),
            (b"<1>1 2003-10-11T22:14:15.1234567Z h a - - - m", 24),
            (b"<1>1 2003-10-11t22:14:15Z h a - - - m", 15),
            (b"<1>1 2003-02-29T22:14:15Z h a - - - m", 5),
            (b"<1>1 2003-10-11T22:14:60Z h a - - - m", 16),
            (b"<1>1 2003-10-11T22:14:15+24:00 h a - - - m", 24),
            (b"<1>1 2003-10-11T22:14:15Zx h a - - - m", 25),
            (b"<1>1 2003-10-11 h a - - - m", 15),
            (long_app.as_bytes(), 9),
            (b"<1>1 - h\xc3\xa9 a - - -", 8),
            (b"<1>1 - h a - - m", 15),
            (b"<1>1 - h a - - -m", 16),
            (b"<1>1 - h a - - ||k=v", 15),
            (b"<1>1 - h a - - [a][a]", 19),
            (b"<1>1 - h a - - [a b=\"]\"]", 21),
            (b"<1>1 - h a - - [a b=\"", 21),
            (b"<1>1 - h a - - [ a]", 16),
            (b"<1>1 - h a - - [a b=\"\xff\"]", 21),
            (b"<1>1 - h a - - - \xef\xbb\xbfab\xff", 22),
            (b"<1>1 - h a - -", 14),
        ] {
            let refused = parse(message).expect_err(&String::from_utf8_lossy(message));
            assert_eq!(refused.at, at, "{}: {refused}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn nothing_that_a_peer_sends_panics() {
        let whole = br#"<165>1 2003-10-11T22:14:15.003+01:00 h a p m [x@1 k="v\"" l="w"] m"#;
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
            for byte in [0, b' ', b'9', b'[', b'"', b'\\', 0xff] {
                let mut changed = whole.to_vec();
                changed[end] = byte;
                let _ = parse(&changed);
            }
        }
    }

    #[test]
    fn key_values_split_at_the_separator() {
        let split = split_key_values(b"||a=1||b=x=y||c=", b"||").unwrap();
        assert_eq!(split, [(&b"a"[..], &b"1"[..]), (b"b", b"x=y"), (b"c", b"")]);
        assert_eq!(split_key_values(b"a=1", b"||"), None);
        assert_eq!(split_key_values(b"||a", b"||"), None);
        let split = split_escaped_key_values(br"||a\=b=1\|\|2\|||\n=\\n\r||c=", b"||").unwrap();
        let expected: [(&[u8], &[u8]); 3] = [(b"a=b", b"1||2|"), (b"\n", b"\\n\r"), (b"c", b"")];
        assert_eq!(split, expected.map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
}
