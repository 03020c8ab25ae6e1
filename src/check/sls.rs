//! SLS: address, sign-in, rights, clock, group and shards.

use std::collections::BTreeSet;
use std::time::Duration;

use sls_syslog_actors::config::{SourceConfig, render_duration};
use sls_syslog_actors::io::log_hub::{SlsClient, SlsSetup};
use sls_syslog_actors::trouble::sentence;
use sls_syslog_actors::wire::sls::error::{ErrorClass, SlsError};
use sls_syslog_actors::wire::sls::reply::{Checkpoint, ConsumerGroup};

use super::report::{Check, Status};
use super::{Report, plural};
use crate::survey::{self, FOR_EVER_DAYS, Place, ShardSurvey, Survey};
use crate::terminal::utc;

/// Shards that get a line of their own.
const MOST_LINES: usize = 16;
/// SLS refuses requests of a clock that is off by more.
const MOST_OFFSET_S: u64 = 900;
/// From here on the clock is worth a look.
const NOTABLE_OFFSET_S: u64 = 60;

/// Whether the host of SLS has an address.
pub async fn address(setup: &SlsSetup, within: Duration) -> Check {
    const WHAT: &str = "SLS address";
    let url = setup.url();
    if let Some(address) = setup.address() {
        return Check::ok(WHAT, format!("{url} at {address}"));
    }
    let (scheme, authority) = url.split_once("://").unwrap_or(("http", url));
    let place = match authority.rsplit_once(':') {
        Some(_) => authority.to_owned(),
        None => format!("{authority}:{}", if scheme == "https" { 443 } else { 80 }),
    };
    let remedy = Some("check source.endpoint and source.project, and this machine's name service");
    match tokio::time::timeout(within, tokio::net::lookup_host(&place)).await {
        Ok(Ok(found)) => {
            let found: BTreeSet<String> = found.map(|address| address.ip().to_string()).collect();
            match found.is_empty() {
                true => Check::failed(WHAT, format!("{url} has no address")).remedy(remedy),
                false => Check::ok(WHAT, format!("{url} at {}", Vec::from_iter(found).join(", "))),
            }
        }
        Ok(Err(error)) => Check::failed(WHAT, format!("{url} has no address: {error}")).remedy(remedy),
        Err(_) => Check::failed(WHAT, format!("{url}: the name service did not answer in {}", render_duration(within)))
            .remedy(remedy),
    }
}

/// Everything that SLS tells; answers the shards, where they could be read.
pub async fn check(
    client: &SlsClient,
    source: &SourceConfig,
    survey: Survey,
    report: &mut Report,
) -> Option<Vec<ShardSurvey>> {
    let signed_in = sign_in(source, &survey, report);
    report.add(clock(client.clock_offset_s()));
    if !signed_in {
        report.add(Check::untried("rights, group and shards", "need the sign-in"));
        return None;
    }
    if let Some(error) = missing(&survey) {
        let name = format!("{} in project {}", source.logstore, source.project);
        report.add(Check::failed("logstore", format!("{name}: {error}")).remedy(error.remedy()));
        report.add(Check::untried("rights, group and shards", "need the logstore"));
        return None;
    }
    logstore(source, &survey, report);
    let group = survey.groups.as_ref().ok().map(|groups| groups.iter().find(|g| g.name == source.consumer_group));
    // Where groups may not be listed, its checkpoints tell whether it is there.
    let ask_for_group = group.is_none_or(|group| group.is_some());
    let shards = match &survey.shards {
        Ok(infos) => survey::shards(client, infos, ask_for_group).await,
        Err(_) => Vec::new(),
    };
    rights(client, source, &survey, &shards, ask_for_group, report).await;
    report.add(consumer_group(source, &survey, group.flatten()));
    shard_lines(source, &shards, report);
    survey.shards.is_ok().then_some(shards)
}

/// The first requests tell whether SLS can be reached, knows us, and believes our signature.
fn sign_in(source: &SourceConfig, survey: &Survey, report: &mut Report) -> bool {
    const WHAT: &str = "SLS sign-in";
    let errors = [survey.shards.as_ref().err(), survey.groups.as_ref().err(), survey.logstore.as_ref().err()];
    let unknown = errors.iter().flatten().find(|error| !knows_us(error));
    if let Some(error) = unknown.filter(|_| errors.iter().all(|error| error.is_some_and(|error| !knows_us(error)))) {
        report.add(Check::failed(WHAT, error.to_string()).remedy(error.remedy()));
        return false;
    }
    let signature = match &source.signature {
        sls_syslog_actors::config::Signature::V1 => "V1".to_owned(),
        sls_syslog_actors::config::Signature::V4 { region } => format!("V4, region {region}"),
    };
    let id = &source.credentials.access_key_id;
    report.add(Check::ok(WHAT, format!("SLS knows the access key {}, signature {signature}", shown_id(id))));
    true
}

/// Enough of an access key's id to tell it from others.
fn shown_id(id: &str) -> String {
    match id.char_indices().nth(6) {
        Some((cut, _)) if id.chars().count() > 10 => format!("{}…", &id[..cut]),
        _ => id.to_owned(),
    }
}

/// Whether an error is one that SLS gives to those whom it knows.
fn knows_us(error: &SlsError) -> bool {
    const KNOWN: [&str; 4] = ["LogStoreNotExist", "ConsumerGroupNotExist", "ShardNotExist", "LogStoreWithoutShard"];
    error.is_denied_action()
        || KNOWN.iter().any(|code| error.code_is(code))
        || matches!(error.class(), ErrorClass::SlowDown(_))
}

/// The answer that there is no such logstore.
fn missing(survey: &Survey) -> Option<&SlsError> {
    let errors = [survey.shards.as_ref().err(), survey.groups.as_ref().err(), survey.logstore.as_ref().err()];
    errors.into_iter().flatten().find(|error| error.code_is("LogStoreNotExist"))
}

fn clock(offset_s: Option<i64>) -> Check {
    const WHAT: &str = "SLS clock";
    let Some(offset_s) = offset_s else {
        return Check::untried(WHAT, "no answer told the time of SLS");
    };
    let direction = if offset_s > 0 { "behind" } else { "ahead of" };
    let detail = format!("this machine's clock is {} s {direction} that of SLS", offset_s.unsigned_abs());
    let remedy = Some("set this machine's clock, and keep it set (NTP)");
    match offset_s.unsigned_abs() {
        // A request's own time is within this.
        0..=2 => Check::ok(WHAT, "this machine's clock and that of SLS agree"),
        3..NOTABLE_OFFSET_S => Check::ok(WHAT, detail),
        NOTABLE_OFFSET_S..=MOST_OFFSET_S => Check::warn(WHAT, detail).remedy(remedy),
        _ => Check::failed(WHAT, format!("{detail}; SLS allows {MOST_OFFSET_S} s")).remedy(remedy),
    }
}

fn logstore(source: &SourceConfig, survey: &Survey, report: &mut Report) {
    const WHAT: &str = "logstore";
    let name = format!("{} in project {}", source.logstore, source.project);
    report.add(match &survey.logstore {
        Ok(info) => match info.ttl_days {
            Some(FOR_EVER_DAYS..) => Check::ok(WHAT, format!("{name}, keeps logs for ever")),
            Some(days) => Check::ok(WHAT, format!("{name}, keeps logs for {}", plural(days as usize, "day"))),
            None => Check::ok(WHAT, format!("{name}; how long it keeps logs is not told")),
        },
        Err(error) if error.is_denied_action() => {
            Check::warn(WHAT, format!("{name}: how long it keeps logs may not be read")).remedy(error.remedy())
        }
        Err(error) => Check::failed(WHAT, format!("{name}: {error}")).remedy(error.remedy()),
    });
}

async fn rights(
    client: &SlsClient,
    source: &SourceConfig,
    survey: &Survey,
    shards: &[ShardSurvey],
    ask_for_group: bool,
    report: &mut Report,
) {
    report.add(right("log:ListShards", survey.shards.as_ref().err(), Need::Must));
    report.add(match shards.first() {
        Some(first) => right("log:GetCursorOrData", data_refusal(client, first).await.as_ref(), Need::Must),
        None => Check::untried("right log:GetCursorOrData", "needs a shard"),
    });
    report.add(right("log:ListConsumerGroup", survey.groups.as_ref().err(), Need::May));
    const CHECKPOINT: &str = "log:GetConsumerGroupCheckPoint";
    report.add(match shards.first().and_then(|shard| shard.checkpoint.as_ref()) {
        Some(Err(error)) if error.code_is("ConsumerGroupNotExist") => {
            Check::untried(format!("right {CHECKPOINT}"), "needs the group, which does not exist yet")
        }
        Some(answer) => right(CHECKPOINT, answer.as_ref().err(), Need::Must),
        None if !ask_for_group => {
            Check::untried(format!("right {CHECKPOINT}"), "needs the group, which does not exist yet")
        }
        None => Check::untried(format!("right {CHECKPOINT}"), "needs a shard"),
    });
    for (action, why) in [
        ("log:ConsumerGroupHeartBeat", "needed; a heartbeat would join the group"),
        ("log:ConsumerGroupUpdateCheckPoint", "needed; it would commit"),
    ] {
        report.add(Check::untried(format!("right {action}"), why));
    }
    let create = match (ask_for_group, &survey.groups) {
        (false, _) => "needed once, since the group does not exist; it would create it",
        (true, Ok(_)) => "not needed, since the group exists",
        (true, Err(_)) => "needed once, unless the group exists; it would create it",
    };
    report.add(Check::untried("right log:CreateConsumerGroup", create));
    if source.manage_group {
        let why = "wanted by source.manage_group; it would change the group";
        report.add(Check::untried("right log:UpdateConsumerGroup", why));
    }
}

enum Need {
    /// Nothing goes without it.
    Must,
    /// A start goes on without it.
    May,
}

fn right(action: &str, refusal: Option<&SlsError>, need: Need) -> Check {
    let what = format!("right {action}");
    match (refusal, need) {
        (None, _) => Check::ok(what, "granted"),
        (Some(error), Need::May) if error.is_denied_action() => {
            Check::warn(what, "refused; a start goes on without it").remedy(error.remedy())
        }
        (Some(error), _) => Check::failed(what, error.to_string()).remedy(error.remedy()),
    }
}

/// Cursors were asked for already; the data itself is one log group.
async fn data_refusal(client: &SlsClient, shard: &ShardSurvey) -> Option<SlsError> {
    let at = match &shard.oldest {
        Ok(place) => &place.cursor,
        Err(error) => return Some(error.clone()),
    };
    survey::pull(client, shard.info.shard, at, 1).await.err()
}

fn consumer_group(source: &SourceConfig, survey: &Survey, group: Option<&ConsumerGroup>) -> Check {
    const WHAT: &str = "consumer group";
    let name = &source.consumer_group;
    let on_off = |on: bool| if on { "on" } else { "off" };
    let Ok(groups) = &survey.groups else {
        return Check::untried(WHAT, format!("{name}: needs log:ListConsumerGroup"));
    };
    let Some(group) = group else {
        return Check::ok(
            WHAT,
            format!(
                "{name} does not exist yet; run creates it with timeout {} s and order {}, and begins at {} \
                 (source.cursor_start_time); the logstore has {} so far",
                source.group_timeout_s,
                on_off(source.in_order),
                source.cursor_start_time,
                plural(groups.len(), "group"),
            ),
        );
    };
    let detail = format!("{name} exists, timeout {} s, order {}", group.timeout_s, on_off(group.order));
    let half = Duration::from_secs(group.timeout_s.into()) / 2;
    if source.heartbeat_interval > half && !source.manage_group {
        return Check::warn(
            WHAT,
            format!("{detail}; heartbeats are sent every {} because of its timeout", render_duration(half)),
        )
        .remedy(Some("lower source.heartbeat_interval, or set source.manage_group = true"));
    }
    if group.order != source.in_order && !source.manage_group {
        return Check::warn(WHAT, format!("{detail}, which counts, not source.in_order"))
            .remedy(Some("set source.in_order to the same, or source.manage_group = true"));
    }
    Check::ok(WHAT, format!("{detail}; it goes on at its checkpoints"))
}

fn shard_lines(source: &SourceConfig, shards: &[ShardSurvey], report: &mut Report) {
    for shard in shards.iter().take(MOST_LINES) {
        report.add(shard_line(source, shard));
    }
    if let Some(rest) = shards.get(MOST_LINES..).filter(|rest| !rest.is_empty()) {
        let failed = rest.iter().filter(|shard| shard_line(source, shard).status == Status::Failed).count();
        let what = "other shards";
        let detail = format!("{} more", plural(rest.len(), "shard"));
        report.add(match failed {
            0 => Check::ok(what, detail),
            failed => Check::failed(what, format!("{detail}, of which {failed} cannot be read")),
        });
    }
    let holders: BTreeSet<&str> = shards.iter().filter_map(ShardSurvey::consumer).collect();
    if !holders.is_empty() {
        let names: Vec<_> = holders.into_iter().take(10).collect();
        report.add(Check::ok("consumers", format!("shards are or were last held by {}", names.join(", "))));
    }
}

fn shard_line(source: &SourceConfig, shard: &ShardSurvey) -> Check {
    let what = format!("shard {}", shard.info.shard);
    let mode = if shard.info.readonly { "readonly" } else { "readwrite" };
    let (oldest, newest) = match (&shard.oldest, &shard.newest) {
        (Ok(oldest), Ok(newest)) => (oldest, newest),
        (Err(error), _) | (_, Err(error)) => return Check::failed(what, error.to_string()).remedy(error.remedy()),
    };
    let logs = match oldest.received_s {
        None => format!("{mode}, empty, cursor {}", newest.cursor),
        Some(_) => format!("{mode}, oldest log {}, newest {}", shown_place(oldest), shown_place(newest)),
    };
    let checkpoint = match &shard.checkpoint {
        None => return Check::ok(what, logs),
        Some(Err(error)) if error.code_is("ConsumerGroupNotExist") => return Check::ok(what, logs),
        Some(Err(error)) => return Check::failed(what, format!("{logs}; {}", sentence(error))),
        Some(Ok(checkpoint)) => checkpoint,
    };
    let Checkpoint { cursor, update_time_us, .. } = checkpoint;
    let position = match cursor {
        None => "nothing committed".to_owned(),
        Some(cursor) => format!("checkpoint {cursor}, committed {}", utc(update_time_us / 1_000_000)),
    };
    match &shard.waiting_since {
        None => Check::ok(what, format!("{logs}; {position}; no log waits")),
        Some(Ok(since_s)) => Check::ok(what, format!("{logs}; {position}; logs wait since {}", utc(*since_s))),
        Some(Err(error)) if error.class() == ErrorClass::InvalidCursor => Check::warn(
            what,
            format!("{logs}; {position}, which is older than what SLS still holds"),
        )
        .remedy(Some(format!(
            "nothing can bring these logs back: {} goes on at the oldest log, and a gap record names what is missing",
            source.consumer_group
        ))),
        Some(Err(error)) => Check::failed(what, format!("{logs}; {position}; {}", sentence(error))),
    }
}

fn shown_place(place: &Place) -> String {
    match place.received_s {
        Some(received_s) => format!("{} (cursor {})", utc(received_s), place.cursor),
        None => format!("cursor {}", place.cursor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_sls_allows() {
        for (offset_s, status, words) in [
            (None, Status::Untried, "no answer"),
            (Some(-2), Status::Ok, "agree"),
            (Some(30), Status::Ok, "30 s behind"),
            (Some(-61), Status::Warn, "61 s ahead of"),
            (Some(900), Status::Warn, "900 s behind"),
            (Some(i64::MIN), Status::Failed, "SLS allows 900 s"),
        ] {
            let check = clock(offset_s);
            assert_eq!(check.status, status, "{offset_s:?}");
            assert!(check.detail.contains(words), "{}", check.detail);
        }
    }

    #[test]
    fn a_long_key_id_is_shown_in_part() {
        assert_eq!(shown_id("LTAI5tABCDEFGHIJ"), "LTAI5t…");
        assert_eq!(shown_id("short"), "short");
    }
}
