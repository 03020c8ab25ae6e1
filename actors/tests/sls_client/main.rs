//! The SLS client against scripted servers: what it sends is what it signed, and no broken answer is believed.

mod server;
mod tls;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeZone, Utc};
use secrecy::SecretString;
use sls_syslog_actors::config::{Credentials, Endpoint, PullCompression, Signature, SourceConfig};
use sls_syslog_actors::io::log_hub::{SlsClient, SlsSetup};
use sls_syslog_actors::model::cursor::{Cursor, StartPosition};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::LogHub;
use sls_syslog_actors::wire::sls::error::{ErrorClass, SlsError};
use sls_syslog_actors::wire::sls::reply::{Compression, ConsumerGroup, MAX_JSON};
use sls_syslog_actors::wire::sls::sign::{KnownKey, Received, verify};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::server::{Reply, Request, Server, Then, framed, ok, pull, whole};

const KEY_ID: &str = "marker-key-id";
const SECRET: &str = "marker-secret-value";
const TOKEN: &str = "marker+token/value==";
const GROUP: &str = "siem group/é";
const CONSUMER: &str = "host 1/α+%41&=?#\"<>";

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 3, 7, 5, 9).unwrap()
}

fn source(address: SocketAddr) -> SourceConfig {
    SourceConfig {
        endpoint: Endpoint { https: false, host: address.ip().to_string(), port: Some(address.port()) },
        connect: None,
        ca_path: None,
        project: "proj1".to_owned(),
        logstore: "store1".to_owned(),
        consumer_group: GROUP.to_owned(),
        consumer_name: CONSUMER.to_owned(),
        credentials: Credentials {
            access_key_id: KEY_ID.to_owned(),
            access_key_secret: SecretString::from(SECRET),
            security_token: Some(SecretString::from(TOKEN)),
        },
        signature: Signature::V4 { region: "cn-hangzhou".to_owned() },
        cursor_start_time: StartPosition::Begin,
        heartbeat_interval: Duration::from_secs(20),
        group_timeout_s: 40,
        in_order: false,
        manage_group: false,
        data_fetch_interval: Duration::from_secs(2),
        max_log_groups: 1000,
        compression: PullCompression::Lz4,
        request_timeout: Duration::from_secs(20),
        commit_interval: Duration::from_secs(3),
        drain_timeout: Duration::from_secs(25),
    }
}

fn client(source: &SourceConfig) -> SlsClient {
    SlsClient::new(Arc::new(SlsSetup::new(source).unwrap()), now)
}

fn cursor() -> Cursor {
    Cursor::new("MTcwMDAwMDAwMDAwMDAwMDAwMA==").unwrap()
}

fn group() -> ConsumerGroup {
    ConsumerGroup { name: GROUP.to_owned(), timeout_s: 40, order: false }
}

fn transport(error: SlsError) -> String {
    match error {
        SlsError::Transport { what } => what,
        other => panic!("{other}"),
    }
}

async fn pulled(client: &SlsClient, limit: usize) -> Result<Vec<u8>, SlsError> {
    let reply = client.pull_logs(ShardId(7), &cursor(), 10).await?;
    Ok(reply.body.read(limit).await?.to_vec())
}

// ---- What is sent --------------------------------------------------------------------------------------------

fn assert_signed(request: &Request, at: DateTime<Utc>) {
    let (path, raw_query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let headers: Vec<(&str, &str)> = request.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let received = Received { method: &request.method, path, raw_query, headers: &headers, body: &request.body };
    let key = |id: &str| (id == KEY_ID).then_some(KnownKey { secret: SECRET, token: Some(TOKEN) });
    assert_eq!(verify(received, key, Some(at)), Ok(()), "{request:?}");
}

#[actix_rt::test]
async fn every_operation_arrives_exactly_as_it_was_signed() {
    for signature in [Signature::V1, Signature::V4 { region: "cn-hangzhou".to_owned() }] {
        let server = Server::start(vec![
            ok(r#"{"logstoreName":"store1","ttl":30}"#),
            ok(r#"[{"shardID":1,"status":"readonly"},{"shardID":0,"status":"readwrite"}]"#),
            ok(r#"{"cursor":"MQ=="}"#),
            ok(r#"{"cursor_time":1554260243}"#),
            ok(""),
            ok(r#"[{"name":"g","timeout":30,"order":true}]"#),
            ok(""),
            ok("[0,1]"),
            ok(r#"[{"shard":7,"checkpoint":"","updateTime":0,"consumer":""}]"#),
            ok(""),
            ok(""),
            pull(3, 3, None, b"abc", Then::KeepAlive),
        ])
        .await;
        let client = client(&SourceConfig { signature, ..source(server.address) });
        assert_eq!(client.get_logstore().await.unwrap().ttl_days, Some(30));
        let shards = client.list_shards().await.unwrap();
        assert_eq!(shards.iter().map(|s| (s.shard.0, s.readonly)).collect::<Vec<_>>(), [(0, false), (1, true)]);
        let position = StartPosition::UnixSeconds(1_545_782_400);
        assert_eq!(client.get_cursor(ShardId(7), position).await.unwrap().as_str(), "MQ==");
        assert_eq!(client.get_cursor_time(ShardId(7), &cursor()).await.unwrap(), 1_554_260_243);
        client.create_consumer_group(&group()).await.unwrap();
        assert_eq!(client.list_consumer_groups().await.unwrap().len(), 1);
        client.update_consumer_group(&group()).await.unwrap();
        assert_eq!(client.heartbeat(&[ShardId(0)]).await.unwrap(), [ShardId(0), ShardId(1)]);
        assert_eq!(client.get_checkpoint(ShardId(7)).await.unwrap().cursor, None);
        client.update_checkpoint(ShardId(7), &cursor(), false).await.unwrap();
        client.put_logs(Some("5F"), &[7; 500], Compression::Lz4).await.unwrap();
        assert_eq!(pulled(&client, 100).await.unwrap(), b"abc");

        let requests = server.requests();
        for request in &requests {
            assert_signed(request, now());
            assert_eq!(request.header("host"), Some(format!("proj1.{}", server.address).as_str()));
            assert_eq!(request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("date")).count(), 1);
        }
        assert_eq!(
            requests[7].target,
            "/logstores/store1/consumergroups/siem%20group%2F%C3%A9?type=heartbeat\
             &consumer=host%201%2F%CE%B1%2B%2541%26%3D%3F%23%22%3C%3E"
        );
        assert_eq!(requests[11].header("accept-encoding"), Some("lz4"));
        assert_eq!(requests[11].header("accept"), Some("application/x-protobuf"));
        assert_eq!(server.seen.borrow().connections, 1, "one connection serves all requests");
    }
}

#[actix_rt::test]
async fn zstd_is_asked_for_where_it_is_wanted_and_any_known_answer_is_read() {
    let answers = [Some("zstd"), Some("LZ4"), Some("deflate"), None];
    let server = Server::start(answers.iter().map(|name| pull(3, 3, *name, b"abc", Then::KeepAlive)).collect()).await;
    let client = client(&SourceConfig { compression: PullCompression::Zstd, ..source(server.address) });
    for compression in [Compression::Zstd, Compression::Lz4, Compression::Deflate, Compression::None] {
        let reply = client.pull_logs(ShardId(7), &cursor(), 10).await.unwrap();
        assert_eq!(reply.head.compression, compression);
        assert_eq!(&reply.body.read(100).await.unwrap()[..], b"abc");
    }
    for request in server.requests() {
        assert_signed(&request, now());
        assert_eq!(request.header("accept-encoding"), Some("zstd"));
    }
}

#[actix_rt::test]
async fn another_address_than_the_name_can_be_connected_to() {
    let server = Server::start(vec![ok("[]")]).await;
    let mut source = source(server.address);
    source.endpoint = Endpoint { https: false, host: "sls.test".to_owned(), port: Some(9000) };
    source.connect = Some(server.address);
    assert_eq!(client(&source).heartbeat(&[]).await.unwrap(), []);
    let request = &server.requests()[0];
    assert_eq!(request.header("host"), Some("proj1.sls.test:9000"));
    assert_signed(request, now());
}

// ---- Answers that are not believed ---------------------------------------------------------------------------

#[actix_rt::test]
async fn a_body_cut_off_with_fin_is_an_error() {
    for (declared, sent) in [(1000, 500), (1000, 0), (200_000, 150_000)] {
        let body = vec![b'x'; sent];
        let server = Server::start(vec![
            pull(declared, 5000, Some("lz4"), &body, Then::Fin),
            Reply { bytes: framed("200 OK", &[], b"[0,1]", 7), then: Then::Fin },
        ])
        .await;
        let client = client(&source(server.address));
        let what = transport(pulled(&client, 1 << 20).await.unwrap_err());
        assert!(what.contains(&format!("{sent} of {declared} bytes")), "{what}");
        let what = transport(client.heartbeat(&[]).await.unwrap_err());
        assert!(what.contains("5 of 7 bytes"), "{what}");
    }
}

#[actix_rt::test]
async fn a_body_cut_off_with_reset_is_an_error() {
    let reset = Rc::new(Notify::new());
    let cut = pull(1000, 5000, Some("lz4"), &[b'x'; 500], Then::Reset(Rc::clone(&reset)));
    let server = Server::start(vec![cut]).await;
    let reply = client(&source(server.address)).pull_logs(ShardId(7), &cursor(), 10).await.unwrap();
    reset.notify_one();
    let what = transport(reply.body.read(1 << 20).await.unwrap_err());
    assert!(what.contains("broke off"), "{what}");
}

fn chunked(headers: &str, chunks: &[&[u8]], ended: bool) -> Reply {
    let mut bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{headers}\r\n").into_bytes();
    for chunk in chunks {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    if ended {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    Reply { bytes, then: if ended { Then::KeepAlive } else { Then::Fin } }
}

#[actix_rt::test]
async fn a_body_without_declared_length_has_to_have_its_raw_size() {
    let head = "x-log-count: 1\r\nx-log-bodyrawsize: 6\r\nx-log-cursor: Mg==\r\n";
    let server = Server::start(vec![
        chunked(head, &[b"abc", b"def"], true),
        chunked(head, &[b"abc"], false),
        chunked(head, &[b"abcd", b"efg"], true),
    ])
    .await;
    let client = client(&source(server.address));
    assert_eq!(pulled(&client, 100).await.unwrap(), b"abcdef");
    transport(pulled(&client, 100).await.unwrap_err());
    transport(pulled(&client, 100).await.unwrap_err());
}

#[actix_rt::test]
async fn a_body_beyond_the_limit_is_refused() {
    let big = vec![b'x'; 2000];
    let server = Server::start(vec![
        pull(2000, 5000, Some("lz4"), b"", Then::Stall),
        chunked("x-log-count: 1\r\nx-log-bodyrawsize: 9000\r\nx-log-compresstype: lz4\r\n", &[&big, &big], false),
        Reply { bytes: framed("200 OK", &[], b"[", MAX_JSON + 1), then: Then::Stall },
        chunked("", &[&vec![b' '; MAX_JSON], b" "], false),
    ])
    .await;
    let client = client(&source(server.address));
    for limit in [1999, 3999] {
        let what = transport(pulled(&client, limit).await.unwrap_err());
        assert!(what.contains(&format!("longer than {limit} bytes")), "{what}");
    }
    for _ in 0..2 {
        let what = transport(client.heartbeat(&[]).await.unwrap_err());
        assert!(what.contains(&format!("longer than {MAX_JSON} bytes")), "{what}");
    }
}

#[actix_rt::test]
async fn a_large_body_arrives_unchanged() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let server = Server::start(vec![pull(body.len(), body.len(), None, &body, Then::KeepAlive), ok("[]")]).await;
    let client = client(&source(server.address));
    assert!(pulled(&client, body.len()).await.unwrap() == body);
    client.heartbeat(&[]).await.unwrap();
    assert_eq!(server.seen.borrow().connections, 1);
}

#[actix_rt::test]
async fn an_empty_heartbeat_answer_is_never_an_empty_list() {
    let nothing = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let server = Server::start(vec![ok(""), ok("null"), Reply { bytes: nothing, then: Then::Fin }]).await;
    let client = client(&source(server.address));
    for _ in 0..3 {
        transport(client.heartbeat(&[ShardId(0)]).await.unwrap_err());
    }
}

#[actix_rt::test]
async fn the_page_of_a_proxy_is_no_commit() {
    let page = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_vec();
    let server = Server::start(vec![Reply { bytes: page, then: Then::KeepAlive }]).await;
    let what =
        transport(client(&source(server.address)).update_checkpoint(ShardId(0), &cursor(), false).await.unwrap_err());
    assert!(what.contains("not SLS"), "{what}");
}

#[actix_rt::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::start(vec![ok("[]")]).await;
    let location = format!("http://{}/", elsewhere.address);
    let server = Server::start(vec![whole("302 Found", &[("location", &location)], "")]).await;
    let error = client(&source(server.address)).heartbeat(&[]).await.unwrap_err();
    assert!(matches!(error, SlsError::Refused { status: 302, .. }), "{error}");
    assert_eq!(elsewhere.seen.borrow().connections, 0);
}

// ---- Refusals ------------------------------------------------------------------------------------------------

#[actix_rt::test]
async fn refusals_are_told_with_code_request_and_clock() {
    let body = r#"{"errorCode":"ConsumerNotMatch","errorMessage":"consumer doesn't match"}"#;
    let server =
        Server::start(vec![whole("400 Bad Request", &[("date", "Tue, 03 Mar 2026 07:05:19 GMT")], body), ok("")]).await;
    let client = client(&source(server.address));
    let error = client.update_checkpoint(ShardId(0), &cursor(), false).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::LeaseLost);
    let SlsError::Refused { status, request_id, clock_offset_s, .. } = error else { panic!("{error}") };
    assert_eq!((status, request_id.as_str(), clock_offset_s), (400, "5F0A", Some(10)));
    client.update_checkpoint(ShardId(0), &cursor(), false).await.unwrap();
    assert_eq!(server.seen.borrow().connections, 1, "the connection survives a refusal");
}

#[actix_rt::test]
async fn a_refused_clock_is_corrected_for_the_next_request() {
    let body = r#"{"errorCode":"RequestTimeExpired","errorMessage":"request time exceeds current time"}"#;
    let refusal = whole("400 Bad Request", &[("date", "Tue, 03 Mar 2026 09:05:09 GMT")], body);
    let server = Server::start(vec![refusal, ok("[]")]).await;
    let client = client(&source(server.address));
    let error = client.heartbeat(&[]).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retry);
    assert!(error.remedy().unwrap().contains("7200 s behind"));
    client.heartbeat(&[]).await.unwrap();
    let requests = server.requests();
    assert_signed(&requests[0], now());
    assert_signed(&requests[1], now() + chrono::TimeDelta::hours(2));
    assert_eq!(requests[1].header("x-log-date"), Some("20260303T090509Z"));
}

#[actix_rt::test]
async fn an_error_page_is_read_in_bounds_and_shown_harmlessly() {
    let page = format!("<html>\u{1b}[2J{}", "x".repeat(1 << 20));
    let server = Server::start(vec![whole("502 Bad Gateway", &[], page)]).await;
    let error = client(&source(server.address)).list_shards().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Retry);
    let shown = error.to_string();
    assert!(shown.len() < 500 && !shown.contains(char::is_control), "{shown}");
}

// ---- Time and connections ------------------------------------------------------------------------------------

#[actix_rt::test]
async fn one_deadline_covers_head_and_body() {
    let server = Server::start(vec![
        Reply { bytes: Vec::new(), then: Then::Stall },
        pull(1000, 5000, Some("lz4"), &[b'x'; 500], Then::Stall),
        Reply { bytes: framed("500 Internal Server Error", &[], b"{", 100), then: Then::Stall },
    ])
    .await;
    let client = client(&SourceConfig { request_timeout: Duration::from_secs(1), ..source(server.address) });
    let begin = Instant::now();
    let what = transport(client.heartbeat(&[]).await.unwrap_err());
    assert!(what.contains("within 1s"), "{what}");
    let what = transport(pulled(&client, 1 << 20).await.unwrap_err());
    assert!(what.contains("within 1s"), "{what}");
    let error = client.heartbeat(&[]).await.unwrap_err();
    assert!(matches!(error, SlsError::Refused { status: 500, .. }), "{error}");
    assert!(begin.elapsed() >= Duration::from_secs(3));
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[actix_rt::test]
async fn a_body_dropped_unread_closes_its_connection_and_no_other() {
    let server =
        Server::start(vec![pull(1_000_000, 5_000_000, Some("lz4"), &[b'x'; 100], Then::Stall), ok("[]")]).await;
    let client = client(&source(server.address));
    let reply = client.pull_logs(ShardId(7), &cursor(), 10).await.unwrap();
    assert_eq!((reply.head.count, reply.head.raw_size, reply.head.body_size), (3, 5_000_000, Some(1_000_000)));
    drop(reply);
    client.heartbeat(&[]).await.unwrap();
    assert_eq!(server.requests()[1].connection, 1);
    let limit = Instant::now() + Duration::from_secs(10);
    while !server.seen.borrow().closed.contains(&0) {
        assert!(Instant::now() < limit, "the connection stays open");
        tokio::task::yield_now().await;
    }
}

#[actix_rt::test]
async fn a_connection_that_sls_closed_is_not_used_again() {
    let server = Server::start(vec![Reply { then: Then::Fin, ..ok("[]") }, ok("[1]")]).await;
    let client = client(&source(server.address));
    client.heartbeat(&[]).await.unwrap();
    let limit = Instant::now() + Duration::from_secs(10);
    while server.seen.borrow().connections < 2 {
        assert!(Instant::now() < limit);
        // The close may still be on its way: such an attempt fails and is the caller's to repeat.
        match client.heartbeat(&[]).await {
            Ok(shards) => assert_eq!(shards, [ShardId(1)]),
            Err(error) => drop(transport(error)),
        }
    }
}

#[actix_rt::test]
async fn nobody_listening_is_told_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let what = transport(client(&source(address)).heartbeat(&[]).await.unwrap_err());
    assert!(what.contains("HeartBeat failed: cannot connect") && what.contains(&address.to_string()), "{what}");
}

// ---- Secrets -------------------------------------------------------------------------------------------------

#[actix_rt::test]
async fn no_secret_is_ever_shown() {
    let refusal = r#"{"errorCode":"SignatureNotMatch","errorMessage":"signature X not match"}"#;
    let server = Server::start(vec![
        whole("401 Unauthorized", &[], refusal),
        Reply { bytes: b"HTTP/9.9 nonsense\r\n\r\n".to_vec(), then: Then::Fin },
        Reply { bytes: Vec::new(), then: Then::Fin },
    ])
    .await;
    let source = source(server.address);
    let setup = SlsSetup::new(&source).unwrap();
    let mut shown = vec![format!("{source:?} {setup:?}")];
    let client = client(&source);
    for _ in 0..3 {
        let error = client.heartbeat(&[]).await.unwrap_err();
        shown.push(format!("{error} {error:?} {:?}", error.remedy()));
    }
    for text in shown {
        assert!(!text.contains("marker"), "{text}");
    }
}

#[test]
fn credentials_that_no_header_can_carry_are_refused_without_showing_them() {
    let mut source = source("127.0.0.1:9".parse().unwrap());
    source.credentials.security_token = Some(SecretString::from("marker\ntoken"));
    let why = SlsSetup::new(&source).unwrap_err().to_string();
    assert!(why.contains("source.security_token") && !why.contains("marker"), "{why}");
    source.credentials.security_token = None;
    source.credentials.access_key_id = "marker\r\nid".to_owned();
    let why = SlsSetup::new(&source).unwrap_err().to_string();
    assert!(why.contains("source.access_key_id") && !why.contains("marker"), "{why}");
}
