//! What one look at a group found, judged and written down.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sls_syslog_actors::config::SourceConfig;
use sls_syslog_actors::wire::sls::error::{ErrorClass, SlsError};
use sls_syslog_actors::wire::sls::reply::ConsumerGroup;
use sls_syslog_actors::wire::text::escape_foreign;

use crate::survey::{FOR_EVER_DAYS, ShardSurvey};
use crate::terminal::{Mark, Style, utc, wrap};

/// A group at one moment.
#[derive(Debug)]
pub struct GroupStatus {
    project: String,
    logstore: String,
    name: String,
    /// By SLS's clock.
    now_s: i64,
    ttl_days: Option<u32>,
    /// `None` if there is no such group.
    group: Option<ConsumerGroup>,
    /// Other groups of the logstore.
    others: Vec<String>,
    shards: Vec<Row>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    shard: u32,
    readonly: bool,
    /// Who holds it or held it last.
    owner: Option<String>,
    checkpoint: Option<String>,
    /// When SLS received the log at the checkpoint; at the end of the shard, the last log before it.
    checkpoint_time_s: Option<i64>,
    /// When the checkpoint was committed.
    committed_s: Option<i64>,
    lag: Lag,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Lag {
    /// Everything is committed.
    None,
    /// The oldest log that is not committed has waited for so long.
    Seconds(i64),
    /// The checkpoint is older than what SLS holds.
    Expired,
    /// It cannot be read.
    Unknown(String),
}

/// A shard is said to stand still after this long without a commit, and no sooner than two time-outs of its group.
const STILL_S: i64 = 60;
/// Names of a list that are shown.
const MOST_NAMES: usize = 20;
const LONGEST_NAME: usize = 60;

impl GroupStatus {
    /// Puts together what was read.
    pub fn of(
        source: &SourceConfig,
        now_s: i64,
        ttl_days: Option<u32>,
        group: Option<ConsumerGroup>,
        others: Vec<String>,
        shards: &[ShardSurvey],
    ) -> Self {
        Self {
            project: source.project.clone(),
            logstore: source.logstore.clone(),
            name: source.consumer_group.clone(),
            now_s,
            ttl_days,
            group,
            others,
            shards: shards.iter().map(|shard| Row::of(shard, now_s)).collect(),
        }
    }

    /// Owners with the shards that each holds or held last.
    fn owners(&self) -> BTreeMap<&str, Vec<u32>> {
        let mut owners: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for row in &self.shards {
            if let Some(owner) = &row.owner {
                owners.entry(owner).or_default().push(row.shard);
            }
        }
        owners
    }

    /// What somebody should look at.
    pub fn warnings(&self) -> Vec<String> {
        let Some(group) = &self.group else {
            let others = match self.others.as_slice() {
                [] => "the logstore has no group at all".to_owned(),
                others => format!("the logstore has {}", list(others.iter().map(String::as_str))),
            };
            return vec![format!("consumer group {} does not exist: nobody has started yet; {others}", self.name)];
        };
        let mut warnings = Vec::new();
        let shards_where = |holds: &dyn Fn(&Row) -> bool| -> Vec<u32> {
            self.shards.iter().filter(|row| holds(row)).map(|row| row.shard).collect()
        };
        let mut warn = |shards: Vec<u32>, what: &str| {
            if !shards.is_empty() {
                let plural = if shards.len() == 1 { "" } else { "s" };
                warnings.push(format!("shard{plural} {}: {what}", list(shards.iter().map(u32::to_string))));
            }
        };
        warn(
            shards_where(&|row| row.owner.is_none() && !(row.readonly && row.lag == Lag::None)),
            "no owner; start a consumer, or wait until SLS has given them out",
        );
        let still_s = STILL_S.max(2 * i64::from(group.timeout_s));
        warn(
            shards_where(&|row| {
                let idle = row.committed_s.is_none_or(|committed_s| self.now_s - committed_s > still_s);
                row.owner.is_some() && idle && matches!(row.lag, Lag::Seconds(lag_s) if lag_s > still_s)
            }),
            "logs wait and nothing is committed; the consumer is gone, or its receiver takes nothing",
        );
        warn(
            shards_where(&|row| row.lag == Lag::Expired),
            "the checkpoint is older than what SLS still holds: logs are lost",
        );
        if let Some(days) = self.ttl_days.filter(|days| *days < FOR_EVER_DAYS) {
            let near_s = i64::from(days) * 86_400 / 5 * 4;
            warn(
                shards_where(&|row| matches!(row.lag, Lag::Seconds(lag_s) if lag_s >= near_s)),
                &format!("the lag nears the retention of {days} days: logs will be lost"),
            );
        }
        for row in &self.shards {
            if let Lag::Unknown(why) = &row.lag {
                warnings.push(format!("shard {}: {why}", row.shard));
            }
        }
        let (consumers, open) = (self.owners().len(), self.shards.iter().filter(|row| !row.readonly).count());
        if consumers > open {
            warnings.push(format!(
                "{consumers} consumers for {open} shards that still receive logs: some will hold nothing"
            ));
        }
        warnings
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let shards: Vec<Value> = self.shards.iter().map(Row::to_json).collect();
        json!({
            "project": self.project, "logstore": self.logstore, "group": self.name, "exists": self.group.is_some(),
            "time": self.now_s, "timeout_s": self.group.as_ref().map(|group| group.timeout_s),
            "order": self.group.as_ref().map(|group| group.order), "retention_days": self.ttl_days,
            "shards": shards, "warnings": self.warnings(),
        })
    }

    /// For people.
    pub fn render(&self, style: Style) -> String {
        let title = format!(
            "Consumer group {} of logstore {}, project {}, {}",
            self.name,
            self.logstore,
            self.project,
            utc(self.now_s)
        );
        let mut out = format!("{}\n", style.mark(Mark::Heading, &wrap(&title, 0, 2)));
        if let Some(group) = &self.group {
            let order = if group.order { "on" } else { "off" };
            let kept = match self.ttl_days {
                Some(FOR_EVER_DAYS..) => "logs are kept for ever".to_owned(),
                Some(days) => format!("logs are kept for {days} days"),
                None => "how long logs are kept is not told".to_owned(),
            };
            out += &format!("{}\n\n", wrap(&format!("timeout {} s, order {order}, {kept}", group.timeout_s), 0, 2));
            out += &self.table(style);
        }
        let warnings = self.warnings();
        if !warnings.is_empty() {
            out.push('\n');
        }
        for warning in warnings {
            out += &format!("{}    {}\n", style.mark(Mark::Notable, "warn"), wrap(&warning, 8, 8));
        }
        out
    }

    fn table(&self, style: Style) -> String {
        let owners = self.owners();
        let letter = |owner: &str| owners.keys().position(|name| *name == owner).map_or_else(String::new, letters);
        let head = format!(
            "{:>5}  {:<5} {:<28} {:<20} {:>7} {:>7}",
            "shard", "owner", "checkpoint", "its time", "lag s", "idle s"
        );
        let mut out = format!("{}\n", style.mark(Mark::Heading, &head));
        for row in &self.shards {
            let owner = row.owner.as_deref().map_or_else(|| "-".to_owned(), letter);
            let checkpoint = row.checkpoint.as_deref().map_or_else(|| "-".to_owned(), |text| cut(text, 28));
            let time = row.checkpoint_time_s.map_or_else(|| "-".to_owned(), utc);
            let lag = match &row.lag {
                Lag::None => "0".to_owned(),
                Lag::Seconds(seconds) => seconds.to_string(),
                Lag::Expired => "lost".to_owned(),
                Lag::Unknown(_) => "?".to_owned(),
            };
            let idle = row.committed_s.map_or_else(|| "-".to_owned(), |at_s| (self.now_s - at_s).max(0).to_string());
            let mode = if row.readonly { 'r' } else { ' ' };
            out += &format!("{:>5}{mode} {owner:<5} {checkpoint:<28} {time:<20} {lag:>7} {idle:>7}\n", row.shard);
        }
        out.push('\n');
        if self.shards.iter().any(|row| row.readonly) {
            out += "r: readonly, it was split or merged and receives nothing any more\n";
        }
        for (n, (owner, shards)) in owners.iter().enumerate() {
            let plural = if shards.len() == 1 { "" } else { "s" };
            let line = format!("{}, {} shard{plural}", escape_foreign(owner, LONGEST_NAME), shards.len());
            out += &format!("{:<3} {}\n", letters(n), wrap(&line, 4, 4));
        }
        out
    }
}

impl Row {
    fn of(survey: &ShardSurvey, now_s: i64) -> Self {
        let unknown = |error: &SlsError| Lag::Unknown(error.to_string());
        let newest = survey.newest.as_ref();
        let lag = match (&survey.checkpoint, &survey.waiting_since) {
            (Some(Err(error)), _) => unknown(error),
            (_, Some(Ok(since_s))) => Lag::Seconds(now_s.saturating_sub(*since_s).max(0)),
            (_, Some(Err(error))) if error.class() == ErrorClass::InvalidCursor => Lag::Expired,
            (_, Some(Err(error))) => unknown(error),
            (_, None) => newest.err().or(survey.oldest.as_ref().err()).map_or(Lag::None, unknown),
        };
        let checkpoint = survey.checkpoint.as_ref().and_then(|answer| answer.as_ref().ok());
        let cursor = checkpoint.and_then(|checkpoint| checkpoint.cursor.as_ref());
        let at = match &survey.waiting_since {
            Some(since) => since.as_ref().ok().copied(),
            None => newest.ok().and_then(|place| place.received_s),
        };
        let committed_us = checkpoint.map_or(0, |checkpoint| checkpoint.update_time_us);
        Self {
            shard: survey.info.shard.0,
            readonly: survey.info.readonly,
            owner: survey.consumer().map(str::to_owned),
            checkpoint: cursor.map(ToString::to_string),
            checkpoint_time_s: cursor.and(at),
            committed_s: (committed_us > 0).then_some(committed_us / 1_000_000),
            lag,
        }
    }

    fn to_json(&self) -> Value {
        let (lag_s, problem) = match &self.lag {
            Lag::None => (Some(0), None),
            Lag::Seconds(seconds) => (Some(*seconds), None),
            Lag::Expired => (None, Some("checkpoint expired")),
            Lag::Unknown(why) => (None, Some(why.as_str())),
        };
        json!({
            "shard": self.shard, "readonly": self.readonly, "owner": self.owner, "checkpoint": self.checkpoint,
            "checkpoint_time": self.checkpoint_time_s, "committed": self.committed_s, "lag_s": lag_s,
            "problem": problem,
        })
    }
}

/// A, B, … Z, AA, AB, …
fn letters(n: usize) -> String {
    let last = char::from(b'A' + (n % 26) as u8);
    if n < 26 { last.to_string() } else { letters(n / 26 - 1) + &last.to_string() }
}

fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}

fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let mut shown = Vec::new();
    let mut more = 0;
    for name in names {
        if shown.len() < MOST_NAMES {
            shown.push(escape_foreign(name.as_ref(), LONGEST_NAME));
        } else {
            more += 1;
        }
    }
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_045;

    fn row(shard: u32, owner: Option<&str>, lag: Lag) -> Row {
        Row {
            shard,
            readonly: false,
            owner: owner.map(str::to_owned),
            checkpoint: Some("MTQ0NzI5OTYwNjg5NjYzMjM1Ng==".to_owned()),
            checkpoint_time_s: Some(NOW - 10),
            committed_s: Some(NOW - 3),
            lag,
        }
    }

    fn status(shards: Vec<Row>) -> GroupStatus {
        GroupStatus {
            project: "shop".to_owned(),
            logstore: "access".to_owned(),
            name: "siem".to_owned(),
            now_s: NOW,
            ttl_days: Some(10),
            group: Some(ConsumerGroup { name: "siem".to_owned(), timeout_s: 40, order: false }),
            others: vec!["other".to_owned()],
            shards,
        }
    }

    #[test]
    fn a_group_that_keeps_up_has_no_warning() {
        let finished = Row { readonly: true, ..row(2, None, Lag::None) };
        let status = status(vec![row(0, Some("b"), Lag::None), row(1, Some("a"), Lag::Seconds(12)), finished]);
        assert_eq!(status.warnings(), [""; 0]);
        assert_eq!(
            status.render(Style::Plain),
            "\
Consumer group siem of logstore access, project shop, 2026-01-02T03:04:05Z
timeout 40 s, order off, logs are kept for 10 days

shard  owner checkpoint                   its time               lag s  idle s
    0  B     MTQ0NzI5OTYwNjg5NjYzMjM1Ng== 2026-01-02T03:03:55Z       0       3
    1  A     MTQ0NzI5OTYwNjg5NjYzMjM1Ng== 2026-01-02T03:03:55Z      12       3
    2r -     MTQ0NzI5OTYwNjg5NjYzMjM1Ng== 2026-01-02T03:03:55Z       0       3

r: readonly, it was split or merged and receives nothing any more
A   a, 1 shard
B   b, 1 shard
"
        );
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_warning() {
        let still = Row { committed_s: Some(NOW - 500), ..row(0, Some("a"), Lag::Seconds(400)) };
        let old = row(0, Some("a"), Lag::Seconds(8 * 86_400));
        let read_out = Row { readonly: true, ..row(1, Some("b"), Lag::None) };
        let never = Row { checkpoint: None, committed_s: None, ..row(0, None, Lag::Seconds(5)) };
        for (shards, warning) in [
            (vec![never.clone(), Row { shard: 3, ..never }], "shards 0, 3: no owner; start a consumer, or wait"),
            (vec![still], "shard 0: logs wait and nothing is committed; the consumer is gone"),
            (vec![row(0, Some("a"), Lag::Expired)], "shard 0: the checkpoint is older than what SLS still holds"),
            (vec![old], "shard 0: the lag nears the retention of 10 days"),
            (vec![row(0, Some("a"), Lag::Unknown("refused".to_owned()))], "shard 0: refused"),
            (vec![row(0, Some("a"), Lag::None), read_out], "2 consumers for 1 shards that still receive logs"),
        ] {
            let status = status(shards);
            let warnings = status.warnings();
            assert!(warnings.len() == 1 && warnings[0].starts_with(warning), "{warnings:?}");
            assert!(status.render(Style::Plain).lines().all(|line| line.chars().count() <= 80));
        }
        let missing = GroupStatus { group: None, ..status(Vec::new()) };
        assert_eq!(
            missing.warnings(),
            ["consumer group siem does not exist: nobody has started yet; the logstore has other"]
        );
    }

    #[test]
    fn many_owners_have_names_too() {
        assert_eq!([0, 25, 26, 27, 52, 701, 702].map(letters), ["A", "Z", "AA", "AB", "BA", "ZZ", "AAA"]);
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
    }
}
