use super::*;
use crate::loghub::{Block, Route};

fn log_group() -> Bytes {
    // One log, time 1, field k = v.
    Bytes::from_static(&[0x0a, 10, 8, 1, 0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v'])
}

fn paused<R>(work: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

#[test]
fn one_consumer_reads_and_commits_through_the_port() {
    paused(async {
        let hub = InMemoryHub::new(1);
        hub.with(|hub, now| hub.put(InMemoryHub::AT, Route::Balanced, log_group(), now)).unwrap();
        let client = hub.client("group", "me");
        let group = ConsumerGroup { name: "group".into(), timeout_s: 20, order: false };
        client.create_consumer_group(&group).await.unwrap();
        assert_eq!(client.list_consumer_groups().await.unwrap(), [group]);
        let shards = client.heartbeat(&[]).await.unwrap();
        assert_eq!(shards, [ShardId(0)]);
        assert_eq!(client.get_checkpoint(ShardId(0)).await.unwrap().cursor, None);
        let begin = client.get_cursor(ShardId(0), StartPosition::Begin).await.unwrap();
        let reply = client.pull_logs(ShardId(0), &begin, 10).await.unwrap();
        assert_eq!(reply.head.count, 1);
        let raw_size = reply.head.raw_size;
        let next = reply.head.next_cursor.clone().unwrap();
        let body = reply.body.read(1 << 20).await.unwrap();
        let block = Block::new([&log_group()[..]]).unwrap();
        assert_eq!((&body, raw_size), (block.lz4(), block.raw_size()));
        client.update_checkpoint(ShardId(0), &next, false).await.unwrap();
        assert_eq!(client.get_checkpoint(ShardId(0)).await.unwrap().cursor, Some(next));
    });
}

#[test]
fn leases_expire_on_virtual_time() {
    paused(async {
        let hub = InMemoryHub::new(1);
        let (one, two) = (hub.client("group", "one"), hub.client("group", "two"));
        let group = ConsumerGroup { name: "group".into(), timeout_s: 3600, order: false };
        one.create_consumer_group(&group).await.unwrap();
        one.heartbeat(&[]).await.unwrap();
        assert_eq!(two.heartbeat(&[]).await.unwrap(), []);
        tokio::time::advance(Duration::from_secs(3601)).await;
        assert_eq!(two.heartbeat(&[]).await.unwrap(), [ShardId(0)]);
        let lost = one.heartbeat(&[ShardId(0)]).await.unwrap_err();
        assert!(matches!(lost, SlsError::Refused { code, .. } if code == "NotExistConsumerWithBody"));
    });
}

#[test]
fn faults_refuse_without_effect_or_lose_the_answer_of_an_effect() {
    paused(async {
        let hub = InMemoryHub::new(1);
        let client = hub.client("group", "me");
        let group = ConsumerGroup { name: "group".into(), timeout_s: 20, order: false };
        hub.on_call(|_, _| Fault::transport("cut"));
        client.create_consumer_group(&group).await.unwrap_err();
        hub.heal();
        assert_eq!(client.list_consumer_groups().await.unwrap(), []);
        hub.on_call(|_, operation| match operation {
            Operation::CreateConsumerGroup => Fault::lost_answer("cut"),
            _ => Fault { delay_after: Duration::from_secs(7), ..Fault::default() },
        });
        client.create_consumer_group(&group).await.unwrap_err();
        let before = Instant::now();
        assert_eq!(client.list_consumer_groups().await.unwrap(), [group]);
        assert_eq!(before.elapsed(), Duration::from_secs(7));
    });
}

#[test]
fn spoilt_bodies_are_refused_by_whoever_reads_them() {
    paused(async {
        let hub = InMemoryHub::new(1);
        hub.with(|hub, now| hub.put(InMemoryHub::AT, Route::Balanced, log_group(), now)).unwrap();
        let client = hub.client("group", "me");
        let begin = client.get_cursor(ShardId(0), StartPosition::Begin).await.unwrap();
        hub.on_call(|_, _| Fault::body(BodyFault::CutAt(3)));
        let reply = client.pull_logs(ShardId(0), &begin, 10).await.unwrap();
        reply.body.read(1 << 20).await.unwrap_err();
        hub.on_call(|_, _| Fault::body(BodyFault::Corrupt));
        let reply = client.pull_logs(ShardId(0), &begin, 10).await.unwrap();
        let raw_size = reply.head.raw_size as i32;
        let body = reply.body.read(1 << 20).await.unwrap();
        let decoded = lz4::block::decompress(&body, Some(raw_size));
        assert!(decoded.is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData));
        hub.heal();
        let reply = client.pull_logs(ShardId(0), &begin, 10).await.unwrap();
        reply.body.read(3).await.unwrap_err();
    });
}
