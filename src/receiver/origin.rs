//! What the origin stamps say: of each shard, which events are missing, repeated or out of order.
//!
//! A stamp names the log group, the place in it, and the group's number of logs, so a group is known to be whole, and
//! whole groups are kept as ranges of cursors. Memory therefore grows with what is *not* in order: some 300 bytes for each
//! log group of which some logs came and others did not, 30 for each hole between groups; nothing for the rest.
//!
//! What stamps cannot tell: whether there were log groups before the first and behind the last of a shard, and whether a
//! cursor between them had a log group without logs, which no event stands for and which therefore counts as missing.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::wire::format::origin::{FoundGap, Stamp};

use super::ranges::Ranges;

/// Holes and gap records that are told one by one, for each shard.
const MAX_TOLD: usize = 100;
/// Shards that are told apart; events of more count as unstamped.
const MAX_SHARDS: usize = 100_000;

/// Takes stamps and gap records one by one.
#[derive(Debug, Default)]
pub struct Account {
    shards: Vec<Shard>,
    by_name: HashMap<String, usize>,
    name: String,
    unstamped: u64,
}

#[derive(Debug, Default)]
struct Shard {
    project: String,
    logstore: String,
    shard: u32,
    events: u64,
    repeated: u64,
    reordered: u64,
    /// Lowest and highest cursor.
    span: Option<(u64, u64)>,
    /// The furthest event.
    highest: Option<(u64, u64)>,
    /// Groups of which all logs came.
    whole: Ranges,
    /// The others, by cursor.
    parts: BTreeMap<u64, Part>,
    /// Batches whose cursor is no number.
    unnumbered: HashMap<String, Part>,
    gaps: BTreeMap<Gap, u64>,
}

/// A log group of which some logs came.
#[derive(Debug, Default)]
struct Part {
    logs: Option<u64>,
    seen: Ranges,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Gap {
    from: String,
    to: String,
    reason: String,
}

/// The verdict on all shards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OriginVerdict {
    /// Events with a stamp.
    pub events: u64,
    /// Those beyond the first delivery of each log.
    pub repeated: u64,
    /// First deliveries that came after a later log of their shard.
    pub reordered: u64,
    /// Log groups between the first and the last of their shard of which nothing came, and which no gap record names.
    pub missing_log_groups: u64,
    /// Logs of other groups that did not come, and which no gap record names.
    pub missing_events: u64,
    /// Lines and messages that have no stamp and are no gap record.
    pub unstamped: u64,
    /// Shard by shard.
    pub shards: Vec<ShardVerdict>,
}

/// The verdict on one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ShardVerdict {
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Shard.
    pub shard: u32,
    /// As [`OriginVerdict`].
    pub events: u64,
    /// As [`OriginVerdict`].
    pub repeated: u64,
    /// As [`OriginVerdict`].
    pub reordered: u64,
    /// Cursor of the first log group.
    pub first: Option<String>,
    /// Cursor of the last log group.
    pub last: Option<String>,
    /// Log groups of which anything came.
    pub log_groups: u64,
    /// As [`OriginVerdict`].
    pub missing_log_groups: u64,
    /// As [`OriginVerdict`].
    pub missing_events: u64,
    /// Where they are missing, the first hundred.
    pub holes: Vec<Hole>,
    /// How many more there are.
    pub more_holes: u64,
    /// Gap records, the first hundred.
    pub gap_records: Vec<GapVerdict>,
    /// How many more there are.
    pub more_gap_records: u64,
    /// Batches whose cursor is no number: between them nothing can be told.
    pub unnumbered: u64,
}

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Hole {
    /// Whole log groups.
    LogGroups {
        /// Cursor of the first.
        from: String,
        /// Cursor behind the last.
        to: String,
        /// How many.
        log_groups: u64,
    },
    /// Logs of one group.
    Events {
        /// The group's cursor, or that of a batch.
        cursor: String,
        /// Index of the first.
        from_index: u64,
        /// Index behind the last.
        to_index: u64,
        /// How many the group has.
        logs: Option<u64>,
    },
}

/// A gap record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GapVerdict {
    /// First cursor that it names.
    pub from: String,
    /// Cursor behind the last; the same as `from` for a single log.
    pub to: String,
    /// Why.
    pub reason: String,
    /// How often it came.
    pub times: u64,
}

impl Account {
    /// Takes a line or message: its stamp, or the gap record that it is. Whether it was either.
    pub fn line(&mut self, line: &[u8]) -> bool {
        if let Some(stamp) = Stamp::find(line)
            && let Some(shard) = self.shard(stamp.project, stamp.logstore, stamp.shard)
        {
            shard.event(&stamp);
            return true;
        }
        if let Some(gap) = FoundGap::find(line)
            && let Some(shard) = self.shard(gap.project, gap.logstore, gap.shard)
        {
            let gap = Gap { from: gap.from.into_owned(), to: gap.to.into_owned(), reason: gap.reason };
            *shard.gaps.entry(gap).or_default() += 1;
            return true;
        }
        self.unstamped += 1;
        false
    }

    fn shard(&mut self, project: &str, logstore: &str, shard: u32) -> Option<&mut Shard> {
        use std::fmt::Write as _;
        self.name.clear();
        let _ = write!(self.name, "{project}/{logstore}/{shard}");
        let at = match self.by_name.get(&self.name) {
            Some(at) => *at,
            None if self.shards.len() >= MAX_SHARDS => return None,
            None => {
                self.by_name.insert(self.name.clone(), self.shards.len());
                let (project, logstore) = (project.to_owned(), logstore.to_owned());
                self.shards.push(Shard { project, logstore, shard, ..Shard::default() });
                self.shards.len() - 1
            }
        };
        self.shards.get_mut(at)
    }

    /// The verdict so far; `None` if there was no stamped event and no gap record that names a shard.
    pub fn verdict(&self) -> Option<OriginVerdict> {
        if self.shards.is_empty() {
            return None;
        }
        let mut shards: Vec<ShardVerdict> = self.shards.iter().map(Shard::verdict).collect();
        shards.sort_by(|a, b| (&a.project, &a.logstore, a.shard).cmp(&(&b.project, &b.logstore, b.shard)));
        let sum = |of: fn(&ShardVerdict) -> u64| shards.iter().map(of).sum();
        Some(OriginVerdict {
            events: sum(|shard| shard.events),
            repeated: sum(|shard| shard.repeated),
            reordered: sum(|shard| shard.reordered),
            missing_log_groups: sum(|shard| shard.missing_log_groups),
            missing_events: sum(|shard| shard.missing_events),
            unstamped: self.unstamped,
            shards,
        })
    }
}

impl OriginVerdict {
    /// Whether anything is missing that no gap record names.
    pub fn is_complete(&self) -> bool {
        self.missing_log_groups == 0 && self.missing_events == 0
    }
}

impl Shard {
    fn event(&mut self, stamp: &Stamp<'_>) {
        self.events += 1;
        let Some(number) = number(&stamp.cursor).filter(|number| *number < u64::MAX) else {
            let part = self.unnumbered.entry(stamp.cursor.to_string()).or_default();
            let end = part.seen.end();
            match part.seen.insert(stamp.index) {
                true => self.reordered += u64::from(stamp.index < end),
                false => self.repeated += 1,
            }
            return;
        };
        let (first, last) = self.span.unwrap_or((number, number));
        self.span = Some((first.min(number), last.max(number)));
        if self.whole.contains(number) {
            self.repeated += 1;
            return;
        }
        let part = self.parts.entry(number).or_default();
        if !part.seen.insert(stamp.index) {
            self.repeated += 1;
            return;
        }
        part.logs = part.logs.max(stamp.logs);
        if part.logs == Some(part.seen.len()) {
            self.parts.remove(&number);
            self.whole.insert(number);
        }
        let place = Some((number, stamp.index));
        self.reordered += u64::from(place < self.highest);
        self.highest = self.highest.max(place);
    }

    fn verdict(&self) -> ShardVerdict {
        let mut verdict = ShardVerdict {
            project: self.project.clone(),
            logstore: self.logstore.clone(),
            shard: self.shard,
            events: self.events,
            repeated: self.repeated,
            reordered: self.reordered,
            first: self.span.map(|(first, _)| cursor(first)),
            last: self.span.map(|(_, last)| cursor(last)),
            log_groups: self.whole.len() + self.parts.len() as u64,
            unnumbered: self.unnumbered.len() as u64,
            ..ShardVerdict::default()
        };
        let (spans, mut singles) = self.named();
        if let Some((first, last)) = self.span {
            let mut known = self.whole.clone();
            self.parts.keys().for_each(|cursor| known.insert_range(*cursor, cursor + 1));
            for &(from, to) in &spans {
                known.insert_range(from.max(first), to.min(last));
            }
            for (from, to) in known.holes(first, last + 1) {
                // Each may have been a group of a single log, which its receiver did not take.
                let missing = to - from - singles.take(to, to - from);
                verdict.missing_log_groups += missing;
                let hole = Hole::LogGroups { from: cursor(from), to: cursor(to), log_groups: to - from };
                verdict.holes.extend((missing > 0).then_some(hole));
            }
        }
        let is_named = |cursor: &u64| spans.iter().any(|(from, to)| (from..to).contains(&cursor));
        let parts = self.parts.iter().filter(|(number, _)| !is_named(number));
        let parts = parts.map(|(number, part)| (cursor(*number), *number, part));
        let unnumbered = self.unnumbered.iter().map(|(cursor, part)| (cursor.clone(), u64::MAX, part));
        for (cursor, number, part) in parts.chain(unnumbered) {
            for (from, to) in part.seen.holes(0, part.logs.unwrap_or(part.seen.end())) {
                let missing = to - from - singles.take(number, to - from);
                verdict.missing_events += missing;
                let hole = Hole::Events { cursor: cursor.clone(), from_index: from, to_index: to, logs: part.logs };
                verdict.holes.extend((missing > 0).then_some(hole));
            }
        }
        verdict.more_holes = verdict.holes.len().saturating_sub(MAX_TOLD) as u64;
        verdict.holes.truncate(MAX_TOLD);
        verdict.more_gap_records = self.gaps.len().saturating_sub(MAX_TOLD) as u64;
        let told = self.gaps.iter().take(MAX_TOLD);
        verdict.gap_records = told
            .map(|(gap, times)| {
                let Gap { from, to, reason } = gap.clone();
                GapVerdict { from, to, reason, times: *times }
            })
            .collect();
        verdict
    }

    /// Cursors that gap records name, from and to (exclusive), and the single logs that they name.
    fn named(&self) -> (Vec<(u64, u64)>, Singles) {
        let (mut spans, mut singles) = (Vec::new(), Singles::default());
        for gap in self.gaps.keys() {
            let (from, to) = (number(&gap.from), number(&gap.to));
            if gap.from == gap.to {
                *singles.0.entry(from.unwrap_or(0)).or_default() += 1;
            } else if (gap.from.is_empty() || from.is_some()) && (gap.to.is_empty() || to.is_some()) {
                // Unknown ends are open ends.
                spans.push((from.unwrap_or(0), to.unwrap_or(u64::MAX)));
            }
        }
        (spans, singles)
    }
}

/// Gap records for single logs that a receiver did not take, by the cursor where the log's batch began: so the log is
/// somewhere from there on.
#[derive(Default)]
struct Singles(BTreeMap<u64, u64>);

impl Singles {
    /// Uses up to `wanted` of them for what is missing at this cursor; how many.
    fn take(&mut self, cursor: u64, wanted: u64) -> u64 {
        let mut taken = 0;
        for (_, left) in self.0.range_mut(..=cursor).rev() {
            let now = (*left).min(wanted - taken);
            *left -= now;
            taken += now;
        }
        taken
    }
}

fn number(cursor: &str) -> Option<u64> {
    Cursor::new(cursor)?.number()
}

fn cursor(number: u64) -> String {
    let mut text = Vec::new();
    Cursor::write_number(number, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, index: u64, logs: u64) -> String {
        format!("||__origin__=p/l/0/{}/{index}/{logs}||k=v", cursor(number))
    }

    fn account<'a>(lines: impl IntoIterator<Item = &'a String>) -> OriginVerdict {
        let mut account = Account::default();
        for line in lines {
            account.line(line.as_bytes());
        }
        account.verdict().unwrap()
    }

    /// Groups 10 to 19, of 1 to 10 logs.
    fn all() -> Vec<String> {
        (1..11).flat_map(|logs| (0..logs).map(move |index| line(9 + logs, index, logs))).collect()
    }

    fn sums(verdict: &OriginVerdict) -> [u64; 4] {
        [verdict.missing_log_groups, verdict.missing_events, verdict.repeated, verdict.reordered]
    }

    #[test]
    fn everything_once_and_in_order_is_complete_and_takes_no_memory() {
        let mut account = Account::default();
        all().iter().for_each(|line| assert!(account.line(line.as_bytes())));
        assert!(!account.line(b"no stamp"));
        let verdict = account.verdict().unwrap();
        assert_eq!(sums(&verdict), [0; 4]);
        assert!(verdict.is_complete());
        assert_eq!((verdict.events, verdict.unstamped), (55, 1));
        let shard = &verdict.shards[0];
        assert_eq!(
            (shard.first.clone(), shard.last.clone(), shard.log_groups),
            (Some(cursor(10)), Some(cursor(19)), 10)
        );
        assert_eq!((account.shards[0].parts.len(), account.shards[0].whole.len()), (0, 10));
        assert_eq!(account.shards[0].whole.holes(10, 20), []);
    }

    /// Any line, but where it is all of the first or last group: nothing says that there was one.
    #[test]
    fn a_line_that_was_removed_doubled_or_swapped_is_told_exactly() {
        let all = all();
        for at in 1..all.len() {
            let mut fewer = all.clone();
            fewer.remove(at);
            let verdict = account(&fewer);
            let whole_group = u64::from(at == 0);
            assert_eq!(sums(&verdict), [whole_group, 1 - whole_group, 0, 0], "{at}");
            let Hole::Events { cursor, from_index, to_index, logs } = verdict.shards[0].holes[0].clone() else {
                panic!("{verdict:?}")
            };
            assert_eq!((super::number(&cursor).unwrap() - 9, to_index), (logs.unwrap(), from_index + 1));
            assert_eq!(all[at], line(9 + logs.unwrap(), from_index, logs.unwrap()));

            let mut doubled = all.clone();
            doubled.push(all[at].clone());
            assert_eq!(sums(&account(&doubled)), [0, 0, 1, 0]);

            let mut swapped = all.clone();
            swapped.swap(at - 1, at);
            assert_eq!(sums(&account(&swapped)), [0, 0, 0, 1]);
        }
        let without_groups: Vec<String> =
            all.iter().filter(|l| ![13, 14].iter().any(|n| l.contains(&cursor(*n)))).cloned().collect();
        let verdict = account(&without_groups);
        assert_eq!(sums(&verdict), [2, 0, 0, 0]);
        assert_eq!(verdict.shards[0].holes, [Hole::LogGroups { from: cursor(13), to: cursor(15), log_groups: 2 }]);
    }

    #[test]
    fn what_a_gap_record_names_is_not_missing() {
        let gap = |from: &str, to: &str, reason: &str| {
            format!("<11>1 - h a - gap - ||project=p||logstore=l||shard=0||from={from}||to={to}||reason={reason}")
        };
        let mut lines: Vec<String> = all().into_iter().filter(|line| !line.contains(&cursor(13))).collect();
        lines.push(gap(&cursor(13), &cursor(14), "expired"));
        lines.push(gap(&cursor(13), &cursor(14), "expired"));
        let verdict = account(&lines);
        assert!(verdict.is_complete(), "{verdict:?}");
        assert_eq!(verdict.shards[0].gap_records[0].times, 2);
        // A single log of group 16 that the receiver did not take; the record names where its batch began.
        lines.retain(|line| *line != super::tests::line(16, 3, 7));
        assert!(!account(&lines).is_complete());
        lines.push(gap(&cursor(15), &cursor(15), "too long"));
        assert!(account(&lines).is_complete());
        // It is one log, however often it was told, and none of those before it.
        lines.push(gap(&cursor(15), &cursor(15), "too long"));
        lines.retain(|line| *line != super::tests::line(14, 3, 5));
        assert_eq!(account(&lines).missing_events, 1);
        // An end that is not known is open.
        lines.push(gap("", &cursor(15), "unknown"));
        assert!(account(&lines).is_complete());
    }

    #[test]
    fn batches_without_number_are_told_apart_and_only_within() {
        let opaque = |cursor: &str, index: u64| format!("||__origin__=p/l/0/{cursor}/{index}/0||k=v");
        let lines = [
            opaque("x_1", 0),
            opaque("x_2", 0),
            opaque("x_1", 2),
            opaque("x_1", 2),
            opaque("x_3", 1),
            opaque("x_3", 0),
        ];
        let verdict = account(&lines);
        assert_eq!(sums(&verdict), [0, 1, 1, 1]);
        assert_eq!(verdict.shards[0].unnumbered, 3);
    }

    #[test]
    fn shards_are_judged_apart() {
        let lines: Vec<String> = [3, 11, 2]
            .iter()
            .flat_map(|shard| all().into_iter().map(move |l| l.replace("/l/0/", &format!("/l/{shard}/"))))
            .collect();
        let verdict = account(&lines);
        assert_eq!(verdict.shards.iter().map(|shard| shard.shard).collect::<Vec<_>>(), [2, 3, 11]);
        assert_eq!((verdict.events, sums(&verdict)), (165, [0; 4]));
    }
}
