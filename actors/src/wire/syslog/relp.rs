//! RELP, rsyslog's Reliable Event Logging Protocol: frames, offers and answers, for both ends.
//!
//! A frame is `TXNR SP COMMAND SP LENGTH [SP DATA] LF`; without data the space before it is left out too. There is no
//! other specification than librelp's documentation and what librelp accepts.

/// Highest transaction number.
pub const MAX_NUMBER: u32 = 999_999_999;
/// The protocol's version that everything in the field speaks.
pub const VERSION: u32 = 0;

/// Longest command, in letters.
const MAX_COMMAND: usize = 32;
/// Digits of a transaction number or a length, at most.
const MAX_DIGITS: usize = 9;
/// Offers of one peer that are read; the rest is ignored.
const MAX_OFFERS: usize = 64;

/// One frame of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Transaction number; 0 for hints that want no answer.
    pub number: u32,
    /// 1 to 32 letters.
    pub command: &'a [u8],
    /// What comes with it.
    pub data: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelpError {
    /// A frame does not begin with 1 to 9 digits and a space.
    #[error("a frame does not begin with a transaction number")]
    Number,
    /// No 1 to 32 letters and a space where the command should be.
    #[error("a frame has no command")]
    Command,
    /// No 1 to 9 digits where the length should be, or neither space nor line feed behind it.
    #[error("a frame's length is malformed")]
    Length,
    /// More data than allowed.
    #[error("a frame of {length} bytes, where at most {max} are allowed")]
    TooLong {
        /// As declared.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// No line feed behind the data.
    #[error("a frame does not end where its length says")]
    Trailer,
    /// An answer without three digits and a space.
    #[error("an answer does not begin with a status code")]
    Code,
}

/// Appends the beginning of a frame, up to its data; the data and a line feed have to follow. `number` is at most
/// [`MAX_NUMBER`], `length` has at most nine digits.
pub fn write_head(out: &mut Vec<u8>, number: u32, command: &str, length: usize) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(number).as_bytes());
    out.push(b' ');
    out.extend_from_slice(command.as_bytes());
    out.push(b' ');
    out.extend_from_slice(digits.format(length).as_bytes());
    if length > 0 {
        out.push(b' ');
    }
}

/// Appends a whole frame.
pub fn write_frame(out: &mut Vec<u8>, number: u32, command: &str, data: &[u8]) {
    write_head(out, number, command, data.len());
    out.extend_from_slice(data);
    out.push(b'\n');
}

/// The frame at the start of `bytes` and its length there; `None` if more bytes are needed. What cannot become a frame
/// of at most `max_data` bytes of data is refused as early as it can be told.
///
/// # Errors
/// [`RelpError`]: the bytes cannot become a frame.
pub fn read_frame(bytes: &[u8], max_data: usize) -> Result<Option<(usize, Frame<'_>)>, RelpError> {
    let Some((number, at)) = read_number(bytes, RelpError::Number)? else { return Ok(None) };
    if bytes[at] != b' ' {
        return Err(RelpError::Number);
    }
    let rest = &bytes[at + 1..];
    let Some(letters) = rest.iter().take(MAX_COMMAND + 1).position(|b| !b.is_ascii_alphabetic()) else {
        return if rest.len() > MAX_COMMAND { Err(RelpError::Command) } else { Ok(None) };
    };
    if letters == 0 || rest[letters] != b' ' {
        return Err(RelpError::Command);
    }
    let (command, rest) = (&rest[..letters], &rest[letters + 1..]);
    let Some((length, digits)) = read_number(rest, RelpError::Length)? else { return Ok(None) };
    let length = length as usize;
    if length > max_data {
        return Err(RelpError::TooLong { length, max: max_data });
    }
    let separator = if length > 0 { b' ' } else { b'\n' };
    if rest[digits] != separator {
        return Err(RelpError::Length);
    }
    let head = bytes.len() - rest.len() + digits + 1;
    if length == 0 {
        return Ok(Some((head, Frame { number, command, data: &[] })));
    }
    match bytes.get(head + length) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((head + length + 1, Frame { number, command, data: &bytes[head..head + length] }))),
        Some(_) => Err(RelpError::Trailer),
    }
}

/// One to nine digits with something behind them, and how many; `None` if more bytes are needed.
fn read_number(bytes: &[u8], malformed: RelpError) -> Result<Option<(u32, usize)>, RelpError> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at < MAX_DIGITS => number = number * 10 + u32::from(byte - b'0'),
            b'0'..=b'9' => return Err(malformed),
            _ if at == 0 => return Err(malformed),
            _ => return Ok(Some((number, at))),
        }
    }
    Ok(None)
}

/// Takes the bytes of one connection as they come and gives frames out. Holds at most one frame beyond what was last
/// given to it.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Start of the next frame in `buffer`.
    at: usize,
    max_data: usize,
}

impl FrameReader {
    /// A connection's beginning; no frame may have more than `max_data` bytes of data.
    pub fn new(max_data: usize) -> Self {
        Self { buffer: Vec::new(), at: 0, max_data }
    }

    /// Takes bytes. Call [`next`](Self::next) until it has no more before the next call.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` if more bytes are needed. After an error the connection is of no more use.
    ///
    /// # Errors
    /// [`RelpError`]: the bytes cannot become a frame.
    #[allow(clippy::should_implement_trait, reason = "it lends from itself")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, RelpError> {
        let Some((length, frame)) = read_frame(&self.buffer[self.at..], self.max_data)? else { return Ok(None) };
        self.at += length;
        Ok(Some(frame))
    }

    /// Bytes held of frames not given out yet.
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.at..]
    }
}

/// The data of a `rsp` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// 200 is success, anything else a refusal.
    pub code: u16,
    /// For people.
    pub text: &'a [u8],
    /// What follows the first line.
    pub data: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads `CODE SP TEXT [LF DATA]`.
    ///
    /// # Errors
    /// [`RelpError`]: it is no answer.
    pub fn parse(data: &'a [u8]) -> Result<Self, RelpError> {
        let (Some(digits), Some(b' ')) = (data.first_chunk::<3>(), data.get(3)) else { return Err(RelpError::Code) };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(RelpError::Code);
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let rest = &data[4..];
        let (text, data) = match memchr::memchr(b'\n', rest) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        Ok(Self { code, text, data })
    }
}

/// The offers that we open a session with, or answer an `open` with.
pub fn write_offers(software: &str) -> String {
    format!("relp_version={VERSION}\nrelp_software={software}\ncommands=syslog")
}

/// What matters of a peer's offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offers {
    /// The version that it speaks, if it says one.
    pub version: Option<u32>,
    /// Whether it takes syslog messages.
    pub syslog: bool,
}

impl Offers {
    /// Reads `NAME=VALUE[,VALUE...]` lines; unknown ones are ignored.
    pub fn parse(data: &[u8]) -> Self {
        let mut offers = Self::default();
        for line in data.split(|b| *b == b'\n').take(MAX_OFFERS) {
            let Some(equals) = memchr::memchr(b'=', line) else { continue };
            let (name, value) = (&line[..equals], &line[equals + 1..]);
            match name {
                b"relp_version" => {
                    offers.version = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
                }
                b"commands" => offers.syslog = value.split(|b| *b == b',').any(|v| v.trim_ascii() == b"syslog"),
                _ => {}
            }
        }
        offers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(number: u32, command: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, number, command, data);
        out
    }

    type Owned = (u32, Vec<u8>, Vec<u8>);

    /// Everything that a reader finds in a stream that arrives in steps.
    fn read(stream: &[u8], step: usize, max: usize) -> (Vec<Owned>, Result<(), RelpError>) {
        let (mut reader, mut frames) = (FrameReader::new(max), Vec::new());
        for chunk in stream.chunks(step) {
            reader.push(chunk);
            loop {
                match reader.next() {
                    Ok(Some(f)) => frames.push((f.number, f.command.to_vec(), f.data.to_vec())),
                    Ok(None) => break,
                    Err(error) => return (frames, Err(error)),
                }
            }
        }
        (frames, Ok(()))
    }

    const SESSION: &[(&str, u32, &str, &str)] = &[
        (
            "1 open 57 relp_version=0\nrelp_software=sls2siem,1.0\ncommands=syslog\n",
            1,
            "open",
            "relp_version=0\nrelp_software=sls2siem,1.0\ncommands=syslog",
        ),
        (
            "1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.13.0,http://librelp.adiscon.com\ncommands=syslog\n",
            1,
            "rsp",
            "200 OK\nrelp_version=0\nrelp_software=librelp,1.13.0,http://librelp.adiscon.com\ncommands=syslog",
        ),
        (
            "2 syslog 57 <14>1 2026-01-02T03:04:05.678901Z web-1 nginx - - - hello\n",
            2,
            "syslog",
            "<14>1 2026-01-02T03:04:05.678901Z web-1 nginx - - - hello",
        ),
        ("2 rsp 6 200 OK\n", 2, "rsp", "200 OK"),
        ("3 close 0\n", 3, "close", ""),
        ("3 rsp 0\n", 3, "rsp", ""),
        ("0 serverclose 0\n", 0, "serverclose", ""),
    ];

    #[test]
    fn a_sessions_frames_are_written_and_read_byte_for_byte() {
        let mut stream = Vec::new();
        for (bytes, number, command, data) in SESSION {
            assert_eq!(String::from_utf8(frame(*number, command, data.as_bytes())).unwrap(), *bytes);
            stream.extend_from_slice(bytes.as_bytes());
        }
        for step in 1..stream.len() {
            let (frames, end) = read(&stream, step, 100);
            assert_eq!(end, Ok(()));
            let expected = SESSION.iter().map(|(_, n, c, d)| (*n, c.as_bytes().to_vec(), d.as_bytes().to_vec()));
            assert!(frames.into_iter().eq(expected), "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_however_it_arrives() {
        let letters = "a".repeat(33);
        let cases: &[(&str, RelpError)] = &[
            ("220 mail.example.com ESMTP\n", RelpError::Command),
            ("HTTP/1.1 400 Bad Request\n", RelpError::Number),
            ("\u{15}\u{3}\u{3}", RelpError::Number),
            (" rsp 0\n", RelpError::Number),
            ("1rsp 0\n", RelpError::Number),
            ("1234567890 rsp 0\n", RelpError::Number),
            ("-1 rsp 0\n", RelpError::Number),
            ("1  0\n", RelpError::Command),
            ("1 r2p 0\n", RelpError::Command),
            (&format!("1 {letters} 0\n"), RelpError::Command),
            ("1 rsp x\n", RelpError::Length),
            ("1 rsp \n", RelpError::Length),
            ("1 rsp 0 \n", RelpError::Length),
            ("1 rsp 6\n200 OK\n", RelpError::Length),
            ("1 rsp 0000000006 200 OK\n", RelpError::Length),
            ("1 rsp 11 ", RelpError::TooLong { length: 11, max: 10 }),
            ("1 rsp 999999999 ", RelpError::TooLong { length: 999_999_999, max: 10 }),
            ("1 rsp 5 200 OK\n", RelpError::Trailer),
            ("1 rsp 6 200 OK1 rsp 0\n", RelpError::Trailer),
        ];
        for (bytes, error) in cases {
            for step in [1, 3, 1000] {
                assert_eq!(read(bytes.as_bytes(), step, 10), (vec![], Err(*error)), "{bytes:?}");
            }
        }
    }

    #[test]
    fn answers_have_code_text_and_data() {
        let answer = Answer::parse(b"200 OK\nrelp_version=0\nx").unwrap();
        assert_eq!((answer.code, answer.text, answer.data), (200, &b"OK"[..], &b"relp_version=0\nx"[..]));
        let answer = Answer::parse(b"500 queue is full").unwrap();
        assert_eq!((answer.code, answer.text, answer.data), (500, &b"queue is full"[..], &b""[..]));
        assert_eq!(Answer::parse(b"200 ").unwrap().text, b"");
        for malformed in [&b""[..], b"200", b"200OK", b"2 0 OK", b"20 OK", b"OK", b"200\nOK"] {
            assert_eq!(Answer::parse(malformed), Err(RelpError::Code), "{malformed:?}");
        }
    }

    #[test]
    fn offers_are_read_as_peers_write_them() {
        let own = write_offers("sls-syslog,1.0");
        assert_eq!(Offers::parse(own.as_bytes()), Offers { version: Some(0), syslog: true });
        let other = b"commands=eventlog, syslog\nunknown\nrelp_version=1\n";
        assert_eq!(Offers::parse(other), Offers { version: Some(1), syslog: true });
        assert_eq!(Offers::parse(b"commands=syslogs\nrelp_version=x"), Offers { version: None, syslog: false });
        assert_eq!(Offers::parse(b""), Offers::default());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            frames in prop::collection::vec(
                (0..=MAX_NUMBER, "[a-z]{1,32}", prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            step in 1..100_usize,
        ) {
            let mut stream = Vec::new();
            for (number, command, data) in &frames {
                write_frame(&mut stream, *number, command, data);
            }
            let (read, end) = read(&stream, step, 200);
            prop_assert_eq!(end, Ok(()));
            prop_assert!(read.iter().map(|(n, c, d)| (*n, c.as_slice(), d.as_slice()))
                .eq(frames.iter().map(|(n, c, d)| (*n, c.as_bytes(), d.as_slice()))));
        }

        /// Whether bytes are refused, and when, does not depend on how they arrive; nothing panics.
        #[test]
        fn any_bytes_are_read_the_same_in_any_steps(
            mut stream in prop::collection::vec(any::<u8>(), 0..60),
            digits in "[0-9]{1,3} [a-z]{1,3} [0-9]{1,2} ",
            step in 1..20_usize,
        ) {
            stream.splice(0..0, digits.bytes());
            prop_assert_eq!(read(&stream, step, 40), read(&stream, 1000, 40));
        }
    }
}
