//! Goal: cancellation reaches every wait, disturbs nothing else, and cannot be lost or doubled.

use crate::every_order;
use coring_coro as coro;
use coro::wait::{Interrupt, Refusal};
use coro::{JoinError, sync};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// Lets everybody else run until all of them wait.
fn settle() {
    coro::sleep(Duration::from_nanos(1));
}

fn is_cancelled<T>(outcome: Result<T, JoinError>) -> bool {
    matches!(outcome, Err(JoinError::Cancelled))
}

/// Sets a flag when it is dropped.
struct OnDrop<F: FnMut()>(F);
impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn before_the_first_run_the_closure_is_dropped_and_not_run() {
    every_order(|| {
        let (ran, dropped) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let handle = coro::spawn({
            let (ran, dropped) = (ran.clone(), dropped.clone());
            let guard = OnDrop(move || dropped.set(true));
            move || {
                let _guard = guard;
                ran.set(true);
            }
        });
        handle.cancel();
        assert!(is_cancelled(handle.join()));
        assert!(!ran.get() && dropped.get());
    });
}

#[test]
fn twice_is_as_once_and_after_the_end_is_nothing() {
    every_order(|| {
        let handle = coro::spawn(|| coro::sleep(LONG));
        settle();
        handle.cancel();
        handle.cancel();
        assert!(is_cancelled(handle.join()));

        let handle = coro::spawn(|| 7);
        while !handle.is_finished() {
            coro::yield_now();
        }
        handle.cancel();
        assert_eq!(handle.join().unwrap(), 7);
    });
}

#[test]
fn of_oneself_is_seen_by_the_next_wait() {
    every_order(|| {
        let slot: Rc<Cell<Option<coro::JoinHandle<()>>>> = Rc::default();
        let went_on = Rc::new(Cell::new(false));
        let handle = coro::spawn({
            let (slot, went_on) = (slot.clone(), went_on.clone());
            move || {
                let me = slot.take().unwrap();
                me.cancel();
                assert!(coro::is_cancelled());
                drop(me); // detached: nobody will join
                went_on.set(true);
                coro::sleep(LONG);
                unreachable!("the sleep must not begin");
            }
        });
        slot.set(Some(handle));
        coro::sleep(Duration::from_secs(1));
        assert!(went_on.get());
    });
}

#[test]
fn in_a_drop_it_unwinds_from_there() {
    every_order(|| {
        let after = Rc::new(Cell::new(false));
        let handle = coro::spawn({
            let after = after.clone();
            move || {
                // Not unwinding yet: the destructor may wait, and is cancelled in its wait.
                drop(OnDrop(|| coro::sleep(LONG)));
                after.set(true);
            }
        });
        settle();
        handle.cancel();
        assert!(is_cancelled(handle.join()));
        assert!(!after.get());
    });
}

/// Goal: a destructor that cancels another coroutine does so whether or not a panic unwinds through it.
#[test]
fn of_another_one_from_a_drop() {
    every_order(|| {
        for panics in [false, true] {
            let sleeper = Rc::new(coro::spawn(|| coro::sleep(LONG)));
            settle();
            let guard = OnDrop({
                let sleeper = sleeper.clone();
                move || sleeper.cancel()
            });
            let ending = coro::spawn(move || {
                let _guard = guard;
                if panics {
                    std::panic::resume_unwind(Box::new("unwinds"));
                }
            });
            assert_eq!(ending.join().is_err(), panics);
            let sleeper = Rc::into_inner(sleeper).expect("the guard is gone");
            assert!(is_cancelled(sleeper.join()));
        }
    });
}

#[test]
fn calls_with_an_error_get_errors_first_and_are_unwound_after_a_few() {
    every_order(|| {
        let errors = Rc::new(Cell::new(0));
        let handle = coro::spawn({
            let errors = errors.clone();
            move || {
                let (_sender, receiver) = coro::channel::bounded::<u8>(1);
                loop {
                    let refused = receiver.recv().unwrap_err();
                    assert_eq!(
                        refused,
                        coro::channel::RecvError::Refused(Refusal::Interrupted(
                            Interrupt::Cancelled
                        ))
                    );
                    errors.set(errors.get() + 1);
                }
            }
        });
        settle();
        handle.cancel();
        assert!(is_cancelled(handle.join()));
        assert_eq!(errors.get(), 16);
    });
}

/// A coroutine that swallows its cancellation for ever must not keep the core from the others.
#[test]
fn swallowed_by_catch_unwind_it_comes_again_and_the_others_go_on() {
    every_order(|| {
        let rounds = Rc::new(Cell::new(0u32));
        let started = Rc::new(Cell::new(false));
        let handle = coro::spawn({
            let rounds = rounds.clone();
            let started = started.clone();
            move || {
                started.set(true);
                while rounds.get() < 1000 {
                    let caught = catch_unwind(AssertUnwindSafe(coro::yield_now));
                    if let Err(payload) = caught {
                        assert!(coro::is_cancellation(&*payload));
                        rounds.set(rounds.get() + 1);
                    }
                }
                "gave in"
            }
        });
        while !started.get() {
            coro::yield_now();
        }
        handle.cancel();
        let other = coro::spawn({
            let rounds = rounds.clone();
            move || {
                coro::yield_now();
                rounds.get()
            }
        });
        assert!(other.join().unwrap() < 1000, "it starved the others");
        assert_eq!(handle.join().unwrap(), "gave in");
    });
}

#[test]
fn shield_hides_it_until_the_outermost_ends() {
    every_order(|| {
        let steps = Rc::new(Cell::new(0));
        let handle = coro::spawn({
            let steps = steps.clone();
            move || {
                coro::shield(|| {
                    coro::shield(|| coro::sleep(Duration::from_millis(1)));
                    steps.set(1);
                    coro::sleep(Duration::from_millis(1));
                    steps.set(2);
                });
                coro::yield_now();
                steps.set(3);
            }
        });
        settle();
        handle.cancel();
        assert!(is_cancelled(handle.join()));
        assert_eq!(steps.get(), 2);
    });
}

#[test]
fn a_refused_join_detaches_and_the_joined_one_runs_on() {
    every_order(|| {
        let done = Rc::new(Cell::new(false));
        let inner_done = done.clone();
        let outer = coro::spawn(move || {
            let inner = coro::spawn(move || {
                coro::sleep(Duration::from_secs(1));
                inner_done.set(true);
            });
            matches!(
                inner.join(),
                Err(JoinError::Refused(Refusal::Interrupted(
                    Interrupt::Cancelled
                )))
            )
        });
        coro::sleep(Duration::from_millis(1));
        outer.cancel();
        assert!(outer.join().unwrap());
        assert!(!done.get());
        coro::sleep(Duration::from_secs(2));
        assert!(done.get());
    });
}

/// `thread::panicking` is per thread, so a switch while unwinding would confuse the others: waits are refused.
#[test]
fn nothing_waits_while_unwinding() {
    every_order(|| {
        let seen = Rc::new(Cell::new(0));
        let handle = coro::spawn({
            let seen = seen.clone();
            move || {
                let _guard = OnDrop(move || {
                    assert!(std::thread::panicking());
                    coro::yield_now(); // returns at once
                    coro::park();
                    coro::sleep(LONG);
                    let (_keep, receiver) = coro::channel::bounded::<u8>(1);
                    assert_eq!(
                        receiver.recv(),
                        Err(coro::channel::RecvError::Refused(Refusal::Unwinding))
                    );
                    let other = coro::spawn(|| 1);
                    assert!(matches!(
                        other.join(),
                        Err(JoinError::Refused(Refusal::Unwinding))
                    ));
                    let semaphore = sync::Semaphore::new(0);
                    assert!(semaphore.acquire_timeout(LONG).is_err());
                    drop(sync::Mutex::new(1).lock()); // uncontended: needs no wait
                    seen.set(seen.get() + 1);
                });
                coro::sleep(LONG);
            }
        });
        settle();
        handle.cancel();
        let bystander = coro::spawn(std::thread::panicking);
        assert!(is_cancelled(handle.join()));
        assert_eq!(seen.get(), 1);
        assert!(!bystander.join().unwrap());
    });
}

#[test]
fn every_sync_wait_is_left_cleanly() {
    every_order(|| {
        let mutex = Rc::new(sync::Mutex::new(()));
        let semaphore = Rc::new(sync::Semaphore::new(0));
        let barrier = Rc::new(sync::Barrier::new(2));
        let event = Rc::new(sync::Event::new());
        let condvar = Rc::new((sync::Mutex::new(()), sync::Condvar::new()));
        let guard = mutex.lock();
        let waits: Vec<Box<dyn FnOnce()>> = vec![
            Box::new({
                let mutex = mutex.clone();
                move || drop(mutex.lock())
            }),
            Box::new({
                let semaphore = semaphore.clone();
                move || drop(semaphore.acquire())
            }),
            Box::new({
                let barrier = barrier.clone();
                move || assert!(!barrier.wait().is_leader())
            }),
            Box::new({
                let event = event.clone();
                move || event.wait()
            }),
            Box::new({
                let condvar = condvar.clone();
                move || drop(condvar.1.wait(condvar.0.lock()))
            }),
        ];
        for wait in waits {
            let handle = coro::spawn(wait);
            coro::sleep(Duration::from_millis(1));
            handle.cancel();
            assert!(is_cancelled(handle.join()));
        }
        drop(guard);
        assert!(mutex.try_lock().is_some());
        semaphore.add_permits(1);
        assert_eq!(semaphore.available(), 1);
        // The cancelled arrival does not count: it takes two more.
        let first = barrier.wait_timeout(Duration::from_millis(1));
        assert!(first.is_err());
        condvar.1.notify_one();
        assert!(condvar.0.try_lock().is_some());
    });
}

#[test]
fn nobody_meets_at_a_barrier_with_who_gives_up() {
    // Goal: who is cancelled, and catches the unwinding and comes again, does not count at a barrier once it has given up, not even while
    // it lets others run on its way out: each meeting is of two. Afterwards the barrier is as new.
    // Method: both kinds of waits beside some that come with a time limit; all count their meetings.
    every_order(|| {
        for limited in [false, true] {
            let barrier = Rc::new(sync::Barrier::new(2));
            let short = Duration::from_millis(1);
            let comes = |barrier: &Rc<sync::Barrier>| {
                let barrier = barrier.clone();
                coro::spawn(move || barrier.wait_timeout(short).is_ok())
            };
            let stubborn = coro::spawn({
                let barrier = barrier.clone();
                move || {
                    let mut met = 0;
                    for _ in 0..300 {
                        let came = catch_unwind(AssertUnwindSafe(|| match limited {
                            true => barrier.wait_timeout(LONG).is_ok(),
                            false => {
                                barrier.wait();
                                true
                            }
                        }));
                        met += usize::from(came.unwrap_or(false));
                    }
                    met
                }
            });
            settle();
            stubborn.cancel();
            let others = (0..5).filter(|_| comes(&barrier).join().unwrap()).count();
            let met: usize = stubborn.join().unwrap();
            assert_eq!(met, others);
            let (one, other) = (comes(&barrier), comes(&barrier));
            assert!(one.join().unwrap() && other.join().unwrap());
        }
    });
}
