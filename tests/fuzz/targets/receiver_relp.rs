//! What anybody sends to our receiver as RELP: every message is answered once and by its number, none is answered that
//! was not taken, and the first thing that is out of turn ends the session.

use arbitrary::{Result, Unstructured};

use super::receiver_framing::converse_over;
use crate::receiver::relp::RelpFaults;

/// Runs it.
pub fn run(data: &[u8]) {
    // Too few bytes are as good as none.
    let _ = with(&mut Unstructured::new(data));
}

fn with(u: &mut Unstructured<'_>) -> Result<()> {
    let max = u.int_in_range(60..=200)?;
    let faults = RelpFaults {
        refuse: if u.ratio(1, 4)? { Some(u.int_in_range(1..=4)?) } else { None },
        serverclose_after: if u.ratio(1, 4)? { Some(u.int_in_range(1..=4)?) } else { None },
        ..RelpFaults::default()
    };
    let lengths = [u.int_in_range(1..=80)?, u.int_in_range(1..=80)?];
    let bytes = match u.arbitrary()? {
        true => u.bytes(u.len())?.to_vec(),
        false => session(u)?,
    };
    let mut whole = None;
    for lengths in [&[][..], &lengths, &[1]] {
        let heard = converse_over(&bytes, lengths, max, None, Some(faults));
        let answers = answers(&heard.said);
        let oks = answers.iter().filter(|(_, code)| *code == "200").count();
        // The answer to `open` is the one without a message.
        assert!(oks.saturating_sub(1) <= heard.messages.len(), "answered without a message");
        assert!(heard.messages.len() <= heard.settled.last().copied().unwrap_or(0), "answered before it was kept");
        let numbers = answers.iter().filter(|(number, _)| *number != 0).map(|(number, _)| *number);
        assert!(numbers.eq(1..=answers.iter().filter(|(number, _)| *number != 0).count() as u64), "{answers:?}");
        let heard = (heard.messages, heard.said, heard.outcome);
        assert_eq!(*whole.get_or_insert_with(|| heard.clone()), heard, "in pieces of {lengths:?}");
    }
    Ok(())
}

/// A session as clients have it, wrong in places.
fn session(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    const OPEN: &str = "1 open 49 relp_version=0\nrelp_software=test\ncommands=syslog\n";
    let mut session = if u.ratio(7, 8)? { OPEN.as_bytes().to_vec() } else { Vec::new() };
    let mut number = u32::from(!session.is_empty());
    for _ in 0..u.int_in_range(0..=8)? {
        number = if u.ratio(15, 16)? { number.wrapping_add(1) } else { u.arbitrary()? };
        let command = *u.choose(&["syslog", "syslog", "syslog", "syslog", "syslog", "close", "open", "rsp"])?;
        let count = u.int_in_range(0..=20)?;
        let data = u.bytes(count)?;
        let declared = if u.ratio(15, 16)? { data.len() } else { u.int_in_range(0..=300)? };
        let space = if data.is_empty() { "" } else { " " };
        session.extend_from_slice(format!("{number} {command} {declared}{space}").as_bytes());
        session.extend_from_slice(data);
        session.extend_from_slice(if u.ratio(15, 16)? { b"\n" } else { b" " });
    }
    Ok(session)
}

/// The frames that the receiver sent: number, and the code of an answer.
fn answers(said: &[u8]) -> Vec<(u64, &str)> {
    let said = std::str::from_utf8(said).expect("the receiver writes text");
    let (mut rest, mut answers) = (said, Vec::new());
    while !rest.is_empty() {
        let (number, behind) = rest.split_once(' ').expect("a number");
        let (command, behind) = behind.split_once(' ').expect("a command");
        let digits = behind.find(|c: char| !c.is_ascii_digit()).expect("a length");
        let length: usize = behind[..digits].parse().expect("a length");
        let start = digits + usize::from(length > 0);
        let data = &behind[start..start + length];
        assert_eq!(&behind[start + length..=start + length], "\n");
        assert!(matches!(command, "rsp" | "serverclose"), "{command}");
        answers.push((number.parse().expect("a number"), data.split(' ').next().unwrap_or_default()));
        rest = &behind[start + length + 1..];
    }
    answers
}
