//! Which worker reads which shard: the one with the fewest, the lowest number where there are several.

/// How many shards each worker reads.
#[derive(Debug)]
pub struct Routing {
    loads: Vec<usize>,
}

impl Routing {
    /// No shard yet on `workers` workers (at least one).
    pub fn new(workers: usize) -> Self {
        Self { loads: vec![0; workers.max(1)] }
    }

    /// Chooses a worker for one more shard.
    pub fn assign(&mut self) -> usize {
        let (worker, load) = self.loads.iter_mut().enumerate().min_by_key(|(_, load)| **load).expect("at least one");
        *load += 1;
        worker
    }

    /// A shard of `worker` has ended.
    pub fn release(&mut self, worker: usize) {
        if let Some(load) = self.loads.get_mut(worker) {
            *load = load.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_spread_evenly_and_free_places_are_used_first() {
        let mut routing = Routing::new(3);
        let first: Vec<usize> = (0..6).map(|_| routing.assign()).collect();
        assert_eq!(first, [0, 1, 2, 0, 1, 2]);
        routing.release(1);
        assert_eq!(routing.assign(), 1);
    }
}
