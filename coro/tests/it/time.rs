//! Goal: time limits end what they bound, never early, once, and leave nothing behind.

use crate::every_order;
use coring_coro as coro;
use coro::wait::{Interrupt, Refusal};
use coro::{Elapsed, Instant, JoinError, MissedTicks};
use std::cell::{Cell, RefCell};
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn sleep_ends_exactly_in_virtual_time() {
    every_order(|| {
        for nanoseconds in [1, 999, 4_096, 1_000_000, 123_456_789_012] {
            let started = Instant::now();
            coro::sleep(Duration::from_nanos(nanoseconds));
            assert_eq!(started.elapsed(), Duration::from_nanos(nanoseconds));
        }
        let at = Instant::now() + MS;
        coro::sleep_until(at);
        assert_eq!(Instant::now(), at);
        coro::sleep_until(at); // passed: yields
        assert_eq!(Instant::now(), at);
    });
}

#[test]
fn a_timeout_of_zero_ends_at_the_first_wait_and_of_for_ever_never() {
    every_order(|| {
        let reached = Cell::new(false);
        let outcome = coro::timeout(Duration::ZERO, || {
            reached.set(true);
            coro::yield_now();
        });
        assert_eq!(outcome, Err(Elapsed));
        assert!(reached.get());
        assert_eq!(coro::timeout(Duration::ZERO, || 5), Ok(5));
        assert_eq!(coro::timeout(Duration::MAX, || coro::sleep(LONG)), Ok(()));
        let nanoseconds = Duration::from_nanos(u64::MAX);
        assert_eq!(coro::timeout(nanoseconds, || coro::sleep(LONG)), Ok(()));
    });
}

#[test]
fn nested_ones_that_expire_together_end_together() {
    every_order(|| {
        let between = Cell::new(false);
        let outcome = coro::timeout(MS, || {
            let inner = coro::timeout(MS, || coro::sleep(LONG));
            between.set(true);
            inner
        });
        assert_eq!(outcome, Err(Elapsed));
        assert!(!between.get(), "the unwinding goes to the outermost");
    });
}

#[test]
fn the_inner_one_expires_alone_and_the_outer_goes_on() {
    every_order(|| {
        let outcome = coro::timeout(10 * MS, || {
            let inner = coro::timeout(MS, || coro::sleep(LONG));
            assert_eq!(inner, Err(Elapsed));
            coro::sleep(MS);
            "went on"
        });
        assert_eq!(outcome, Ok("went on"));
        let outcome = coro::timeout(MS, || coro::timeout(LONG, || coro::sleep(LONG)));
        assert_eq!(outcome, Err(Elapsed));
        coro::sleep(MS); // nothing is pending any more
    });
}

#[test]
fn calls_with_an_error_see_it_and_an_incomplete_value_is_dropped() {
    every_order(|| {
        let (_sender, receiver) = coro::channel::bounded::<u8>(1);
        let seen = Cell::new(false);
        let outcome = coro::timeout(MS, || {
            let error = receiver.recv().unwrap_err();
            let elapsed = Refusal::Interrupted(Interrupt::Elapsed);
            seen.set(error == coro::channel::RecvError::Refused(elapsed));
        });
        assert_eq!(outcome, Err(Elapsed));
        assert!(seen.get());
        // Complete although late: the closure never had to wait.
        let at = Instant::now() + MS;
        coro::sleep(10 * MS);
        assert_eq!(coro::deadline(at, || "complete"), Ok("complete"));
    });
}

#[test]
fn a_value_that_comes_with_the_deadline_is_not_lost() {
    every_order(|| {
        let (sender, receiver) = coro::channel::bounded(1);
        let producer = coro::spawn(move || {
            coro::sleep(MS);
            sender.send(7).unwrap();
            coro::sleep(LONG);
        });
        let mut got = None;
        let outcome = coro::timeout(MS, || got = receiver.recv().ok());
        match outcome {
            Ok(()) => assert_eq!(got, Some(7)),
            Err(Elapsed) => {
                assert_eq!(got, None);
                assert_eq!(receiver.recv(), Ok(7));
            }
        }
        producer.cancel();
        let _ = producer.join();
    });
}

#[test]
fn a_cancellation_passes_through_a_timeout() {
    every_order(|| {
        let handle = coro::spawn(|| {
            let _ = coro::timeout(LONG, || coro::sleep(LONG));
            unreachable!("unwound to the root");
        });
        coro::sleep(MS);
        handle.cancel();
        assert!(matches!(handle.join(), Err(coro::JoinError::Cancelled)));
    });
}

#[test]
fn a_shield_hides_outer_deadlines_and_not_its_own() {
    every_order(|| {
        let cleaned = Cell::new(false);
        let outcome = coro::timeout(MS, || {
            coro::shield(|| {
                coro::sleep(10 * MS);
                let bounded = coro::timeout(MS, || coro::sleep(LONG));
                assert_eq!(bounded, Err(Elapsed));
                cleaned.set(true);
            });
            coro::yield_now();
            unreachable!("the deadline has passed");
        });
        assert_eq!(outcome, Err::<(), _>(Elapsed));
        assert!(cleaned.get());
    });
}

#[test]
fn a_panic_inside_a_timeout_is_a_panic() {
    every_order(|| {
        let handle = coro::spawn(|| coro::timeout(MS, || -> u8 { panic!("inside") }));
        assert_eq!(handle.join().unwrap_err().panic_message(), Some("inside"));
    });
}

#[test]
fn twins_time_out_and_not_before() {
    every_order(|| {
        let mutex = coro::sync::Mutex::new(());
        let guard = mutex.lock();
        coro::scope(|s| {
            s.spawn(|| {
                let started = Instant::now();
                let refused = mutex.lock_timeout(MS);
                assert_eq!(refused.err(), Some(coro::sync::WaitError::TimedOut));
                assert_eq!(started.elapsed(), MS);
                let started = Instant::now();
                assert!(mutex.lock_timeout(LONG).is_ok());
                assert!(started.elapsed() < LONG);
            });
            coro::sleep(5 * MS);
            drop(guard);
        });
    });
}

/// Waits that set a timer and end before it is due.
const SHORT_WAITS: [(&str, fn()); 10] = [
    ("timeout", || assert!(coro::timeout(LONG, || ()).is_ok())),
    ("timeout and panic", || {
        let panics = || coro::timeout(LONG, || resume_unwind(Box::new(())));
        assert!(catch_unwind(panics).is_err());
    }),
    ("nested timeouts", || {
        let outcome = coro::timeout(MS, || coro::timeout(LONG, || coro::sleep(LONG)));
        assert!(outcome.is_err());
    }),
    ("cancelled sleep", || cancelled(|| coro::sleep(LONG))),
    ("cancelled timeout", || {
        cancelled(|| assert!(coro::timeout(LONG, coro::park).is_ok()));
    }),
    ("lock", || {
        let mutex = coro::sync::Mutex::new(());
        let guard = mutex.lock();
        coro::scope(|s| {
            s.spawn(|| assert!(mutex.lock_timeout(LONG).is_ok()));
            coro::yield_now();
            drop(guard);
        });
    }),
    ("park", || {
        coro::current().unpark();
        coro::park_timeout(LONG);
        let me = coro::current();
        coro::spawn(move || me.unpark());
        coro::park_timeout(LONG);
    }),
    ("join", || {
        assert!(coro::spawn(coro::yield_now).join_timeout(LONG).is_ok());
    }),
    ("select", || {
        let event = Rc::new(coro::sync::Event::new());
        let sets = event.clone();
        let timer = coro::select::after(LONG);
        coro::spawn(move || sets.set());
        coro::select! {
            () = event.wait() => (),
            () = timer.wait() => panic!("not for an hour"),
        }
    }),
    ("cancelled select", || {
        cancelled(|| {
            let timer = coro::select::after(LONG);
            coro::select! { () = timer.wait() => () }
        });
    }),
];

/// Spawns it, lets it run until it waits, and cancels it.
fn cancelled(work: fn()) {
    let handle = coro::spawn(work);
    coro::yield_now();
    handle.cancel();
    assert!(handle.join().is_err());
}

/// Goal: whoever no longer waits has left no timer behind, which would wake him or a core for nothing. Method: each wait a few times
/// on a scheduler of its own, which counts its timers afterwards.
#[test]
fn no_wait_leaves_a_timer() {
    for (name, wait) in SHORT_WAITS {
        for times in [1, 3, 40] {
            let scheduler = coro::Scheduler::new(coro::SchedulerConfig::default());
            let driver = coro::testing::VirtualDriver::default();
            let main = move || (0..times).for_each(|_| wait());
            let main = scheduler.spawn(coro::Builder::new(), main).unwrap();
            scheduler.run(&driver, |_| main.is_finished());
            main.join().unwrap();
            assert_eq!(scheduler.stats().timers, 0, "{name}, {times} times");
        }
    }
}

/// Every pair of a length and a limit: the outcome is there exactly when it was ready in time, and never lost.
#[test]
fn a_join_with_a_limit_gives_the_outcome_or_the_handle() {
    every_order(|| {
        for length in 0..4u32 {
            for limit in 0..4u32 {
                let started = Instant::now();
                let work = move || {
                    coro::sleep(length * MS);
                    length
                };
                let in_time = match coro::spawn(work).join_timeout(limit * MS) {
                    Ok(outcome) => {
                        assert_eq!(outcome.unwrap(), length);
                        assert_eq!(started.elapsed(), length * MS);
                        true
                    }
                    Err(handle) => {
                        assert_eq!(started.elapsed(), limit * MS);
                        assert_eq!(handle.join().unwrap(), length);
                        assert_eq!(started.elapsed(), length * MS);
                        false
                    }
                };
                assert!(length == limit || in_time == (length < limit));
                let scoped = coro::scope(|s| match s.spawn(work).join_timeout(limit * MS) {
                    Ok(outcome) => outcome.unwrap(),
                    Err(handle) => handle.join().unwrap(),
                });
                assert_eq!(scoped, length);
            }
        }
        // What has ended is there without any time, a panic too; a joiner that gave up is not woken by the end.
        let ended = coro::spawn(|| panic!("inside"));
        coro::sleep(MS);
        let outcome: Result<(), _> = ended.join_timeout(Duration::ZERO).unwrap();
        assert_eq!(outcome.unwrap_err().panic_message(), Some("inside"));
        let slow = coro::spawn(|| coro::sleep(2 * MS));
        let slow = slow.join_timeout(MS).unwrap_err();
        let started = Instant::now();
        coro::sleep(3 * MS);
        assert_eq!(started.elapsed(), 3 * MS);
        slow.join().unwrap();
    });
}

#[test]
fn a_cancelled_join_with_a_limit_is_refused_at_once() {
    every_order(|| {
        let outer = coro::spawn(|| {
            let inner = coro::spawn(|| coro::sleep(MS));
            matches!(
                inner.join_timeout(LONG),
                Ok(Err(JoinError::Refused(Refusal::Interrupted(
                    Interrupt::Cancelled
                ))))
            )
        });
        coro::yield_now();
        coro::yield_now();
        outer.cancel();
        let started = Instant::now();
        assert!(outer.join().unwrap());
        assert_eq!(started.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_park_with_a_limit_ends_by_unpark_by_time_and_by_cancellation() {
    every_order(|| {
        let started = Instant::now();
        coro::park_timeout(3 * MS);
        assert_eq!(started.elapsed(), 3 * MS);
        // A permit that came before is used up, and only that one.
        coro::current().unpark();
        coro::park_timeout(LONG);
        assert_eq!(started.elapsed(), 3 * MS);
        let me = coro::current();
        coro::spawn(move || {
            coro::sleep(MS);
            me.unpark();
        });
        coro::park_timeout(LONG);
        assert_eq!(started.elapsed(), 4 * MS);
        let parked = coro::spawn(|| coro::park_timeout(LONG));
        coro::sleep(MS);
        parked.cancel();
        assert!(matches!(parked.join(), Err(JoinError::Cancelled)));
        assert_eq!(started.elapsed(), 5 * MS);
    });
}

fn ticks_when_late(missed: MissedTicks) -> Vec<u64> {
    let mut ticks = coro::interval(10 * MS).missed_ticks(missed);
    let origin = ticks.tick();
    coro::sleep(35 * MS);
    (0..6)
        .map(|_| {
            ticks.tick();
            u64::try_from((Instant::now() - origin).as_millis()).unwrap()
        })
        .collect()
}

#[test]
fn interval_policies_differ_as_documented() {
    every_order(|| {
        let burst = ticks_when_late(MissedTicks::Burst);
        assert_eq!(burst, [35, 35, 35, 40, 50, 60]);
        let delay = ticks_when_late(MissedTicks::Delay);
        assert_eq!(delay, [35, 45, 55, 65, 75, 85]);
        let skip = ticks_when_late(MissedTicks::Skip);
        assert_eq!(skip, [35, 40, 50, 60, 70, 80]);
    });
}

#[test]
fn schedules_run_on_time_and_stop() {
    every_order(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let note = |name: &'static str, busy: Duration| {
            let log = log.clone();
            move || {
                let now = Instant::now().as_ns() / 1_000_000;
                log.borrow_mut().push((name, now));
                coro::sleep(busy);
            }
        };
        let once = coro::schedule_after(5 * MS, note("once", MS)).unwrap();
        let delayed = coro::schedule_with_fixed_delay(10 * MS, note("delay", 3 * MS)).unwrap();
        let rate = coro::schedule_at_fixed_rate(10 * MS, MissedTicks::Burst, note("rate", 3 * MS))
            .unwrap();
        coro::sleep(45 * MS);
        delayed.stop();
        rate.stop();
        coro::sleep(100 * MS);
        assert!(once.is_finished() && delayed.is_finished() && rate.is_finished());
        let times = |wanted: &str| {
            let log = log.borrow();
            let of = log.iter().filter(|(name, _)| *name == wanted);
            of.map(|(_, at)| *at).collect::<Vec<_>>()
        };
        assert_eq!(times("once"), [5]);
        assert_eq!(times("delay"), [10, 23, 36]);
        assert_eq!(times("rate"), [10, 20, 30, 40]);
    });
}

/// Goal: checkpoint yields once a slice of work, not every time. Method: a clock that moves by itself.
#[test]
fn checkpoint_yields_when_the_slice_is_spent() {
    struct Ticking(Cell<u64>);
    impl coro::Driver for Ticking {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 10_000); // 10 us a look
            self.0.get()
        }
        fn poll(&self, _: &coro::Scheduler) {}
        fn park(&self, _: &coro::Scheduler, _: Option<u64>) {}
    }
    let scheduler = coro::Scheduler::new(coro::SchedulerConfig::default());
    let calls = Rc::new(Cell::new(0u32));
    let handle = scheduler
        .spawn(coro::Builder::new(), {
            let calls = calls.clone();
            move || {
                for _ in 0..10_000 {
                    coro::checkpoint();
                    calls.set(calls.get() + 1);
                }
            }
        })
        .unwrap();
    let driver = Ticking(Cell::new(0));
    let mut turns = 0;
    while !handle.is_finished() {
        scheduler.turn(&driver);
        turns += 1;
    }
    assert_eq!(calls.get(), 10_000);
    assert!((2..2_000).contains(&turns), "{turns} turns");
}

/// Goal: a call that ends without waiting lets others run when the slice is spent, and hands its result to a caller that was
/// cancelled: it does not unwind. Method: a clock that moves by itself; cancelled before it begins to give way.
#[test]
fn giving_way_never_unwinds() {
    struct Ticking(Cell<u64>);
    impl coro::Driver for Ticking {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 10_000);
            self.0.get()
        }
        fn poll(&self, _: &coro::Scheduler) {}
        fn park(&self, _: &coro::Scheduler, _: Option<u64>) {}
    }
    let scheduler = coro::Scheduler::new(coro::SchedulerConfig::default());
    let through = Rc::new(Cell::new(false));
    let there = Rc::clone(&through);
    let handle = scheduler
        .spawn(coro::Builder::new(), move || {
            assert!(coro::wait::begin().is_ok());
            coro::wait::park("the test");
            (0..10_000).for_each(|_| coro::wait::give_way());
            there.set(true);
        })
        .unwrap();
    let driver = Ticking(Cell::new(0));
    scheduler.turn(&driver);
    handle.cancel();
    let mut turns = 0;
    while !handle.is_finished() {
        scheduler.turn(&driver);
        turns += 1;
    }
    assert!((2..2_000).contains(&turns), "{turns} turns");
    assert!(through.get(), "unwound from giving way");
}

/// Goal: who is alone and finds its slice spent hands over to the driver with its first yield, not with one of the next. Method: a
/// clock that stands still until the coroutine has worked for longer than a slice; turns and yields are counted.
#[test]
fn a_lone_coroutine_whose_slice_is_spent_ends_the_turn() {
    struct Standing(Rc<Cell<u64>>);
    impl coro::Driver for Standing {
        fn now(&self) -> u64 {
            self.0.get()
        }
        fn poll(&self, _: &coro::Scheduler) {}
        fn park(&self, _: &coro::Scheduler, _: Option<u64>) {}
    }
    let time = Rc::new(Cell::new(0));
    let scheduler = coro::Scheduler::new(coro::SchedulerConfig::default());
    let yields = Rc::new(Cell::new(0));
    let handle = scheduler.spawn(coro::Builder::new(), {
        let (time, yields) = (time.clone(), yields.clone());
        move || {
            coro::yield_now();
            time.set(time.get() + 1_000_000);
            for _ in 0..100 {
                coro::checkpoint();
                yields.set(yields.get() + 1);
            }
        }
    });
    let handle = handle.unwrap();
    let driver = Standing(time);
    scheduler.turn(&driver);
    let turn = scheduler.turn(&driver);
    assert_eq!((turn.ran, yields.get()), (1, 0), "the turn went on");
    scheduler.turn(&driver);
    assert!(handle.is_finished());
    assert_eq!(yields.get(), 100);
}
