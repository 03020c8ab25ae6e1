//! What an embedding application is told. Each event that needs a human carries a stable code.

use actix::Message;

use crate::model::ids::ShardId;

/// Something that an operator or an embedding application wants to know. Sent to the recipient given to the builder.
#[derive(Debug, Clone, PartialEq, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum ForwarderEvent {
    /// The first heartbeat was answered: the forwarder is a member of the group.
    Joined {
        /// The consumer's name.
        consumer: String,
    },
    /// A shard's lease was acquired.
    ShardAcquired {
        /// Which.
        shard: ShardId,
    },
    /// A shard's lease was given back or lost.
    ShardReleased {
        /// Which.
        shard: ShardId,
        /// Lost rather than given back.
        lost: bool,
    },
    /// Logs are missing between two cursors; the receiver has confirmed a gap record that names them.
    Gap {
        /// Which shard.
        shard: ShardId,
        /// From this cursor.
        from: String,
        /// To this cursor.
        to: String,
        /// Why.
        reason: String,
    },
    /// The receiver does not take some logs of a batch; a confirmed gap record names each.
    SetAside {
        /// Which shard.
        shard: ShardId,
        /// The batch's first log group.
        from: String,
        /// The logs' places in the batch, counted from 0.
        logs: Vec<u64>,
        /// Whether they are in the dead letter. Otherwise there is none, or SLS did not have them any more.
        kept: bool,
        /// Why the first of them is not taken.
        reason: String,
    },
    /// Something needs a human; repeated with growing pauses while it lasts.
    Trouble {
        /// Stable code, listed in the guide to messages.
        code: Code,
        /// One sentence with the remedy.
        what: String,
    },
    /// What a `Trouble` was about is over.
    Recovered {
        /// The code that was reported.
        code: Code,
    },
    /// The last event: everything has ended.
    Ended,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Stable names of what needs a human (listed in `config/messages.md`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The text that log lines carry.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// The receiver cannot be reached or cut the connection.
    ReceiverDown = "receiver-down",
    /// The receiver closes every connection before `confirm_after_connect`.
    ReceiverClosesEarly = "receiver-closes-early",
    /// The receiver does not take a message; a gap record went in its place.
    MessageRefused = "message-refused",
    /// SLS cannot be reached or answers with errors.
    SlsDown = "sls-down",
    /// Access key, rights, project, logstore or group are refused.
    SlsRefused = "sls-refused",
    /// This machine's clock is off by more than SLS allows.
    ClockSkew = "clock-skew",
    /// A lease was lost without having been asked for.
    LeaseLost = "lease-lost",
    /// A checkpoint that we did not move moved under our name: two processes share it.
    ConsumerNameShared = "consumer-name-shared",
    /// A whole body failed by itself.
    BadBody = "bad-body",
    /// Logs are missing; a gap record names them.
    Gap = "gap",
    /// Logs that the receiver does not take were set aside.
    SetAside = "set-aside",
    /// The dead letter has no room for a log.
    DeadLetterFull = "dead-letter-full",
    /// The dead letter cannot be written.
    DeadLetterUnwritable = "dead-letter-unwritable",
    /// A quota slows us down.
    Quota = "quota",
    /// An actor ended by a panic.
    Panic = "panic",
    /// A worker, or the Coordinator, does nothing any more; the forwarder has ended.
    WorkerHung = "worker-hung",
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
