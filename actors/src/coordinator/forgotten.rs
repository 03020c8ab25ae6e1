//! When SLS has forgotten us, and perhaps the group with all its checkpoints (rule L6).
//!
//! A group that was deleted is made anew, and everyone stores again what it has confirmed of the shards that it held: at
//! once, because until then a process that begins with another start position takes the group for an unborn one. That
//! leaves the time between the deletion and our next heartbeat, in which such a process may come first.

use std::rc::Rc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use slog::{debug, warn};

use super::{COMMIT_LIMIT, Coordinator};
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::ports::LogHub;
use crate::wire::sls::error::SlsError;

impl Coordinator {
    /// SLS does not know this consumer any more. If that is because somebody else has made the group anew, it does not
    /// know its positions either.
    pub(super) fn forgotten(&mut self, ctx: &mut Context<Self>) {
        self.forget_leases(ctx);
        self.store_again(ctx);
    }

    /// Somebody deleted the group: make it anew. What was read goes on from our own positions.
    pub(super) fn rejoin(&mut self, ctx: &mut Context<Self>) {
        self.forget_leases(ctx);
        self.made_anew.extend(&self.forgotten);
        if std::mem::replace(&mut self.rejoining, true) {
            return;
        }
        let request = self.hub.create_consumer_group(&self.group());
        ctx.spawn(request.into_actor(self).map(|outcome, act, ctx| {
            act.rejoining = false;
            match outcome {
                Ok(()) => warn!(act.log, "the consumer group had been deleted; created it anew"),
                Err(error) if error.code_is("ConsumerGroupAlreadyExist") => {}
                Err(error) => return debug!(act.log, "the consumer group cannot be created anew: {}", error),
            }
            act.store_again(ctx);
        }));
    }

    fn forget_leases(&mut self, ctx: &mut Context<Self>) {
        self.forgotten.extend(self.leases.held().map(|(shard, _)| shard));
        self.lose_all(ctx);
    }

    fn store_again(&mut self, ctx: &mut Context<Self>) {
        let positions = self.commits.begin_again(std::mem::take(&mut self.forgotten));
        if positions.is_empty() {
            return;
        }
        let shards: Vec<ShardId> = positions.iter().map(|(shard, _)| *shard).collect();
        let storing = tokio::time::timeout(COMMIT_LIMIT, store_where_none_is(Rc::clone(&self.hub), positions));
        ctx.spawn(storing.into_actor(self).map(move |outcome, act, ctx| {
            if let Ok(Err(error)) = outcome {
                // Whoever is handed the shard goes on from the group's begin, or from its end; we from our own position.
                debug!(act.log, "cannot store positions again: {}", error);
            }
            act.commits.ended_again(&shards);
            act.work(ctx);
        }));
    }
}

/// Nobody needs to hold a shard for this, hence force. What is stored is confirmed, so it loses nothing even if somebody
/// else has committed meanwhile; what somebody else has stored before is left alone.
async fn store_where_none_is(hub: Rc<dyn LogHub>, positions: Vec<(ShardId, Cursor)>) -> Result<(), SlsError> {
    for (shard, cursor) in positions {
        if hub.get_checkpoint(shard).await?.cursor.is_none() {
            hub.update_checkpoint(shard, &cursor, true).await?;
        }
    }
    Ok(())
}
