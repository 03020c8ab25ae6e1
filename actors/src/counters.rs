//! Counters of one forwarder: written by the actors, read by summary line, status and tests.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Totals since the start of the forwarder.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Reads all of them; each is exact, together they are of about the same moment.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// PullLogs requests answered.
    pulls,
    /// Raw bytes pulled (sum of `x-log-bodyrawsize`).
    raw_bytes,
    /// Bytes of bodies on the wire.
    body_bytes,
    /// Logs rendered, repeats included.
    logs_rendered,
    /// Logs whose batch was delivered.
    logs_delivered,
    /// Batches handed to formatters, each with a ticket.
    batches,
    /// Batches delivered.
    batches_delivered,
    /// Batches that failed and were pulled again.
    batches_failed,
    /// Messages written to a connection a second time or more.
    messages_resent,
    /// Messages that the receiver did not take, and that were set aside.
    messages_refused,
    /// Bytes of frames handed to connections' sockets.
    bytes_sent,
    /// Bytes of frames confirmed.
    bytes_confirmed,
    /// Refusals of datagrams that the receiver's machine reported (UDP).
    datagrams_refused,
    /// Connections opened.
    connections_opened,
    /// Connections cut by the peer or by a time-out.
    connections_cut,
    /// Messages in which something was altered: invalid UTF-8, newlines, over-long.
    messages_altered,
    /// Messages cut to `max_message_bytes`.
    messages_truncated,
    /// Logs in which a value contains the separator.
    logs_ambiguous,
    /// Nanosecond parts out of range, ignored.
    bad_nanoseconds,
    /// Gap records confirmed.
    gaps,
    /// Log groups that were pulled and not confirmed when the forwarder stopped; SLS still holds them.
    log_groups_left,
    /// Their bytes, uncompressed.
    raw_bytes_left,
    /// Logs set aside because the receiver does not take them: in the dead letter, or named by a gap record alone.
    logs_set_aside,
    /// Checkpoints committed.
    commits,
    /// Heartbeats answered.
    heartbeats,
    /// Requests refused by a quota.
    quota_refusals,
    /// Actors that ended by a panic.
    panics,
    /// Data messages that found a full mailbox; a defect if not 0 (I6).
    full_mailboxes,
    /// Tickets that came home once more; a defect if not 0 (I4).
    settled_twice,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
