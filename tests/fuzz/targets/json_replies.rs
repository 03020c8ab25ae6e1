//! What SLS answers beside bodies: JSON, headers and errors. A wrong answer is refused, never read as an empty one, and
//! what is told of it is fit for a terminal.

use std::fmt::Display;

use serde_json::Value;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::wire::sls::error::SlsError;
use sls_syslog_actors::wire::sls::reply;

/// Runs it: the first byte says which answer the others are.
pub fn run(data: &[u8]) {
    let Some((&which, body)) = data.split_first() else { return };
    // `None` also where a field that nobody reads holds what a reader of all of them refuses, such as bad UTF-8.
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let elements = json.as_ref().map(|json| json.as_array().map_or(&[][..], Vec::as_slice));
    match which % 9 {
        0 => {
            let Some(shards) = usable(reply::parse_shards(body)) else { return };
            assert!(shards.is_sorted_by_key(|shard| shard.shard));
            assert!(elements.is_none_or(|elements| elements.len() == shards.len()));
        }
        1 => drop(usable(reply::parse_logstore(body))),
        2 => {
            let Some(cursor) = usable(reply::parse_cursor(body)) else { return };
            assert!(!cursor.as_str().is_empty());
            super::assert_printable(cursor.as_str(), 1024);
        }
        3 => drop(usable(reply::parse_cursor_time(body))),
        4 => {
            let Some(groups) = usable(reply::parse_consumer_groups(body)) else { return };
            assert!(elements.is_none_or(|elements| elements.len() == groups.len()));
        }
        5 => {
            let Some(held) = usable(reply::parse_heartbeat(body)) else { return };
            let expected = elements.expect("only an array is an answer").iter().map(Value::as_u64);
            assert!(expected.eq(held.iter().map(|shard| Some(u64::from(shard.0)))));
        }
        6 => {
            let Some(checkpoint) = usable(reply::parse_checkpoint(body, ShardId(1))) else { return };
            if checkpoint.cursor.is_none() {
                let never = |element: &Value| element["shard"] == 1 && element["checkpoint"] == "";
                let said = elements.is_none_or(|elements| elements.iter().any(never));
                assert!(said, "never committed, although nobody said so");
            }
        }
        7 => {
            let Ok(text) = std::str::from_utf8(body) else { return };
            let lines: Vec<_> = text.lines().filter_map(|line| line.split_once(": ")).collect();
            let header = |name: &str| lines.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            let Some(head) = usable(reply::parse_pull_head(header)) else { return };
            assert_eq!(head.count == 0, head.raw_size == 0, "logs could be passed over");
        }
        _ => {
            let Some((&[low, high], body)) = body.split_first_chunk::<2>() else { return };
            let status = u16::from_le_bytes([low, high]);
            for offset in [None, Some(-5), Some(i64::MIN)] {
                let error = SlsError::refused(status, body, std::str::from_utf8(body).ok(), offset);
                super::assert_printable(&error.to_string(), 2048);
                error.class();
                if let Some(remedy) = error.remedy() {
                    super::assert_printable(&remedy, 4096);
                }
            }
        }
    }
}

/// What could be read; what is told of what could not is fit for a log.
fn usable<T>(answer: Result<T, impl Display>) -> Option<T> {
    answer.map_err(|error| super::assert_printable(&error.to_string(), 1024)).ok()
}
