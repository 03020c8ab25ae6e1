//! The service as a whole: logs in and out, cursors, split and merge with order, quotas, retention.

use super::*;
use crate::wire::sls::reply::Compression;

const T0: UnixMicros = UnixMicros(1_700_000_000_000_000);
const AT: At<'_> = At { project: "proj", logstore: "store" };

fn hub(shards: u32, limits: Limits) -> Hub {
    let mut hub = Hub::new(limits);
    hub.create_project("proj");
    hub.create_logstore(AT, shards, T0).unwrap();
    hub
}

fn later(seconds: i64) -> UnixMicros {
    UnixMicros(T0.0 + seconds * 1_000_000)
}

/// A `LogGroup` of one log whose field `n` is `number`, about `size` bytes long.
fn group(number: u32, size: usize) -> Bytes {
    let value = format!("{number}{}", "x".repeat(size));
    let mut pair = vec![0x0a, 1, b'n'];
    block::push_entry(&mut pair, value.as_bytes());
    let position = pair.iter().position(|b| *b == 0x0a).unwrap() + 3;
    pair[position] = 0x12;
    let mut log = vec![0x08, 1];
    let mut entry = Vec::new();
    block::push_entry(&mut entry, &pair);
    entry[0] = 0x12;
    log.extend(entry);
    let mut group = Vec::new();
    block::push_entry(&mut group, &log);
    group.into()
}

fn list(groups: &[Bytes]) -> Vec<u8> {
    let mut list = Vec::new();
    groups.iter().for_each(|group| block::push_entry(&mut list, group));
    list
}

fn plain(cursor: &str, count: u32) -> Pull<'_> {
    Pull { cursor, end_cursor: None, count, compression: Compression::None }
}

fn lz4(cursor: &str, count: u32) -> Pull<'_> {
    Pull { cursor, end_cursor: None, count, compression: Compression::Lz4 }
}

fn begin(hub: &mut Hub, shard: u32) -> String {
    hub.get_cursor(AT, ShardId(shard), From::Begin, T0).unwrap()
}

fn end(hub: &mut Hub, shard: u32) -> String {
    hub.get_cursor(AT, ShardId(shard), From::End, T0).unwrap()
}

#[test]
fn log_groups_come_back_as_the_bytes_that_were_put() {
    let mut hub = hub(1, Limits::default());
    let groups: Vec<_> = (0..5).map(|n| group(n, 40)).collect();
    for group in &groups {
        hub.put(AT, Route::Balanced, group.clone(), T0).unwrap();
    }
    let start = begin(&mut hub, 0);
    let answer = hub.pull(AT, ShardId(0), &plain(&start, 3), T0).unwrap();
    assert_eq!((answer.count, answer.body.to_vec()), (3, list(&groups[..3])));
    assert!(!answer.end_of_shard);
    assert_eq!(answer.last_number, decode_cursor(&start).map(|n| n + 2));
    let rest = hub.pull(AT, ShardId(0), &lz4(&answer.next_cursor, 1000), T0).unwrap();
    let raw = ::lz4::block::decompress(&rest.body, Some(rest.raw_size as i32)).unwrap();
    assert_eq!((rest.count, raw), (2, list(&groups[3..])));
    assert!(rest.end_of_shard);
    let nothing = hub.pull(AT, ShardId(0), &lz4(&rest.next_cursor, 1000), T0).unwrap();
    assert_eq!((nothing.count, nothing.raw_size, nothing.body.len()), (0, 0, 0));
    assert_eq!(nothing.next_cursor, rest.next_cursor, "the cursor of an empty answer does not move");
}

#[test]
fn cursor_counts_log_groups_and_means_nothing_elsewhere() {
    let mut hub = hub(2, Limits::default());
    let (zero, one) = (begin(&mut hub, 0), begin(&mut hub, 1));
    assert_ne!(zero, one);
    let (_, first) = hub.put(AT, Route::Shard(ShardId(0)), group(0, 1), T0).unwrap();
    assert_eq!(first, zero);
    assert_eq!(decode_cursor(&end(&mut hub, 0)), decode_cursor(&zero).map(|n| n + 1));
    for bad in [one.as_str(), "", "####", "MQ==", "QUJD", &encode_cursor(u64::MAX)] {
        let refusal = hub.pull(AT, ShardId(0), &lz4(bad, 1), T0).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, "InvalidCursor"), "{bad}");
    }
    let bare = zero.trim_end_matches('=');
    assert_eq!(hub.pull(AT, ShardId(0), &lz4(bare, 1), T0).unwrap().count, 1, "padding may be missing");
}

#[test]
fn pull_of_no_or_too_many_groups_is_refused() {
    let mut hub = hub(1, Limits::default());
    let start = begin(&mut hub, 0);
    for count in [0, 1001] {
        assert_eq!(hub.pull(AT, ShardId(0), &lz4(&start, count), T0).unwrap_err().code, "ParameterInvalid");
    }
    assert_eq!(hub.pull(AT, ShardId(9), &lz4(&start, 1), T0).unwrap_err().code, "ShardNotExist");
}

#[test]
fn pull_stops_at_the_soft_cap_and_carries_at_least_one_group() {
    let mut hub = hub(1, Limits { pull_bytes: 1000, ..Limits::default() });
    for number in 0..4 {
        hub.put(AT, Route::Balanced, group(number, 600), T0).unwrap();
    }
    hub.put(AT, Route::Balanced, group(4, 5000), T0).unwrap();
    let start = begin(&mut hub, 0);
    let answer = hub.pull(AT, ShardId(0), &lz4(&start, 100), T0).unwrap();
    assert_eq!(answer.count, 2, "the second one passes the cap");
    let answer = hub.pull(AT, ShardId(0), &lz4(&answer.next_cursor, 100), T0).unwrap();
    let answer = hub.pull(AT, ShardId(0), &lz4(&answer.next_cursor, 100), T0).unwrap();
    assert_eq!(answer.count, 1);
    assert!(answer.raw_size > 5000);
}

#[test]
fn end_cursor_is_exclusive() {
    let mut hub = hub(1, Limits::default());
    for number in 0..4 {
        hub.put(AT, Route::Balanced, group(number, 1), T0).unwrap();
    }
    let start = begin(&mut hub, 0);
    let stop = encode_cursor(decode_cursor(&start).unwrap() + 3);
    let pull = Pull { end_cursor: Some(&stop), ..lz4(&start, 100) };
    assert_eq!(hub.pull(AT, ShardId(0), &pull, T0).unwrap().count, 3);
    let nothing = Pull { cursor: &stop, ..pull };
    assert_eq!(hub.pull(AT, ShardId(0), &nothing, T0).unwrap().count, 0);
}

#[test]
fn cursor_of_a_time_is_the_first_group_received_then_or_later() {
    let mut hub = hub(1, Limits::default());
    for seconds in [0, 10, 10, 20] {
        hub.put(AT, Route::Balanced, group(0, 1), later(seconds)).unwrap();
    }
    let number = decode_cursor(&begin(&mut hub, 0)).unwrap();
    let expected = [(-5, 0), (0, 0), (1, 1), (10, 1), (11, 3), (20, 3), (21, 4)];
    for (seconds, index) in expected {
        let from = From::UnixSeconds(later(seconds).seconds());
        let cursor = hub.get_cursor(AT, ShardId(0), from, later(30)).unwrap();
        assert_eq!(decode_cursor(&cursor), Some(number + index), "{seconds} s");
        let time = hub.get_cursor_time(AT, ShardId(0), &cursor, later(30)).unwrap();
        let received = [0, 10, 10, 20, 30][index as usize];
        assert_eq!(time, later(received).seconds(), "the end position answers the current time");
    }
}

#[test]
fn block_is_served_whole_from_its_own_buffer_and_in_parts_from_its_bytes() {
    let mut hub = hub(1, Limits::default());
    let groups: Vec<_> = (0..6).map(|n| group(n, 100)).collect();
    hub.put(AT, Route::Balanced, groups[0].clone(), T0).unwrap();
    let block = Block::new(groups[1..5].iter().map(|group| &group[..])).unwrap();
    let buffer = block.lz4().clone();
    hub.append_block(AT, ShardId(0), block, T0).unwrap();
    hub.put(AT, Route::Balanced, groups[5].clone(), T0).unwrap();
    let start = begin(&mut hub, 0);
    let single = hub.pull(AT, ShardId(0), &lz4(&start, 1000), T0).unwrap();
    assert_eq!(single.count, 1, "an answer does not reach across into a block");
    let whole = hub.pull(AT, ShardId(0), &lz4(&single.next_cursor, 1000), T0).unwrap();
    assert_eq!((whole.count, whole.body.as_ptr()), (4, buffer.as_ptr()), "not copied");
    assert_eq!(whole.raw_size, list(&groups[1..5]).len() as u64);
    // The same in single steps, plain, must be the same bytes.
    let (mut cursor, mut all) = (start, Vec::new());
    for count in [1, 2, 1000, 1000] {
        let answer = hub.pull(AT, ShardId(0), &plain(&cursor, count), T0).unwrap();
        all.extend_from_slice(&answer.body);
        assert_eq!(answer.raw_size, answer.body.len() as u64);
        cursor = answer.next_cursor;
    }
    assert_eq!(all, list(&groups));
    assert_eq!(cursor, end(&mut hub, 0));
}

#[test]
fn repeated_pull_is_served_from_the_cache() {
    let mut hub = hub(1, Limits::default());
    hub.put(AT, Route::Balanced, group(1, 100), T0).unwrap();
    let start = begin(&mut hub, 0);
    let one = hub.pull(AT, ShardId(0), &lz4(&start, 10), T0).unwrap();
    let two = hub.pull(AT, ShardId(0), &lz4(&start, 10), T0).unwrap();
    assert_eq!(one.body.as_ptr(), two.body.as_ptr());
    hub.put(AT, Route::Balanced, group(2, 100), T0).unwrap();
    let more = hub.pull(AT, ShardId(0), &lz4(&start, 10), T0).unwrap();
    assert_eq!(more.count, 2, "what came since is not hidden by the cache");
}

#[test]
fn shards_divide_the_key_space_evenly_and_keys_find_theirs() {
    let mut hub = hub(4, Limits::default());
    let shards = hub.list_shards(AT, T0).unwrap();
    let borders: Vec<_> = shards.iter().map(|shard| format!("{:032x}", shard.begin_key)).collect();
    let expected = ["0", "4", "8", "c"].map(|digit| format!("{digit}{}", "0".repeat(31)));
    assert_eq!(borders, expected);
    assert_eq!(shards[3].end_key, u128::MAX);
    for (key, shard) in [(0, 0), (1 << 126, 1), ((1 << 127) - 1, 1), (u128::MAX, 3)] {
        assert_eq!(hub.put(AT, Route::Key(key), group(0, 1), T0).unwrap().0, ShardId(shard), "{key:x}");
    }
}

#[test]
fn split_and_merge_make_parents_readonly_and_number_on() {
    let mut hub = hub(1, Limits::default());
    assert_eq!(hub.merge_shards(AT, ShardId(0), T0).unwrap_err().message, "can not merge the last shard");
    assert_eq!(hub.split_shard(AT, ShardId(0), SplitAt::Key(0), T0).unwrap_err().message, "invalid mid hash");
    let views = hub.split_shard(AT, ShardId(0), SplitAt::Key(1 << 100), T0).unwrap();
    assert_eq!(views.iter().map(|v| (v.shard.0, v.readonly)).collect::<Vec<_>>(), [(0, true), (1, false), (2, false)]);
    assert_eq!((views[1].end_key, views[2].begin_key), (1 << 100, 1 << 100));
    let twice = hub.split_shard(AT, ShardId(0), SplitAt::Parts(2), T0).unwrap_err();
    assert_eq!(twice.message, "invalid shard id");
    assert!(hub.put(AT, Route::Shard(ShardId(0)), group(0, 1), T0).is_err(), "read-only shards receive nothing");
    let views = hub.merge_shards(AT, ShardId(1), T0).unwrap();
    assert_eq!(views.iter().map(|v| (v.shard.0, v.readonly)).collect::<Vec<_>>(), [(3, false), (1, true), (2, true)]);
    assert_eq!((views[0].begin_key, views[0].end_key), (0, u128::MAX));
    let parts = hub.split_shard(AT, ShardId(3), SplitAt::Parts(3), T0).unwrap();
    assert_eq!(parts.len(), 4);
    assert_eq!((parts[1].begin_key, parts[3].end_key), (0, u128::MAX));
    assert_eq!((parts[1].end_key, parts[2].end_key), (parts[2].begin_key, parts[3].begin_key));
}

#[test]
fn ordered_group_gets_children_after_an_empty_parents_end_was_committed() {
    let mut hub = hub(1, Limits::default());
    hub.create_group(AT, "group", GroupSettings { timeout_s: 30, order: true }, T0).unwrap();
    assert_eq!(hub.heartbeat(AT, "group", "a", &[], T0).unwrap(), [ShardId(0)]);
    hub.split_shard(AT, ShardId(0), SplitAt::Parts(2), T0).unwrap();
    assert_eq!(hub.heartbeat(AT, "group", "a", &[ShardId(0)], T0).unwrap(), [ShardId(0)]);
    let (first, last) = (begin(&mut hub, 0), end(&mut hub, 0));
    assert_eq!(first, last, "it never had data");
    hub.update_checkpoint(AT, "group", "a", ShardId(0), &last, false, T0).unwrap();
    assert_eq!(hub.heartbeat(AT, "group", "a", &[ShardId(0)], T0).unwrap(), [ShardId(1), ShardId(2)]);
}

#[test]
fn group_quota_holds_and_deleting_makes_room() {
    let mut hub = hub(1, Limits { groups_per_logstore: 2, ..Limits::default() });
    let settings = GroupSettings { timeout_s: 30, order: false };
    hub.create_group(AT, "one", settings, T0).unwrap();
    assert_eq!(hub.create_group(AT, "one", settings, T0).unwrap_err().code, "ConsumerGroupAlreadyExist");
    hub.create_group(AT, "two", settings, T0).unwrap();
    let full = hub.create_group(AT, "three", settings, T0).unwrap_err();
    assert_eq!((full.status, full.code), (403, "ConsumerGroupQuotaExceed"));
    hub.delete_group(AT, "one", T0).unwrap();
    assert_eq!(hub.delete_group(AT, "one", T0).unwrap_err().code, "ConsumerGroupNotExist");
    hub.create_group(AT, "three", settings, T0).unwrap();
    assert_eq!(hub.list_groups(AT).unwrap().len(), 2);
    assert_eq!(Limits::default().groups_per_logstore, 30);
}

#[test]
fn group_without_name_or_timeout_is_refused_and_an_update_changes_only_what_it_names() {
    let mut hub = hub(1, Limits::default());
    let bad = GroupSettings { timeout_s: 0, order: false };
    assert_eq!(hub.create_group(AT, "group", bad, T0).unwrap_err().code, "JsonInfoInvalid");
    let settings = GroupSettings { timeout_s: 30, order: false };
    assert_eq!(hub.create_group(AT, "a b", settings, T0).unwrap_err().code, "JsonInfoInvalid");
    hub.create_group(AT, "group", settings, T0).unwrap();
    hub.update_group(AT, "group", None, Some(true), T0).unwrap();
    assert_eq!(hub.list_groups(AT).unwrap(), [("group".into(), GroupSettings { timeout_s: 30, order: true })]);
    assert_eq!(hub.update_group(AT, "none", None, None, T0).unwrap_err().code, "ConsumerGroupNotExist");
}

#[test]
fn old_logs_and_then_readonly_shards_pass_away() {
    let limits = Limits { retention: Some(Duration::from_secs(100)), ..Limits::default() };
    let mut hub = hub(1, limits);
    hub.put(AT, Route::Balanced, group(0, 1), T0).unwrap();
    hub.put(AT, Route::Balanced, group(1, 1), later(60)).unwrap();
    let start = begin(&mut hub, 0);
    hub.split_shard(AT, ShardId(0), SplitAt::Parts(2), later(61)).unwrap();
    let refusal = hub.pull(AT, ShardId(0), &lz4(&start, 1), later(101)).unwrap_err();
    assert_eq!(refusal.code, "InvalidCursor");
    let oldest = hub.get_cursor(AT, ShardId(0), From::Begin, later(101)).unwrap();
    assert_eq!(decode_cursor(&oldest), decode_cursor(&start).map(|n| n + 1));
    assert_eq!(hub.list_shards(AT, later(101)).unwrap().len(), 3);
    assert_eq!(hub.list_shards(AT, later(162)).unwrap().len(), 2, "nothing is left of the parent");
    assert_eq!(hub.get_cursor(AT, ShardId(0), From::Begin, later(162)).unwrap_err().code, "ShardNotExist");
}

#[test]
fn shard_forgets_its_oldest_logs_beyond_its_bytes() {
    let mut hub = hub(1, Limits { shard_bytes: 1000, ..Limits::default() });
    for number in 0..10 {
        hub.put(AT, Route::Balanced, group(number, 300), T0).unwrap();
    }
    let held = decode_cursor(&end(&mut hub, 0)).unwrap() - decode_cursor(&begin(&mut hub, 0)).unwrap();
    assert_eq!(held, 3);
    assert_eq!(hub.logstore_state(AT).unwrap().shards[0].groups, 10, "what was received stays counted");
}

#[test]
fn what_is_no_log_group_or_too_large_is_refused() {
    let mut hub = hub(1, Limits { put_bytes: 1000, ..Limits::default() });
    let valid = group(0, 10);
    assert_eq!(count_logs(&valid), Some(1));
    let cut = valid.slice(..valid.len() - 1);
    // A log without its time, and a field without its value.
    for bad in [cut, Bytes::from_static(&[0x0a, 0]), Bytes::from_static(&[0x0a, 7, 8, 1, 0x12, 3, 0x0a, 1, b'k'])] {
        let refusal = hub.put(AT, Route::Balanced, bad, T0).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, "PostBodyInvalid"));
    }
    let refusal = hub.put(AT, Route::Balanced, group(0, 1000), T0).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (413, "PostBodyTooLarge"));
}

#[test]
fn missing_project_logstore_and_group_are_named() {
    let mut hub = hub(1, Limits::default());
    let nowhere = At { project: "other", logstore: "store" };
    assert_eq!(hub.list_shards(nowhere, T0).unwrap_err().message, "The Project does not exist : other");
    let nothing = At { project: "proj", logstore: "nope" };
    assert_eq!(hub.list_shards(nothing, T0).unwrap_err().message, "logstore nope does not exist");
    let refusal = hub.heartbeat(AT, "none", "a", &[], T0).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (404, "ConsumerGroupNotExist"));
    assert_eq!(hub.create_logstore(AT, 1, T0).unwrap_err().code, "LogStoreAlreadyExist");
}
