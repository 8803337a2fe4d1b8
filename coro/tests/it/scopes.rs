//! Goal: a scope returns after its last child, whatever happens, and hands on what interrupts it.

use crate::every_order;
use coring_coro as coro;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(3600);

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().unwrap_or("?")
}

#[test]
fn children_borrow_mutably_and_all_end() {
    every_order(|| {
        let mut cells = vec![0; 50];
        coro::scope(|s| {
            for (index, cell) in cells.iter_mut().enumerate() {
                s.spawn(move || {
                    coro::sleep(Duration::from_millis(index as u64 % 7));
                    *cell = index;
                });
            }
        });
        assert!(cells.iter().enumerate().all(|(index, cell)| index == *cell));
    });
}

#[test]
fn a_panic_of_the_body_waits_for_the_children_first() {
    every_order(|| {
        let done = Cell::new(false);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            coro::scope(|s| {
                s.spawn(|| {
                    coro::sleep(SHORT);
                    done.set(true);
                });
                panic!("body");
            })
        }));
        assert_eq!(message(&*caught.unwrap_err()), "body");
        assert!(done.get());
    });
}

#[test]
fn the_panic_of_a_child_nobody_joined_comes_out_and_a_joined_one_does_not() {
    every_order(|| {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            coro::scope(|s| {
                s.spawn(|| panic!("child"));
                s.spawn(|| coro::sleep(SHORT));
            })
        }));
        assert_eq!(message(&*caught.unwrap_err()), "child");
        let joined = coro::scope(|s| s.spawn(|| -> u8 { panic!("joined") }).join().is_err());
        assert!(joined);
    });
}

#[test]
fn merely_blocked_children_are_waited_for() {
    every_order(|| {
        let started = coro::Instant::now();
        coro::scope(|s| {
            s.spawn(|| coro::sleep(LONG));
        });
        assert!(started.elapsed() >= LONG);
    });
}

#[test]
fn failing_fast_cancels_the_siblings() {
    every_order(|| {
        let started = coro::Instant::now();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            coro::scope(|s| {
                s.fail_fast();
                s.spawn(|| coro::sleep(LONG));
                s.spawn(|| {
                    coro::sleep(SHORT);
                    panic!("fast");
                });
            })
        }));
        assert_eq!(message(&*caught.unwrap_err()), "fast");
        assert!(started.elapsed() < LONG);
    });
}

#[test]
fn cancelling_the_parent_cancels_children_and_grandchildren() {
    every_order(|| {
        let ended = Rc::new(Cell::new(0));
        let counter = ended.clone();
        struct Count<'a>(&'a Cell<u32>);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let parent = coro::spawn(move || {
            coro::scope(|s| {
                s.spawn(|| {
                    let _count = Count(&counter);
                    coro::scope(|s| {
                        s.spawn(|| {
                            let _count = Count(&counter);
                            coro::sleep(LONG);
                        });
                    });
                    coro::sleep(LONG);
                });
                s.spawn(|| {
                    let _count = Count(&counter);
                    coro::sleep(LONG);
                });
            });
            coro::sleep(LONG);
        });
        coro::sleep(SHORT);
        parent.cancel();
        assert!(matches!(parent.join(), Err(coro::JoinError::Cancelled)));
        assert_eq!(ended.get(), 3);
        assert!(coro::Instant::now() < coro::Instant::from_ns(0) + LONG);
    });
}

#[test]
fn inside_a_cancelled_coroutine_children_are_dropped_unrun_or_cancelled() {
    every_order(|| {
        let handle = coro::spawn(|| {
            let _ = catch_unwind(coro::park);
            assert!(coro::is_cancelled());
            let ran = Cell::new(false);
            coro::scope(|s| {
                s.spawn(|| {
                    coro::yield_now();
                    ran.set(true);
                });
            });
            ran.get()
        });
        coro::sleep(SHORT);
        handle.cancel();
        assert!(!handle.join().unwrap());
    });
}

#[test]
fn a_deadline_outside_reaches_the_children() {
    every_order(|| {
        let started = coro::Instant::now();
        let outcome = coro::timeout(SHORT, || {
            coro::scope(|s| {
                s.spawn(|| coro::sleep(LONG));
            });
        });
        assert_eq!(outcome, Err(coro::Elapsed));
        assert_eq!(started.elapsed(), SHORT);
    });
}

#[test]
fn results_borrow_too_and_unclaimed_ones_are_dropped_inside() {
    every_order(|| {
        let text = String::from("borrowed");
        let log = RefCell::new(Vec::new());
        struct Says<'a>(&'a str, &'a RefCell<Vec<String>>);
        impl Drop for Says<'_> {
            fn drop(&mut self) {
                // A destructor that waits while the scope is ending.
                coro::yield_now();
                self.1.borrow_mut().push(self.0.to_owned());
            }
        }
        coro::scope(|s| {
            s.spawn(|| Says(&text, &log));
            let kept = s.spawn(|| Says(&text, &log));
            assert_eq!(kept.join().unwrap().0, "borrowed");
        });
        assert_eq!(log.borrow().len(), 2);
    });
}

#[test]
fn a_child_may_spawn_siblings() {
    every_order(|| {
        let count = Cell::new(0);
        coro::scope(|s| {
            s.spawn(|| {
                for _ in 0..5 {
                    s.spawn(|| {
                        coro::yield_now();
                        count.set(count.get() + 1);
                    });
                }
            });
        });
        assert_eq!(count.get(), 5);
    });
}

#[test]
fn race_returns_the_first_after_the_others_have_ended() {
    every_order(|| {
        let losers_ended = Cell::new(0);
        struct Count<'a>(&'a Cell<u32>);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let delays = [30u64, 10, 20];
        let winner = coro::race_all(delays.map(|delay| {
            let losers_ended = &losers_ended;
            move || {
                let _count = Count(losers_ended);
                coro::sleep(Duration::from_millis(delay));
                delay
            }
        }));
        assert_eq!(winner, 10);
        assert_eq!(losers_ended.get(), 3);
        assert_eq!(coro::Instant::now(), coro::Instant::from_ns(10_000_000));
    });
}

#[test]
fn race_without_a_value_unwinds_its_cancelled_caller() {
    every_order(|| {
        let handle = coro::spawn(|| coro::race(|| coro::sleep(LONG), || coro::sleep(LONG)));
        coro::sleep(SHORT);
        handle.cancel();
        assert!(matches!(handle.join(), Err(coro::JoinError::Cancelled)));
    });
}

#[test]
fn join_helpers_keep_the_order() {
    every_order(|| {
        let all = coro::join_all((0..20u64).map(|n| {
            move || {
                coro::sleep(Duration::from_millis(20 - n));
                n
            }
        }));
        assert_eq!(all, (0..20).collect::<Vec<_>>());
        let pair = coro::join2(
            || {
                let never = || {
                    coro::sleep(LONG);
                    2
                };
                coro::race(|| 1, never)
            },
            || "b",
        );
        assert_eq!(pair, (1, "b"));
    });
}

/// Goal: an error is a result like any other: a race hands it out, also to a caller that is cancelled. Method: a branch that is
/// refused returns its error while the other has none; one that had its error before the caller was cancelled.
#[test]
fn race_hands_an_error_to_its_cancelled_caller() {
    every_order(|| {
        let (_sender, receiver) = coro::channel::oneshot::<u8>();
        let refused = coro::spawn(move || {
            coro::race(
                || receiver.recv().map_err(|_| "refused"),
                || {
                    coro::sleep(LONG);
                    Ok(1)
                },
            )
        });
        coro::sleep(SHORT);
        refused.cancel();
        assert_eq!(refused.join().unwrap(), Err("refused"));

        let before = coro::spawn(|| {
            coro::race(
                || Err("before"),
                || {
                    // The loser takes its time.
                    coro::shield(|| coro::sleep(SHORT));
                    Ok(1)
                },
            )
        });
        coro::sleep(SHORT / 2);
        before.cancel();
        assert_eq!(before.join().unwrap(), Err("before"));
    });
}

/// Goal: the branches of a caller that is cancelled already do not begin, as no coroutine does, so there is no result.
#[test]
fn race_of_a_cancelled_caller_begins_nothing() {
    every_order(|| {
        let begun = Rc::new(Cell::new(0));
        let handle = coro::spawn({
            let begun = begun.clone();
            move || {
                coro::shield(|| coro::sleep(SHORT));
                let count = || begun.set(begun.get() + 1);
                coro::race(count, count)
            }
        });
        coro::sleep(SHORT / 2);
        handle.cancel();
        assert!(matches!(handle.join(), Err(coro::JoinError::Cancelled)));
        assert_eq!(begun.get(), 0);
    });
}
