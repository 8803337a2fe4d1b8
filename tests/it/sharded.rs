//! Values of each core.

use coring::{Sharded, coro};
use coring_tests::{check, runtime, until};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A value that must stay on its thread, and counts its drop there.
struct Local {
    thread: thread::ThreadId,
    items: Rc<RefCell<Vec<usize>>>,
    drops: Arc<AtomicUsize>,
}

impl Drop for Local {
    fn drop(&mut self) {
        assert_eq!(thread::current().id(), self.thread);
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn shards_live_and_die_on_their_core() {
    // Goal: each core has its own value, made and used and dropped there: by `stop`, or at the end of the runtime.
    // Method: values that check their thread; both endings.
    check(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&drops);
        runtime(3).run(move || {
            let make = move || {
                let drops = Arc::clone(&counted);
                Sharded::new(move |_| Local {
                    thread: thread::current().id(),
                    items: Rc::default(),
                    drops: Arc::clone(&drops),
                })
                .unwrap()
            };
            let (stopped, left) = (make(), make());
            for shards in [&stopped, &left] {
                for core in 0..3 {
                    for item in 0..core {
                        shards
                            .on(core, move |local| local.items.borrow_mut().push(item))
                            .unwrap();
                    }
                }
                let sizes = shards.map_reduce(
                    |local| local.items.borrow().len(),
                    Vec::new(),
                    |mut all, one| {
                        all.push(one);
                        all
                    },
                );
                assert_eq!(sizes.unwrap(), [0, 1, 2]);
                assert!(shards.local().items.borrow().is_empty());
            }
            stopped.stop().unwrap();
            assert_eq!(left.local().drops.load(Ordering::Relaxed), 3);
        });
        assert_eq!(drops.load(Ordering::Relaxed), 6);
    });
}

#[test]
fn shards_that_are_not_all_made_are_dropped() {
    // Goal: when one core's value is not made - its maker panics, the caller is cancelled or late - those of the others are dropped,
    // and not at the runtime's end; and a cancelled coroutine can still stop what it has made.
    // Method: values that count how many live; the maker of core 1 waits until somebody ends it.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    check(|| {
        runtime(2).run(|| {
            let live = Arc::new(AtomicUsize::new(0));
            let made = |on_one: fn()| {
                let live = Arc::clone(&live);
                move || {
                    Sharded::new(move |core| {
                        if core == 1 {
                            on_one();
                        }
                        live.fetch_add(1, Ordering::Relaxed);
                        Counted(Arc::clone(&live))
                    })
                }
            };
            let live = || live.load(Ordering::Relaxed);
            let sleep = || coro::sleep(Duration::from_secs(3600));

            let panics = coro::spawn(made(|| panic!("on purpose")));
            assert!(panics.join().is_err());
            assert_eq!(live(), 0);

            let cancelled = coro::spawn(made(sleep));
            until("core 0 has made its own", || live() == 1);
            cancelled.cancel();
            assert!(cancelled.join().unwrap().is_err());
            assert_eq!(live(), 0);

            let late = coro::timeout(Duration::from_millis(2), made(sleep));
            assert!(late.is_err());
            assert_eq!(live(), 0);

            let shards = made(|| ())().unwrap();
            let stops = coro::spawn(move || {
                coro::shield(coro::yield_now);
                shards.stop()
            });
            coro::yield_now();
            stops.cancel();
            assert!(stops.join().unwrap().is_ok());
            assert_eq!(live(), 0);
        });
    });
}

#[test]
fn shards_are_stopped_in_their_own_runtime() {
    // Goal: who stops the shards of another runtime is told, and those of this one stay. Method: the first shards of two runtimes.
    check(|| {
        let foreign = runtime(1).run(|| Sharded::new(|_| 1).unwrap());
        runtime(1).run(move || {
            let own = Sharded::new(|_| 2).unwrap();
            let stopped = catch_unwind(AssertUnwindSafe(|| foreign.stop()));
            assert_eq!(*own.local(), 2);
            assert!(stopped.is_err());
        });
    });
}
