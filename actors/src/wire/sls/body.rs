//! Bodies of PullLogs and PutLogs: compressed, and decompressed within bounds, in each of the three ways that SLS knows.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Decompress, FlushDecompress, Status};

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
    #[error("the body of {wire} bytes is no {what} of {declared} bytes")]
    Corrupt {
        /// Bytes on the wire.
        wire: usize,
        /// What it was said to be.
        what: &'static str,
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
    let out = &mut buffer[..size];
    let (what, found) = match compression {
        Compression::Zstd => ("zstd frame", zstd::bulk::decompress_to_buffer(body, out).ok()),
        Compression::Deflate => ("zlib stream", inflate(body, out)),
        _ => ("LZ4 block", lz4::block::decompress_to_buffer(body, Some(size as i32), out).ok()),
    };
    let found = found.ok_or(BodyError::Corrupt { wire: body.len(), what, declared: raw_size })?;
    if found != size {
        return Err(BodyError::WrongSize { declared: raw_size, actual: found as u64 });
    }
    Ok(&buffer[..size])
}

/// How many bytes the whole of a zlib stream holds, which are in `out` then; `None` if it is damaged, cut, followed by
/// something, or holds more than fits.
fn inflate(stream: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut inflater = Decompress::new(true);
    let ended = inflater.decompress(stream, out, FlushDecompress::Finish).ok()? == Status::StreamEnd;
    (ended && inflater.total_in() == stream.len() as u64).then_some(inflater.total_out() as usize)
}

/// Compresses a body, as PutLogs takes it. Nothing is compressed to nothing.
///
/// # Panics
///
/// If `raw` is longer than LZ4 can take (about 2 GB).
pub fn compress(raw: &[u8], compression: Compression) -> Vec<u8> {
    const FITS: &str = "a body of less than 2 GB, written to memory";
    if raw.is_empty() {
        return Vec::new();
    }
    match compression {
        Compression::None => raw.to_vec(),
        Compression::Lz4 => lz4::block::compress(raw, None, false).expect(FITS),
        Compression::Zstd => zstd::bulk::compress(raw, zstd::DEFAULT_COMPRESSION_LEVEL).expect(FITS),
        Compression::Deflate => {
            let mut deflater = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            deflater.write_all(raw).and_then(|()| deflater.finish()).expect(FITS)
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    const PLAIN: &str = "0a120880e2cfaa06120a0a016a12057620e4b8ad1a026a7422026a73";
    const LITERALS: &str = "f00d0a120880e2cfaa06120a0a016a12057620e4b8ad1a026a7422026a73";
    const MATCH: &str = "ff2d0a3a0a270880e2cfaa0612060a016b12017612120a03756e69120be4b8ade69687202b263d252500fd8f201a06746f706963412207312e322e332e343c002450322e332e34";
    const GROUP: &str = "0a3a0a270880e2cfaa0612060a016b12017612120a03756e69120be4b8ade69687202b263d252500fd8f201a06746f706963412207312e322e332e34";
    const ZSTD: &str = "28b52ffd201ce100000a120880e2cfaa06120a0a016a12057620e4b8ad1a026a7422026a73";
    /// With a checksum, and without the size of its content.
    const ZSTD_OF_GO: &str = "28b52ffd0400c100000a0e0880e2cfaa0612060a01611201621a026774220267733fb5c028";
    const ZLIB: &str = "789ce312e26878747e159b1017176396106b99c2931d6ba598b24a9498b28a01782e0888";
    const ALL: [Compression; 3] = [Compression::Lz4, Compression::Zstd, Compression::Deflate];

    fn size(answer: Result<&[u8], BodyError>) -> Result<usize, BodyError> {
        answer.map(<[u8]>::len)
    }

    #[test]
    fn bodies_of_the_official_clients_are_read() {
        let mut buffer = Vec::new();
        assert_eq!(decompress(&hex(LITERALS), Compression::Lz4, 28, &mut buffer), Ok(&hex(PLAIN)[..]));
        assert_eq!(decompress(&hex(MATCH), Compression::Lz4, 120, &mut buffer), Ok(&hex(GROUP).repeat(2)[..]));
        assert_eq!(decompress(&hex(ZSTD), Compression::Zstd, 28, &mut buffer), Ok(&hex(PLAIN)[..]));
        assert_eq!(decompress(&hex(ZLIB), Compression::Deflate, 28, &mut buffer), Ok(&hex(PLAIN)[..]));
        let of_go = hex(ZSTD_OF_GO);
        let of_go = decompress(&of_go, Compression::Zstd, 24, &mut buffer).unwrap();
        assert_eq!(HEXLOWER.encode(of_go), "0a0e0880e2cfaa0612060a01611201621a02677422026773");
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
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Deflate] {
            assert_eq!(compress(b"", compression), b"");
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
        for (body, compression, what) in [
            (LITERALS, Compression::Lz4, "LZ4 block"),
            (ZSTD, Compression::Zstd, "zstd frame"),
            (ZLIB, Compression::Deflate, "zlib stream"),
        ] {
            let body = hex(body);
            let too_much = size(decompress(&body, compression, 29, &mut buffer));
            assert_eq!(too_much, Err(BodyError::WrongSize { declared: 29, actual: 28 }));
            let too_little = size(decompress(&body, compression, 27, &mut buffer));
            assert_eq!(too_little, Err(BodyError::Corrupt { wire: body.len(), what, declared: 27 }));
        }
        let plain = size(decompress(b"abc", Compression::None, 4, &mut buffer));
        assert_eq!(plain, Err(BodyError::WrongSize { declared: 4, actual: 3 }));
    }

    #[test]
    fn damaged_and_cut_bodies_are_refused() {
        let mut buffer = Vec::new();
        let raw = hex(GROUP).repeat(2);
        for compression in ALL {
            let whole = compress(&raw, compression);
            for cut in 0..whole.len() {
                assert!(
                    decompress(&whole[..cut], compression, 120, &mut buffer).is_err(),
                    "{compression:?} cut at {cut}"
                );
            }
            assert!(decompress(&vec![0xff; whole.len()], compression, 120, &mut buffer).is_err(), "{compression:?}");
        }
        let followed = [&hex(ZLIB)[..], b"x"].concat();
        assert!(decompress(&followed, Compression::Deflate, 28, &mut buffer).is_err());
    }

    #[test]
    fn no_memory_is_taken_for_an_absurd_declaration() {
        let mut buffer = Vec::new();
        for (compression, declared) in ALL.iter().flat_map(|c| [(*c, MAX_RAW_SIZE + 1), (*c, u64::MAX)]) {
            let answer = size(decompress(b"x", compression, declared, &mut buffer));
            assert_eq!(answer, Err(BodyError::TooLarge { declared }));
        }
        assert_eq!(buffer.capacity(), 0);
    }

    /// What a few bytes can become is never written beyond what was declared.
    #[test]
    fn a_bomb_is_refused_within_the_declared_size() {
        let bomb = vec![0; 64 << 20];
        for compression in ALL {
            let body = compress(&bomb, compression);
            let mut buffer = Vec::new();
            assert!(matches!(decompress(&body, compression, 1000, &mut buffer), Err(BodyError::Corrupt { .. })));
            assert_eq!(buffer.capacity(), 1000, "{compression:?}");
        }
    }

    proptest! {
        #[test]
        fn own_bodies_are_read_back(raw in prop::collection::vec(0..4u8, 0..5000), junk in 0..5000usize) {
            let mut buffer = vec![0xaa; junk];
            for compression in ALL {
                let body = compress(&raw, compression);
                prop_assert_eq!(decompress(&body, compression, raw.len() as u64, &mut buffer), Ok(&raw[..]));
            }
        }

        #[test]
        fn whatever_comes_is_answered(
            body in prop::collection::vec(any::<u8>(), 0..200),
            damage in any::<(u16, u8)>(),
            declared in 0..100_000u64,
        ) {
            let mut buffer = Vec::new();
            for compression in ALL {
                // As it comes, and nearly right.
                let mut nearly = compress(&body, compression);
                if let Some(byte) = (!nearly.is_empty()).then(|| usize::from(damage.0) % nearly.len()) {
                    nearly[byte] ^= damage.1;
                }
                for body in [&body, &nearly] {
                    if let Ok(raw) = decompress(body, compression, declared, &mut buffer) {
                        prop_assert_eq!(raw.len() as u64, declared);
                    }
                }
            }
        }
    }
}
