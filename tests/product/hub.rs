//! The embedded LogHub as a process, filled and questioned by the tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use prost::Message;
use sls_syslog_actors::config::{Credentials, Signature};
use sls_syslog_actors::wire::sls::proto::{Content, Log, LogGroup, LogTag};
use sls_syslog_actors::wire::sls::reply::Compression;
use sls_syslog_actors::wire::sls::request::{SlsRequest, put_logs};
use sls_syslog_actors::wire::sls::sign::sign_request;

use crate::harness::{Process, SECRET, eventually};

/// Names that all tests use; the endpoint resolves nowhere, the address is given beside it.
pub const PROJECT: &str = "test-project";
/// The logstore.
pub const LOGSTORE: &str = "web-access";
/// The consumer group.
pub const GROUP: &str = "siem";
/// The access key's id.
pub const KEY_ID: &str = "test-key-id";
/// The endpoint, without the project.
pub const ENDPOINT: &str = "sls.test";
/// 2026-01-02 03:04:05 UTC, the time of all logs.
pub const LOG_TIME: u32 = 1_767_323_045;

/// A LogHub.
pub struct Hub {
    _process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    shards: u32,
}

impl Hub {
    /// A LogHub with one logstore of so many shards.
    pub fn start(shards: u32) -> Self {
        Self::start_with(shards, &[])
    }

    /// The same with more arguments.
    pub fn start_with(shards: u32, arguments: &[&str]) -> Self {
        let mut command = Process::sls_syslog(&["loghub", "--listen", "127.0.0.1:0"]);
        command.args(["--project", PROJECT, "--logstore", LOGSTORE, "--shards", &shards.to_string()]);
        command.args(["--access-key-id", KEY_ID, "--access-key-secret", SECRET]).args(arguments);
        let mut process = Process::start("loghub", &mut command);
        let address = process.greeting()["listening"].as_str().unwrap().parse().unwrap();
        Self { _process: process, address, shards }
    }

    /// Puts one log group into a shard.
    pub fn put(&self, shard: u32, group: &LogGroup) {
        let width = u128::MAX / u128::from(self.shards);
        let key = format!("{:032x}", width * u128::from(shard) + width / 2);
        self.send(put_logs(LOGSTORE, Some(&key), &group.encode_to_vec(), Compression::Lz4));
    }

    /// Signs and sends a request, which must succeed; its answer.
    #[track_caller]
    pub fn send(&self, mut request: SlsRequest) -> String {
        let credentials =
            Credentials { access_key_id: KEY_ID.into(), access_key_secret: SECRET.into(), security_token: None };
        sign_request(&mut request, &credentials, &Signature::V1, &format!("{PROJECT}.{ENDPOINT}"), Utc::now());
        let answer = self.exchange(&request);
        assert!(answer.starts_with("HTTP/1.1 200"), "{} refused: {answer}", request.target());
        answer
    }

    /// Puts numbered logs, `per_group` a group, into every shard: stream = shard, n counts from `from`.
    pub fn put_numbered(&self, numbers: std::ops::Range<u64>, per_group: u64) {
        for shard in 0..self.shards {
            let mut from = numbers.start;
            while from < numbers.end {
                let to = numbers.end.min(from + per_group);
                self.put(shard, &numbered_group(shard, from..to));
                from = to;
            }
        }
    }

    fn exchange(&self, request: &SlsRequest) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method.as_str(), request.target());
        for (name, value) in &request.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\nconnection: close\r\n\r\n", request.body.len());
        String::from_utf8_lossy(&http(self.address, &[head.as_bytes(), &request.body].concat())).into_owned()
    }

    /// What it holds, as `GET /_loghub/state` tells.
    pub fn state(&self) -> serde_json::Value {
        let request = "GET /_loghub/state HTTP/1.1\r\nhost: loghub\r\nconnection: close\r\n\r\n";
        let answer = http(self.address, request.as_bytes());
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole answer") + 4;
        serde_json::from_slice(&answer[body..])
            .unwrap_or_else(|e| panic!("state: {e}: {}", String::from_utf8_lossy(&answer)))
    }

    /// Spoils so many answers from now on, in the words of `--fault`.
    pub fn fault(&self, fault: &str) {
        self.faults("POST", &format!("?fault={fault}"));
    }

    /// Spoils nothing any more.
    pub fn heal(&self) {
        self.faults("DELETE", "");
    }

    fn faults(&self, method: &str, query: &str) {
        let request = format!(
            "{method} /_loghub/fault{query} HTTP/1.1\r\nhost: loghub\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let answer = String::from_utf8_lossy(&http(self.address, request.as_bytes())).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// The longest time between two heartbeats of a consumer, in milliseconds, as they arrived.
    pub fn longest_silence_ms(&self, consumer: &str) -> u64 {
        self.logstore()["groups"][GROUP]["longest_gaps_ms"][consumer].as_u64().unwrap()
    }

    /// Consumers that lost shards because they had been silent for too long.
    pub fn expired_holders(&self) -> u64 {
        self.logstore()["groups"][GROUP]["expired_holders"].as_u64().unwrap()
    }

    /// The logstore's part of the state.
    pub fn logstore(&self) -> serde_json::Value {
        self.state()["projects"][PROJECT][LOGSTORE].clone()
    }

    /// Waits until the group's checkpoint is at the end of every shard.
    #[track_caller]
    pub fn wait_until_committed(&self) {
        eventually("all checkpoints at the end", || {
            let group = self.logstore()["groups"][GROUP].clone();
            let shards = group["shards"].as_array().cloned().unwrap_or_default();
            let behind: Vec<_> =
                shards.iter().filter(|shard| shard["at_end"] != true).map(|s| s["shard"].clone()).collect();
            match shards.is_empty() || !behind.is_empty() {
                true => Err(format!("behind: {behind:?} of {}", shards.len())),
                false => Ok(()),
            }
        });
    }

    /// The consumers that hold at least one shard, with how many.
    pub fn owners(&self) -> std::collections::BTreeMap<String, usize> {
        let mut owners = std::collections::BTreeMap::new();
        let group = self.logstore()["groups"][GROUP].clone();
        for shard in group["shards"].as_array().into_iter().flatten() {
            if let Some(owner) = shard["owner"].as_str() {
                *owners.entry(owner.to_owned()).or_default() += 1;
            }
        }
        owners
    }
}

/// One request and all of its answer.
pub fn http(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// A log with these fields.
pub fn log(fields: &[(&str, &[u8])]) -> Log {
    let content = |(key, value): &(&str, &[u8])| Content {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
    };
    Log { time: LOG_TIME, contents: fields.iter().map(content).collect(), time_ns: None }
}

/// A group of these logs with topic, source and one tag.
pub fn group(logs: Vec<Log>) -> LogGroup {
    LogGroup {
        logs,
        category: None,
        topic: Some(Bytes::from_static(b"nginx")),
        source: Some(Bytes::from_static(b"10.0.0.1")),
        machine_uuid: None,
        log_tags: vec![LogTag { key: Bytes::from_static(b"__hostname__"), value: Bytes::from_static(b"web-1") }],
    }
}

/// Logs of a shard's stream, numbered; each of about 300 bytes.
pub fn numbered_group(shard: u32, numbers: std::ops::Range<u64>) -> LogGroup {
    group(
        numbers
            .map(|n| log(&numbered_fields(shard, n).iter().map(|(k, v)| (*k, v.as_bytes())).collect::<Vec<_>>()))
            .collect(),
    )
}

/// The fields of one numbered log, in order.
pub fn numbered_fields(shard: u32, n: u64) -> Vec<(&'static str, String)> {
    vec![
        ("stream", format!("s{shard}")),
        ("n", n.to_string()),
        ("method", ["GET", "POST", "PUT"][(n % 3) as usize].to_owned()),
        ("url", format!("/api/v1/items/{n}?q=\u{4e2d}\u{6587}")),
        (
            "agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140 Safari/537.36"
                .to_owned(),
        ),
        ("status", (200 + n % 7).to_string()),
    ]
}
