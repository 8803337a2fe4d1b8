//! Goal: several schedulers on one thread, and handles that outlive theirs, stay apart and stay sound.

use coring_coro as coro;
use coro::testing::VirtualDriver;
use coro::{Builder, Driver, JoinHandle, Scheduler, SchedulerConfig};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

fn scheduler() -> Scheduler {
    Scheduler::new(SchedulerConfig::default())
}

/// A join across schedulers must wake the joiner on its own one, in however large numbers.
#[test]
fn join_across_two_schedulers_of_a_thread() {
    let (a, b) = (scheduler(), scheduler());
    let driver = VirtualDriver::default();
    let joined = Rc::new(Cell::new(0));
    let joiners: Vec<_> = (0..200)
        .map(|n| {
            let slow = move || {
                coro::yield_now();
                n
            };
            let worker = b.spawn(Builder::new(), slow).unwrap();
            let joined = joined.clone();
            let join = move || {
                assert_eq!(worker.join().unwrap(), n);
                joined.set(joined.get() + 1);
            };
            a.spawn(Builder::new(), join).unwrap()
        })
        .collect();
    a.turn(&driver); // all of them wait
    while b.live() > 0 {
        b.turn(&driver);
    }
    assert_eq!((joined.get(), a.ready()), (0, 200));
    while a.live() > 0 {
        a.turn(&driver);
    }
    assert_eq!(joined.get(), 200);
    drop(joiners);
}

#[test]
fn locks_and_channels_work_across_schedulers_of_a_thread() {
    let (a, b) = (scheduler(), scheduler());
    let driver = VirtualDriver::default();
    let (sender, receiver) = coro::channel::bounded(1);
    let sum = a.spawn(Builder::new(), move || receiver.iter().sum::<u32>());
    let send = b.spawn(Builder::new(), move || {
        (1..=100).for_each(|n| sender.send(n).unwrap())
    });
    while a.live() + b.live() > 0 {
        a.turn(&driver);
        b.turn(&driver);
    }
    send.unwrap().join().unwrap();
    assert_eq!(sum.unwrap().join().unwrap(), 5050);
}

#[test]
fn a_handle_outlives_its_scheduler_and_frees_it() {
    let value = Rc::new(());
    let handle = {
        let scheduler = scheduler();
        let moved = value.clone();
        let handle = scheduler
            .spawn(Builder::new().name("late"), move || moved)
            .unwrap();
        while !handle.is_finished() {
            scheduler.turn(&VirtualDriver::default());
        }
        handle
    };
    assert_eq!(handle.name(), Some("late"));
    assert!(handle.is_finished());
    handle.cancel();
    drop(handle.join().unwrap());
    assert_eq!(Rc::strong_count(&value), 1);
}

#[test]
fn live_coroutines_of_a_dropped_scheduler_are_leaked_not_freed() {
    let on_its_stack = Rc::new(Cell::new(0));
    let handle = {
        let scheduler = scheduler();
        let cell = on_its_stack.clone();
        let sleeper = move || {
            let _kept = cell;
            coro::park();
        };
        let handle = scheduler.spawn(Builder::new(), sleeper).unwrap();
        scheduler.turn(&VirtualDriver::default());
        handle
    };
    assert!(!handle.is_finished());
    handle.cancel(); // goes to a scheduler that nobody drives
    drop(handle);
    assert_eq!(Rc::strong_count(&on_its_stack), 2);
}

#[test]
fn handles_may_be_dropped_by_thread_local_destructors() {
    thread_local! {
        static KEPT: RefCell<Vec<JoinHandle<Rc<()>>>> = const { RefCell::new(Vec::new()) };
        static WAKER: RefCell<Option<coro::Coroutine>> = const { RefCell::new(None) };
    }
    struct UnparksLate(coro::Coroutine);
    impl Drop for UnparksLate {
        fn drop(&mut self) {
            self.0.unpark();
        }
    }
    thread_local! {
        static LATE: RefCell<Option<UnparksLate>> = const { RefCell::new(None) };
    }
    std::thread::spawn(|| {
        LATE.with(|late| assert!(late.borrow().is_none()));
        let scheduler = scheduler();
        for index in 0..3 {
            let work = move || {
                if index == 0 {
                    LATE.with(|late| late.replace(Some(UnparksLate(coro::current()))));
                }
                if index == 2 {
                    coro::park();
                }
                Rc::new(())
            };
            let handle = scheduler.spawn(Builder::new(), work).unwrap();
            KEPT.with(|kept| kept.borrow_mut().push(handle));
        }
        scheduler.turn(&VirtualDriver::default());
        KEPT.with(|kept| drop(kept.borrow_mut().pop()));
        WAKER.with(|waker| assert!(waker.borrow().is_none()));
    })
    .join()
    .unwrap();
}

/// Driving a scheduler from inside a coroutine is refused before anything has changed: the clock of the turn that is
/// on stays the clock.
#[test]
fn a_turn_inside_a_coroutine_is_refused_and_changes_nothing() {
    let scheduler = Rc::new(scheduler());
    let inner = scheduler.clone();
    let handle = scheduler.spawn(Builder::new(), move || {
        let caught = catch_unwind(AssertUnwindSafe(|| inner.turn(&Fixed)));
        assert!(caught.is_err());
        drop(inner);
        let now = coro::Instant::now();
        coro::sleep(Duration::from_millis(5));
        (now.as_ns(), now.elapsed())
    });
    let (driver, handle) = (VirtualDriver::default(), handle.unwrap());
    scheduler.run(&driver, |_| handle.is_finished());
    assert_eq!(handle.join().unwrap(), (0, Duration::from_millis(5)));
}

/// A driver whose time is always 77.
struct Fixed;

impl Driver for Fixed {
    fn now(&self) -> u64 {
        77
    }
    fn poll(&self, _: &Scheduler) {}
    fn park(&self, _: &Scheduler, _: Option<u64>) {}
}

#[test]
fn unpark_is_remembered_counts_once_and_is_nothing_to_the_dead() {
    coro::testing::run(|| {
        let me = coro::current();
        me.unpark();
        me.unpark();
        coro::park();
        let waker = coro::spawn(move || {
            coro::sleep(Duration::from_millis(1));
            me.unpark();
        });
        let started = coro::Instant::now();
        coro::park();
        assert_eq!(started.elapsed(), Duration::from_millis(1));
        waker.join().unwrap();
        let dead = coro::spawn(coro::current).join().unwrap();
        let heir = coro::spawn(|| coro::timeout(Duration::from_millis(1), coro::park));
        coro::yield_now();
        dead.unpark(); // its stack is the heir's now
        assert_eq!(heir.join().unwrap(), Err(coro::Elapsed));
    });
}

/// Outside of any scheduler everything says so.
#[test]
fn outside_there_are_errors_and_clear_panics() {
    assert!(matches!(
        coro::try_spawn(|| ()),
        Err(coro::SpawnError::Outside)
    ));
    assert!(coro::try_current().is_none());
    assert!(!coro::is_cancelled());
    for call in [
        || coro::yield_now(),
        || coro::park(),
        || coro::checkpoint(),
        || coro::sleep(Duration::ZERO),
        || drop(coro::current()),
        || assert!(coro::timeout(Duration::ZERO, || ()).is_ok()),
        || coro::scope(|_| ()),
        || coro::shield(|| ()),
        || assert!(coro::Instant::now().as_ns() > 0),
        || drop(coro::dump()),
    ] as [fn(); 10]
    {
        let payload = catch_unwind(call).unwrap_err();
        let text = payload.downcast_ref::<String>().unwrap();
        assert!(text.contains("outside a coroutine"), "{text}");
    }
    let (sender, receiver) = coro::channel::bounded(1);
    sender.send(1).unwrap();
    assert!(matches!(
        sender.send(2),
        Err(coro::channel::SendError::Refused(2, _))
    ));
    assert_eq!(receiver.recv(), Ok(1));
    assert!(receiver.recv_timeout(Duration::ZERO).is_err());
}

#[test]
fn now_comes_from_the_driver() {
    let scheduler = scheduler();
    let handle = scheduler.spawn(Builder::new(), coro::Instant::now).unwrap();
    scheduler.run(&Fixed, |_| handle.is_finished());
    assert_eq!(handle.join().unwrap().as_ns(), 77);
}

/// Goal: the clock, which a driver reads on the loop's own stack between two switches, is outside of all
/// coroutines: the one that has just run may have ended. Method: a driver that asks who is current.
#[test]
fn the_loop_itself_is_no_coroutine() {
    #[derive(Default)]
    struct Curious(Cell<u64>, Cell<u64>);
    impl Driver for Curious {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 1);
            self.1
                .set(self.1.get() + u64::from(coro::current_id().is_some()));
            self.0.get()
        }
        fn poll(&self, _: &Scheduler) {}
        fn park(&self, _: &Scheduler, _: Option<u64>) {}
    }
    let (single, several) = (scheduler(), scheduler());
    let group = coro::GroupConfig {
        name: "other".into(),
        shares: 100,
        latency: false,
    };
    several.add_group(group).unwrap();
    for scheduler in [single, several] {
        let driver = Curious::default();
        for _ in 0..300 {
            drop(scheduler.spawn(Builder::new(), coro::yield_now).unwrap());
        }
        scheduler.run(&driver, |scheduler| scheduler.live() == 0);
        assert!(driver.0.get() > 10, "the clock was read between switches");
        assert_eq!(driver.1.get(), 0, "readings that had a current coroutine");
    }
}

/// Goal: numbers of coroutines are unique on a thread, whatever schedulers take turns on it, and each spawn is counted once.
#[test]
fn numbers_are_unique_over_schedulers() {
    let schedulers = [1, 2].map(|_| coro::Scheduler::new(coro::SchedulerConfig::default()));
    let driver = VirtualDriver::default();
    let ids = Rc::new(RefCell::new(Vec::new()));
    for round in 0..300 {
        for scheduler in &schedulers {
            let ids = ids.clone();
            let note = move || ids.borrow_mut().push(coro::current_id().unwrap());
            drop(scheduler.spawn(coro::Builder::new(), note).unwrap());
            if round % 7 == 0 {
                scheduler.turn(&driver);
            }
        }
    }
    for scheduler in &schedulers {
        scheduler.turn(&driver);
        scheduler.turn(&driver);
        assert_eq!((scheduler.stats().spawned, scheduler.live()), (300, 0));
    }
    let mut ids = ids.borrow().clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), ids[0] > 0), (600, true));
}
