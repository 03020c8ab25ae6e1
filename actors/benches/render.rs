//! How fast log groups become frames on one core: walk, render and check, without decompression and sending.
//!
//! `cargo bench -p sls-syslog-actors --bench render [part of a name]`. MB are 10⁶ bytes of raw log groups. The best of
//! many short rounds counts, because other work on the machine only ever makes a round slower.

use std::hint::black_box;
use std::time::{Duration, Instant};

use prost::Message;
use sls_syslog_actors::config::{Framing, MessageStyle, NewlinePolicy, OriginStamp};
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::wire::format::origin::Batch;
use sls_syslog_actors::wire::format::{OriginSettings, Position, RenderSettings, Renderer};
use sls_syslog_actors::wire::sls::proto::{Content, Log, LogGroup, LogGroupList, LogTag};

/// Size of a body, as SLS hands them out under load.
const BODY: usize = 2_000_000;
/// Size of a piece, as by default.
const PIECE: usize = 4 << 20;

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let lf = settings(Framing::Lf, false);
    let stamped = |stamp| RenderSettings {
        origin: Some(OriginSettings { stamp, project: "my-project".into(), logstore: "nginx-access".into() }),
        ..lf.clone()
    };
    let plain = body(64, |_, _| {});
    let multi_line = |every: usize| {
        body(64, move |number, log| {
            if number % every == 0 {
                log.contents[10].value = "panic: it broke\n  at one\n  at two".into();
            }
        })
    };
    let cases = [
        ("web logs, LF", plain.clone(), lf.clone()),
        ("web logs, LF, stamp as structured data", plain.clone(), stamped(OriginStamp::StructuredData)),
        ("web logs, LF, stamp as field", plain.clone(), stamped(OriginStamp::Field)),
        ("web logs, octet counting", plain.clone(), settings(Framing::OctetCounting, false)),
        ("web logs, kv_escape (a third has `=`)", plain.clone(), settings(Framing::Lf, true)),
        ("web logs, one in 1000 with line breaks", multi_line(1000), lf.clone()),
        ("web logs, one in 10 with line breaks", multi_line(10), lf.clone()),
        ("web logs, all with line breaks", multi_line(1), lf.clone()),
        ("web logs, nanoseconds", body(64, |number, log| log.time_ns = Some(number as u32 * 1001)), lf.clone()),
        ("web logs, another second each", body(64, |number, log| log.time = number as u32), lf.clone()),
        (
            "web logs, two kinds in turn",
            body(64, |number, log| {
                if number % 2 == 0 {
                    log.contents.remove(3);
                }
            }),
            lf.clone(),
        ),
        (
            "web logs, Chinese text",
            body(64, |_, log| log.contents[10].value = "浏览器 的 说明 文字 在 这里".repeat(2).into()),
            lf.clone(),
        ),
        ("web logs, with `||`", body(64, |_, log| log.contents[3].value = "/a || b".into()), lf.clone()),
        ("web logs, one a group", body(1, |_, _| {}), lf.clone()),
        ("web logs, one a group, stamp as field", body(1, |_, _| {}), stamped(OriginStamp::Field)),
        ("one field of 4 KB", body(64, |_, log| log.contents = vec![content("content", "x".repeat(4096))]), lf.clone()),
    ];
    for (name, raw, settings) in cases {
        if name.contains(&only) {
            run(name, &raw, settings);
        }
    }
}

fn run(name: &str, raw: &[u8], settings: RenderSettings) {
    let (mut renderer, mut out) = (Renderer::new(settings), Vec::with_capacity(PIECE));
    let batch = Batch::new(ShardId(7), Cursor::new("MTQ0NzI5OTYwNjg5NjYzMjM1Ng==").expect("printable"));
    let (mut best, mut bytes, mut logs) = (Duration::MAX, 0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        let (round, mut position) = (Instant::now(), Position::of(batch.clone()));
        (bytes, logs) = (0, 0);
        loop {
            out.clear();
            let rendered = renderer.render(black_box(raw), &mut position, &mut out, PIECE).expect("a log group list");
            bytes += black_box(&out).len();
            logs += rendered.logs;
            if rendered.done {
                break;
            }
        }
        best = best.min(round.elapsed());
    }
    let megabytes_per_second = raw.len() as f64 / best.as_secs_f64() / 1e6;
    let each = best.as_nanos() as f64 / logs as f64;
    println!(
        "{name:40} {megabytes_per_second:6.0} MB/s  {each:6.0} ns a log of {:4} B raw, {:4} B rendered",
        raw.len() as u64 / logs,
        bytes as u64 / logs
    );
}

fn settings(framing: Framing, kv_escape: bool) -> RenderSettings {
    RenderSettings {
        facility: 1,
        severity: 6,
        hostname: "collector-1.example.com".into(),
        tag: "sls".into(),
        sep: "||".into(),
        kv_escape,
        newlines: NewlinePolicy::Escape,
        framing,
        max_message_bytes: None,
        utc_offset_minutes: 0,
        style: MessageStyle::default(),
        origin: None,
        format: None,
    }
}

/// A body of web access logs: 12 fields, 3 tags, `logs` a group; `change` gets each log with its number.
fn body(logs: usize, change: impl Fn(usize, &mut Log)) -> Vec<u8> {
    let (mut raw, mut number) = (Vec::new(), 0);
    while raw.len() < BODY {
        let logs = (0..logs).map(|_| {
            number += 1;
            let mut log = web_log(number);
            change(number, &mut log);
            log
        });
        let group = LogGroup {
            logs: logs.collect(),
            topic: Some("nginx_access".into()),
            source: Some("10.0.12.34".into()),
            log_tags: [
                ("__hostname__", "web-7"),
                ("__path__", "/var/log/nginx/access.log"),
                ("__receive_time__", "1767323045"),
            ]
            .map(|(key, value)| LogTag { key: key.into(), value: value.into() })
            .to_vec(),
            ..LogGroup::default()
        };
        raw.extend_from_slice(&LogGroupList { log_groups: vec![group] }.encode_to_vec());
    }
    raw
}

fn web_log(number: usize) -> Log {
    let query = if number.is_multiple_of(3) { "?page=2&sort=price" } else { "" };
    let contents = vec![
        content("remote_addr", format!("203.0.{}.{}", number % 256, number * 7 % 256)),
        content("remote_user", "-"),
        content("request_method", "GET"),
        content("request_uri", format!("/shop/products/{number}/details/index.html{query}")),
        content("status", if number.is_multiple_of(20) { "404" } else { "200" }),
        content("body_bytes_sent", (number * 37 % 100_000).to_string()),
        content("http_referer", format!("https://www.example.com/shop/category/{}/list", number % 50)),
        content("request_time", format!("0.{:03}", number % 1000)),
        content("upstream_addr", format!("10.1.2.{}:8080", number % 16)),
        content("upstream_response_time", format!("0.{:03}", number % 990)),
        content(
            "http_user_agent",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
        ),
        content("request_id", format!("{:032x}", number as u128 * 0x9e37_79b9_7f4a_7c15)),
    ];
    Log { time: 1_767_323_045 + number as u32 / 2000, contents, time_ns: None }
}

fn content(key: &'static str, value: impl Into<String>) -> Content {
    Content { key: key.into(), value: value.into().into() }
}
