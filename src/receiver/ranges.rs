//! Sets of numbers that mostly follow each other, kept as ranges: memory grows with the holes, not with the numbers.

use std::collections::BTreeMap;

/// A set of numbers below `u64::MAX`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Disjoint ranges that do not touch, from start to end (exclusive).
    ranges: BTreeMap<u64, u64>,
    numbers: u64,
}

impl Ranges {
    /// Adds a number; whether it is new.
    pub fn insert(&mut self, number: u64) -> bool {
        let new = !self.contains(number);
        if new {
            self.insert_range(number, number + 1);
        }
        new
    }

    /// Adds all numbers from `from` up to `to` (exclusive).
    pub fn insert_range(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut start, mut end) = (from, to);
        if let Some((before, its_end)) = self.ranges.range(..=from).next_back().map(|(start, end)| (*start, *end))
            && its_end >= from
        {
            start = before;
        }
        while let Some((other, its_end)) = self.ranges.range(start..=end).next().map(|(start, end)| (*start, *end)) {
            end = end.max(its_end);
            self.ranges.remove(&other);
            self.numbers -= its_end - other;
        }
        self.ranges.insert(start, end);
        self.numbers += end - start;
    }

    /// Whether the number is there.
    pub fn contains(&self, number: u64) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.numbers
    }

    /// The number behind the highest; 0 if there is none.
    pub fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// The ranges from `from` up to `to` (exclusive) in which there is no number.
    pub fn holes(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut at = from;
        let before = self.ranges.range(..=from).next_back().map(|(start, _)| *start).unwrap_or(from);
        for (&start, &end) in self.ranges.range(before..to.max(before)) {
            if start > at {
                holes.push((at, start));
            }
            at = at.max(end);
        }
        if at < to {
            holes.push((at, to));
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_are_the_set_that_they_stand_for() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut ranges, mut naive) = (Ranges::default(), BTreeSet::new());
            for _ in 0..60 {
                if random.u8(0..3) > 0 {
                    let number = random.u64(0..50);
                    assert_eq!(ranges.insert(number), naive.insert(number));
                } else {
                    let (from, to) = (random.u64(0..50), random.u64(0..50));
                    ranges.insert_range(from, to);
                    naive.extend(from..to);
                }
                assert_eq!(ranges.len(), naive.len() as u64);
                assert_eq!(ranges.end(), naive.last().map_or(0, |last| last + 1));
                let (from, to) = (random.u64(0..60), random.u64(0..60));
                let holes: Vec<u64> = ranges.holes(from, to).into_iter().flat_map(|(from, to)| from..to).collect();
                let expected: Vec<u64> = (from..to).filter(|number| !naive.contains(number)).collect();
                assert_eq!(holes, expected, "{from}..{to} of {ranges:?}");
            }
            let touching = ranges.ranges.iter().zip(ranges.ranges.iter().skip(1)).any(|(one, two)| one.1 >= two.0);
            assert!(!touching, "{ranges:?}");
        }
    }
}
