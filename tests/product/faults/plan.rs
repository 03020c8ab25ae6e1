//! What goes wrong, in which order: made of a seed, so that the seed makes it again.

use super::network::Loss;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// After so many bytes, wherever in a frame that is, the receiver's side half-closes, and reads to the end.
    CutMidFrame { after: u64 },
    /// One side has ended, and the other does not hear of it, or what it still sent lies unread.
    HalfOpen { after: u64 },
    /// Nothing gets through any more, either way, and nobody says so.
    BlackHole { after: u64 },
    /// Nothing gets through one way: the answers where there are any, else what is sent.
    OneWayLoss { after: u64 },
    /// What is sent is read a little at a time.
    SlowReader { after: u64 },
    /// After so many bytes, a reset.
    Reset { after: u64 },
    /// The next connection opens, and nobody answers its handshake.
    TlsStall { after: u64 },
    /// The next connections open, and end at once.
    AcceptThenDie { times: u8 },
    /// SIGKILL of a forwarder, after so many bytes of a burst.
    KillForwarder { after: u64 },
    /// SIGSTOP of a forwarder, until its shards have gone elsewhere.
    HangForwarder { after: u64 },
    /// SIGKILL of the receiver, after so many bytes of a burst.
    KillReceiver { after: u64 },
    /// Packets are lost, below TCP.
    Partition { loss: Loss },
}

/// The kinds, as the table names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    CutMidFrame,
    HalfOpen,
    BlackHole,
    OneWayLoss,
    SlowReader,
    AcceptThenDie,
    TlsStall,
    Reset,
    KillReceiver,
    KillForwarder,
    HangForwarder,
    Partition,
    Unplugged,
}

impl Kind {
    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CutMidFrame => "cut mid-frame",
            Self::HalfOpen => "half-open",
            Self::BlackHole => "black hole",
            Self::OneWayLoss => "one-way loss",
            Self::SlowReader => "slow reader",
            Self::AcceptThenDie => "accept, then die",
            Self::TlsStall => "TLS stall",
            Self::Reset => "reset",
            Self::KillReceiver => "receiver killed",
            Self::KillForwarder => "forwarder killed",
            Self::HangForwarder => "forwarder hangs",
            Self::Partition => "partition",
            Self::Unplugged => "cable unplugged",
        }
    }

    /// Whether it concerns more than a connection, and so comes alone.
    fn comes_alone(self) -> bool {
        let of_a_process = matches!(self, Self::KillReceiver | Self::KillForwarder | Self::HangForwarder);
        of_a_process || matches!(self, Self::Partition | Self::Unplugged)
    }

    /// Whether its recovery waits for a lease to run out.
    fn moves_leases(self) -> bool {
        matches!(self, Self::KillForwarder | Self::HangForwarder)
    }

    fn fault(self, rng: &mut fastrand::Rng) -> Fault {
        let after = rng.u64(1..MOST_BYTES_BEFORE);
        match self {
            Self::CutMidFrame => Fault::CutMidFrame { after },
            Self::HalfOpen => Fault::HalfOpen { after },
            Self::BlackHole => Fault::BlackHole { after },
            Self::OneWayLoss => Fault::OneWayLoss { after },
            Self::SlowReader => Fault::SlowReader { after },
            Self::AcceptThenDie => Fault::AcceptThenDie { times: rng.u8(1..4) },
            Self::TlsStall => Fault::TlsStall { after },
            Self::Reset => Fault::Reset { after },
            Self::KillReceiver => Fault::KillReceiver { after },
            Self::KillForwarder => Fault::KillForwarder { after },
            Self::HangForwarder => Fault::HangForwarder { after },
            Self::Partition => {
                let losses = [Loss::Both, Loss::ToReceiver, Loss::FromReceiver];
                Fault::Partition { loss: losses[rng.usize(0..losses.len())] }
            }
            Self::Unplugged => Fault::Partition { loss: Loss::Unplugged },
        }
    }
}

/// A burst has more for each forwarder, so that a fault strikes within it.
const MOST_BYTES_BEFORE: u64 = 40_000;

/// Faults that strike together: each at a forwarder, or at its connection.
pub type Salvo = Vec<(usize, Kind, Fault)>;

/// So many faults of these kinds, each kind as often as the others, in salvos over so many forwarders. Those of
/// more than a connection come alone; those that wait for a lease to run out, a third as often.
pub fn plan(seed: u64, kinds: &[Kind], faults: usize, forwarders: usize) -> Vec<Salvo> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut bag, mut lap): (Vec<Kind>, usize) = (Vec::new(), 0);
    let mut salvos: Vec<Salvo> = Vec::new();
    let mut room = 0;
    for _ in 0..faults {
        if bag.is_empty() {
            bag.extend(kinds.iter().filter(|kind| lap % 3 == 0 || !kind.moves_leases()));
            rng.shuffle(&mut bag);
            lap += 1;
        }
        let kind = bag.pop().expect("at least one kind");
        let target = rng.usize(0..forwarders);
        let fault = kind.fault(&mut rng);
        match salvos.last_mut() {
            Some(salvo) if room > 0 && !kind.comes_alone() && salvo.iter().all(|(at, ..)| *at != target) => {
                salvo.push((target, kind, fault));
                room -= 1;
            }
            _ => {
                salvos.push(vec![(target, kind, fault)]);
                room = if kind.comes_alone() { 0 } else { rng.usize(0..forwarders) };
            }
        }
    }
    salvos
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: &[Kind] = &[Kind::CutMidFrame, Kind::Reset, Kind::SlowReader, Kind::KillForwarder];

    #[test]
    fn a_seed_makes_the_same_plan_again_and_another_seed_another() {
        assert_eq!(plan(7, KINDS, 50, 3), plan(7, KINDS, 50, 3));
        assert_ne!(plan(7, KINDS, 50, 3), plan(8, KINDS, 50, 3));
    }

    #[test]
    fn a_plan_has_every_kind_and_as_many_faults_as_asked_for() {
        for seed in 0..50 {
            let plan = plan(seed, KINDS, 30, 3);
            assert_eq!(plan.iter().map(Vec::len).sum::<usize>(), 30);
            let all: Vec<Kind> = plan.iter().flatten().map(|(_, kind, _)| *kind).collect();
            assert!(KINDS.iter().all(|kind| all.contains(kind)), "{all:?}");
            for salvo in &plan {
                assert!(salvo.len() == 1 || salvo.iter().all(|(_, kind, _)| !kind.comes_alone()), "{salvo:?}");
                let targets: std::collections::BTreeSet<_> = salvo.iter().map(|(at, ..)| at).collect();
                assert_eq!(targets.len(), salvo.len(), "one fault at a time for each: {salvo:?}");
            }
        }
    }
}
