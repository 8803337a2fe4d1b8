//! Ends that come in the middle of everything: whatever is under way, nothing hangs, nothing is left, and what is stuck is named.

use coring::{coro, mailbox, map_reduce, spawn_on};
use coring_tests::{alone, builder, check, proc, rounds, runtime, until};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// Does again and again what crosses cores or threads, until it is refused. Counts what was done.
fn busy(core: usize, way: usize, done: &Arc<AtomicUsize>) {
    let other = 1 - core;
    let (sender, mut receiver) = mailbox::<usize>(2);
    let there =
        (way == 5).then(|| spawn_on(other, move || while receiver.recv_timeout(HOUR).is_ok() {}));
    loop {
        let went_on = match way {
            0 => spawn_on(other, || coro::spawn(|| 1).join().is_ok())
                .join()
                .is_ok_and(|ok| ok),
            1 => coring::call(other, move || coring::call(core, || 1).is_ok()).is_ok_and(|ok| ok),
            2 => map_reduce(|core| core, 0, |a, b| a + b).is_ok(),
            3 => coro::timeout(Duration::from_micros(50), || coro::sleep(HOUR))
                .is_err_and(|_| !coring::is_shutting_down()),
            4 => coring::blocking(|| 1).is_ok(),
            5 => sender.send(1).is_ok(),
            6 => coring::process::Command::new("true").status().is_ok(),
            _ => {
                coro::block_on(std::future::ready(1)).is_ok()
                    && coring::Sharded::new(|core| core).is_ok()
            }
        };
        if !went_on {
            break;
        }
        done.fetch_add(1, Ordering::Relaxed);
        coro::yield_now();
    }
    drop((sender, there));
}

#[test]
fn the_end_comes_in_the_middle_of_everything() {
    // Goal: an end that comes while remote work, calls, timers, blocking calls, messages and processes are under way leaves nothing:
    // no coroutine, no thread, no descriptor; nobody waits for the hour of grace.
    // Method: all of them in loops on both cores; asked from main, another core, a thread, a blocking call; at once or forced.
    alone(|| {
        let live = |round: usize| {
            let runtime = builder(2).shutdown_grace(HOUR).build().unwrap();
            let handle = runtime.shutdown_handle();
            let done = Arc::new(AtomicUsize::new(0));
            let ended = runtime.run_to_end(|| {
                for core in 0..2 {
                    for way in 0..8 {
                        let done = Arc::clone(&done);
                        drop(spawn_on(core, move || busy(core, way, &done)));
                    }
                }
                until("it goes on", || {
                    done.load(Ordering::Relaxed) >= 50 + round * 3
                });
                let ask = move || match round % 3 {
                    0 => handle.force(),
                    _ => handle.shutdown(Duration::ZERO),
                };
                match round % 4 {
                    0 => ask(),
                    1 => drop(spawn_on(1, ask)),
                    2 => drop(thread::spawn(ask)),
                    _ => drop(coring::try_spawn_blocking(ask)),
                }
                coro::sleep(HOUR);
            });
            assert_eq!(
                ended.abandoned.len(),
                0,
                "round {round}: {:?}",
                ended.abandoned
            );
        };
        live(0);
        let before = proc::fds();
        for round in 0..rounds(40, 1_000) {
            live(round);
            assert_eq!(proc::fds(), before, "round {round}");
        }
    });
}

#[test]
fn the_pool_is_stuck_and_its_queue_is_full() {
    // Goal: who waits for room in the pool's queue is cancelled, what waits in the queue is dropped, and the call that does not come
    // back is named.
    // Method: one thread, a queue of one, callers on both cores.
    alone(|| {
        let free = Arc::new(AtomicBool::new(false));
        let is_free = Arc::clone(&free);
        let refused = Arc::new(AtomicUsize::new(0));
        let runtime = builder(2)
            .blocking_threads(1)
            .blocking_queue(1)
            .shutdown_grace(Duration::from_millis(100))
            .build()
            .unwrap();
        let ended = runtime.run_to_end(|| {
            let begun = Arc::new(AtomicBool::new(false));
            let has_begun = Arc::clone(&begun);
            drop(coring::try_spawn_blocking(move || {
                has_begun.store(true, Ordering::Release);
                while !is_free.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            }));
            until("it is stuck", || begun.load(Ordering::Acquire));
            let waiting = Arc::new(AtomicUsize::new(0));
            for core in 0..2 {
                let (waiting, refused) = (Arc::clone(&waiting), Arc::clone(&refused));
                drop(spawn_on(core, move || {
                    for _ in 0..3 {
                        let (waiting, refused) = (Arc::clone(&waiting), Arc::clone(&refused));
                        drop(coro::spawn(move || {
                            waiting.fetch_add(1, Ordering::Relaxed);
                            if coring::blocking(|| ()).is_err() {
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                        }));
                    }
                }));
            }
            until("all wait", || waiting.load(Ordering::Relaxed) == 6);
            coring::shutdown(Duration::ZERO);
            coro::sleep(HOUR);
        });
        free.store(true, Ordering::Release);
        assert_eq!(refused.load(Ordering::Relaxed), 6);
        let text = ended.abandoned.join("\n");
        assert!(
            text.contains("blocking") && ended.abandoned.len() == 1,
            "{text}"
        );
    });
}

#[test]
fn a_runtime_is_dropped_by_a_panic() {
    // Goal: a runtime that is dropped while a panic unwinds, unused, or asked to end before, stops at once and leaves nothing.
    // Method: an hour of grace; threads and descriptors as before.
    alone(|| {
        runtime(2).run(|| ());
        let before = (proc::fds(), proc::threads());
        for asked in [false, true] {
            let unwinds = || {
                let runtime = builder(3).shutdown_grace(HOUR).build().unwrap();
                if asked {
                    runtime.shutdown_handle().shutdown(HOUR);
                }
                std::panic::resume_unwind(Box::new(()));
            };
            assert!(catch_unwind(AssertUnwindSafe(unwinds)).is_err());
            // The kernel takes a thread off its list a moment after who joins it was told.
            while (proc::fds(), proc::threads()) != before {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn a_runtime_is_made_and_dropped_inside_another() {
    // Goal: a runtime that is made inside a coroutine and never run can be dropped there: the core it is on goes on as before.
    // Method: its coroutines, timers and remote work are used after.
    check(|| {
        runtime(2).run(|| {
            let inner = builder(2).shutdown_grace(HOUR).build().unwrap();
            let handle = inner.shutdown_handle();
            drop(inner);
            handle.force();
            coro::sleep(Duration::from_millis(1));
            assert_eq!(coro::spawn(|| 1).join().unwrap(), 1);
            assert_eq!(coring::call(1, || 2).unwrap(), 2);
        });
    });
}
