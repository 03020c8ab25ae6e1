//! A body of PullLogs, whatever it is: decompressed within bounds, walked, rendered. What is no log group list is
//! refused, by us and by prost alike; what is one is rendered like any other.

use arbitrary::{Result, Unstructured};
use sls_syslog_actors::wire::sls::body::{BodyError, MAX_RAW_SIZE, compress, decompress};
use sls_syslog_actors::wire::sls::log_group::count_groups;
use sls_syslog_actors::wire::sls::reply::Compression;

use super::expected;

/// Largest list that is rendered: compression makes much of little, and a long tag much more of that.
const MAX_RENDERED: usize = 16 << 10;

/// Runs it.
pub fn run(data: &[u8]) {
    // Too few bytes are as good as none.
    let _ = with(&mut Unstructured::new(data));
}

fn with(u: &mut Unstructured<'_>) -> Result<()> {
    let settings = expected::settings(u)?;
    let limit = u.int_in_range(1..=8192)?;
    let how: u8 = u.int_in_range(0..=9)?;
    let (place, damage): (u16, u8) = (u.arbitrary()?, u.arbitrary()?);
    let bytes = u.bytes(u.len())?;
    let mut buffer = vec![0xaa; 64];
    // As it comes; or in LZ4, in LZ4 that was damaged on its way, or as what is said to be LZ4; and so with the others.
    let compression = match how {
        0 => Compression::None,
        1..=3 => Compression::Lz4,
        4..=6 => Compression::Zstd,
        _ => Compression::Deflate,
    };
    let how = if how == 0 { 0 } else { 1 + (how - 1) % 3 };
    let (body, declared) = match how {
        0 | 1 => (compress(bytes, compression), bytes.len() as u64),
        2 => {
            let mut body = compress(bytes, compression);
            if !body.is_empty() {
                let at = usize::from(place) % body.len();
                body[at] ^= damage;
            }
            (body, bytes.len() as u64)
        }
        _ => (bytes.to_vec(), u64::from(place) << (damage % 16)),
    };
    let raw = match decompress(&body, compression, declared, &mut buffer) {
        Ok(raw) => raw,
        Err(error) => {
            assert!(how > 1, "{error}");
            super::assert_printable(&error.to_string(), 200);
            if let BodyError::TooLarge { .. } = error {
                assert!(declared > MAX_RAW_SIZE);
                assert_eq!(buffer.len(), 64, "no memory is taken for what is refused");
            }
            return Ok(());
        }
    };
    assert_eq!(raw.len() as u64, declared);
    assert!(how > 1 || raw == bytes);
    if let Err(error) = count_groups(raw) {
        super::assert_printable(&error.to_string(), 200);
        assert!(error.offset <= raw.len());
    }
    if raw.len() <= MAX_RENDERED {
        expected::check(&settings, raw, limit);
    }
    Ok(())
}
