//! `[dead_letter]`: where logs are kept that the receiver does not take.

use std::path::PathBuf;

use super::error::{ConfigError, check_range};

/// The file of the dead letter, and its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterConfig {
    /// The file, created at its first use; without one, a gap record is all that tells of such a log.
    pub path: Option<PathBuf>,
    /// Largest size of the file. When it is reached, nothing more is read from the shard until there is room.
    pub max_bytes: u64,
    /// Whether a file that others than its owner can read is used all the same.
    pub allow_readable: bool,
}

/// Largest size that is taken for meant.
const MOST_BYTES: u64 = 1 << 40;

impl Default for DeadLetterConfig {
    /// Off.
    fn default() -> Self {
        Self { path: None, max_bytes: 256 << 20, allow_readable: false }
    }
}

impl DeadLetterConfig {
    pub(super) fn check(&self, problems: &mut Vec<ConfigError>) {
        check_range(problems, "dead_letter.max_bytes", self.max_bytes, 1024, MOST_BYTES);
        if self.path.as_ref().is_some_and(|path| path.file_name().is_none()) {
            problems.push(ConfigError::new("dead_letter.path", "names no file"));
        }
    }
}
