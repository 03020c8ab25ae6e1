//! The window against a naive model: a list of messages, each answered or not.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    /// So many bytes of what is still to be sent are offered.
    Offer(usize),
    /// One of the unanswered messages is answered, counted round their number.
    Answer(usize),
    /// An answer that is not due: again, too early, or to nothing; `true` ends the run.
    Lie(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1..200_usize).prop_map(Op::Offer),
        1 => Just(Op::Offer(usize::MAX)),
        8 => (0..64_usize).prop_map(Op::Answer),
        1 => (0..64_usize).prop_map(Op::Lie),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_history_confirms_a_message_before_it_and_all_before_it_are_answered(
        size in 1..20_usize,
        lengths in prop::collection::vec(0..60_usize, 1..60),
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let mut session = Session::new(size);
        let mut frames = Vec::new();
        // Of each message, where it ends in the caller's bytes.
        let mut ends = Vec::new();
        for length in &lengths {
            frames.extend(format!("{length} ").into_bytes());
            frames.extend(std::iter::repeat_n(b'x', *length));
            ends.push(frames.len());
        }
        let (mut taken, mut answered) = (0, vec![false; lengths.len()]);
        for op in ops {
            // A message is sent once it was taken whole.
            let sent = ends.iter().filter(|end| **end <= taken).count();
            let open: Vec<usize> = (0..sent).filter(|at| !answered[*at]).collect();
            match op {
                Op::Offer(most) => {
                    let offer = &frames[taken..frames.len().min(taken.saturating_add(most))];
                    if offer.is_empty() {
                        continue;
                    }
                    // A slice that ends within a count is the caller's, who offers more of it then.
                    let begins = taken == 0 || ends.contains(&taken);
                    if begins && octet_count(offer).is_none() {
                        continue;
                    }
                    if let Some(n) = session.write(offer) {
                        taken += n.unwrap();
                    }
                    session.sent();
                    let begun = ends.iter().filter(|end| **end < taken).count() + usize::from(taken > 0);
                    let confirmed = answered.iter().take_while(|answered| **answered).count();
                    prop_assert!(begun.saturating_sub(confirmed) <= size, "{begun} begun, {confirmed} confirmed");
                }
                Op::Answer(pick) if !open.is_empty() => {
                    let at = open[pick % open.len()];
                    answered[at] = true;
                    let ended = session.hear(format!("{} rsp 6 200 OK\n", at + 2).as_bytes());
                    prop_assert!(ended.is_none());
                }
                Op::Answer(_) => {}
                Op::Lie(pick) => {
                    let lies: Vec<usize> = (0..lengths.len() + 3).filter(|at| !open.contains(at)).collect();
                    let at = lies[pick % lies.len()];
                    let ended = session.hear(format!("{} rsp 6 200 OK\n", at + 2).as_bytes());
                    prop_assert!(matches!(ended, Some(Err(_))), "an answer to message {at} was believed");
                }
            }
            let confirmed = answered.iter().take_while(|answered| **answered).count();
            let bytes = confirmed.checked_sub(1).map_or(0, |last| ends[last]);
            prop_assert_eq!(session.confirmed(), bytes as u64);
            if let Op::Lie(_) = op {
                break;
            }
        }
    }
}
