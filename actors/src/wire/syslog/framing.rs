//! Message borders in a stream: octet counting, LF and NUL (RFC 6587 section 3.4).
//!
//! [`next_frame`] finds them in buffers that we rendered ourselves, [`Deframer`] in what a peer sends.

use crate::config::Framing;

/// The frame at the start of `bytes`, which begins at a border and holds whole frames: its length, and where in it the
/// message is. `None` at the end of the buffer, or if it is no such buffer.
pub fn next_frame(framing: Framing, bytes: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    match framing {
        Framing::OctetCounting => {
            let (start, len) = octet_count(bytes)?;
            let end = start.checked_add(len)?;
            (end <= bytes.len()).then_some((end, start..end))
        }
        Framing::Lf => ended(b'\n', bytes),
        Framing::Nul => ended(0, bytes),
    }
}

fn ended(by: u8, bytes: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    let end = memchr::memchr(by, bytes)?;
    Some((end + 1, 0..end))
}

/// The count at the start of an octet-counted frame, whole or not: where the message begins, and its length.
pub fn octet_count(bytes: &[u8]) -> Option<(usize, usize)> {
    let digits = bytes.iter().take(20).position(|b| !b.is_ascii_digit())?;
    if bytes[digits] != b' ' {
        return None;
    }
    Some((digits + 1, std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?))
}

/// Why a stream is not framed; the position counts from the start of the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Neither a digit nor `<` where a frame begins, or another framing than before.
    #[error("no frame begins with byte {byte:#04x}, at position {position}")]
    Start {
        /// The byte.
        byte: u8,
        /// Its place.
        position: u64,
    },
    /// A length that is no number, begins with 0, or is not followed by a space.
    #[error("the length of a frame is malformed, at position {position}")]
    Length {
        /// Where the frame begins.
        position: u64,
    },
    /// Longer than allowed.
    #[error("a frame of more than {max} bytes, at position {position}")]
    TooLong {
        /// The limit.
        max: usize,
        /// Where the frame begins.
        position: u64,
    },
    /// The stream ended within a frame.
    #[error("the stream ends within a frame that began at position {position}")]
    Cut {
        /// Where the frame begins.
        position: u64,
    },
}

/// Takes the bytes of one connection as they come and gives messages out.
///
/// The framing is that of the first byte, a digit or `<`, and stays: both ends must not switch within a session. Where it
/// is not counted, the LF or NUL that comes first tells which of them ends messages.
/// Holds at most one frame beyond what was last given to it.
#[derive(Debug)]
pub struct Deframer {
    framing: Option<Framing>,
    /// What ends a message that is not counted, before the first has ended.
    expected: Option<Framing>,
    max_len: usize,
    buffer: Vec<u8>,
    /// Start of the next frame in `buffer`.
    at: usize,
    /// Bytes of the frame at `at` that are known not to end it.
    searched: usize,
    /// Bytes of the connection before `buffer`.
    dropped: u64,
}

impl Deframer {
    /// A connection's beginning; no message may be longer than `max_len` bytes.
    pub fn new(max_len: usize) -> Self {
        Self { framing: None, expected: None, max_len, buffer: Vec::new(), at: 0, searched: 0, dropped: 0 }
    }

    /// The same where LF or NUL is known to be what ends messages, so that the other may be in them. It does not matter where
    /// the peer counts.
    pub fn expecting(framing: Framing, max_len: usize) -> Self {
        Self { expected: Some(framing).filter(|framing| *framing != Framing::OctetCounting), ..Self::new(max_len) }
    }

    /// Takes bytes. Call [`next`](Self::next) until it has no more before the next call.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.dropped += self.at as u64;
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The framing that the peer speaks, once it has spoken.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// The next whole message; `None` if more bytes are needed. After an error the connection is of no more use.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is not framed, or a frame is too long.
    #[allow(clippy::should_implement_trait, reason = "it lends from itself")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let position = self.position();
        let rest = &self.buffer[self.at..];
        let Some(&first) = rest.first() else { return Ok(None) };
        let is_counted = match first {
            b'1'..=b'9' => true,
            b'<' => false,
            byte => return Err(FrameError::Start { byte, position }),
        };
        if self.framing.is_some_and(|framing| (framing == Framing::OctetCounting) != is_counted) {
            return Err(FrameError::Start { byte: first, position });
        }
        let too_long = FrameError::TooLong { max: self.max_len, position };
        let (frame_len, message) = match is_counted {
            false => {
                let unsearched = &rest[self.searched..];
                let found = match self.framing.or(self.expected) {
                    Some(Framing::Nul) => memchr::memchr(0, unsearched),
                    Some(_) => memchr::memchr(b'\n', unsearched),
                    None => memchr::memchr2(b'\n', 0, unsearched),
                };
                match found {
                    Some(more) => {
                        let ended_by = if unsearched[more] == 0 { Framing::Nul } else { Framing::Lf };
                        self.framing.get_or_insert(ended_by);
                        (self.searched + more + 1, 0..self.searched + more)
                    }
                    None if rest.len() > self.max_len => return Err(too_long),
                    None => {
                        self.searched = rest.len();
                        return Ok(None);
                    }
                }
            }
            true => {
                self.framing = Some(Framing::OctetCounting);
                // Ten digits are more than any receiver takes.
                let Some(digits) = rest.iter().take(11).position(|b| !b.is_ascii_digit()) else {
                    return if rest.len() > 10 { Err(FrameError::Length { position }) } else { Ok(None) };
                };
                let number = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse::<u64>().ok());
                let (Some(number), b' ') = (number, rest[digits]) else {
                    return Err(FrameError::Length { position });
                };
                let len = usize::try_from(number).ok().filter(|len| *len <= self.max_len).ok_or(too_long)?;
                if rest.len() - digits - 1 < len {
                    return Ok(None);
                }
                (digits + 1 + len, digits + 1..digits + 1 + len)
            }
        };
        if message.len() > self.max_len {
            return Err(FrameError::TooLong { max: self.max_len, position });
        }
        let start = self.at;
        self.at += frame_len;
        self.searched = 0;
        Ok(Some(&self.buffer[start + message.start..start + message.end]))
    }

    /// The peer has closed: says whether it did so between two frames.
    ///
    /// # Errors
    /// [`FrameError::Cut`]: it closed within a frame.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.at == self.buffer.len() { Ok(()) } else { Err(FrameError::Cut { position: self.position() }) }
    }

    /// Where the next frame begins, in bytes from the start of the connection.
    pub fn position(&self) -> u64 {
        self.dropped + self.at as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(framing: Framing, mut bytes: &[u8]) -> (Vec<&[u8]>, usize) {
        let mut messages = Vec::new();
        while let Some((len, message)) = next_frame(framing, bytes) {
            messages.push(&bytes[message]);
            bytes = &bytes[len..];
        }
        (messages, bytes.len())
    }

    #[test]
    fn borders_are_found_in_buffers_of_whole_frames() {
        assert_eq!(
            walk(Framing::OctetCounting, b"3 abc10 0123456789 2 \n\n"),
            (vec![&b"abc"[..], &b"0123456789"[..]], 5)
        );
        assert_eq!(walk(Framing::OctetCounting, b"2 \n\n0 1 x"), (vec![&b"\n\n"[..], &b""[..], &b"x"[..]], 0));
        assert_eq!(walk(Framing::Nul, b"<1>a\n\0<2>b\0rest"), (vec![&b"<1>a\n"[..], b"<2>b"], 4));
        assert_eq!(walk(Framing::Lf, b"<1>a\n\n<2>b\nrest"), (vec![&b"<1>a"[..], &b""[..], &b"<2>b"[..]], 4));
    }

    #[test]
    fn a_buffer_that_is_not_framed_has_no_next_frame() {
        for bytes in
            [&b""[..], b"x", b"3", b"3x", b" abc", b"4 abc", b"99999999999999999999 x", b"18446744073709551615 x"]
        {
            assert_eq!(next_frame(Framing::OctetCounting, bytes), None, "{bytes:?}");
        }
        assert_eq!(next_frame(Framing::Lf, b"abc"), None);
    }

    fn deframe(stream: &[u8], step: usize, max: usize) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
        let (mut deframer, mut messages) = (Deframer::new(max), Vec::new());
        for chunk in stream.chunks(step) {
            deframer.push(chunk);
            loop {
                match deframer.next() {
                    Ok(Some(message)) => messages.push(message.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (messages, Err(error)),
                }
            }
        }
        (messages, deframer.end())
    }

    #[test]
    fn all_framings_are_read_however_the_bytes_arrive() {
        for step in 1..40 {
            let counted = deframe(b"9 <1>1 a\nb\n12 <1>1 0123456", step, 12);
            assert_eq!(counted, (vec![b"<1>1 a\nb\n".to_vec(), b"<1>1 0123456".to_vec()], Ok(())));
            let lines = deframe(b"<1>1 abc\n<2>1 200 OK\n", step, 12);
            let ended = deframe(b"<1>1 abc\0<2>1 200\nOK\0", step, 12);
            assert_eq!(ended, (vec![b"<1>1 abc".to_vec(), b"<2>1 200\nOK".to_vec()], Ok(())));
            assert_eq!(lines, (vec![b"<1>1 abc".to_vec(), b"<2>1 200 OK".to_vec()], Ok(())));
        }
    }

    #[test]
    fn what_is_known_to_end_messages_leaves_the_other_in_them() {
        for (framing, stream) in [(Framing::Lf, &b"<1>a\0b\n<2>c\n"[..]), (Framing::Nul, b"<1>a\nb\0<2>c\0")] {
            let mut deframer = Deframer::expecting(framing, 100);
            deframer.push(stream);
            assert_eq!(deframer.framing(), None);
            assert_eq!(deframer.next().unwrap().unwrap().len(), 6);
            assert_eq!(deframer.next().unwrap(), Some(&b"<2>c"[..]));
            assert_eq!((deframer.framing(), deframer.end()), (Some(framing), Ok(())));
            let mut counted = Deframer::expecting(framing, 100);
            counted.push(b"4 <1>a");
            assert_eq!(counted.next().unwrap(), Some(&b"<1>a"[..]));
        }
    }

    #[test]
    fn a_stream_that_is_not_framed_is_refused_with_the_place() {
        for step in [1, 5, 100] {
            let refused = |stream: &[u8]| deframe(stream, step, 10).1.unwrap_err();
            assert_eq!(refused(b"5 <1>ab\n"), FrameError::Start { byte: b'\n', position: 7 });
            assert_eq!(refused(b"5 <1>ab<1>x\n"), FrameError::Start { byte: b'<', position: 7 });
            assert_eq!(refused(b"<1>a\n200 OK\n"), FrameError::Start { byte: b'2', position: 5 });
            assert_eq!(refused(b"05 abcde"), FrameError::Start { byte: b'0', position: 0 });
            assert_eq!(refused(b"3 abc12x"), FrameError::Length { position: 5 });
            assert_eq!(refused(b"99999999999 "), FrameError::Length { position: 0 });
            assert_eq!(refused(b"11 "), FrameError::TooLong { max: 10, position: 0 });
            assert_eq!(refused(b"<1>01234567\n"), FrameError::TooLong { max: 10, position: 0 });
            assert_eq!(refused(b"<1>a\n<1>0123456789"), FrameError::TooLong { max: 10, position: 5 });
            assert_eq!(refused(b"3 abc5 abc"), FrameError::Cut { position: 5 });
            assert_eq!(refused(b"<1>a\n<2>b"), FrameError::Cut { position: 5 });
        }
    }
}
