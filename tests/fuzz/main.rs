//! Replays the corpora of the fuzz targets: what fuzzing has found once stays found. `tests/run fuzz` makes them grow.
//!
//! It has no harness of Rust's, so that the process's modules come without their unit tests, but speaks enough of one's
//! language for `cargo test` and `cargo nextest`: `--list`, `--exact`, and names.

#![allow(
    dead_code,
    unused_imports,
    reason = "of the process's modules each target uses a part, and their unit tests are nothing without a harness"
)]

#[path = "../../src/certs.rs"]
mod certs;
#[path = "../../src/exit.rs"]
mod exit;
#[path = "../../src/receiver/mod.rs"]
mod receiver;
#[path = "../../src/settings/mod.rs"]
mod settings;
mod targets;
#[path = "../../src/terminal.rs"]
mod terminal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use targets::Target;

/// Its name, and what it does.
type Test = (String, Box<dyn Fn() -> Result<(), String>>);

/// What there is to run: a corpus for each target, and the proof that a replay can fail.
fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for (name, target) in targets::ALL {
        tests.push((format!("corpus_of_{name}"), Box::new(move || replay(name, *target))));
    }
    tests.push(("a_target_that_panics_fails_its_replay".to_owned(), Box::new(a_panic_is_a_failure)));
    tests
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| {
        let matches = |wanted: &&String| if has("--exact") { *wanted == name } else { name.contains(wanted.as_str()) };
        !has("--ignored") && (names.is_empty() || names.iter().any(matches))
    };
    // Where it was and why, without the stack below it.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let mut failed = false;
    for (name, test) in tests().into_iter().filter(|(name, _)| wanted(name)) {
        if has("--list") {
            println!("{name}: test");
            continue;
        }
        match test() {
            Ok(()) => println!("test {name} ... ok"),
            Err(what) => {
                println!("test {name} ... FAILED: {what}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Gives a target every file of its corpus.
fn replay(name: &str, target: Target) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("{} is empty", folder.display()));
    }
    let failures: Vec<String> = files.iter().filter_map(|file| replay_file(file, target).err()).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

fn replay_file(file: &Path, target: Target) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    catch_unwind(AssertUnwindSafe(|| target(&bytes))).map_err(|_| format!("panics with {}", file.display()))
}

fn a_panic_is_a_failure() -> Result<(), String> {
    let outcome = replay("json_replies", |bytes| assert!(!bytes.starts_with(b"\x05[2, 0]"), "on purpose"));
    match outcome {
        Err(what) if what.matches("panics with").count() == 1 => Ok(()),
        other => Err(format!("one file makes its target panic, but: {other:?}")),
    }
}
