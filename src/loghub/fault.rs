//! Answers that are spoilt on purpose, so that tests of bad input need no server of their own.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;

/// What is done to an answer. Those about bodies and headers apply to pulls that carry log groups, the rest to any
/// signed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FaultKind {
    /// A pull's body ends half-way
    CutBody,
    /// A pull's body ends before its first byte
    EmptyBody,
    /// A pull's body is no LZ4 block, or whatever was asked for
    CorruptLz4,
    /// A pull declares one byte more than its body holds
    LargerRaw,
    /// A pull declares one byte less than its body holds
    SmallerRaw,
    /// A pull declares a terabyte
    HugeRaw,
    /// A pull does not declare its size
    NoRaw,
    /// A pull declares one log group more than its body holds
    WrongCount,
    /// A pull carries log groups but no next cursor
    NoCursor,
    /// A pull carries log groups but the cursor does not move
    SameCursor,
    /// A pull's body, once decompressed, is no log group list
    NotProtobuf,
    /// A pull gets 403 ShardReadQuotaExceed
    PullQuota,
    /// A pull gets 400 InvalidCursor
    InvalidCursor,
    /// 500 InternalServerError
    InternalError,
    /// 503 ServerBusy
    Busy,
    /// An error page in HTML, as a proxy sends it
    HtmlError,
    /// 401 Unauthorized
    Unauthorized,
    /// Never answers
    Hang,
    /// A heartbeat gets 503 ServerBusy
    HeartbeatBusy,
    /// A heartbeat is never answered
    HeartbeatHang,
    /// A commit gets 503 ServerBusy
    CommitBusy,
    /// A commit is never answered
    CommitHang,
}

/// What a request is, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// PullLogs.
    Pull,
    /// HeartBeat.
    Heartbeat,
    /// UpdateCheckPoint.
    Commit,
    /// Anything else.
    Other,
}

impl FaultKind {
    /// Whether it concerns such a request before it is carried out.
    fn refuses(self, target: Target) -> bool {
        match self {
            Self::PullQuota | Self::InvalidCursor => target == Target::Pull,
            Self::HeartbeatBusy | Self::HeartbeatHang => target == Target::Heartbeat,
            Self::CommitBusy | Self::CommitHang => target == Target::Commit,
            Self::InternalError | Self::Busy | Self::HtmlError | Self::Unauthorized | Self::Hang => true,
            _ => false,
        }
    }

    /// Whether it spoils the answer of a pull that carries log groups.
    fn spoils(self) -> bool {
        matches!(
            self,
            Self::CutBody
                | Self::EmptyBody
                | Self::CorruptLz4
                | Self::LargerRaw
                | Self::SmallerRaw
                | Self::HugeRaw
                | Self::NoRaw
                | Self::WrongCount
                | Self::NoCursor
                | Self::SameCursor
                | Self::NotProtobuf
        )
    }
}

/// A fault and how often it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultArg {
    /// What is done.
    pub kind: FaultKind,
    /// To so many answers.
    pub count: u64,
}

impl FromStr for FaultArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, count) = match text.split_once(':') {
            Some((kind, count)) => (kind, count.parse().map_err(|_| format!("{count:?} is no number"))?),
            None => (text, 1),
        };
        let kind = FaultKind::from_str(kind, false).map_err(|_| {
            let known = FaultKind::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let known: Vec<_> = known.map(|value| value.get_name().to_owned()).collect();
            format!("{kind:?} is none of {}", known.join(", "))
        })?;
        Ok(Self { kind, count })
    }
}

/// The faults that still have to strike, in their order.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<FaultArg>>);

impl Faults {
    /// These faults.
    pub fn new(faults: Vec<FaultArg>) -> Self {
        Self(Mutex::new(faults))
    }

    /// Adds one behind the others.
    pub fn add(&self, fault: FaultArg) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The fault that a request meets before it is carried out.
    pub fn before(&self, target: Target) -> Option<FaultKind> {
        self.take(|kind| kind.refuses(target))
    }

    /// The fault that spoils the answer of a pull with log groups.
    pub fn pulled(&self) -> Option<FaultKind> {
        self.take(FaultKind::spoils)
    }

    fn take(&self, concerns: impl Fn(FaultKind) -> bool) -> Option<FaultKind> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|fault| fault.count > 0);
        let fault = faults.iter_mut().find(|fault| concerns(fault.kind))?;
        fault.count -= 1;
        Some(fault.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_strikes_as_often_as_told_and_only_where_it_belongs() {
        let faults = Faults::new(vec!["cut-body:2".parse().unwrap(), "heartbeat-busy".parse().unwrap()]);
        assert_eq!(faults.before(Target::Pull), None);
        assert_eq!(faults.before(Target::Heartbeat), Some(FaultKind::HeartbeatBusy));
        assert_eq!(faults.before(Target::Heartbeat), None);
        let struck = [faults.pulled(), faults.pulled(), faults.pulled()];
        assert_eq!(struck, [Some(FaultKind::CutBody), Some(FaultKind::CutBody), None]);
    }

    #[test]
    fn unknown_fault_is_answered_with_the_known_ones() {
        let error = "cut-bodies".parse::<FaultArg>().unwrap_err();
        assert!(error.contains("cut-body") && error.contains("hang"), "{error}");
        assert!("hang:x".parse::<FaultArg>().is_err());
    }
}
