//! How the process ends: the codes that `--help` documents and that service managers act upon.

use std::process::ExitCode;

/// All went well.
pub const OK: u8 = 0;
/// Something failed while running, or a proof did not hold.
pub const FAILED: u8 = 1;
/// The command line was not understood.
pub const USAGE: u8 = 2;
/// The configuration was refused; nothing was started.
pub const CONFIG: u8 = 3;
/// SLS refused before the first heartbeat: keys, rights, project, logstore or quota. A restart alone will not help.
pub const SLS_REFUSED: u8 = 4;
/// A worker hung or something inside failed; a restart helps.
pub const INTERNAL: u8 = 5;
/// Stopped at once by a second SIGINT, so the last commits may be missing.
pub const INTERRUPTED: u8 = 130;
/// Stopped at once by a second SIGTERM, so the last commits may be missing.
pub const TERMINATED: u8 = 143;

/// The part of `--help` that lists them.
pub const HELP: &str = "\
Exit codes:
  0    ended well
  1    failed while running, or a proof did not hold
  2    command line not understood
  3    configuration refused; nothing was started
  4    SLS refused at start: keys, rights, project, logstore or quota
  5    a worker hung or something inside failed; a restart helps
  130  a second SIGINT stopped it at once (143: a second SIGTERM)";

/// A code as `main` returns it.
pub fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}
