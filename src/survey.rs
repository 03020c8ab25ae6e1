//! What SLS tells of a logstore and a consumer group, by reading alone: no group is joined, nothing is committed.

use futures_util::StreamExt;
use futures_util::future::{join, join3};
use sls_syslog_actors::model::cursor::{Cursor, StartPosition};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::LogHub;
use sls_syslog_actors::wire::sls::body::{MAX_RAW_SIZE, decompress};
use sls_syslog_actors::wire::sls::error::SlsError;
use sls_syslog_actors::wire::sls::reply::{Checkpoint, ConsumerGroup, LogStoreInfo, ShardInfo};

/// The logstore as a whole.
#[derive(Debug)]
pub struct Survey {
    /// Its retention.
    pub logstore: Result<LogStoreInfo, SlsError>,
    /// All of its consumer groups.
    pub groups: Result<Vec<ConsumerGroup>, SlsError>,
    /// Its shards, ascending.
    pub shards: Result<Vec<ShardInfo>, SlsError>,
}

/// One shard, and how far the group has read it.
#[derive(Debug)]
pub struct ShardSurvey {
    /// The shard.
    pub info: ShardInfo,
    /// Its oldest log group.
    pub oldest: Result<Place, SlsError>,
    /// The position after its newest log group; the time is that group's.
    pub newest: Result<Place, SlsError>,
    /// The group's checkpoint; `None` where there is no group to ask for.
    pub checkpoint: Option<Result<Checkpoint, SlsError>>,
    /// When SLS received the first log group that is not committed yet; `None` if there is none, or nobody can tell.
    pub waiting_since: Option<Result<i64, SlsError>>,
}

/// A position in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its cursor.
    pub cursor: Cursor,
    /// When SLS received the log group there, in unix seconds; `None` in an empty shard.
    pub received_s: Option<i64>,
}

/// A retention of so many days, the most that can be set, means that nothing is ever removed.
pub const FOR_EVER_DAYS: u32 = 3650;

/// Shards that are asked about at the same time.
const AT_ONCE: usize = 8;

/// Asks for the logstore as a whole.
pub async fn logstore(hub: &dyn LogHub) -> Survey {
    let (logstore, groups, shards) = join3(hub.get_logstore(), hub.list_consumer_groups(), hub.list_shards()).await;
    Survey { logstore, groups, shards }
}

/// Asks for each of the shards, and for the group's checkpoints where there is a group.
pub async fn shards(hub: &dyn LogHub, shards: &[ShardInfo], with_group: bool) -> Vec<ShardSurvey> {
    futures_util::stream::iter(shards).map(|info| shard(hub, info, with_group)).buffered(AT_ONCE).collect().await
}

async fn shard(hub: &dyn LogHub, info: &ShardInfo, with_group: bool) -> ShardSurvey {
    let id = info.shard;
    let checkpoint = async {
        match with_group {
            true => Some(hub.get_checkpoint(id).await),
            false => None,
        }
    };
    let ends = join(hub.get_cursor(id, StartPosition::Begin), hub.get_cursor(id, StartPosition::End));
    let ((begin, end), checkpoint) = join(ends, checkpoint).await;
    let is_empty = matches!((&begin, &end), (Ok(begin), Ok(end)) if begin == end);
    // What the group reads next, if anything.
    let next = match (&checkpoint, &begin, &end) {
        (Some(Ok(Checkpoint { cursor: Some(at), .. })), _, Ok(end)) if at != end => Some(at.clone()),
        (Some(Ok(Checkpoint { cursor: None, .. })), Ok(begin), Ok(_)) if !is_empty => Some(begin.clone()),
        _ => None,
    };
    let oldest = place(hub, id, begin, |cursor| (!is_empty).then(|| cursor.clone()));
    let newest = place(hub, id, end, |cursor| if is_empty { None } else { cursor.previous() });
    let waiting_since = async {
        match &next {
            Some(cursor) => Some(hub.get_cursor_time(id, cursor).await),
            None => None,
        }
    };
    let ((oldest, newest), waiting_since) = join(join(oldest, newest), waiting_since).await;
    ShardSurvey { info: info.clone(), oldest, newest, checkpoint, waiting_since }
}

/// A cursor with the time of the log group that `timed` names.
async fn place(
    hub: &dyn LogHub,
    shard: ShardId,
    cursor: Result<Cursor, SlsError>,
    timed: impl Fn(&Cursor) -> Option<Cursor>,
) -> Result<Place, SlsError> {
    let cursor = cursor?;
    let received_s = match timed(&cursor) {
        Some(at) => Some(hub.get_cursor_time(shard, &at).await?),
        None => None,
    };
    Ok(Place { cursor, received_s })
}

impl ShardSurvey {
    /// Who holds or last held it, as far as SLS tells.
    pub fn consumer(&self) -> Option<&str> {
        let checkpoint = self.checkpoint.as_ref()?.as_ref().ok()?;
        (!checkpoint.consumer.is_empty()).then_some(checkpoint.consumer.as_str())
    }
}

/// One pull of at most `groups` log groups at a cursor: its body, decompressed, and the next cursor.
pub async fn pull(
    hub: &dyn LogHub,
    shard: ShardId,
    at: &Cursor,
    groups: u32,
) -> Result<(Vec<u8>, Option<Cursor>), SlsError> {
    let reply = hub.pull_logs(shard, at, groups).await?;
    let (raw_size, compression) = (reply.head.raw_size, reply.head.compression);
    // Bounded before it is read: what is larger is never asked for.
    let limit = usize::try_from(raw_size.min(MAX_RAW_SIZE)).unwrap_or(usize::MAX).saturating_add(1 << 20);
    let body = reply.body.read(limit).await?;
    let mut buffer = Vec::new();
    decompress(&body, compression, raw_size, &mut buffer)
        .map(|raw| (raw.to_vec(), reply.head.next_cursor))
        .map_err(|error| SlsError::transport(format!("the answer of PullLogs: {error}")))
}
