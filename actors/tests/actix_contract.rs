//! The facts about actix 0.13 that the actors stand on, by the numbers that code cites (`// actix fact 9`).
//!
//! If one of these fails after an update, look up who cites its number before anything else. A handle is one value of
//! `Addr` or `Recipient`; every clone is a new handle.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::dev::SendError;
use actix::fut::WrapFuture;
use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

/// Runs a test on one thread with a paused clock, as `testing::runtime` does; no actix `System` is needed.
fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// Lets every task that can run do so.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Note(u32);

/// Does whatever the given closure says; the closure's effects are the test's evidence.
struct Scripted(Script);

type Script = Box<dyn FnMut(u32, &mut Context<Scripted>)>;

impl Scripted {
    fn new(script: impl FnMut(u32, &mut Context<Scripted>) + 'static) -> Self {
        Self(Box::new(script))
    }
}

impl Actor for Scripted {
    type Context = Context<Self>;
}

impl Handler<Note> for Scripted {
    type Result = ();

    fn handle(&mut self, note: Note, ctx: &mut Context<Self>) {
        (self.0)(note.0, ctx);
    }
}

type Seen = Rc<RefCell<Vec<u32>>>;

/// Writes down what it is told.
struct Recorder {
    seen: Seen,
}

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Note> for Recorder {
    type Result = ();

    fn handle(&mut self, note: Note, _: &mut Context<Self>) {
        self.seen.borrow_mut().push(note.0);
    }
}

fn recorder(capacity: usize) -> (Addr<Recorder>, Seen) {
    let seen = Seen::default();
    let actor = Recorder { seen: seen.clone() };
    let addr = Recorder::create(|ctx| {
        ctx.set_mailbox_capacity(capacity);
        actor
    });
    (addr, seen)
}

/// How many messages a handle takes before it says that the mailbox is full.
fn fill(handle: &Recipient<Note>) -> usize {
    (0..10_000).take_while(|n| handle.try_send(Note(*n)).is_ok()).count()
}

#[test]
fn fact_01_capacity_is_per_handle() {
    paused(async {
        let (addr, seen) = recorder(4);
        let one = addr.clone().recipient();
        assert_eq!(fill(&one), 4, "the message that fills the box is accepted and parks its handle");
        let two = one.clone();
        assert_eq!(fill(&two), 1, "a clone begins unparked: one message over the capacity");
        let with_a_clone_each = (0..500).filter(|n| addr.clone().try_send(Note(*n)).is_ok()).count();
        assert_eq!(with_a_clone_each, 500, "a clone for each message has no bound at all");
        settle().await;
        assert_eq!(seen.borrow().len(), 505);
        assert_eq!(fill(&one), 4, "a handle goes on once its mailbox was drained");
    });
}

#[test]
fn fact_02_send_does_not_wait_for_room() {
    paused(async {
        let gate = Rc::new(RefCell::new(None::<oneshot::Receiver<()>>));
        let (open, closed) = oneshot::channel();
        gate.borrow_mut().replace(closed);
        let handled = Rc::new(RefCell::new(0));
        let count = handled.clone();
        // The actor waits inside its context, so nothing is drained while the sends are made.
        let addr = Scripted::create(|ctx| {
            ctx.set_mailbox_capacity(2);
            let gate = gate.borrow_mut().take().unwrap();
            ctx.wait(async { gate.await.unwrap() }.into_actor_dyn());
            Scripted::new(move |_, _| *count.borrow_mut() += 1)
        });
        let queued = Rc::new(RefCell::new(0));
        for n in 0..100 {
            let (request, queued) = (addr.send(Note(n)), queued.clone());
            actix_rt::spawn(async move {
                let mut request = Box::pin(request);
                let first = futures_util::future::poll_fn(|cx| std::task::Poll::Ready(request.as_mut().poll(cx))).await;
                assert!(first.is_pending());
                *queued.borrow_mut() += 1;
                request.await.unwrap();
            });
        }
        settle().await;
        assert_eq!((*queued.borrow(), *handled.borrow()), (100, 0));
        // All hundred lie in a mailbox for two: once it opens they are handled in one go, before any sender ran again.
        open.send(()).unwrap();
        settle().await;
        assert_eq!(*handled.borrow(), 100);
    });
}

trait IntoActorDyn<A: Actor> {
    fn into_actor_dyn(self) -> actix::fut::LocalBoxActorFuture<A, ()>;
}

impl<A: Actor, F: Future<Output = ()> + 'static> IntoActorDyn<A> for F {
    fn into_actor_dyn(self) -> actix::fut::LocalBoxActorFuture<A, ()> {
        Box::pin(actix::fut::wrap_future(self))
    }
}

#[test]
fn fact_03_do_send_always_enqueues_and_drops_silently() {
    paused(async {
        let (addr, seen) = recorder(1);
        for n in 0..1000 {
            addr.do_send(Note(n));
        }
        settle().await;
        assert_eq!(seen.borrow().len(), 1000);

        let gone = Scripted::new(|_, ctx| ctx.stop()).start();
        gone.do_send(Note(0));
        settle().await;
        assert!(!gone.connected());
        gone.do_send(Note(1)); // Nobody is told.
        assert!(matches!(gone.try_send(Note(2)), Err(SendError::Closed(Note(2)))));
    });
}

#[test]
fn fact_04_try_send_returns_the_message_and_wakes_nobody() {
    paused(async {
        let (addr, _seen) = recorder(1);
        let handle = addr.recipient();
        assert_eq!(fill(&handle), 1);
        let tries = Rc::new(RefCell::new(0));
        let in_task = tries.clone();
        let waiting = actix_rt::spawn(async move {
            futures_util::future::poll_fn(|_| {
                *in_task.borrow_mut() += 1;
                match handle.try_send(Note(7)) {
                    Err(SendError::Full(Note(7))) => std::task::Poll::Pending,
                    other => std::task::Poll::Ready(other.is_ok()),
                }
            })
            .await
        });
        settle().await;
        assert_eq!(*tries.borrow(), 1, "the mailbox is empty by now, and the refused sender was not woken");
        waiting.abort();
    });
}

#[test]
fn fact_05_notify_and_timers_bypass_the_mailbox() {
    paused(async {
        let seen = Seen::default();
        let record = seen.clone();
        let addr = Scripted::create(|ctx| {
            ctx.set_mailbox_capacity(1);
            for n in 0..100 {
                ctx.notify(Note(n));
            }
            Scripted::new(move |n, _| record.borrow_mut().push(n))
        });
        assert!(addr.try_send(Note(1000)).is_ok(), "a hundred notifications left the mailbox for one empty");
        settle().await;
        assert_eq!(seen.borrow().len(), 101);
        assert_eq!(seen.borrow()[0], 1000, "and the mailbox comes first");
    });
}

#[test]
fn fact_06_capacity_zero_is_unbounded_and_sixteen_the_default() {
    paused(async {
        let (addr, _) = recorder(0);
        assert_eq!(fill(&addr.recipient()), 10_000);
        let default = Recorder { seen: Seen::default() }.start();
        assert_eq!(fill(&default.recipient()), 16);
    });
}

#[test]
fn fact_06_capacity_is_sixteen_until_the_start_closure_ran() {
    let system = System::new();
    let arbiter = Arbiter::new();
    // The arbiter's thread is held up, so that the closure cannot have run yet.
    let (release, held) = std::sync::mpsc::channel::<()>();
    arbiter.spawn_fn(move || held.recv().unwrap());
    struct Plain;
    impl Actor for Plain {
        type Context = Context<Self>;
    }
    impl Handler<Note> for Plain {
        type Result = ();
        fn handle(&mut self, _: Note, _: &mut Context<Self>) {}
    }
    let addr = Plain::start_in_arbiter(&arbiter.handle(), |ctx| {
        ctx.set_mailbox_capacity(64);
        Plain
    });
    let handle = addr.clone().recipient();
    assert_eq!(fill(&handle), 16);
    release.send(()).unwrap();
    system.block_on(async { addr.send(Note(0)).await.unwrap() });
    arbiter.stop();
    arbiter.join().unwrap();
}

#[test]
fn fact_07_the_mailbox_is_drained_before_timers_and_futures() {
    paused(async {
        let seen = Seen::default();
        let (record, in_future) = (seen.clone(), seen.clone());
        let addr = Scripted::create(|ctx| {
            ctx.spawn(async move { in_future.borrow_mut().push(999) }.into_actor_dyn());
            // Each message begets the next one until the hundredth: the future beside it is starved till then.
            let again = ctx.address();
            Scripted::new(move |n, _| {
                record.borrow_mut().push(n);
                if n < 100 {
                    again.do_send(Note(n + 1));
                }
            })
        });
        addr.do_send(Note(0));
        settle().await;
        let seen = seen.borrow();
        assert_eq!(seen.len(), 102);
        assert_eq!(seen.last(), Some(&999));
    });
}

#[test]
fn fact_08_only_the_mailbox_is_first_in_first_out() {
    paused(async {
        let (addr, seen) = recorder(4);
        for n in 0..200 {
            addr.do_send(Note(n));
        }
        settle().await;
        assert!(seen.borrow().iter().copied().eq(0..200));

        // Notifications are futures of the context, which are reordered when one of them ends.
        let notified = Seen::default();
        let record = notified.clone();
        let _addr = Scripted::create(|ctx| {
            for n in 0..50 {
                ctx.notify(Note(n));
            }
            Scripted::new(move |n, _| record.borrow_mut().push(n))
        });
        settle().await;
        assert_eq!(notified.borrow().len(), 50);
        assert!(!notified.borrow().is_sorted(), "if this holds now, notify has become ordered: nobody relies on it");
    });
}

#[test]
fn fact_09_wait_freezes_mailbox_and_timers() {
    paused(async {
        let seen = Seen::default();
        let (record, ticked) = (seen.clone(), seen.clone());
        let addr = Scripted::create(|ctx| {
            ctx.run_later(Duration::from_secs(1), move |_, _| ticked.borrow_mut().push(1));
            ctx.wait(tokio::time::sleep(Duration::from_secs(60)).into_actor_dyn());
            Scripted::new(move |n, _| record.borrow_mut().push(n))
        });
        addr.do_send(Note(2));
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(seen.borrow().is_empty());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(*seen.borrow(), [2, 1]);
    });
}

#[test]
fn fact_10_stop_drops_queued_messages_and_futures() {
    paused(async {
        let seen = Seen::default();
        let (record, in_future) = (seen.clone(), seen.clone());
        let addr = Scripted::create(|ctx| {
            let future = async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                in_future.borrow_mut().push(999);
            };
            ctx.spawn(future.into_actor_dyn());
            Scripted::new(move |n, ctx| {
                record.borrow_mut().push(n);
                ctx.stop();
            })
        });
        addr.do_send(Note(1));
        addr.do_send(Note(2));
        let late = addr.send(Note(3));
        settle().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!addr.connected());
        assert_eq!(*seen.borrow(), [1], "what lay behind the message that stopped it, and its future, are gone");
        assert!(matches!(late.await, Err(MailboxError::Closed)));
    });
}

struct Answerer;

impl Actor for Answerer {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct OutliveMe(oneshot::Sender<()>);

#[derive(Message)]
#[rtype(result = "()")]
struct DieWithMe(oneshot::Sender<()>);

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<OutliveMe> for Answerer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: OutliveMe, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let _ = message.0.send(());
        })
    }
}

impl Handler<DieWithMe> for Answerer {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: DieWithMe, _: &mut Context<Self>) -> Self::Result {
        let work = async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let _ = message.0.send(());
        };
        Box::pin(work.into_actor(self))
    }
}

impl Handler<Stop> for Answerer {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[test]
fn fact_11_response_futures_outlive_the_actor_and_act_futures_die_with_it() {
    paused(async {
        let addr = Answerer.start();
        let (outlived, outlives) = oneshot::channel();
        let (died, dies) = oneshot::channel();
        addr.do_send(OutliveMe(outlived));
        addr.do_send(DieWithMe(died));
        settle().await;
        addr.do_send(Stop);
        settle().await;
        assert!(!addr.connected());
        assert!(outlives.await.is_ok());
        assert!(dies.await.is_err());
    });
}

#[test]
fn fact_12_dropping_an_unhandled_request_cancels_its_message() {
    paused(async {
        let (addr, seen) = recorder(8);
        drop(addr.send(Note(1)));
        addr.do_send(Note(2));
        settle().await;
        assert_eq!(*seen.borrow(), [2]);
    });
}

struct CountsItsDrop(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Drop for CountsItsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.fetch_add(usize::from(std::thread::panicking()), Ordering::SeqCst);
    }
}

#[test]
fn fact_13_a_panic_ends_that_actor_alone_and_drops_its_fields_while_unwinding() {
    paused(async {
        let (dropped, unwinding) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let guard = CountsItsDrop(dropped.clone(), unwinding.clone());
        let (neighbour, seen) = recorder(4);
        let addr = Scripted::new(move |n, _| {
            let _held = &guard;
            assert!(n != 1, "on purpose");
        })
        .start();
        addr.do_send(Note(0));
        settle().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        addr.do_send(Note(1));
        settle().await;
        assert!(!addr.connected());
        assert_eq!((dropped.load(Ordering::SeqCst), unwinding.load(Ordering::SeqCst)), (1, 1));
        neighbour.do_send(Note(5));
        settle().await;
        assert_eq!(*seen.borrow(), [5], "the neighbour on the same thread goes on");
    });
}

struct Restless {
    restarts: Rc<RefCell<u32>>,
}

impl Actor for Restless {
    type Context = Context<Self>;
}

impl Supervised for Restless {
    fn restarting(&mut self, _: &mut Context<Self>) {
        *self.restarts.borrow_mut() += 1;
    }
}

impl Handler<Note> for Restless {
    type Result = ();

    fn handle(&mut self, note: Note, ctx: &mut Context<Self>) {
        assert!(note.0 != 1, "on purpose");
        ctx.stop();
    }
}

#[test]
fn fact_14_the_supervisor_restarts_after_a_stop_and_never_after_a_panic() {
    paused(async {
        let restarts = Rc::new(RefCell::new(0));
        let actor = Restless { restarts: restarts.clone() };
        let addr = Supervisor::start(|_| actor);
        addr.do_send(Note(0));
        settle().await;
        assert_eq!((*restarts.borrow(), addr.connected()), (1, true));
        addr.do_send(Note(1));
        settle().await;
        assert_eq!((*restarts.borrow(), addr.connected()), (1, false));
    });
}

#[test]
fn fact_15_an_actor_with_an_interval_never_ends_by_itself() {
    paused(async {
        let (dropped, unwinding) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let start = |with_interval: bool| {
            let guard = CountsItsDrop(dropped.clone(), unwinding.clone());
            drop(Scripted::create(|ctx| {
                if with_interval {
                    ctx.run_interval(Duration::from_secs(1), |_, _| {});
                }
                Scripted::new(move |_, _| {
                    let _held = &guard;
                })
            }));
        };
        start(false);
        settle().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "without handles and work an actor ends");
        start(true);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn fact_16_intervals_fire_in_bursts_after_a_delay() {
    paused(async {
        let ticks = Rc::new(RefCell::new(Vec::new()));
        let record = ticks.clone();
        let begin = Instant::now();
        let _addr = Scripted::create(|ctx| {
            ctx.run_interval(Duration::from_secs(1), move |_, _| record.borrow_mut().push(begin.elapsed().as_secs()));
            Scripted::new(|_, _| {})
        });
        settle().await;
        tokio::time::advance(Duration::from_secs(10)).await; // The thread was busy for ten seconds.
        settle().await;
        let at_ten = ticks.borrow().iter().filter(|s| **s == 10).count();
        assert!(at_ten > 1, "ticks that were missed come all at once: {:?}", ticks.borrow());
    });
}

#[test]
fn fact_18_an_arbiter_goes_on_after_its_handle_is_dropped() {
    let system = System::new();
    let arbiter = Arbiter::new();
    let handle = arbiter.handle();
    drop(arbiter);
    let (tell, told) = oneshot::channel();
    assert!(handle.spawn_fn(move || tell.send(()).unwrap()));
    assert!(system.block_on(told).is_ok());
    assert!(handle.stop());
}

#[test]
fn fact_18_an_arbiter_needs_a_system() {
    // In a thread of its own, because a System leaves its mark on the thread it was made in.
    let without = std::thread::spawn(|| catch_unwind(AssertUnwindSafe(|| drop(Arbiter::new()))).is_err());
    assert!(without.join().unwrap());
}

#[test]
fn fact_20_the_registry_is_shared_by_all_of_a_system() {
    #[derive(Default)]
    struct Service;
    impl Actor for Service {
        type Context = Context<Self>;
    }
    impl Supervised for Service {}
    impl SystemService for Service {}
    System::new().block_on(async {
        let one = Service::from_registry();
        let (tell, told) = oneshot::channel();
        let elsewhere = Arbiter::new();
        elsewhere.spawn_fn(move || drop(tell.send(Service::from_registry())));
        assert!(one == told.await.unwrap(), "two arbiters, two embedders perhaps, one actor");
        elsewhere.stop();
    });
}

#[test]
fn fact_22_a_test_does_not_see_the_panic_of_an_actor() {
    // What `#[actix_rt::test]` expands to: its body ends well although the actor did not.
    System::new().block_on(async {
        let addr = Scripted::new(|_, _| panic!("on purpose")).start();
        assert!(addr.send(Note(1)).await.is_err());
    });
}

#[test]
fn fact_22_virtual_time_is_per_arbiter() {
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    });
    system.block_on(async {
        let begin = Instant::now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(begin.elapsed() >= Duration::from_secs(3600), "an hour passes here");
        let (tell, told) = oneshot::channel();
        let elsewhere = Arbiter::new();
        elsewhere.spawn(async move {
            let passed = tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
            let _ = tell.send(passed.is_err() && begin.elapsed() < Duration::from_secs(1800));
        });
        assert!(told.await.unwrap(), "and twenty real milliseconds there");
        elsewhere.stop();
    });
}

#[test]
fn fact_23_a_future_that_a_message_cancels_may_still_come_to_its_end() {
    paused(async {
        let seen = Seen::default();
        let record = seen.clone();
        let (end, ends) = oneshot::channel();
        let addr = Scripted::create(|ctx| {
            let future = async move { drop(ends.await) };
            let handle = ctx.spawn(future.into_actor_dyn().map(move |(), _, _| record.borrow_mut().push(1)));
            Scripted::new(move |_, ctx| assert!(ctx.cancel_future(handle)))
        });
        settle().await;
        // Both come before the actor has its turn.
        end.send(()).unwrap();
        addr.do_send(Note(0));
        settle().await;
        assert_eq!(*seen.borrow(), [1]);
    });
}
