//! What the service refuses: status, code and message as its reference prints them.

use std::fmt;

/// An error that the service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `errorCode`.
    pub code: &'static str,
    /// `errorMessage`.
    pub message: String,
}

impl Refusal {
    /// A refusal with these three parts.
    pub fn new(status: u16, code: &'static str, message: String) -> Self {
        Self { status, code, message }
    }

    /// 400 `ParameterInvalid`.
    pub fn parameter(message: String) -> Self {
        Self::new(400, "ParameterInvalid", message)
    }

    pub(super) fn no_project(project: &str) -> Self {
        Self::new(404, "ProjectNotExist", format!("The Project does not exist : {project}"))
    }

    pub(super) fn no_logstore(logstore: &str) -> Self {
        Self::new(404, "LogStoreNotExist", format!("logstore {logstore} does not exist"))
    }

    pub(super) fn no_shard(shard: impl fmt::Display) -> Self {
        Self::new(404, "ShardNotExist", format!("shard {shard} does not exist"))
    }

    pub(super) fn no_group() -> Self {
        Self::new(404, "ConsumerGroupNotExist", "consumer group not exist".into())
    }

    pub(super) fn cursor(cursor: &str) -> Self {
        Self::new(400, "InvalidCursor", format!("Invalid cursor {cursor}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
