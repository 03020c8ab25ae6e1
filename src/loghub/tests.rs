//! The server over real sockets: what is believed, what is refused, and what a pull looks like on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;

use chrono::TimeDelta;
use sls_syslog_actors::config::{Credentials, Signature};
use sls_syslog_actors::loghub::{Route, encode_cursor};
use sls_syslog_actors::model::cursor::{Cursor, StartPosition};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::wire::sls::body::decompress;
use sls_syslog_actors::wire::sls::reply::{Compression, ConsumerGroup, parse_cursor, parse_heartbeat, parse_pull_head};
use sls_syslog_actors::wire::sls::request::{self, SlsRequest};
use sls_syslog_actors::wire::sls::sign::{Signed, sign_request, v1_signature, v1_string_to_sign};

use super::fault::FaultKind;
use super::serve::{Running, serve};
use super::*;

/// One log, time 1, field k = v.
const GROUP: &[u8] = &[0x0a, 10, 8, 1, 0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v'];
const HOST: &str = "demo-project.sls.test";
const STORE: &str = "demo-logstore";

fn start(options: Options) -> Running {
    serve(options).unwrap()
}

fn credentials(secret: &str) -> Credentials {
    Credentials { access_key_id: serve::DEFAULT_KEY_ID.into(), access_key_secret: secret.into(), security_token: None }
}

fn v4() -> Signature {
    Signature::V4 { region: "cn-hangzhou".into() }
}

/// An answer, taken apart.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn code(&self) -> String {
        let error: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        error["errorCode"].as_str().unwrap().to_owned()
    }
}

fn sign(mut request: SlsRequest, signature: &Signature) -> SlsRequest {
    sign_request(&mut request, &credentials(serve::DEFAULT_KEY_SECRET), signature, HOST, chrono::Utc::now());
    request
}

fn send(server: &Running, request: &SlsRequest) -> Answer {
    exchange(server, request.method.as_str(), &request.target(), request)
}

fn call(server: &Running, request: SlsRequest) -> Answer {
    send(server, &sign(request, &Signature::V1))
}

fn exchange(server: &Running, method: &str, target: &str, request: &SlsRequest) -> Answer {
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\nconnection: close\r\n\r\n", request.body.len());
    raw(server, &[head.as_bytes(), &request.body].concat())
}

fn raw(server: &Running, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    // A reset ends the answer too: what came before it counts.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Answer { status, headers: lines.filter_map(header).collect(), body: all[end + 4..].to_vec() }
}

fn begin(server: &Running) -> Cursor {
    parse_cursor(&call(server, request::get_cursor(STORE, ShardId(0), StartPosition::Begin)).body).unwrap()
}

/// A server of one shard that holds one log group, and the cursor of that.
fn with_one_group() -> (Running, Cursor) {
    let server = start(Options { shards: 1, ..Options::default() });
    let put = |hub: &mut sls_syslog_actors::loghub::Hub, at: sls_syslog_actors::loghub::At<'_>, now| {
        hub.put(at, Route::Balanced, GROUP.into(), now)
    };
    server.service().with_logstore(put).unwrap();
    let cursor = begin(&server);
    (server, cursor)
}

#[test]
fn what_was_put_is_pulled_with_the_headers_that_clients_need() {
    let server = start(Options { shards: 1, ..Options::default() });
    let puts = [
        (Signature::V1, Compression::Lz4),
        (v4(), Compression::None),
        (Signature::V1, Compression::Zstd),
        (v4(), Compression::Deflate),
    ];
    for (signature, compression) in &puts {
        let put = send(&server, &sign(request::put_logs(STORE, None, GROUP, *compression), signature));
        assert_eq!((put.status, put.body.len()), (200, 0));
    }
    let cursor = begin(&server);
    let answer = send(&server, &sign(request::pull_logs(STORE, ShardId(0), &cursor, 10, Compression::Lz4), &v4()));
    assert_eq!(answer.status, 200);
    let head = parse_pull_head(|name| answer.header(name)).unwrap();
    assert_eq!((head.count, head.raw_size, head.end_of_shard), (4, 56, Some(true)));
    let expected = [&[0x0a, 12], GROUP].concat().repeat(4);
    assert_eq!(lz4::block::decompress(&answer.body, Some(56)).unwrap(), expected);
    for (_, compression) in puts {
        let answer = call(&server, request::pull_logs(STORE, ShardId(0), &cursor, 10, compression));
        assert_eq!(answer.header("x-log-compresstype"), compression.name());
        let mut buffer = Vec::new();
        assert_eq!(decompress(&answer.body, compression, 56, &mut buffer), Ok(&expected[..]));
    }
    // Of a list, the first that is known.
    let mut list = request::pull_logs(STORE, ShardId(0), &cursor, 10, Compression::None);
    list.headers.retain(|(name, _)| *name != "accept-encoding");
    list.headers.push(("accept-encoding", "br, ZSTD, lz4".into()));
    assert_eq!(call(&server, list).header("x-log-compresstype"), Some("zstd"));
    let id = answer.header("x-log-requestid").unwrap();
    assert!(id.len() == 24 && id.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)), "{id}");
    let next = head.next_cursor.unwrap();
    let empty = call(&server, request::pull_logs(STORE, ShardId(0), &next, 10, Compression::Lz4));
    assert_eq!((empty.header("x-log-count"), empty.header("x-log-cursor")), (Some("0"), Some(next.as_str())));
    assert_eq!((empty.header("x-log-bodyrawsize"), empty.body.len()), (Some("0"), 0));
}

#[test]
fn requests_in_absolute_form_are_answered_as_those_in_origin_form() {
    let (server, cursor) = with_one_group();
    let pull = sign(request::pull_logs(STORE, ShardId(0), &cursor, 10, Compression::Lz4), &Signature::V1);
    let absolute = format!("http://{HOST}:80{}", pull.target());
    assert_eq!(exchange(&server, "GET", &absolute, &pull).status, 200);
}

#[test]
fn head_of_a_pull_is_its_headers_without_its_body() {
    let (server, cursor) = with_one_group();
    let mut pull = sign(request::pull_logs(STORE, ShardId(0), &cursor, 10, Compression::Lz4), &Signature::V1);
    let whole = send(&server, &pull);
    let wrong = exchange(&server, "HEAD", &pull.target(), &pull);
    assert_eq!(wrong.status, 401, "the method is signed");
    let headers: Vec<_> = pull.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let signed = Signed { method: "HEAD", path: &pull.path, query: &pull.query, headers: &headers };
    let text = v1_string_to_sign(&signed, pull.header_value("date").unwrap());
    let authorization = format!("LOG {}:{}", serve::DEFAULT_KEY_ID, v1_signature(serve::DEFAULT_KEY_SECRET, &text));
    pull.headers.retain(|(name, _)| *name != "authorization");
    pull.headers.push(("authorization", authorization));
    let head = exchange(&server, "HEAD", &pull.target(), &pull);
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["x-log-count", "x-log-cursor", "x-log-bodyrawsize", "content-length"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
}

#[test]
fn who_does_not_know_the_secret_or_the_time_is_refused() {
    let server = start(Options::default());
    let list = || request::list_shards(STORE);
    for signature in [Signature::V1, v4()] {
        assert_eq!(send(&server, &sign(list(), &signature)).status, 200);
        let mut forged = list();
        sign_request(&mut forged, &credentials("wrong"), &signature, HOST, chrono::Utc::now());
        let answer = send(&server, &forged);
        assert_eq!((answer.status, answer.code().as_str()), (401, "SignatureNotMatch"));
        let mut late = list();
        let then = chrono::Utc::now() - TimeDelta::minutes(16);
        sign_request(&mut late, &credentials(serve::DEFAULT_KEY_SECRET), &signature, HOST, then);
        let answer = send(&server, &late);
        assert_eq!((answer.status, answer.code().as_str()), (400, "RequestTimeExpired"));
    }
    let mut stranger = list();
    let credentials = Credentials { access_key_id: "stranger".into(), ..credentials(serve::DEFAULT_KEY_SECRET) };
    sign_request(&mut stranger, &credentials, &Signature::V1, HOST, chrono::Utc::now());
    assert_eq!(send(&server, &stranger).code(), "Unauthorized");
    let unsigned = raw(&server, b"GET /logstores HTTP/1.1\r\nhost: demo-project.x\r\nconnection: close\r\n\r\n");
    assert_eq!(unsigned.status, 400);
    assert!(unsigned.header("x-log-requestid").is_some());
}

#[test]
fn clock_that_is_ahead_refuses_honest_clients() {
    let server = start(Options { clock_offset_s: 3600, ..Options::default() });
    assert_eq!(call(&server, request::list_shards(STORE)).code(), "RequestTimeExpired");
}

#[test]
fn consumer_joins_commits_and_loses_its_lease_over_http() {
    let (server, cursor) = with_one_group();
    let group = ConsumerGroup { name: "group".into(), timeout_s: 30, order: false };
    let held = |held: &[ShardId]| request::heartbeat(STORE, "group", "host 1/\u{3b1}+%", held);
    assert_eq!(call(&server, held(&[])).code(), "ConsumerGroupNotExist");
    assert_eq!(call(&server, request::create_consumer_group(STORE, &group)).status, 200);
    assert_eq!(call(&server, request::create_consumer_group(STORE, &group)).code(), "ConsumerGroupAlreadyExist");
    assert_eq!(call(&server, held(&[ShardId(0)])).code(), "NotExistConsumerWithBody");
    assert_eq!(parse_heartbeat(&call(&server, held(&[])).body).unwrap(), [ShardId(0)]);
    let commit = |consumer: &str, force| {
        call(&server, request::update_checkpoint(STORE, "group", consumer, ShardId(0), &cursor, force))
    };
    assert_eq!(commit("host 1/\u{3b1}+%", false).status, 200);
    assert_eq!(commit("other", false).code(), "ConsumerNotExist");
    assert_eq!(commit("other", true).status, 200);
    let checkpoint = call(&server, request::get_checkpoint(STORE, "group", ShardId(0)));
    let checkpoint: serde_json::Value = serde_json::from_slice(&checkpoint.body).unwrap();
    assert_eq!(checkpoint[0]["checkpoint"], cursor.as_str());
    assert_eq!(checkpoint[0]["consumer"], "host 1/\u{3b1}+%");
}

#[test]
fn missing_things_are_named_and_nothing_else_is_there() {
    let server = start(Options::default());
    assert_eq!(call(&server, request::list_shards("nope")).code(), "LogStoreNotExist");
    let cursor = Cursor::new(&encode_cursor(1)).unwrap();
    assert_eq!(
        call(&server, request::pull_logs(STORE, ShardId(0), &cursor, 10, Compression::Lz4)).code(),
        "InvalidCursor"
    );
    assert_eq!(
        call(&server, request::pull_logs(STORE, ShardId(9), &cursor, 10, Compression::Lz4)).code(),
        "ShardNotExist"
    );
    let mut other = request::list_shards(STORE);
    let key = credentials(serve::DEFAULT_KEY_SECRET);
    sign_request(&mut other, &key, &Signature::V1, "elsewhere.sls.test", chrono::Utc::now());
    assert_eq!(send(&server, &other).code(), "ProjectNotExist");
    let mut nowhere = request::list_shards(STORE);
    nowhere.path = "/logstores/demo-logstore/consumergroups/".into();
    nowhere.query.push(("type", "nothing".into()));
    nowhere.method = request::Method::Put;
    assert_eq!(call(&server, nowhere).code(), "InvalidMethod");
}

#[test]
fn bodies_beyond_the_limit_and_unknown_compressions_are_refused() {
    let server = start(Options { limits: Limits { put_bytes: 1000, ..Limits::default() }, ..Options::default() });
    let long = call(&server, request::put_logs(STORE, None, &[0; 5000], Compression::None));
    assert_eq!((long.status, long.code().as_str()), (413, "PostBodyTooLarge"));
    for compression in [Compression::Lz4, Compression::Zstd, Compression::Deflate] {
        let mut bomb = request::put_logs(STORE, None, &[0; 5000], compression);
        let answer = call(&server, bomb.clone());
        assert_eq!((answer.status, answer.code().as_str()), (413, "PostBodyTooLarge"));
        // What is declared is what is believed, and no more.
        bomb.headers.retain(|(name, _)| *name != "x-log-bodyrawsize");
        bomb.headers.push(("x-log-bodyrawsize", "1000".into()));
        assert_eq!(call(&server, bomb).code(), "PostBodyUncompressError");
        let mut broken = request::put_logs(STORE, None, GROUP, compression);
        broken.body = vec![0xff; broken.body.len()].into();
        assert_eq!(call(&server, broken).code(), "PostBodyUncompressError");
    }
    let mut brotli = request::put_logs(STORE, None, GROUP, Compression::None);
    brotli.headers.push(("x-log-compresstype", "br".into()));
    assert_eq!(call(&server, brotli).code(), "InvalidCompressType");
    let mut unsized_body = request::put_logs(STORE, None, GROUP, Compression::Lz4);
    unsized_body.headers.retain(|(name, _)| *name != "x-log-bodyrawsize");
    // The signer adds the size of what it sends, which is not that of the log group.
    assert_eq!(call(&server, unsized_body).code(), "PostBodyUncompressError");
    let broken = call(&server, request::put_logs(STORE, None, b"no log group", Compression::Lz4));
    assert_eq!(broken.code(), "PostBodyInvalid");
}

#[test]
fn faults_spoil_pulls_as_told_and_then_no_more() {
    let (server, cursor) = with_one_group();
    let pull = || call(&server, request::pull_logs(STORE, ShardId(0), &cursor, 10, Compression::Lz4));
    let healthy = pull();
    let spoilt = |kind| {
        server.service().faults().add(FaultArg { kind, count: 1 });
        pull()
    };
    let cut = spoilt(FaultKind::CutBody);
    assert_eq!(cut.header("content-length"), healthy.header("content-length"));
    assert_eq!(cut.body, healthy.body[..healthy.body.len() / 2]);
    assert_eq!(spoilt(FaultKind::EmptyBody).body, b"");
    let corrupt = spoilt(FaultKind::CorruptLz4).body;
    let error = lz4::block::decompress(&corrupt, Some(14)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(spoilt(FaultKind::LargerRaw).header("x-log-bodyrawsize"), Some("15"));
    assert_eq!(spoilt(FaultKind::NoRaw).header("x-log-bodyrawsize"), None);
    assert_eq!(spoilt(FaultKind::NoCursor).header("x-log-cursor"), None);
    assert_eq!(spoilt(FaultKind::SameCursor).header("x-log-cursor"), Some(cursor.as_str()));
    assert_eq!(spoilt(FaultKind::PullQuota).code(), "ShardReadQuotaExceed");
    assert_eq!(spoilt(FaultKind::HtmlError).header("content-type"), Some("text/html"));
    let after = pull();
    assert_eq!((after.status, after.body), (200, healthy.body));
}

#[test]
fn feed_makes_the_backlog_and_the_total_and_numbers_each_stream_from_zero() {
    let mut server = start(Options { shards: 3, ..Options::default() });
    let feed = Feed {
        kind: Kind::Tiny,
        seed: 1,
        logs_per_group: 10,
        body_bytes: feed::BLOCK_BYTES,
        backlog: Some(Amount::Logs(100)),
        rate: Some(100_000),
        total: Some(500),
    };
    server.feed(feed).unwrap();
    let logs = |server: &Running| {
        let state = server.service().with_logstore(|hub, at, _| hub.logstore_state(at)).unwrap();
        state.shards.iter().map(|shard| shard.logs).collect::<Vec<_>>()
    };
    assert!(logs(&server).iter().all(|logs| *logs >= 32), "the backlog is there, and spread");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while logs(&server).iter().sum::<u64>() < 600 {
        assert!(std::time::Instant::now() < deadline, "{:?}", logs(&server));
        std::thread::yield_now();
    }
    server.stop_feeding();
    assert_eq!(logs(&server).iter().sum::<u64>(), 600);
    server.stop();
}

#[test]
fn address_that_others_reach_needs_keys_of_ones_own() {
    #[derive(clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        args: LoghubArgs,
    }
    let parsed = |arguments: &[&str]| {
        let all = ["loghub", "--listen", "0.0.0.0:0"].iter().chain(arguments);
        options(<Parsed as clap::Parser>::try_parse_from(all).unwrap().args)
    };
    assert!(parsed(&[]).is_err_and(|e| e.contains("--access-key-id")));
    assert!(parsed(&["--access-key-id", "mine"]).is_err());
    assert!(parsed(&["--access-key-id", "mine", "--access-key-secret", "own"]).is_ok());
}
