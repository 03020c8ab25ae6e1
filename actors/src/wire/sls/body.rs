//! Bodies of PullLogs, decompressed within bounds.

use super::reply::Compression;

/// Largest body, once decompressed, for which memory is taken.
pub const MAX_RAW_SIZE: u64 = 64 * 1024 * 1024;

/// A body that is not what its headers declare.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More is declared than is ever held in memory.
    #[error("the body declares {declared} bytes once decompressed, more than {MAX_RAW_SIZE}")]
    TooLarge {
        /// The declared size.
        declared: u64,
    },
    /// The compressed bytes are damaged, or hold more than declared.
    #[error("the body of {wire} bytes is no LZ4 block of {declared} bytes")]
    Corrupt {
        /// Bytes on the wire.
        wire: usize,
        /// The declared size.
        declared: u64,
    },
    /// The body holds another number of bytes than declared.
    #[error("the body holds {actual} bytes once decompressed, but {declared} were declared")]
    WrongSize {
        /// The declared size.
        declared: u64,
        /// The size found.
        actual: u64,
    },
}

/// Decompresses a body of exactly `raw_size` bytes; what is not compressed is answered as it came, without a copy.
///
/// `buffer` is kept by the caller from call to call. It only ever grows, its content and length mean nothing outside
/// of the answer, and it is neither cleared nor filled again while it is large enough.
///
/// # Errors
/// [`BodyError`]: more is declared than is ever held, or the body is not what is declared.
pub fn decompress<'a>(
    body: &'a [u8],
    compression: Compression,
    raw_size: u64,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], BodyError> {
    if raw_size > MAX_RAW_SIZE {
        return Err(BodyError::TooLarge { declared: raw_size });
    }
    // An empty body is not an LZ4 block: the decoder must not see it.
    if raw_size == 0 || compression == Compression::None {
        return match body.len() as u64 {
            actual if actual == raw_size => Ok(body),
            actual => Err(BodyError::WrongSize { declared: raw_size, actual }),
        };
    }
    let size = raw_size as usize;
    if buffer.len() < size {
        // The old content is worth nothing: fresh zeroed memory is cheaper than copying it.
        *buffer = vec![0; size];
    }
    let found = lz4::block::decompress_to_buffer(body, Some(size as i32), &mut buffer[..size])
        .map_err(|_| BodyError::Corrupt { wire: body.len(), declared: raw_size })?;
    if found != size {
        return Err(BodyError::WrongSize { declared: raw_size, actual: found as u64 });
    }
    Ok(&buffer[..size])
}

/// Compresses to one raw LZ4 block, as PutLogs takes it.
///
/// # Panics
///
/// If `raw` is longer than LZ4 can take (about 2 GB).
pub fn compress(raw: &[u8]) -> Vec<u8> {
    lz4::block::compress(raw, None, false).expect("a body of less than 2 GB")
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    const PLAIN: &str = "0a120880e2cfaa06120a0a016a12057620e4b8ad1a026a7422026a73";
    const LITERALS: &str = "f00d0a120880e2cfaa06120a0a016a12057620e4b8ad1a026a7422026a73";
    const MATCH: &str = "ff2d0a3a0a270880e2cfaa0612060a016b12017612120a03756e69120be4b8ade69687202b263d252500fd8f201a06746f706963412207312e322e332e343c002450322e332e34";
    const GROUP: &str = "0a3a0a270880e2cfaa0612060a016b12017612120a03756e69120be4b8ade69687202b263d252500fd8f201a06746f706963412207312e322e332e34";

    #[test]
    fn blocks_of_the_official_clients_are_read() {
        let mut buffer = Vec::new();
        assert_eq!(decompress(&hex(LITERALS), Compression::Lz4, 28, &mut buffer), Ok(&hex(PLAIN)[..]));
        assert_eq!(decompress(&hex(MATCH), Compression::Lz4, 120, &mut buffer), Ok(&hex(GROUP).repeat(2)[..]));
    }

    #[test]
    fn a_large_enough_buffer_is_kept() {
        let mut buffer = vec![7; 4096];
        let before = buffer.as_ptr();
        assert_eq!(decompress(&hex(LITERALS), Compression::Lz4, 28, &mut buffer), Ok(&hex(PLAIN)[..]));
        assert_eq!((buffer.as_ptr(), buffer.len(), buffer[28..].iter().all(|b| *b == 7)), (before, 4096, true));
    }

    #[test]
    fn what_is_not_compressed_is_not_copied() {
        let (body, mut buffer) = (hex(PLAIN), Vec::new());
        let raw = decompress(&body, Compression::None, 28, &mut buffer).unwrap();
        assert_eq!(raw.as_ptr(), body.as_ptr());
    }

    #[test]
    fn an_empty_body_never_meets_the_decoder() {
        let mut buffer = Vec::new();
        for compression in [Compression::None, Compression::Lz4] {
            assert_eq!(decompress(b"", compression, 0, &mut buffer), Ok(&b""[..]));
            assert_eq!(
                decompress(b"x", compression, 0, &mut buffer),
                Err(BodyError::WrongSize { declared: 0, actual: 1 })
            );
        }
    }

    #[test]
    fn a_size_other_than_the_declared_one_is_refused() {
        let mut buffer = Vec::new();
        let too_much = decompress(&hex(LITERALS), Compression::Lz4, 29, &mut buffer).map(<[u8]>::len);
        assert_eq!(too_much, Err(BodyError::WrongSize { declared: 29, actual: 28 }));
        let too_little = decompress(&hex(LITERALS), Compression::Lz4, 27, &mut buffer).map(<[u8]>::len);
        assert_eq!(too_little, Err(BodyError::Corrupt { wire: 30, declared: 27 }));
        let plain = decompress(b"abc", Compression::None, 4, &mut buffer).map(<[u8]>::len);
        assert_eq!(plain, Err(BodyError::WrongSize { declared: 4, actual: 3 }));
    }

    #[test]
    fn damaged_and_cut_blocks_are_refused() {
        let mut buffer = Vec::new();
        let whole = hex(MATCH);
        for cut in 0..whole.len() {
            assert!(decompress(&whole[..cut], Compression::Lz4, 120, &mut buffer).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn no_memory_is_taken_for_an_absurd_declaration() {
        let mut buffer = Vec::new();
        for declared in [MAX_RAW_SIZE + 1, u64::MAX] {
            let answer = decompress(b"x", Compression::Lz4, declared, &mut buffer).map(<[u8]>::len);
            assert_eq!(answer, Err(BodyError::TooLarge { declared }));
        }
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn own_blocks_are_read_back() {
        let raw = hex(GROUP).repeat(1000);
        let mut buffer = Vec::new();
        assert_eq!(decompress(&compress(&raw), Compression::Lz4, raw.len() as u64, &mut buffer), Ok(&raw[..]));
    }
}
