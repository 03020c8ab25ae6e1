//! What SLS answers, as plain values, and how its answers are read.
//!
//! Fields that nobody here needs are skipped; what is needed and missing, or does not fit, is an error.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::SlsError;
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::wire::text::escape_foreign;

/// Longest JSON answer that is read, in bytes.
pub const MAX_JSON: usize = 1024 * 1024;
/// Longest list of shards or checkpoints that is read, in bytes.
pub const MAX_JSON_LIST: usize = 8 * 1024 * 1024;

/// One shard of ListShards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// The shard.
    pub shard: ShardId,
    /// `readonly`: it was split or merged and receives nothing any more.
    pub readonly: bool,
    /// Unix seconds, 0 where SLS did not say.
    pub create_time: i64,
}

/// What GetLogStore tells that a forwarder can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStoreInfo {
    /// Days for which logs are kept, where told.
    pub ttl_days: Option<u32>,
}

/// A consumer group's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Its name.
    pub name: String,
    /// Seconds without heartbeat after which a consumer's shards come free.
    pub timeout_s: u32,
    /// Whether parents are consumed before their children.
    pub order: bool,
}

/// One shard's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard.
    pub shard: ShardId,
    /// The next log group to read; `None` if nothing was ever committed.
    pub cursor: Option<Cursor>,
    /// Microseconds since 1970 of the last commit, 0 if never.
    pub update_time_us: i64,
    /// Who holds or last held the shard, empty if nobody.
    pub consumer: String,
}

/// The headers of a PullLogs answer, checked for presence and range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullHead {
    /// Number of log groups in the body.
    pub count: u32,
    /// The cursor after the last of them; `None` if SLS left it out.
    pub next_cursor: Option<Cursor>,
    /// Size of the body once decompressed, in bytes.
    pub raw_size: u64,
    /// Size of the body on the wire (Content-Length), in bytes, where declared.
    pub body_size: Option<u64>,
    /// How the body is compressed.
    pub compression: Compression,
    /// `x-log-end-of-cursor`: the answer reaches the present end of the shard, where told.
    pub end_of_shard: Option<bool>,
    /// `x-log-cursor-time` in unix seconds, where told.
    pub cursor_time_s: Option<i64>,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One raw LZ4 block without frame or size prefix.
    Lz4,
    /// One zstd frame.
    Zstd,
    /// A zlib stream, which SLS calls deflate.
    Deflate,
}

impl Compression {
    /// The name in `x-log-compresstype` and `accept-encoding`; nothing compressed has none.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd"),
            Self::Deflate => Some("deflate"),
        }
    }

    /// The one of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let is_named = |known: &Self| known.name().is_some_and(|known| known.eq_ignore_ascii_case(name));
        [Self::Lz4, Self::Zstd, Self::Deflate].into_iter().find(is_named)
    }
}

/// Reads a JSON answer of at most `limit` bytes.
fn parse<T: DeserializeOwned>(operation: &str, body: &[u8], limit: usize) -> Result<T, SlsError> {
    if body.len() > limit {
        return Err(SlsError::transport(format!("the answer of {operation} is longer than {limit} bytes")));
    }
    serde_json::from_slice(body).map_err(|error| {
        // The parser's text may quote the answer.
        let why = escape_foreign(&error.to_string(), 200);
        SlsError::transport(format!("the answer of {operation} ({} bytes) is not as expected: {why}", body.len()))
    })
}

/// Reads the answer of ListShards; ascending.
///
/// # Errors
/// [`SlsError`]: the bytes are no such answer.
pub fn parse_shards(body: &[u8]) -> Result<Vec<ShardInfo>, SlsError> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "shardID")]
        shard: ShardId,
        #[serde(default)]
        status: String,
        #[serde(rename = "createTime", default)]
        create_time: i64,
    }
    let mut shards: Vec<ShardInfo> = parse::<Vec<Wire>>("ListShards", body, MAX_JSON_LIST)?
        .into_iter()
        .map(|wire| ShardInfo {
            shard: wire.shard,
            readonly: wire.status.eq_ignore_ascii_case("readonly"),
            create_time: wire.create_time,
        })
        .collect();
    shards.sort_by_key(|shard| shard.shard);
    Ok(shards)
}

/// Reads the answer of GetLogStore.
///
/// # Errors
/// [`SlsError`]: the bytes are no such answer.
pub fn parse_logstore(body: &[u8]) -> Result<LogStoreInfo, SlsError> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        ttl: Option<i64>,
    }
    let wire: Wire = parse("GetLogStore", body, MAX_JSON)?;
    Ok(LogStoreInfo { ttl_days: wire.ttl.and_then(|ttl| u32::try_from(ttl).ok()) })
}

/// Reads the answer of GetCursor.
///
/// # Errors
/// [`SlsError`]: the bytes are no such answer.
pub fn parse_cursor(body: &[u8]) -> Result<Cursor, SlsError> {
    #[derive(Deserialize)]
    struct Wire {
        cursor: String,
    }
    let wire: Wire = parse("GetCursor", body, MAX_JSON)?;
    believe_cursor("GetCursor", &wire.cursor)
}

fn believe_cursor(operation: &str, text: &str) -> Result<Cursor, SlsError> {
    Cursor::new(text).ok_or_else(|| {
        SlsError::transport(format!("{operation} answered an unusable cursor: {}", escape_foreign(text, 64)))
    })
}

/// Reads the answer of GetCursorTime, in unix seconds.
///
/// # Errors
/// [`SlsError`]: the bytes are no such answer.
pub fn parse_cursor_time(body: &[u8]) -> Result<i64, SlsError> {
    #[derive(Deserialize)]
    struct Wire {
        cursor_time: i64,
    }
    Ok(parse::<Wire>("GetCursorTime", body, MAX_JSON)?.cursor_time)
}

/// Reads the answer of ListConsumerGroup.
///
/// # Errors
/// [`SlsError`]: the bytes are no such answer.
pub fn parse_consumer_groups(body: &[u8]) -> Result<Vec<ConsumerGroup>, SlsError> {
    #[derive(Deserialize)]
    struct Wire {
        name: String,
        timeout: u32,
        #[serde(default)]
        order: bool,
    }
    let groups = parse::<Vec<Wire>>("ListConsumerGroup", body, MAX_JSON)?;
    Ok(groups.into_iter().map(|g| ConsumerGroup { name: g.name, timeout_s: g.timeout, order: g.order }).collect())
}

/// Reads the answer of HeartBeat: a bare array. Anything else, an empty body included, is an error and never "no
/// shards" (rule L2).
///
/// # Errors
/// [`SlsError`]: the bytes are no such answer.
pub fn parse_heartbeat(body: &[u8]) -> Result<Vec<ShardId>, SlsError> {
    parse("HeartBeat", body, MAX_JSON)
}

/// Reads the answer of GetCheckPoint for one shard. Only its element with an empty checkpoint means "never committed";
/// an answer without its element is an error (rule L6).
///
/// # Errors
/// [`SlsError`]: the bytes are no such answer.
pub fn parse_checkpoint(body: &[u8], shard: ShardId) -> Result<Checkpoint, SlsError> {
    #[derive(Deserialize)]
    struct Wire {
        shard: ShardId,
        checkpoint: String,
        #[serde(rename = "updateTime", default)]
        update_time_us: i64,
        #[serde(default)]
        consumer: String,
    }
    let found = parse::<Vec<Wire>>("GetCheckPoint", body, MAX_JSON_LIST)?.into_iter().find(|wire| wire.shard == shard);
    let wire = found
        .ok_or_else(|| SlsError::transport(format!("the answer of GetCheckPoint says nothing about shard {shard}")))?;
    let cursor = match wire.checkpoint.as_str() {
        "" => None,
        text => Some(believe_cursor("GetCheckPoint", text)?),
    };
    Ok(Checkpoint { shard, cursor, update_time_us: wire.update_time_us, consumer: wire.consumer })
}

/// Reads the headers of a PullLogs answer; `header` finds one by its lower-case name.
///
/// # Errors
/// [`SlsError`]: a header is missing, malformed or out of bounds.
pub fn parse_pull_head<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Result<PullHead, SlsError> {
    let count = required_number(&header, "x-log-count")?;
    let count = u32::try_from(count)
        .map_err(|_| SlsError::transport(format!("PullLogs declares {count} log groups in one answer")))?;
    let raw_size = required_number(&header, "x-log-bodyrawsize")?;
    if (count == 0) != (raw_size == 0) {
        // Either way logs would be passed over if one of the two was believed.
        return Err(SlsError::transport(format!("PullLogs declares {count} log groups in {raw_size} bytes")));
    }
    let compression = match header("x-log-compresstype").map(str::trim) {
        _ if raw_size == 0 => Compression::None,
        None | Some("") => Compression::None,
        Some(name) => Compression::from_name(name).ok_or_else(|| {
            let name = escape_foreign(name, 32);
            SlsError::transport(format!("PullLogs answered with the compression {name}, not asked for"))
        })?,
    };
    let next_cursor = match header("x-log-cursor").map(str::trim) {
        None | Some("") => None,
        Some(text) => Some(believe_cursor("PullLogs", text)?),
    };
    Ok(PullHead {
        count,
        next_cursor,
        raw_size,
        body_size: header("content-length").map(|text| number("content-length", text)).transpose()?,
        compression,
        // These two only steer the pace and what is shown: unreadable is as good as untold.
        end_of_shard: header("x-log-end-of-cursor").and_then(|text| match text.trim() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }),
        cursor_time_s: header("x-log-cursor-time").and_then(|text| text.trim().parse().ok()),
    })
}

fn required_number<'h>(header: impl Fn(&str) -> Option<&'h str>, name: &str) -> Result<u64, SlsError> {
    let text = header(name).ok_or_else(|| SlsError::transport(format!("PullLogs answered without {name}")))?;
    number(name, text)
}

fn number(name: &str, text: &str) -> Result<u64, SlsError> {
    let text = text.trim();
    text.parse().map_err(|_| SlsError::transport(format!("PullLogs answered {name}: {}", escape_foreign(text, 32))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(answer: Result<T, SlsError>) -> String {
        match answer.unwrap_err() {
            SlsError::Transport { what } => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn shards_come_in_order_whatever_else_is_said_about_them() {
        let body = br#"[{"shardID":3,"status":"readonly","inclusiveBeginKey":"00","serverIp":"x"},
            {"shardID":1,"status":"readwrite","createTime":1795478888}]"#;
        assert_eq!(
            parse_shards(body).unwrap(),
            [
                ShardInfo { shard: ShardId(1), readonly: false, create_time: 1_795_478_888 },
                ShardInfo { shard: ShardId(3), readonly: true, create_time: 0 },
            ]
        );
        refused(parse_shards(br#"{"shards":[]}"#));
        refused(parse_shards(br#"[{"shardID":-1}]"#));
        refused(parse_shards(b""));
    }

    #[test]
    fn logstore_cursor_time_and_groups_are_read() {
        let ttl = |body: &str| parse_logstore(body.as_bytes()).unwrap().ttl_days;
        assert_eq!(ttl(r#"{"logstoreName":"store1","ttl":30,"shardCount":2}"#), Some(30));
        assert_eq!(ttl(r#"{"ttl":-1}"#), None);
        assert_eq!(ttl("{}"), None);
        assert_eq!(parse_cursor(br#"{"cursor":"MTc="}"#).unwrap().as_str(), "MTc=");
        refused(parse_cursor(br#"{"cursor":""}"#));
        refused(parse_cursor(br#"{}"#));
        assert!(!refused(parse_cursor(br#"{"cursor":"\u001b[2J\n"}"#)).contains(char::is_control));
        assert_eq!(parse_cursor_time(br#"{"cursor_time":1554260243}"#).unwrap(), 1_554_260_243);
        refused(parse_cursor_time(br#"{"cursor_time":"now"}"#));
        let groups = parse_consumer_groups(br#"[{"name":"g","timeout":30,"order":true},{"name":"h","timeout":60}]"#);
        let group = |name: &str, timeout_s, order| ConsumerGroup { name: name.to_owned(), timeout_s, order };
        assert_eq!(groups.unwrap(), [group("g", 30, true), group("h", 60, false)]);
    }

    #[test]
    fn only_an_array_is_a_heartbeat_answer() {
        assert_eq!(parse_heartbeat(b"[]").unwrap(), []);
        assert_eq!(parse_heartbeat(b"[2, 0]\n").unwrap(), [ShardId(2), ShardId(0)]);
        for odd in ["", " ", "null", "{}", r#"{"shards":[0]}"#, "[0", "[-1]", "[0.5]", "[null]", "[0][1]", "<html>"] {
            refused(parse_heartbeat(odd.as_bytes()));
        }
    }

    #[test]
    fn only_an_empty_checkpoint_means_never_committed() {
        let never = br#"[{"shard":0,"checkpoint":"","updateTime":0,"consumer":""}]"#;
        assert_eq!(
            parse_checkpoint(never, ShardId(0)).unwrap(),
            Checkpoint { shard: ShardId(0), cursor: None, update_time_us: 0, consumer: String::new() }
        );
        let all = br#"[{"shard":1,"checkpoint":"MQ=="},
            {"shard":0,"checkpoint":"Mg==","updateTime":1524224984800922,"consumer":"c1","extra":[]}]"#;
        assert_eq!(
            parse_checkpoint(all, ShardId(0)).unwrap(),
            Checkpoint {
                shard: ShardId(0),
                cursor: Cursor::new("Mg=="),
                update_time_us: 1_524_224_984_800_922,
                consumer: "c1".to_owned()
            }
        );
        for odd in [
            "",
            "[]",
            "null",
            r#"[{"shard":0}]"#,
            r#"[{"shard":0,"checkpoint":null}]"#,
            r#"[{"shard":1,"checkpoint":""}]"#,
        ] {
            refused(parse_checkpoint(odd.as_bytes(), ShardId(0)));
        }
    }

    #[test]
    fn an_overlong_answer_is_refused_unread() {
        let mut long = b"[]".to_vec();
        long.resize(MAX_JSON + 1, b' ');
        assert!(refused(parse_heartbeat(&long)).contains("longer than"));
        assert_eq!(parse_shards(&long).unwrap(), []);
        long.resize(MAX_JSON_LIST + 1, b' ');
        refused(parse_shards(&long));
    }

    const FULL: &[(&str, &str)] = &[
        ("content-length", "71"),
        ("x-log-count", "2"),
        ("x-log-bodyrawsize", "120"),
        ("x-log-compresstype", "lz4"),
        ("x-log-cursor", "MTcwMDAwMDAwMDAwMDAwMDAwMg=="),
        ("x-log-cursor-time", "1795478888"),
        ("x-log-end-of-cursor", "1"),
    ];

    fn head(changes: &[(&str, Option<&'static str>)]) -> Result<PullHead, SlsError> {
        parse_pull_head(|name| match changes.iter().find(|(n, _)| *n == name) {
            Some((_, value)) => *value,
            None => FULL.iter().find(|(n, _)| *n == name).map(|(_, value)| *value),
        })
    }

    #[test]
    fn the_documented_pull_answer_is_read() {
        let expected = PullHead {
            count: 2,
            next_cursor: Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMg=="),
            raw_size: 120,
            body_size: Some(71),
            compression: Compression::Lz4,
            end_of_shard: Some(true),
            cursor_time_s: Some(1_795_478_888),
        };
        assert_eq!(head(&[]).unwrap(), expected);
        let bare = [
            ("content-length", None),
            ("x-log-compresstype", None),
            ("x-log-cursor", None),
            ("x-log-cursor-time", Some("soon")),
            ("x-log-end-of-cursor", None),
        ];
        let expected = PullHead {
            next_cursor: None,
            body_size: None,
            compression: Compression::None,
            end_of_shard: None,
            cursor_time_s: None,
            ..expected
        };
        assert_eq!(head(&bare).unwrap(), expected);
    }

    #[test]
    fn an_empty_pull_answer_is_not_compressed_whatever_it_says() {
        let empty =
            head(&[("x-log-count", Some("0")), ("x-log-bodyrawsize", Some("0")), ("x-log-compresstype", Some("zstd"))]);
        assert_eq!(empty.unwrap().compression, Compression::None);
    }

    #[test]
    fn a_pull_answer_that_could_pass_over_logs_is_refused() {
        for change in [
            ("x-log-count", None),
            ("x-log-count", Some("-1")),
            ("x-log-count", Some("4294967296")),
            ("x-log-count", Some("0")),
            ("x-log-bodyrawsize", None),
            ("x-log-bodyrawsize", Some("0")),
            ("x-log-bodyrawsize", Some("many")),
            ("x-log-compresstype", Some("br")),
            ("x-log-cursor", Some("a b")),
            ("content-length", Some("-5")),
        ] {
            refused(head(&[change]));
        }
        let long: &'static str = "A".repeat(Cursor::MAX_LEN + 1).leak();
        refused(head(&[("x-log-cursor", Some(long))]));
    }
}
