//! The help page's sample and the forwarder that imitates it: the same bytes, but for those that were wrong; and the move
//! from the one to the other and back.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use sls_syslog_actors::wire::sls::proto::{Content, Log, LogGroup, LogTag};

use crate::forwarder::Forwarder;
use crate::harness::{Folder, Process, Receiver, SECRET, eventually};
use crate::hub::{ENDPOINT, GROUP, Hub, KEY_ID, LOGSTORE, PROJECT, group, log};
use crate::peers::{delivered_ids, peer};

/// The sample as a consumer of this name, with the environment that a forwarder has too; `settings` are those of the page.
pub fn sample(name: &str, python: &Path, hub: &Hub, to: SocketAddr, settings: &[(&str, &str)], zone: &str) -> Process {
    let mut command = Command::new(python);
    command
        .env("http_proxy", format!("http://{}", hub.address))
        .env("SLS_ENDPOINT", format!("http://{ENDPOINT}"))
        .env("SLS_AK_ID", KEY_ID)
        .env("SLS_AK_KEY", SECRET)
        .env("SLS_PROJECT", PROJECT)
        .env("SLS_LOGSTORE", LOGSTORE)
        .env("SLS_CG", GROUP)
        .env("TZ", zone);
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/sample.py")).arg(name);
    command.arg(format!("host={}", to.ip())).arg(format!("port={}", to.port()));
    command.args(settings.iter().map(|(key, value)| format!("{key}={value}")));
    Process::start(name, &mut command)
}

/// Keeps all bytes that it is sent, connection after connection or datagram after datagram.
struct Sink {
    address: SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Sink {
    fn start(protocol: &str) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let keep = {
            let bytes = Arc::clone(&bytes);
            move |more: &[u8]| bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(more)
        };
        let address = if protocol == "udp" {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            // Lives as long as the test's process.
            std::thread::spawn(move || {
                let mut datagram = vec![0; 1 << 16];
                while let Ok(length) = socket.recv(&mut datagram) {
                    keep(b"[");
                    keep(&datagram[..length]);
                    keep(b"]");
                }
            });
            address
        } else {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    let (mut connection, mut chunk) = (connection.unwrap(), vec![0; 1 << 16]);
                    while let Ok(length @ 1..) = connection.read(&mut chunk) {
                        keep(&chunk[..length]);
                    }
                }
            });
            address
        };
        Self { address, bytes }
    }

    /// All bytes, once the last log is among them.
    #[track_caller]
    fn finish(&self) -> String {
        eventually("the last log", || {
            let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            // What ends a message of the sample.
            let whole = memchr::memmem::find(&bytes, b"||last=log\n").is_some();
            whole.then(|| String::from_utf8(bytes.clone()).unwrap()).ok_or_else(|| format!("{} bytes", bytes.len()))
        })
    }
}

/// What both write of the same logs, in a zone as the C library names it and as we do.
fn written(
    groups: &[LogGroup],
    protocol: &str,
    (zone, offset): (&str, &str),
    more: &[&[(&str, &str)]],
) -> Option<Vec<String>> {
    let python = peer("SLS_SYSLOG_TEST_PYTHON")?;
    let last = group(vec![log(&[("last", b"log")])]);
    let filled = || {
        let hub = Hub::start(1);
        groups.iter().chain([&last]).for_each(|group| hub.put(0, group));
        hub
    };
    let (hub, sink) = (filled(), Sink::start(protocol));
    let mut sample =
        sample("sample", &python, &hub, sink.address, &[("protocol", protocol), ("hostname", "myhost")], zone);
    let mut all = vec![sink.finish()];
    sample.stop();
    for settings in more {
        let (hub, sink) = (filled(), Sink::start(protocol));
        let compat = [
            ("compat", "python-sample"),
            ("destination.utc_offset", offset),
            ("destination.hostname", "myhost"),
            ("destination.tag", "-"),
        ];
        let forwarder = Forwarder::start(&hub, sink.address, protocol, &[&compat, *settings].concat());
        hub.wait_until_committed();
        all.push(sink.finish());
        forwarder.stop();
    }
    Some(all)
}

/// Asserts that the second is the first with these differences, each of which occurs.
#[track_caller]
fn differ_only(sample: &str, ours: &str, differences: &[(&str, &str)]) {
    let mut expected = sample.to_owned();
    for (theirs, ours) in differences {
        assert!(expected.contains(theirs), "{theirs:?} does not occur in {expected:?}");
        expected = expected.replace(theirs, ours);
    }
    // Message by message, so that a difference can be found by eye.
    let messages = |text: &str| text.split("<14>1 ").map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(messages(ours), messages(&expected));
}

fn at(seconds: u32, time_ns: Option<u32>, log: Log) -> Log {
    Log { time: seconds, time_ns, ..log }
}

/// Everything that is awkward and is text.
fn awkward() -> Vec<LogGroup> {
    let tag = |key: &'static str, value: &'static str| LogTag { key: key.into(), value: value.into() };
    let logs = vec![
        log(&[("b", b"2"), ("a", b"x")]),
        log(&[("a||b", b"c||d=e"), ("", b"no key"), ("no value", b""), ("k=v", b"="), ("||", b"|")]),
        log(&[("k", b"1"), ("z", b"2"), ("k", b"3")]),
        log(&[
            ("__topic__", b"mine"),
            ("__source__", b"me"),
            ("__tag__:__hostname__", b"other"),
            ("__tag__:new", b"t"),
        ]),
        log(&[("controls", b"a\tb\x1b[0m\x7f\x01")]),
        log(&[("\u{65e5}\u{5fd7}", "\u{1f600} \u{fffd} \u{feff} \u{e9}".as_bytes())]),
        log(&[("signs", br#""quotes" [brackets] \back\slash 'single' <14>1 %s {0}"#)]),
        log(&[]),
        at(0, None, log(&[("epoch", b"")])),
        at(1_700_000_000, Some(123_456_789), log(&[("ns", b"all")])),
        at(1_700_000_000, Some(5), log(&[("ns", b"few"), ("__time_ns_part__", b"own")])),
        at(1_700_000_000, Some(0), log(&[("ns", b"none")])),
        at(951_782_399, Some(999_999_999), log(&[("ns", b"most")])),
        log(&[("long", &[b'v'; 100_000])]),
    ];
    let bare = LogGroup { logs: vec![log(&[("bare", b"group")])], ..LogGroup::default() };
    let tagged =
        LogGroup { log_tags: vec![tag("a", "1"), tag("z", "2"), tag("a", "3"), tag("", "")], ..group(vec![log(&[])]) };
    vec![group(logs), bare, tagged]
}

/// Logs that bring the sample's wrong bytes out.
fn wrong() -> Vec<LogGroup> {
    let logs = vec![
        log(&[("lines", b"one\n<13>1 two\n200 three\r\n"), ("nul", b"a\0b")]),
        log(&[("__time__", b"1600000000"), ("clock", b"own")]),
    ];
    vec![group(logs)]
}

const LINES: (&str, &str) = ("lines=one\n<13>1 two\n200 three\r\n", "lines=one\\n<13>1 two\\n200 three\\r\\n");
const NUL: (&str, &str) = ("nul=a\0b", "nul=a\\0b");
/// 2020-09-13 12:26:40 UTC is the log's word, 2026-01-02 03:04:05 that of SLS.
const CLOCK_SHANGHAI: (&str, &str) = ("2020-09-13T20:26:40.000000+0800", "2026-01-02T11:04:05.000000+0800");
/// Of half hours the sample makes one whole hour or the other, as the clock has it; of three quarters always the next.
const CLOCK_KATHMANDU: (&str, &str) = ("2020-09-13T18:11:40.000000+0600", "2026-01-02T08:49:05.000000+0600");

#[test]
fn the_samples_bytes_are_written_but_for_those_that_were_wrong() {
    let groups = [awkward(), wrong()].concat();
    let exact = [("destination.legacy_ns_tuple", "true"), ("destination.timestamp", "sample-exact")];
    let Some(all) = written(&groups, "tcp", ("CST-8", "+08:00"), &[&[], &exact]) else { return };
    let tuples = [("('123456789',)", "123456789"), ("('999999999',)", "999999999")];
    differ_only(&all[0], &all[1], &[&tuples[..], &[LINES, NUL, CLOCK_SHANGHAI]].concat());
    differ_only(&all[0], &all[2], &[LINES, NUL, CLOCK_SHANGHAI]);
}

#[test]
fn its_datagrams_end_with_a_line_feed_and_its_offsets_are_put_right() {
    let groups = [awkward(), wrong()].concat();
    // Its longest message is more than a datagram holds: it lost that log.
    let groups: Vec<LogGroup> = groups
        .into_iter()
        .map(|group| {
            let logs = group.logs.into_iter().filter(|log| log.contents.iter().all(|c| c.value.len() < 60_000));
            LogGroup { logs: logs.collect(), ..group }
        })
        .collect();
    let exact = [("destination.legacy_ns_tuple", "true"), ("destination.timestamp", "sample-exact")];
    let tuple = [("destination.legacy_ns_tuple", "true")];
    let Some(all) = written(&groups, "udp", ("NPT-5:45", "+05:45"), &[&exact, &tuple]) else { return };
    differ_only(&all[0], &all[1], &[CLOCK_KATHMANDU]);
    differ_only(&all[0], &all[2], &[CLOCK_KATHMANDU, (".000000+0600", ".000000+0545")]);
}

#[test]
fn what_is_no_utf8_is_left_out_as_by_the_sample() {
    let bytes = |key: &'static [u8], value: &'static [u8]| Content { key: key.into(), value: value.into() };
    let mut broken = log(&[("k", b"1"), ("z", b"2")]);
    broken.contents.extend([
        bytes(b"value", b"ab\xff\xfecd\xe6\x97 \xed\xa0\x80!\xf8\x88\x80\x80\x80"),
        bytes(b"k\xff", b"the same key"),
        bytes(b"\xff", b"no key is left"),
        bytes(b"|\xc3|", b"a separator is made"),
        bytes(b"text", "\u{65e5}\u{5fd7}".as_bytes()),
    ]);
    let Some(all) = written(&[group(vec![broken])], "tcp", ("CST-8", "+08:00"), &[&[]]) else { return };
    differ_only(&all[0], &all[1], &[]);
}

/// The sample consumes, is stopped, and we go on with the same environment and group; then the way back.
#[test]
fn from_the_sample_to_us_and_back_nothing_is_missing() {
    const SHARDS: u32 = 4;
    const HALF: u64 = 400;
    let Some(python) = peer("SLS_SYSLOG_TEST_PYTHON") else { return };
    let (hub, folder) = (Hub::start(SHARDS), Folder::new("move"));
    let file = folder.path().join("received.json");
    let receiver = Receiver::start(&["--framing", "lf", "--mode", "count", "--output", file.to_str().unwrap()]);
    let start = |name: &str| sample(name, &python, &hub, receiver.address, &[("hostname", "myhost")], "CST-8");
    let all = |logs: u64| -> BTreeSet<(String, u64)> {
        (0..SHARDS).flat_map(|shard| (0..logs).map(move |n| (format!("s{shard}"), n))).collect()
    };
    let arrived = |logs: u64, since: usize| {
        eventually(&format!("{logs} logs of each shard"), || {
            let ids = delivered_ids(&file);
            let missing = all(logs).difference(&ids.iter().cloned().collect()).count();
            match missing {
                0 => Ok(ids[since..].to_vec()),
                missing => Err(format!("{missing} missing")),
            }
        })
    };

    hub.put_numbered(0..HALF, 20);
    let mut first = start("sample-1");
    hub.wait_until_committed();
    // It is stopped in the midst of the second half.
    hub.put_numbered(HALF..2 * HALF, 20);
    assert!(first.stop().success());
    let by_the_sample = delivered_ids(&file).len();
    let compat = [("compat", "python-sample"), ("destination.utc_offset", "+08:00"), ("destination.tag", "-")];
    let forwarder = Forwarder::start(&hub, receiver.address, "tcp", &compat);
    hub.wait_until_committed();
    let ours = arrived(2 * HALF, by_the_sample);
    assert!(
        !ours.is_empty() && ours.iter().all(|(_, n)| *n >= HALF),
        "it goes on where the sample was: {:?}",
        ours.first()
    );

    hub.put_numbered(2 * HALF..3 * HALF, 20);
    forwarder.stop();
    let until_then = delivered_ids(&file).len();
    let mut second = start("sample-2");
    hub.wait_until_committed();
    let back = arrived(3 * HALF, until_then);
    assert!(back.iter().all(|(_, n)| *n >= 2 * HALF), "it goes on where we were: {:?}", back.first());
    assert!(second.stop().success());
    receiver.finish();
}
