//! The official Rust SDK as a client of the embedded LogHub: it puts, pulls, heartbeats and commits as against the real
//! service. The one argument is the product's binary, which is started and ended here.
//!
//! The SDK cannot put by hash key, ask for a cursor's time, sign with V4 or read zstd, and has no consumer that does the
//! calls by itself; other clients of the tests do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aliyun_log_rust_sdk::get_cursor_models::CursorPos;
use aliyun_log_rust_sdk::{Client, Config, Error, FromConfig};
use aliyun_log_sdk_protobuf::{Log, LogGroup};
use bytes::Bytes;

const PROJECT: &str = "sdk-project";
const LOGSTORE: &str = "sdk-store";
const GROUP: &str = "sdk-group";
const KEY: (&str, &str) = ("sdk-key-id", "sdk-key-secret");
/// It resolves nowhere: requests reach the LogHub because it is their proxy.
const ENDPOINT: &str = "sls.test";
const SHARDS: i32 = 2;
/// 2026-01-02 03:04:05 UTC.
const LOG_TIME: u32 = 1_767_323_045;

/// A log group of one log, `j` = `v 中`, topic `jt` and source `js`, as the Java SDK compresses it.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x20\x1c\xe1\x00\x00\x0a\x12\x08\x80\xe2\xcf\xaa\x06\x12\x0a\x0a\x01\x6a\x12\x05\
    \x76\x20\xe4\xb8\xad\x1a\x02\x6a\x74\x22\x02\x6a\x73";
const DEFLATE: &[u8] = b"\x78\x9c\xe3\x12\xe2\x68\x78\x74\x7e\x15\x9b\x10\x17\x17\x63\x96\x10\x6b\x99\xc2\x93\x1d\x6b\
    \xa5\x98\xb2\x4a\x94\x98\xb2\x8a\x01\x78\x2e\x08\x88";
/// Bytes of each once decompressed.
const RAW: usize = 28;

/// Ended by drop, whatever happens before.
struct LogHub(Child);

impl Drop for LogHub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let binary = std::env::args().nth(1).expect("the path of the product's binary as argument");
    let (hub, address) = start(&binary);
    for variable in ["http_proxy", "HTTP_PROXY"] {
        std::env::set_var(variable, format!("http://{address}"));
    }
    for variable in ["no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"] {
        std::env::remove_var(variable);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = client(KEY);
        puts_and_pulls(&client).await;
        shares_and_commits(&client).await;
        is_refused(&client).await;
    });
    drop(hub);
    println!("the Rust SDK put, pulled, sent heartbeats and committed");
}

fn start(binary: &str) -> (LogHub, String) {
    let shards = SHARDS.to_string();
    let arguments =
        ["loghub", "--listen", "127.0.0.1:0", "--project", PROJECT, "--logstore", LOGSTORE, "--shards", &shards];
    let mut command = Command::new(binary);
    command.args(arguments).args(["--access-key-id", KEY.0, "--access-key-secret", KEY.1]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("cannot start {binary}: {e}"));
    let stdout = child.stdout.take().expect("its output");
    let hub = LogHub(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("its first line");
    let greeting: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    (hub, greeting["listening"].as_str().expect("where it listens").to_owned())
}

fn client(key: (&str, &str)) -> Client {
    let config = Config::builder().endpoint(ENDPOINT).access_key(key.0, key.1).max_retry(0);
    let config = config.request_timeout(Duration::from_secs(60)).build().expect("a configuration");
    Client::from_config(config).expect("a client")
}

fn log_group(number: u32) -> LogGroup {
    let mut log = Log::from_unixtime(LOG_TIME);
    log.add_content_kv("n", number.to_string()).add_content_kv("text", "v \u{4e2d}");
    log.set_time_ns(123_456_789);
    let mut group = LogGroup::new();
    group.add_log(log).add_log_tag_kv("host", "web-1");
    group.set_topic("topic").set_source("10.0.0.1");
    group
}

async fn puts_and_pulls(client: &Client) {
    let shards = client.list_shards(PROJECT, LOGSTORE).send().await.expect("the shards").take_body();
    let numbers: Vec<i32> = shards.shards().iter().map(|shard| *shard.shard_id()).collect();
    assert_eq!(numbers, (0..SHARDS).collect::<Vec<_>>());
    assert!(shards.shards().iter().all(|shard| shard.status() == "readwrite"));

    for number in 0..10 {
        client.put_logs(PROJECT, LOGSTORE).log_group(log_group(number)).send().await.expect("a put");
    }
    for (name, body) in [("zstd", ZSTD), ("deflate", DEFLATE)] {
        let put = client.put_logs_raw(PROJECT, LOGSTORE).data(Bytes::from_static(body)).raw_size(RAW);
        put.compress_type(name.to_owned()).send().await.unwrap_or_else(|e| panic!("a put with {name}: {e}"));
    }

    let mut groups = Vec::new();
    for shard in 0..SHARDS {
        let end = cursor(client, shard, CursorPos::End).await;
        let mut at = cursor(client, shard, CursorPos::Begin).await;
        while at != end {
            let pull = client.pull_logs(PROJECT, LOGSTORE, shard).cursor(&at).end_cursor(&end).count(2);
            let pulled = pull.send().await.expect("a pull").take_body();
            assert_eq!(*pulled.log_group_count() as usize, pulled.log_group_list().len());
            assert_ne!(pulled.next_cursor(), &at, "the cursor stands still");
            at = pulled.next_cursor().clone();
            groups.extend(pulled.into_log_group_list());
        }
        let pull = client.pull_logs(PROJECT, LOGSTORE, shard).cursor(&end).count(2);
        let nothing = pull.send().await.expect("a pull at the end").take_body();
        assert_eq!((*nothing.log_group_count(), nothing.next_cursor()), (0, &end));
    }
    let of_java = groups.iter().filter(|group| group.topic().as_deref() == Some("jt")).count();
    assert_eq!(of_java, 2, "{groups:?}");
    let mut ours: Vec<_> = groups.into_iter().filter(|group| group.topic().as_deref() == Some("topic")).collect();
    ours.sort_by_key(|group| group.logs()[0].contents()[0].value().parse::<u32>().expect("a number"));
    assert_eq!(ours, (0..10).map(log_group).collect::<Vec<_>>());
}

async fn cursor(client: &Client, shard: i32, position: CursorPos) -> String {
    let cursor = client.get_cursor(PROJECT, LOGSTORE, shard).cursor_pos(position).send().await.expect("a cursor");
    cursor.get_body().cursor().to_owned()
}

async fn shares_and_commits(client: &Client) {
    let create = || client.create_consumer_group(PROJECT, LOGSTORE, GROUP).timeout(30).order(true).send();
    create().await.expect("a new group");
    assert_eq!(code(create().await), "ConsumerGroupAlreadyExist");
    let update = client.update_consumer_group(PROJECT, LOGSTORE, GROUP).timeout(60).order(false);
    update.send().await.expect("an update");
    let groups = client.list_consumer_groups(PROJECT, LOGSTORE).send().await.expect("the groups").take_body();
    let [group] = groups.consumer_groups().as_slice() else { panic!("{groups:?}") };
    assert_eq!((group.consumer_group_name().as_str(), *group.timeout(), *group.order()), (GROUP, 60, false));

    let heartbeat = |consumer: &'static str, held: Vec<i32>| async move {
        let beat = client.consumer_group_heartbeat(PROJECT, LOGSTORE, GROUP).consumer(consumer).shards(held);
        beat.send().await.expect("a heartbeat").take_body().shards().clone()
    };
    let mut held = heartbeat("one consumer", vec![]).await;
    held.sort_unstable();
    assert_eq!(held, [0, 1]);
    // The second gets its share when the first lets go of it.
    assert!(heartbeat("the/other", vec![]).await.is_empty());
    let kept = heartbeat("one consumer", held.clone()).await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(heartbeat("one consumer", kept.clone()).await, kept);
    let other = heartbeat("the/other", vec![]).await;
    assert_eq!((other.len(), other != kept), (1, true), "{other:?}");

    let end = cursor(client, kept[0], CursorPos::End).await;
    let commit = |consumer: &str, shard: i32, force: bool| {
        let commit = client.update_consumer_group_checkpoint(PROJECT, LOGSTORE, GROUP);
        commit.shard_id(shard).consumer_id(consumer).checkpoint(&end).force_success(force).send()
    };
    commit("one consumer", kept[0], false).await.expect("a commit");
    assert_eq!(code(commit("the/other", kept[0], false).await), "ConsumerNotMatch");
    let read = client.get_consumer_group_checkpoint(PROJECT, LOGSTORE, GROUP).shard_id(kept[0]);
    let read = read.send().await.expect("a checkpoint").take_body();
    let [checkpoint] = read.checkpoints().as_slice() else { panic!("{read:?}") };
    assert_eq!((checkpoint.checkpoint(), checkpoint.consumer().as_str()), (&end, "one consumer"));
    assert!(*checkpoint.update_time() > 0);
    let all = client.get_consumer_group_checkpoint(PROJECT, LOGSTORE, GROUP).send().await.expect("all").take_body();
    let never = all.checkpoints().iter().find(|checkpoint| *checkpoint.shard_id() == other[0]);
    assert_eq!(never.expect("the other shard").checkpoint(), "");

    client.delete_consumer_group(PROJECT, LOGSTORE, GROUP).send().await.expect("an end");
    let groups = client.list_consumer_groups(PROJECT, LOGSTORE).send().await.expect("the groups").take_body();
    assert!(groups.consumer_groups().is_empty());
}

/// Each error arrives as one, with the code by which programs decide.
async fn is_refused(known: &Client) {
    let wrong = client((KEY.0, "another-secret")).list_shards(PROJECT, LOGSTORE).send().await;
    assert_eq!(code(wrong), "SignatureNotMatch");
    let nowhere = known.list_shards(PROJECT, "no-such-store").send().await;
    assert_eq!(code(nowhere), "LogStoreNotExist");
    let pull = known.pull_logs(PROJECT, LOGSTORE, 0).cursor("MQ==").count(1).send().await;
    assert_eq!(code(pull), "InvalidCursor");
    let put = known.put_logs_raw(PROJECT, LOGSTORE).data(Bytes::from_static(ZSTD)).raw_size(RAW + 1);
    let put = put.compress_type("zstd".to_owned()).send().await;
    assert_eq!(code(put), "PostBodyUncompressError");
}

fn code<T>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(_) => "none".to_owned(),
        Err(Error::Server { error_code, request_id: Some(_), .. }) => error_code,
        Err(other) => panic!("no refusal: {other}"),
    }
}
