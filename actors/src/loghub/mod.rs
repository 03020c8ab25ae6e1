//! The in-memory LogHub: shards, logs, consumer groups and quotas as one plain machine.
