//! Time: a timer is never early, and what waits for it can be disturbed.

use coring::coro;
use coring_tests::random::Random;
use coring_tests::{check, runtime};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[test]
fn timers_are_never_early() {
    // Goal: no sleep ends before its time, whatever else the core does; none is lost.
    // Method: 2,000 coroutines sleep random times of very different sizes, some again and again, while others keep
    // the core busy; each compares with std's clock.
    check(|| {
        let mut random = Random::new();
        runtime(1).run(|| {
            let sleepers: Vec<_> = (0..2000)
                .map(|index| {
                    let mut random = random.fork();
                    coro::spawn(move || {
                        for _ in 0..1 + index % 4 {
                            let limit = [1_000, 100_000, 5_000_000, 120_000_000][index % 4];
                            let duration = Duration::from_nanos(random.below(limit) as u64);
                            let start = Instant::now();
                            coro::sleep(duration);
                            let slept = start.elapsed();
                            assert!(slept >= duration, "{slept:?} instead of {duration:?}");
                        }
                    })
                })
                .collect();
            let busy = coro::spawn(|| {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(50) {
                    coro::yield_now();
                }
            });
            sleepers
                .into_iter()
                .for_each(|sleeper| sleeper.join().unwrap());
            busy.join().unwrap();
        });
    });
}

#[test]
fn an_idle_core_wakes_for_its_timer() {
    // Goal: a core with nothing else to do sleeps in the kernel until the timer, and not longer by orders.
    // Method: single sleeps around the granularities of a wheel; the core's sleeps are counted. The upper bound is
    // wide: this is about a lost timer, not about precision.
    check(|| {
        runtime(1).run(|| {
            for us in [
                1, 50, 900, 1_000, 1_100, 15_999, 16_001, 64_000, 70_000, 257_000,
            ] {
                let (duration, start) = (Duration::from_micros(us), Instant::now());
                coro::sleep(duration);
                let slept = start.elapsed();
                assert!(slept >= duration, "{slept:?} instead of {duration:?}");
                assert!(
                    slept < duration + Duration::from_secs(5),
                    "{slept:?} for {duration:?}"
                );
            }
            assert!(coring::stats().unwrap().sleeps > 0, "asleep, not spinning");
        });
    });
}

#[test]
fn shorter_sleeps_end_first() {
    // Goal: a sleeper with an earlier deadline is not overtaken by a later one, whatever the order of their spawning.
    // Method: durations 10 ms apart in a shuffled order, all begun in one turn; each notes its own when it wakes. On a
    // busy machine several are due at once and wake in one batch; when that has run, all shorter ones are noted.
    check(|| {
        runtime(1).run(|| {
            let woken = Rc::new(RefCell::new(Vec::new()));
            let sleepers: Vec<_> = (0..12u64)
                .map(|index| {
                    let (woken, tens) = (Rc::clone(&woken), 1 + index * 7 % 12);
                    coro::spawn(move || {
                        coro::sleep(Duration::from_millis(tens * 10));
                        woken.borrow_mut().push(tens);
                        coro::yield_now();
                        let overtaken = (1..tens).find(|tens| !woken.borrow().contains(tens));
                        assert_eq!(overtaken, None, "by {tens}: {:?}", woken.borrow());
                    })
                })
                .collect();
            sleepers
                .into_iter()
                .for_each(|sleeper| sleeper.join().unwrap());
        });
    });
}

#[test]
fn zero_and_for_ever() {
    // Goal: a sleep of zero yields once; the longest one overflows nothing and can be cancelled.
    // Method: two coroutines pass a baton with zero sleeps; a sleeper of `Duration::MAX` is cancelled.
    check(|| {
        runtime(1).run(|| {
            let order = Rc::new(RefCell::new(Vec::new()));
            let batons: Vec<_> = [0, 1]
                .map(|me| {
                    let order = Rc::clone(&order);
                    coro::spawn(move || {
                        for _ in 0..3 {
                            order.borrow_mut().push(me);
                            coro::sleep(Duration::ZERO);
                        }
                    })
                })
                .into();
            batons.into_iter().for_each(|baton| baton.join().unwrap());
            assert_eq!(*order.borrow(), [0, 1, 0, 1, 0, 1]);
            let forever = coro::spawn(|| coro::sleep(Duration::MAX));
            coro::yield_now();
            forever.cancel();
            assert!(forever.join().is_err());
        });
    });
}

#[test]
fn what_is_always_late_lets_others_run() {
    // Goal: periodic work that takes longer than its period, or has no pause, is late and no more: others run beside it, and it
    // can be stopped and cancelled.
    // Method: each kind beside a sleeper, who then ends it.
    check(|| {
        fn work() {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(80) {}
        }
        runtime(1).run(|| {
            let period = Duration::from_micros(50);
            let rate = |missed| coro::schedule_at_fixed_rate(period, missed, work).unwrap();
            let schedules: [&dyn Fn() -> coro::Schedule; 3] = [
                &|| coro::schedule_with_fixed_delay(Duration::ZERO, || ()).unwrap(),
                &|| rate(coro::MissedTicks::Burst),
                &|| rate(coro::MissedTicks::Skip),
            ];
            for start in schedules {
                let schedule = start();
                coro::sleep(Duration::from_millis(2));
                schedule.stop();
                schedule.join().unwrap();
            }
            let ticking = coro::spawn(move || {
                let mut ticks = coro::interval(period);
                loop {
                    ticks.tick();
                    work();
                }
            });
            coro::sleep(Duration::from_millis(2));
            ticking.cancel();
            assert!(ticking.join().is_err());
        });
    });
}
