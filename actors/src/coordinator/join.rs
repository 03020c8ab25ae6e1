//! Becoming a member of the consumer group, before the first heartbeat (rules L4, L6, L8, L10, L11).
//!
//! SLS comes first: the names and keys are tried, the group is found or created, and where a new group does not begin at
//! the oldest log its start position is committed for every shard. Only then are shards asked for.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use slog::{Logger, info, warn};

use crate::clock::now;
use crate::error::ForwarderError;
use crate::event::Code;
use crate::model::cursor::StartPosition;
use crate::model::ids::ShardId;
use crate::ports::LogHub;
use crate::trouble::{EventSink, Troubles, sentence};
use crate::wire::sls::error::{ErrorClass, SlsError, group_quota_remedy};
use crate::wire::sls::reply::ConsumerGroup;

/// What joining needs to know.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    /// The group as we would create it.
    pub(super) group: ConsumerGroup,
    /// Whether an existing group's settings are changed to ours.
    pub(super) manage_group: bool,
    /// Where a new group begins.
    pub(super) start: StartPosition,
}

/// What joining found out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joined {
    /// The group's timeout; ours where it cannot be read.
    pub(super) group_timeout: Duration,
    /// Days for which logs are kept, where told.
    pub(super) ttl_days: Option<u32>,
}

/// One attempt after another until SLS has answered everything, or refused what only a human can correct.
pub(super) async fn join(
    hub: Rc<dyn LogHub>,
    membership: Membership,
    log: Logger,
    events: EventSink,
) -> Result<Joined, ForwarderError> {
    let mut steps = Steps { troubles: Troubles::new(log.clone(), events), pause: FIRST_PAUSE, patience: 0 };
    let ttl_days = match steps.repeat(&hub, |hub| hub.get_logstore()).await {
        Ok(logstore) => logstore.ttl_days,
        Err(refused) => {
            refused.unless_denied()?;
            None
        }
    };
    let group = ensure_group(&hub, &mut steps, &membership, &log).await?;
    if membership.start != StartPosition::Begin {
        commit_start(&hub, &mut steps, membership.start, &log).await?;
    }
    Ok(Joined { group_timeout: Duration::from_secs(group.timeout_s.into()), ttl_days })
}

/// Finds the group or creates it; respects an existing group's settings unless told to manage them (L4).
async fn ensure_group(
    hub: &Rc<dyn LogHub>,
    steps: &mut Steps,
    membership: &Membership,
    log: &Logger,
) -> Result<ConsumerGroup, ForwarderError> {
    let ours = &membership.group;
    let groups = match steps.repeat(hub, |hub| hub.list_consumer_groups()).await {
        Ok(groups) => groups,
        Err(refused) => {
            refused.unless_denied()?;
            warn!(log, "the consumer groups may not be listed; going on as if the group had our settings");
            return Ok(ours.clone());
        }
    };
    if let Some(existing) = groups.iter().find(|group| group.name == ours.name) {
        if existing == ours {
            return Ok(existing.clone());
        }
        if !membership.manage_group {
            info!(log, "the consumer group exists with other settings, which are respected";
                "timeout_s" => existing.timeout_s, "order" => existing.order);
            return Ok(existing.clone());
        }
        return match steps.repeat(hub, |hub| hub.update_consumer_group(ours)).await {
            Ok(()) => Ok(ours.clone()),
            Err(refused) => {
                refused.unless_denied()?;
                warn!(log, "the consumer group's settings may not be changed; going on with its own");
                Ok(existing.clone())
            }
        };
    }
    match steps.repeat(hub, |hub| hub.create_consumer_group(ours)).await {
        Ok(()) => {
            info!(log, "created the consumer group"; "timeout_s" => ours.timeout_s, "order" => ours.order);
            steps.patience = PATIENCE;
        }
        Err(Refused(error)) if error.code_is("ConsumerGroupAlreadyExist") => {}
        Err(Refused(error)) if error.code_is("ConsumerGroupQuotaExceed") => {
            let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
            return Err(ForwarderError::Refused {
                code: Code::SlsRefused,
                what: format!("{error}: {}", group_quota_remedy(&names)),
            });
        }
        Err(refused) => {
            refused.unless_denied()?;
            warn!(log, "the consumer group may not be created; going on in case somebody else does");
        }
    }
    Ok(ours.clone())
}

/// L6: the start position belongs to the group's birth. If the lowest shard has no checkpoint, every shard that has none
/// gets one, the lowest last, so that a birth that is cut short is finished by the next process.
async fn commit_start(
    hub: &Rc<dyn LogHub>,
    steps: &mut Steps,
    start: StartPosition,
    log: &Logger,
) -> Result<(), ForwarderError> {
    let shards = steps.require(hub, |hub| hub.list_shards()).await?;
    let Some(lowest) = shards.iter().map(|info| info.shard).min() else { return Ok(()) };
    if steps.require(hub, |hub| hub.get_checkpoint(lowest)).await?.cursor.is_some() {
        return Ok(());
    }
    info!(log, "a new consumer group: committing its start position"; "start" => %start, "shards" => shards.len());
    for shard in shards.iter().rev().map(|info| info.shard) {
        match commit_start_of(hub, steps, shard, start).await {
            // It expired since it was listed: there is nothing to begin.
            Err(Refused(error)) if error.class() == ErrorClass::ShardGone => {}
            outcome => outcome.map_err(|Refused(error)| refused(&error))?,
        }
    }
    Ok(())
}

/// Somebody else may be at the same birth, have finished it, and be reading already. SLS cannot compare before it stores;
/// so each attempt asks for the position first and only then whether the shard still has none. A position that is stored
/// was therefore the start before anybody's was stored, however late the request arrives: no log that was written after
/// the birth lies before it. An attempt that failed asks for both again.
async fn commit_start_of(
    hub: &Rc<dyn LogHub>,
    steps: &mut Steps,
    shard: ShardId,
    start: StartPosition,
) -> Result<(), Refused> {
    loop {
        let cursor = steps.repeat(hub, |hub| hub.get_cursor(shard, start)).await?;
        if steps.repeat(hub, |hub| hub.get_checkpoint(shard)).await?.cursor.is_some() {
            return Ok(());
        }
        if steps.attempt(hub.update_checkpoint(shard, &cursor, true)).await?.is_some() {
            return Ok(());
        }
    }
}

/// When SLS received the oldest log that is not committed yet, in unix seconds; of the first shards only, since it is
/// for a line of the log.
pub(super) async fn oldest_uncommitted(hub: Rc<dyn LogHub>) -> Result<Option<i64>, SlsError> {
    let mut oldest = None;
    for shard in hub.list_shards().await?.iter().take(LOOKED_AT).map(|info| info.shard) {
        let cursor = match hub.get_checkpoint(shard).await?.cursor {
            Some(cursor) => cursor,
            None => hub.get_cursor(shard, StartPosition::Begin).await?,
        };
        let received_s = hub.get_cursor_time(shard, &cursor).await?;
        oldest = Some(oldest.map_or(received_s, |oldest: i64| oldest.min(received_s)));
    }
    Ok(oldest)
}

/// Shards that [`oldest_uncommitted`] looks at.
const LOOKED_AT: usize = 32;

/// Repeats requests with growing pauses, and says what is wrong meanwhile.
struct Steps {
    troubles: Troubles,
    pause: Duration,
    /// How often a group that was just created may be unknown yet.
    patience: u32,
}

/// An answer that no repetition mends.
struct Refused(SlsError);

/// Attempts after which a group that was created and is not there is an error.
const PATIENCE: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Steps {
    /// Repeats `request` until it is answered or refused for good.
    async fn repeat<T, F>(&mut self, hub: &Rc<dyn LogHub>, request: F) -> Result<T, Refused>
    where
        F: Fn(&dyn LogHub) -> LocalBoxFuture<'static, Result<T, SlsError>>,
    {
        loop {
            if let Some(answer) = self.attempt(request(&**hub)).await? {
                return Ok(answer);
            }
        }
    }

    /// One attempt; `None`, after a pause, if another one may be answered.
    async fn attempt<T>(
        &mut self,
        request: LocalBoxFuture<'static, Result<T, SlsError>>,
    ) -> Result<Option<T>, Refused> {
        let error = match request.await {
            Ok(answer) => {
                self.pause = FIRST_PAUSE;
                let at = now();
                for code in [Code::SlsDown, Code::ClockSkew, Code::Quota] {
                    self.troubles.recovered(at, code);
                }
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        let code = match error.class() {
            _ if error.is_clock() => Code::ClockSkew,
            ErrorClass::Retry => Code::SlsDown,
            ErrorClass::SlowDown(_) => Code::Quota,
            _ if self.patience > 0 && error.code_is("ConsumerGroupNotExist") => {
                self.patience -= 1;
                Code::SlsDown
            }
            _ => return Err(Refused(error)),
        };
        self.troubles.report(now(), code, &sentence(&error));
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(None)
    }

    /// As `repeat`, for what cannot be done without.
    async fn require<T, F>(&mut self, hub: &Rc<dyn LogHub>, request: F) -> Result<T, ForwarderError>
    where
        F: Fn(&dyn LogHub) -> LocalBoxFuture<'static, Result<T, SlsError>>,
    {
        self.repeat(hub, request).await.map_err(|Refused(error)| refused(&error))
    }
}

impl Refused {
    /// L11: a right that is not needed may be denied; anything else ends the start.
    fn unless_denied(self) -> Result<(), ForwarderError> {
        if self.0.is_denied_action() { Ok(()) } else { Err(refused(&self.0)) }
    }
}

/// The error with which a start ends.
pub(super) fn refused(error: &SlsError) -> ForwarderError {
    ForwarderError::Refused { code: Code::SlsRefused, what: sentence(error) }
}

/// L10: what ends the process before the first answered heartbeat.
pub(super) fn ends_the_start(error: &SlsError) -> bool {
    error.class() == ErrorClass::Fatal && !error.is_clock()
}
