//! The judge: what a receiver has kept, held against what was put, committed and done to it.
//!
//! A run is cut into rounds, one for each salvo of faults. At the beginning of each, before anything is done, the
//! checkpoints are read; every delivery carries the round in which it was found in the receiver's file, which is that
//! of its cause or the next one.

use std::collections::BTreeMap;
use std::ops::Range;

/// One message that the receiver has kept, in the order of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The shard it came from.
    pub stream: usize,
    /// Its number there, from 0.
    pub number: u64,
    /// The round in which it was found.
    pub round: usize,
    /// The connection on which it came, where the receiver tells.
    pub connection: Option<usize>,
}

/// What happened in a round.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// Logs of each shard that checkpoints had passed when it began.
    pub committed: Vec<u64>,
    /// Connections that were opened.
    pub connections: u64,
    /// How often shards may have changed hands: each can repeat what its taker finds uncommitted.
    pub takeovers: u64,
    /// Bytes that may have been lost after they were acknowledged: buffers of sockets that died, and a dead receiver's
    /// own. Zero wherever nothing may be lost.
    pub lossy_bytes: u64,
}

/// What it found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Logs that never came.
    pub missing: u64,
    /// How many may be missing: as many as fit into the buffers that died.
    pub missing_bound: u64,
    /// Deliveries beyond the first.
    pub duplicates: u64,
    /// How many there may be: what was delivered and not committed, once for each connection and each change of hands.
    pub duplicates_bound: u64,
    /// First deliveries that fill a hole which a loss had torn.
    pub late: u64,
    /// Promises that were broken, in words.
    pub broken: Vec<String>,
}

/// How the judge calls a loss that nothing excuses.
pub const LOST: &str = "lost where nothing may be lost";

/// Judges: `produced` logs of each stream from 0 on, none of which takes fewer than `message_bytes` on the wire.
pub fn judge(produced: &[u64], rounds: &[Round], deliveries: &[Delivery], message_bytes: u64) -> Verdict {
    let mut judge = Judge {
        rounds,
        streams: produced.iter().map(|count| Stream::new(*count)).collect(),
        verdict: Verdict::default(),
        broken: BTreeMap::new(),
    };
    for delivery in deliveries {
        judge.delivery(delivery);
    }
    judge.finish(message_bytes)
}

struct Judge<'a> {
    rounds: &'a [Round],
    streams: Vec<Stream>,
    verdict: Verdict,
    /// Broken promises: how often, and the first case.
    broken: BTreeMap<&'static str, (u64, String)>,
}

struct Stream {
    /// For each number the rounds in which it came, and the connections.
    came: Vec<Vec<(usize, Option<usize>)>>,
    /// One above the highest number that came.
    next: u64,
    /// Holes that opened between one delivery and the next, with the round in which they were seen.
    holes: Vec<(Range<u64>, usize)>,
    /// `next` at the end of each round.
    reached: Vec<u64>,
}

impl Stream {
    fn new(produced: u64) -> Self {
        Self { came: vec![Vec::new(); produced as usize], next: 0, holes: Vec::new(), reached: Vec::new() }
    }

    fn hole_of(&self, number: u64) -> Option<usize> {
        self.holes.iter().find(|(range, _)| range.contains(&number)).map(|(_, round)| *round)
    }
}

impl Judge<'_> {
    fn break_promise(&mut self, promise: &'static str, case: impl FnOnce() -> String) {
        self.broken.entry(promise).or_insert_with(|| (0, case())).0 += 1;
    }

    /// The round and the one before: what is found in a round may have been on its way when it began.
    fn around(&self, round: usize) -> &[Round] {
        &self.rounds[round.saturating_sub(1)..=round]
    }

    fn was_lossy(&self, round: usize) -> bool {
        self.around(round).iter().any(|round| round.lossy_bytes > 0)
    }

    fn delivery(&mut self, delivery: &Delivery) {
        let Delivery { stream: s, number, round, connection } = *delivery;
        if self.streams.get(s).is_none_or(|stream| number >= stream.came.len() as u64) {
            return self.break_promise("delivered what was never put", || format!("{delivery:?}"));
        }
        let stream = &mut self.streams[s];
        stream.reached.resize(round, stream.next);
        let before = stream.came[number as usize].clone();
        stream.came[number as usize].push((round, connection));
        let next = stream.next;
        if number >= next {
            stream.next = number + 1;
            if number > next {
                stream.holes.push((next..number, round));
            }
        } else if before.is_empty() {
            let torn_in = stream.hole_of(number);
            match torn_in.is_some_and(|round| self.was_lossy(round)) {
                true => self.verdict.late += 1,
                false => {
                    self.break_promise("first delivered after a later log", || format!("{delivery:?}, after {next}"));
                }
            }
        }
        if !before.is_empty() {
            self.repetition(delivery, &before);
        }
    }

    fn repetition(&mut self, delivery: &Delivery, before: &[(usize, Option<usize>)]) {
        let Delivery { stream, number, round, connection } = *delivery;
        self.verdict.duplicates += 1;
        let committed = self.around(round)[0].committed[stream];
        if number < committed {
            self.break_promise("repeated what a checkpoint had passed", || {
                format!("{delivery:?}, where {committed} were committed before")
            });
        }
        // Each connection and each taker begins once at what is not confirmed, or not committed.
        let causes: u64 = self.around(round).iter().map(|round| round.connections + round.takeovers).sum();
        let lately = before.iter().filter(|(earlier, _)| earlier + 1 >= round);
        let times = lately.clone().count() as u64;
        if times > causes {
            self.break_promise("repeated without a cause", || {
                format!("{delivery:?}, after {times} times, with {causes} causes")
            });
        }
        // On one connection only who takes a shard over begins anew.
        let takeovers: u64 = self.around(round).iter().map(|round| round.takeovers).sum();
        let on_this = lately.filter(|(_, on)| connection.is_some() && *on == connection).count() as u64;
        if on_this > takeovers {
            self.break_promise("repeated on one connection", || format!("{delivery:?}, with {takeovers} takeovers"));
        }
    }

    fn finish(mut self, message_bytes: u64) -> Verdict {
        let lossy_bytes: u64 = self.rounds.iter().map(|round| round.lossy_bytes).sum();
        self.verdict.missing_bound = lossy_bytes.div_ceil(message_bytes.max(1));
        for s in 0..self.streams.len() {
            let produced = self.streams[s].came.len() as u64;
            let next = self.streams[s].next;
            self.streams[s].reached.resize(self.rounds.len(), next);
            for number in 0..produced {
                if !self.streams[s].came[number as usize].is_empty() {
                    continue;
                }
                self.verdict.missing += 1;
                // What nothing came after was lost when everything was well again.
                let excused = self.streams[s].hole_of(number).is_some_and(|round| self.was_lossy(round));
                if !excused {
                    self.break_promise(LOST, || format!("stream {s}, number {number}"));
                }
            }
        }
        if self.verdict.missing > self.verdict.missing_bound {
            let (missing, bound) = (self.verdict.missing, self.verdict.missing_bound);
            self.break_promise("lost more than fits into the buffers that died", || format!("{missing} of {bound}"));
        }
        for (index, round) in self.rounds.iter().enumerate() {
            let uncommitted: u64 = (self.streams.iter().zip(&round.committed))
                .map(|(stream, committed)| stream.reached[index].saturating_sub(*committed))
                .sum();
            self.verdict.duplicates_bound += uncommitted * (round.connections + round.takeovers);
        }
        if self.verdict.duplicates > self.verdict.duplicates_bound {
            let (duplicates, bound) = (self.verdict.duplicates, self.verdict.duplicates_bound);
            self.break_promise("repeated more than was uncommitted", || format!("{duplicates} of {bound}"));
        }
        let told = self.broken.iter().map(|(promise, (times, case))| format!("{promise}: {times} times, first {case}"));
        self.verdict.broken = told.collect();
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of one stream: what was committed when each began, and the connections opened in it.
    fn rounds(of: &[(u64, u64)]) -> Vec<Round> {
        let round = |(committed, connections): &(u64, u64)| Round {
            committed: vec![*committed],
            connections: *connections,
            ..Round::default()
        };
        of.iter().map(round).collect()
    }

    fn came(in_rounds: &[&[u64]]) -> Vec<Delivery> {
        let round = |(round, numbers): (usize, &&[u64])| {
            numbers
                .iter()
                .map(|number| Delivery { stream: 0, number: *number, round, connection: None })
                .collect::<Vec<_>>()
        };
        in_rounds.iter().enumerate().flat_map(round).collect()
    }

    fn broken(verdict: &Verdict) -> Vec<&str> {
        verdict.broken.iter().map(|what| what.split(':').next().unwrap()).collect()
    }

    const QUIET: &[(u64, u64)] = &[(0, 1), (3, 1), (6, 1)];

    #[test]
    fn everything_once_and_in_order_holds() {
        let verdict = judge(&[9], &rounds(QUIET), &came(&[&[0, 1, 2], &[3, 4, 5], &[6, 7, 8]]), 100);
        assert_eq!((verdict.missing, verdict.duplicates, broken(&verdict)), (0, 0, vec![]));
    }

    #[test]
    fn a_lost_log_is_found_in_the_middle_and_at_the_end() {
        let verdict = judge(&[9], &rounds(QUIET), &came(&[&[0, 1, 2], &[3, 5], &[6, 7]]), 100);
        assert_eq!(verdict.missing, 2);
        let expected = ["lost more than fits into the buffers that died", "lost where nothing may be lost"];
        assert_eq!(broken(&verdict), expected);
    }

    #[test]
    fn nothing_at_all_is_found() {
        assert_eq!(judge(&[9], &rounds(QUIET), &[], 100).missing, 9);
    }

    #[test]
    fn a_loss_is_excused_only_where_buffers_died_and_only_as_much_as_they_held() {
        let mut lossy = rounds(QUIET);
        lossy[1].lossy_bytes = 200;
        let verdict = judge(&[9], &lossy, &came(&[&[0, 1, 2], &[5], &[6, 7, 8]]), 100);
        assert_eq!((verdict.missing, verdict.missing_bound, broken(&verdict)), (2, 2, vec![]));
        let verdict = judge(&[9], &lossy, &came(&[&[0, 1, 2], &[], &[6, 7, 8]]), 100);
        assert_eq!(broken(&verdict), ["lost more than fits into the buffers that died"]);
        // The hole is of a round before the buffers died.
        let verdict = judge(&[9], &lossy, &came(&[&[0, 2], &[3, 4, 5], &[6, 7, 8]]), 100);
        assert_eq!(broken(&verdict), ["lost where nothing may be lost"]);
        // What comes last is sent when everything is well again.
        let verdict = judge(&[9], &lossy, &came(&[&[0, 1, 2], &[3, 4, 5], &[6, 7]]), 100);
        assert_eq!(broken(&verdict), ["lost where nothing may be lost"]);
    }

    #[test]
    fn what_overtakes_is_found_unless_a_loss_had_torn_the_hole() {
        let order = came(&[&[0, 1, 2], &[5, 3, 4], &[6, 7, 8]]);
        let verdict = judge(&[9], &rounds(QUIET), &order, 100);
        assert_eq!((verdict.missing, broken(&verdict)), (0, vec!["first delivered after a later log"]));
        let mut lossy = rounds(QUIET);
        lossy[1].lossy_bytes = 200;
        let verdict = judge(&[9], &lossy, &order, 100);
        assert_eq!((verdict.missing, verdict.late, broken(&verdict)), (0, 2, vec![]));
        // A loss excuses no disorder that comes later.
        let mut later = rounds(&[(0, 1), (3, 1), (3, 1), (6, 1)]);
        later[0].lossy_bytes = 200;
        let verdict = judge(&[9], &later, &came(&[&[0, 1, 2], &[], &[5, 3, 4], &[6, 7, 8]]), 100);
        assert_eq!(broken(&verdict), ["first delivered after a later log"]);
    }

    #[test]
    fn repetitions_are_counted_and_belong_to_what_was_not_committed() {
        let verdict = judge(&[9], &rounds(QUIET), &came(&[&[0, 1, 2], &[1, 2, 3, 4, 5], &[4, 5, 6, 7, 8]]), 100);
        assert_eq!((verdict.duplicates, broken(&verdict)), (4, vec![]));
        // In the last round 3 were committed when the one before began.
        let verdict = judge(&[9], &rounds(QUIET), &came(&[&[0, 1, 2], &[3, 4, 5], &[2, 6, 7, 8]]), 100);
        assert_eq!(broken(&verdict), ["repeated what a checkpoint had passed"]);
    }

    #[test]
    fn repetitions_have_a_cause_each() {
        // Two connections in these two rounds: the third repetition is one too many.
        let verdict = judge(&[6], &rounds(&[(0, 1), (0, 1)]), &came(&[&[0, 1, 2, 2], &[2, 2, 3, 4, 5]]), 100);
        assert_eq!((verdict.duplicates, broken(&verdict)), (3, vec!["repeated without a cause"]));
        let mut taken = rounds(&[(0, 1), (0, 1)]);
        taken[1].takeovers = 1;
        let verdict = judge(&[6], &taken, &came(&[&[0, 1, 2, 2], &[2, 2, 3, 4, 5]]), 100);
        assert_eq!(broken(&verdict), Vec::<&str>::new());
        let verdict = judge(&[6], &rounds(&[(0, 0), (3, 0)]), &came(&[&[0, 1, 2], &[2, 3, 4, 5]]), 100);
        assert_eq!(broken(&verdict), ["repeated more than was uncommitted", "repeated without a cause"]);
    }

    #[test]
    fn repetitions_on_one_connection_belong_to_takeovers() {
        let mut all = came(&[&[0, 1, 2], &[2, 3, 4]]);
        let mut connected = rounds(&[(0, 2), (1, 2)]);
        for (delivery, connection) in all.iter_mut().zip([1, 1, 1, 2, 2, 2]) {
            delivery.connection = Some(connection);
        }
        assert_eq!(broken(&judge(&[5], &connected, &all, 100)), Vec::<&str>::new());
        all.iter_mut().for_each(|delivery| delivery.connection = Some(1));
        assert_eq!(broken(&judge(&[5], &connected, &all, 100)), ["repeated on one connection"]);
        connected[1].takeovers = 1;
        assert_eq!(broken(&judge(&[5], &connected, &all, 100)), Vec::<&str>::new());
    }

    #[test]
    fn what_was_never_put_is_found() {
        let verdict = judge(&[3], &rounds(&[(0, 1)]), &came(&[&[0, 1, 2, 3]]), 100);
        assert_eq!(broken(&verdict), ["delivered what was never put"]);
    }
}
