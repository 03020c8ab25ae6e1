//! Many forwarders in one group.
//!
//! A plain run takes [`SHARDS`] shards and a tenth as many forwarders. `SLS_SYSLOG_FLEET=4000` takes so many shards;
//! `tests/run scale` runs this alone and prints what SLS was asked, by operation.

use sls_syslog_actors::testing::simulation::fleet::Fleet;

use super::number_from_env;

/// Shards of a plain run.
const SHARDS: u64 = 2000;

/// A tenth of the forwarders is killed while as many join, then a tenth of the shards is split: every shard is owned
/// again within the group's timeout and two heartbeats, nobody commits a shard that somebody else holds, what SLS is asked
/// stays within its quotas, and no log is missing.
#[test]
fn two_hundred_forwarders_share_two_thousand_shards() {
    let shards = number_from_env("SLS_SYSLOG_FLEET").unwrap_or(SHARDS) as u32;
    let fleet = Fleet { shards, forwarders: shards as usize / 10, seed: 1 };
    let report = fleet.run();
    println!("{shards} shards, {} forwarders: {report}", fleet.forwarders);
    assert_eq!(report.violations, Vec::<String>::new());
}
