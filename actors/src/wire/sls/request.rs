//! Requests to SLS, one function per operation, before they are signed.

use bytes::Bytes;
use serde_json::json;

use super::body::compress;
use super::query::{encode, encode_query};
use super::reply::{Compression, ConsumerGroup};
use crate::model::cursor::{Cursor, StartPosition};
use crate::model::ids::ShardId;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// HTTP methods that the protocol uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
}

impl Method {
    /// As on the request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// A request as plain values. `sign::sign_request` adds the headers that depend on credentials, host and time.
#[derive(Clone, PartialEq, Eq)]
pub struct SlsRequest {
    /// Method.
    pub method: Method,
    /// Path, percent-encoded.
    pub path: String,
    /// Query parameters, decoded.
    pub query: Vec<(&'static str, String)>,
    /// Headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Body as it goes over the wire.
    pub body: Bytes,
}

impl SlsRequest {
    fn new(method: Method, path: String) -> Self {
        Self { method, path, query: Vec::new(), headers: Vec::new(), body: Bytes::new() }
    }

    fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self.header("content-type", JSON)
    }

    /// Path and query as on the request line, all of it plain ASCII.
    pub fn target(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        format!("{}?{}", self.path, encode_query(&self.query))
    }

    /// The value of a header, by its lower-case name.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for SlsRequest {
    /// Headers and bodies hold secrets and contents: only what names the operation is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlsRequest({} {}, {} bytes)", self.method.as_str(), self.path, self.body.len())
    }
}

fn logstore_path(logstore: &str) -> String {
    format!("/logstores/{}", encode(logstore))
}

fn shard_path(logstore: &str, shard: ShardId) -> String {
    format!("{}/shards/{shard}", logstore_path(logstore))
}

fn groups_path(logstore: &str) -> String {
    format!("{}/consumergroups", logstore_path(logstore))
}

fn group_path(logstore: &str, group: &str) -> String {
    format!("{}/{}", groups_path(logstore), encode(group))
}

/// GetLogStore.
pub fn get_logstore(logstore: &str) -> SlsRequest {
    SlsRequest::new(Method::Get, logstore_path(logstore))
}

/// ListShards.
pub fn list_shards(logstore: &str) -> SlsRequest {
    SlsRequest::new(Method::Get, format!("{}/shards", logstore_path(logstore)))
}

/// GetCursor.
pub fn get_cursor(logstore: &str, shard: ShardId, from: StartPosition) -> SlsRequest {
    SlsRequest::new(Method::Get, shard_path(logstore, shard)).query("type", "cursor").query("from", from.to_string())
}

/// GetCursorTime.
pub fn get_cursor_time(logstore: &str, shard: ShardId, cursor: &Cursor) -> SlsRequest {
    SlsRequest::new(Method::Get, shard_path(logstore, shard))
        .query("type", "cursor_time")
        .query("cursor", cursor.as_str())
}

/// PullLogs of at most `count` log groups (1 to 1000), to be compressed like this.
pub fn pull_logs(logstore: &str, shard: ShardId, cursor: &Cursor, count: u32, compression: Compression) -> SlsRequest {
    SlsRequest::new(Method::Get, shard_path(logstore, shard))
        .query("type", "log")
        .query("cursor", cursor.as_str())
        .query("count", count.to_string())
        .header("accept", PROTOBUF)
        .header("accept-encoding", compression.name().unwrap_or_default())
}

/// CreateConsumerGroup.
pub fn create_consumer_group(logstore: &str, group: &ConsumerGroup) -> SlsRequest {
    SlsRequest::new(Method::Post, groups_path(logstore)).json(&json!({
        "consumerGroup": group.name,
        "timeout": group.timeout_s,
        "order": group.order,
    }))
}

/// ListConsumerGroup.
pub fn list_consumer_groups(logstore: &str) -> SlsRequest {
    SlsRequest::new(Method::Get, groups_path(logstore))
}

/// UpdateConsumerGroup.
pub fn update_consumer_group(logstore: &str, group: &ConsumerGroup) -> SlsRequest {
    SlsRequest::new(Method::Put, group_path(logstore, &group.name))
        .json(&json!({ "timeout": group.timeout_s, "order": group.order }))
}

/// HeartBeat of `consumer` with the shards it holds.
pub fn heartbeat(logstore: &str, group: &str, consumer: &str, held: &[ShardId]) -> SlsRequest {
    SlsRequest::new(Method::Post, group_path(logstore, group))
        .query("type", "heartbeat")
        .query("consumer", consumer)
        .json(&json!(held))
}

/// GetCheckPoint of one shard.
pub fn get_checkpoint(logstore: &str, group: &str, shard: ShardId) -> SlsRequest {
    SlsRequest::new(Method::Get, group_path(logstore, group)).query("shard", shard.to_string())
}

/// UpdateCheckPoint. With `force` SLS does not check that `consumer` holds the shard.
pub fn update_checkpoint(
    logstore: &str,
    group: &str,
    consumer: &str,
    shard: ShardId,
    cursor: &Cursor,
    force: bool,
) -> SlsRequest {
    SlsRequest::new(Method::Post, group_path(logstore, group))
        .query("type", "checkpoint")
        .query("consumer", consumer)
        .query("forceSuccess", force.to_string())
        .json(&json!({ "shard": shard, "checkpoint": cursor.as_str() }))
}

/// PutLogs of one encoded `LogGroup`, to the shard that `hash_key` (hexadecimal) falls into, or to any.
pub fn put_logs(logstore: &str, hash_key: Option<&str>, log_group: &[u8], compression: Compression) -> SlsRequest {
    let shards = format!("{}/shards", logstore_path(logstore));
    let mut request = match hash_key {
        Some(key) => SlsRequest::new(Method::Post, format!("{shards}/route")).query("key", key),
        None => SlsRequest::new(Method::Post, format!("{shards}/lb")),
    };
    request = request.header("content-type", PROTOBUF).header("x-log-bodyrawsize", log_group.len().to_string());
    request.body = compress(log_group, compression).into();
    match compression.name() {
        None => request,
        Some(name) => request.header("x-log-compresstype", name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "nginx";

    fn cursor() -> Cursor {
        Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMA==").unwrap()
    }

    fn line(request: &SlsRequest) -> String {
        format!("{} {}", request.method.as_str(), request.target())
    }

    #[test]
    fn request_lines_are_those_of_the_protocol() {
        let group = ConsumerGroup { name: "cg".to_owned(), timeout_s: 30, order: true };
        let cases = [
            (get_logstore(STORE), "GET /logstores/nginx"),
            (list_shards(STORE), "GET /logstores/nginx/shards"),
            (
                get_cursor(STORE, ShardId(7), StartPosition::UnixSeconds(1_545_782_400)),
                "GET /logstores/nginx/shards/7?type=cursor&from=1545782400",
            ),
            (
                get_cursor(STORE, ShardId(7), StartPosition::Begin),
                "GET /logstores/nginx/shards/7?type=cursor&from=begin",
            ),
            (
                get_cursor_time(STORE, ShardId(7), &cursor()),
                "GET /logstores/nginx/shards/7?type=cursor_time&cursor=MTcwMDAwMDAwMDAwMDAwMDAwMA%3D%3D",
            ),
            (
                pull_logs(STORE, ShardId(7), &cursor(), 1000, Compression::Lz4),
                "GET /logstores/nginx/shards/7?type=log&cursor=MTcwMDAwMDAwMDAwMDAwMDAwMA%3D%3D&count=1000",
            ),
            (create_consumer_group(STORE, &group), "POST /logstores/nginx/consumergroups"),
            (list_consumer_groups(STORE), "GET /logstores/nginx/consumergroups"),
            (update_consumer_group(STORE, &group), "PUT /logstores/nginx/consumergroups/cg"),
            (
                heartbeat(STORE, "cg", "host 1/α", &[]),
                "POST /logstores/nginx/consumergroups/cg?type=heartbeat&consumer=host%201%2F%CE%B1",
            ),
            (get_checkpoint(STORE, "cg", ShardId(3)), "GET /logstores/nginx/consumergroups/cg?shard=3"),
            (
                update_checkpoint(STORE, "cg", "a+b", ShardId(0), &cursor(), false),
                "POST /logstores/nginx/consumergroups/cg?type=checkpoint&consumer=a%2Bb&forceSuccess=false",
            ),
            (put_logs(STORE, None, b"x", Compression::None), "POST /logstores/nginx/shards/lb"),
            (put_logs(STORE, Some("5F"), b"x", Compression::Lz4), "POST /logstores/nginx/shards/route?key=5F"),
        ];
        for (request, expected) in cases {
            assert_eq!(line(&request), expected);
        }
    }

    #[test]
    fn bodies_are_those_of_the_protocol() {
        assert_eq!(&heartbeat(STORE, "cg", "c", &[ShardId(0), ShardId(1)]).body[..], b"[0,1]");
        assert_eq!(&heartbeat(STORE, "cg", "c", &[]).body[..], b"[]");
        let commit = update_checkpoint(STORE, "cg", "c", ShardId(5), &cursor(), true);
        let commit: serde_json::Value = serde_json::from_slice(&commit.body).unwrap();
        assert_eq!(commit, json!({ "shard": 5, "checkpoint": "MTcwMDAwMDAwMDAwMDAwMDAwMA==" }));
        let group = ConsumerGroup { name: "cg".to_owned(), timeout_s: 40, order: false };
        let created: serde_json::Value = serde_json::from_slice(&create_consumer_group(STORE, &group).body).unwrap();
        assert_eq!(created, json!({ "consumerGroup": "cg", "timeout": 40, "order": false }));
        let updated: serde_json::Value = serde_json::from_slice(&update_consumer_group(STORE, &group).body).unwrap();
        assert_eq!(updated, json!({ "timeout": 40, "order": false }));
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(
            get_checkpoint("a/b?c", "g/../x#é", ShardId(0)).path,
            "/logstores/a%2Fb%3Fc/consumergroups/g%2F..%2Fx%23%C3%A9"
        );
    }

    #[test]
    fn a_compressed_put_declares_the_size_before_compression() {
        let raw = [7; 1000];
        for compression in [Compression::Lz4, Compression::Zstd, Compression::Deflate] {
            let put = put_logs(STORE, None, &raw, compression);
            assert_eq!(put.header_value("x-log-bodyrawsize"), Some("1000"));
            assert_eq!(put.header_value("x-log-compresstype"), compression.name());
            assert!(put.body.len() < 100);
        }
        assert_eq!(put_logs(STORE, None, &raw, Compression::None).header_value("x-log-compresstype"), None);
    }
}
