//! `demo --chaos`: what anybody can run to believe us.

use crate::harness::Process;

fn run(arguments: &[&str]) -> (Option<i32>, Process) {
    let arguments = [&["demo", "--chaos"], arguments].concat();
    let mut demo = Process::start("demo", &mut Process::sls_syslog(&arguments));
    (demo.wait().code(), demo)
}

/// Every kind of fault is made, every actor panics, each is told in a line, and nothing is missing at the end.
#[test]
fn chaos_ends_with_a_proof_that_names_every_fault() {
    let (code, demo) = run(&["--seed", "7", "--logs", "60000"]);
    let lines = demo.stdout();
    assert_eq!(code, Some(0), "{}", demo.output());
    for line in &lines {
        assert!(line.chars().count() <= 80, "too long for a terminal: {line}");
    }
    for fault in [
        "  cut     ",
        "  killed  ",
        "  stolen  ",
        "  split   ",
        "  spoilt  ",
        "  panic   Coordinator ",
        "  panic   ShardFetcher ",
        "  panic   Formatter ",
        "  panic   SyslogConnection ",
    ] {
        assert!(lines.iter().any(|line| line.contains(fault)), "no {fault:?}:\n{}", demo.output());
    }
    for proof in ["  produced         60000  ", "  delivered        60000  ", "  missing              0", "it holds: "]
    {
        assert!(lines.iter().any(|line| line.starts_with(proof)), "no {proof:?}:\n{}", demo.output());
    }
    assert!(demo.stderr().is_empty(), "what is told by lines is told once:\n{}", demo.stderr().join("\n"));
}

#[test]
fn chaos_that_had_no_time_to_be_stood_proves_nothing() {
    let (code, demo) = run(&["--within", "3"]);
    assert_eq!(code, Some(1), "{}", demo.output());
    assert!(demo.output().contains("IT DOES NOT HOLD"), "{}", demo.output());
}
