//! Goal: hand-over is fair, nobody barges in, and grants are never eaten.

use crate::every_order;
use coring_coro as coro;
use coro::sync::{
    Barrier, Condvar, Event, Gate, Mutex, Notify, Once, OnceCell, RwLock, Semaphore, WaitGroup,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_mutex_goes_to_the_longest_waiting_and_nobody_barges_in() {
    every_order(|| {
        let mutex = Mutex::new(Vec::new());
        let guard = mutex.lock();
        coro::scope(|s| {
            for index in 0..5u64 {
                let mutex = &mutex;
                s.spawn(move || {
                    coro::sleep(MS * u32::try_from(index).unwrap());
                    mutex.lock().push(index);
                });
            }
            coro::sleep(10 * MS);
            drop(guard);
            assert!(mutex.try_lock().is_none(), "it was handed over");
        });
        assert_eq!(mutex.into_inner(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_granted_lock_counts_although_its_waiter_was_cancelled_meanwhile() {
    every_order(|| {
        let mutex = Rc::new(Mutex::new(0));
        let guard = mutex.lock();
        let handle = coro::spawn({
            let mutex = mutex.clone();
            move || *mutex.lock() = 1
        });
        coro::sleep(MS);
        drop(guard); // granted, not yet run
        handle.cancel();
        handle.join().unwrap();
        assert_eq!(*mutex.lock(), 1);
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_behind_it_in() {
    every_order(|| {
        let lock = RwLock::new(());
        let reading = lock.read();
        coro::scope(|s| {
            let writer = s.spawn(|| drop(lock.write()));
            coro::sleep(MS);
            let readers: Vec<_> = (0..3).map(|_| s.spawn(|| drop(lock.read()))).collect();
            coro::sleep(MS);
            assert!(readers.iter().all(|reader| !reader.is_finished()));
            writer.cancel();
            coro::sleep(MS);
            assert!(readers.iter().all(|reader| reader.is_finished()));
        });
        drop(reading);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn a_large_request_is_not_overtaken_and_not_in_the_way_once_it_is_gone() {
    every_order(|| {
        let semaphore = Semaphore::new(1);
        coro::scope(|s| {
            let large = s.spawn(|| drop(semaphore.acquire_many(5)));
            coro::sleep(MS);
            assert!(semaphore.try_acquire().is_none(), "it would overtake");
            let small = s.spawn(|| drop(semaphore.acquire()));
            coro::sleep(MS);
            assert!(!small.is_finished());
            large.cancel();
            coro::sleep(MS);
            assert!(small.is_finished());
        });
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn condvar_passes_a_baton_and_its_timeout_keeps_the_mutex() {
    every_order(|| {
        let (turn, changed) = (Mutex::new(0), Condvar::new());
        coro::scope(|s| {
            for me in 0..4 {
                let (turn, changed) = (&turn, &changed);
                s.spawn(move || {
                    let mut turn = changed.wait_while(turn.lock(), |turn| *turn != me);
                    *turn += 1;
                    changed.notify_all();
                });
            }
        });
        let (guard, result) = changed.wait_timeout(turn.lock(), MS);
        assert!(result.timed_out());
        assert_eq!(*guard, 4);
        assert!(turn.try_lock().is_none());
    });
}

/// Goal: the limit is one for all the waits together, and the condition is looked at once more when it is over.
#[test]
fn condvar_waits_for_a_condition_until_a_limit() {
    every_order(|| {
        let (value, changed) = (Mutex::new(0), Condvar::new());
        coro::scope(|s| {
            s.spawn(|| {
                for _ in 0..5 {
                    coro::sleep(4 * MS);
                    *value.lock() += 1;
                    changed.notify_all();
                }
            });
            let started = coro::Instant::now();
            let (guard, result) =
                changed.wait_timeout_while(value.lock(), 10 * MS, |value| *value < 5);
            assert!(result.timed_out());
            assert_eq!((*guard, started.elapsed()), (2, 10 * MS));
            drop(guard);
            let (guard, result) =
                changed.wait_timeout_while(value.lock(), 100 * MS, |value| *value < 5);
            assert!(!result.timed_out());
            assert_eq!((*guard, started.elapsed()), (5, 20 * MS));
        });
    });
}

/// A notification of a waiter that is cancelled at the same time must not be lost to the other one.
#[test]
fn condvar_notification_counts_although_the_waiter_was_cancelled() {
    every_order(|| {
        let state = Rc::new((Mutex::new(()), Condvar::new()));
        let waiter = coro::spawn({
            let state = state.clone();
            move || drop(state.1.wait(state.0.lock()))
        });
        coro::sleep(MS);
        state.1.notify_one();
        waiter.cancel();
        waiter.join().unwrap();
    });
}

#[test]
fn barrier_event_notify_once_waitgroup_gate() {
    every_order(|| {
        let barrier = Barrier::new(3);
        let rounds = Cell::new(0);
        coro::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..4 {
                        if barrier.wait().is_leader() {
                            rounds.set(rounds.get() + 1);
                        }
                    }
                });
            }
        });
        assert_eq!(rounds.get(), 4);

        let event = Event::new();
        coro::scope(|s| {
            let waiter = s.spawn(|| event.wait());
            coro::sleep(MS);
            event.set();
            event.reset(); // who waited goes on all the same
            waiter.join().unwrap();
        });
        assert!(event.wait_timeout(MS).is_err());

        let notify = Notify::new();
        coro::scope(|s| {
            let waiters = [s.spawn(|| notify.notified()), s.spawn(|| notify.notified())];
            coro::sleep(MS);
            notify.notify_one();
            coro::sleep(MS);
            let woken = waiters.iter().filter(|waiter| waiter.is_finished());
            assert_eq!(woken.count(), 1);
            notify.notify_one();
        });
        assert!(!notify.is_notified());

        let (once, runs) = (Once::new(), Cell::new(0));
        coro::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    once.call_once(|| {
                        coro::sleep(MS);
                        runs.set(runs.get() + 1);
                    });
                    assert_eq!(runs.get(), 1);
                });
            }
        });
        assert!(once.is_completed());

        let group = WaitGroup::new();
        coro::scope(|s| {
            for _ in 0..3 {
                let guard = group.enter();
                s.spawn(move || {
                    coro::sleep(MS);
                    drop(guard);
                });
            }
            group.wait();
            assert_eq!(group.count(), 0);
        });

        let gate = Gate::new();
        let inside = gate.enter().unwrap();
        assert!(gate.close_timeout(MS).is_err());
        assert!(gate.enter().is_err());
        drop(inside);
        gate.close();
    });
}

#[test]
fn a_failed_initialiser_hands_over_to_the_next_in_line() {
    every_order(|| {
        let cell = Rc::new(OnceCell::new());
        let log = Rc::new(RefCell::new(Vec::new()));
        let attempt = |name: &'static str| {
            let (cell, log) = (cell.clone(), log.clone());
            coro::spawn(move || {
                *cell.get_or_init(|| {
                    log.borrow_mut().push(name);
                    coro::sleep(MS);
                    assert!(name != "first", "it fails");
                    name
                })
            })
        };
        let first = attempt("first");
        coro::sleep(MS / 2);
        let (second, third) = (attempt("second"), attempt("third"));
        assert!(first.join().is_err());
        let (second, third) = (second.join().unwrap(), third.join().unwrap());
        assert_eq!(second, third);
        assert_eq!(log.borrow().len(), 2);
    });
}

/// A value that is set while a failed initialiser's turn is handed on must reach all who wait, not the next alone.
#[test]
fn a_value_set_after_a_failure_reaches_everybody_in_line() {
    every_order(|| {
        let (cell, fail) = (Rc::new(OnceCell::new()), Rc::new(Notify::new()));
        let failing = coro::spawn({
            let (cell, fail) = (cell.clone(), fail.clone());
            move || {
                cell.get_or_try_init(|| {
                    fail.notified();
                    Err::<u8, _>("failed")
                })
                .copied()
            }
        });
        coro::sleep(MS);
        let waiting = [(); 3].map(|()| {
            let cell = cell.clone();
            coro::spawn(move || *cell.get_or_init(|| 5))
        });
        coro::sleep(MS);
        fail.notify_one();
        let setting = coro::spawn({
            let cell = cell.clone();
            move || cell.set(9).is_ok()
        });
        assert_eq!(failing.join().unwrap(), Err("failed"));
        let expected = if setting.join().unwrap() { 9 } else { 5 };
        for waiter in waiting {
            assert_eq!(waiter.join().unwrap(), expected);
        }
    });
}

#[test]
fn an_initialiser_that_asks_for_itself_is_told_so() {
    every_order(|| {
        let cell: Rc<OnceCell<u8>> = Rc::default();
        let handle = coro::spawn({
            let cell = cell.clone();
            move || *cell.get_or_init(|| *cell.get_or_init(|| 1))
        });
        let error = handle.join().unwrap_err();
        assert!(
            error
                .panic_message()
                .unwrap()
                .contains("asked for the value")
        );
        assert_eq!(cell.get(), None);
    });
}
