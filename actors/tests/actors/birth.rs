//! Rule L6: several processes at the birth of a group, one of them late.

use std::cell::Cell;
use std::rc::Rc;

use sls_syslog_actors::model::cursor::StartPosition;
use sls_syslog_actors::testing::hub::{Fault, InMemoryHub, Operation};
use sls_syslog_actors::testing::runtime::run;

use crate::tools::*;
use crate::whole::{Whole, group, logstore};

/// `late` and `early` find the group unborn, both. Then one request of `late` takes its time, while `early` finishes the
/// birth, and logs are written that it cannot deliver before it dies. Whatever is stored afterwards, they lie behind it.
fn a_late_one(concerns: fn(&Operation) -> bool) {
    run(async {
        let hub = InMemoryHub::new(1);
        put(&hub, 10);
        let (held_up, waits) = (Rc::new(Cell::new(0)), seconds(100));
        let count = Rc::clone(&held_up);
        hub.on_call(move |consumer, operation| {
            if consumer == "late" && concerns(operation) {
                count.set(count.get() + 1);
                return Fault { delay_before: waits, ..Fault::default() };
            }
            Fault::default()
        });
        let late = Whole::start(&hub, "late", |config| config.source.cursor_start_time = StartPosition::End);
        settle().await;
        let early = Whole::start(&hub, "early", |config| config.source.cursor_start_time = StartPosition::End);
        tokio::time::sleep(seconds(10)).await;
        let born_at = logstore(&hub).shards[0].end_cursor.clone();
        assert_eq!(group(&hub).shards[0].checkpoint, born_at, "the early one has finished the birth");
        early.stop().await;
        // Written after the birth, and read by nobody yet.
        put(&hub, 10);
        assert_ne!(logstore(&hub).shards[0].end_cursor, born_at);
        late.delivered(10).await;
        assert!(held_up.get() > 0, "nothing was late");
        late.stop().await;
    });
}

#[test]
fn l6_a_late_look_at_the_end_does_not_move_a_start_that_is_stored() {
    a_late_one(|operation| matches!(operation, Operation::GetCursor { .. }));
}

#[test]
fn l6_a_late_store_does_not_move_the_start_beyond_what_was_written_since() {
    a_late_one(|operation| matches!(operation, Operation::UpdateCheckpoint { force: true, .. }));
}
