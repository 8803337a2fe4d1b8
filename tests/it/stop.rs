//! Shutting down on request: seen everywhere, drained in time, forced after it, and what stays behind is named.

use coring::{coro, spawn_on};
use coring_tests::{alone, builder, check, runtime};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn who_listens_has_time_to_drain() {
    // Goal: the request reaches every core and threads can make it; main ends by itself, and nothing is cancelled.
    // Method: workers on three cores wait for the request, then do work that waits; all of it is done.
    check(|| {
        for from_thread in [false, true] {
            let done = Arc::new(AtomicUsize::new(0));
            let runtime = runtime(3);
            let handle = runtime.shutdown_handle();
            let start = Instant::now();
            let ended = runtime.run_to_end(|| {
                assert!(!coring::is_shutting_down());
                let done = Arc::clone(&done);
                let workers = coring::spawn_on_each(move |_| {
                    coring::shutdown_requested().unwrap();
                    coro::sleep(Duration::from_millis(10));
                    done.fetch_add(1, Ordering::Relaxed);
                });
                if from_thread {
                    let handle = handle.clone();
                    thread::spawn(move || handle.shutdown(LONG));
                } else {
                    drop(spawn_on(2, || coring::shutdown(LONG)));
                }
                workers
                    .into_iter()
                    .for_each(|worker| worker.join().unwrap());
                assert!(coring::is_shutting_down());
            });
            assert_eq!((ended.exit_code(), done.load(Ordering::Relaxed)), (0, 3));
            assert!(start.elapsed() < LONG / 2, "it waits for nobody");
            handle.shutdown(LONG); // has ended: nothing happens
        }
    });
}

#[test]
fn who_does_not_listen_is_cancelled() {
    // Goal: when the time to drain is over, or at a second request, main is cancelled, and all stops.
    // Method: a main that sleeps for ever, on a core that is asleep.
    check(|| {
        for (drain, again) in [(Duration::from_millis(50), false), (LONG, true)] {
            let start = Instant::now();
            let ended = runtime(2).run_to_end(|| {
                spawn_on(1, move || {
                    coring::shutdown(drain);
                    if again {
                        coro::sleep(Duration::from_millis(50));
                        coring::shutdown(drain);
                    }
                });
                coro::sleep(Duration::MAX);
            });
            let took = start.elapsed();
            assert!(
                matches!(ended.outcome, Err(coro::JoinError::Cancelled)),
                "{ended:?}"
            );
            assert_eq!((ended.exit_code(), ended.abandoned.len()), (1, 0));
            assert!(
                took >= Duration::from_millis(50) && took < LONG / 2,
                "{took:?}"
            );
        }
    });
}

#[test]
fn what_is_abandoned_is_named() {
    // Goal: a coroutine that waits under a shield, a core that does not turn, a blocking call that does not return: the
    // stop goes on without them after the grace period, and says which they were.
    // Method: one of each; the culprits are let go after.
    alone(|| {
        let free = Arc::new(AtomicBool::new(false));
        let runtime = builder(2)
            .shutdown_grace(Duration::from_millis(100))
            .build()
            .unwrap();
        let start = Instant::now();
        let ended = runtime.run_to_end(|| {
            let (here, there) = (Arc::clone(&free), Arc::clone(&free));
            let stubborn = coro::Builder::new().name("stubborn");
            let waits = Rc::new(Cell::new(false));
            let is_waiting = Rc::clone(&waits);
            let shielded = move || {
                is_waiting.set(true);
                coro::shield(|| coro::sleep(Duration::MAX));
            };
            drop(stubborn.spawn(shielded).unwrap());
            coring_tests::until("the stubborn one waits", || waits.get());
            let busy = Arc::new(AtomicBool::new(false));
            let is_busy = Arc::clone(&busy);
            spawn_on(1, move || {
                is_busy.store(true, Ordering::Release);
                while !there.load(Ordering::Acquire) {
                    thread::yield_now(); // keeps the core
                }
            });
            drop(coring::try_spawn_blocking(move || {
                while !here.load(Ordering::Acquire) {
                    thread::yield_now(); // a call that does not come back
                }
            }));
            coring_tests::until("core 1 is stuck", || busy.load(Ordering::Acquire));
            7
        });
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
        free.store(true, Ordering::Release);
        assert_eq!((ended.exit_code(), ended.outcome.unwrap()), (1, 7));
        let text = ended.abandoned.join("\n");
        for culprit in ["stubborn", "core 1", "blocking"] {
            assert!(text.contains(culprit), "{culprit} is missing in: {text}");
        }
    });
}

#[test]
fn signals_end_it_and_a_second_one_forces() {
    // Goal: SIGTERM asks, a second one forces. Method: the process sends them to itself; main never ends by itself.
    alone(|| {
        let start = Instant::now();
        let raise = || {
            let me = std::process::id().to_string();
            let status = std::process::Command::new("kill")
                .args(["-TERM", &me])
                .status();
            assert!(status.unwrap().success());
        };
        let ended = runtime(2).run_to_end(|| {
            coring::shutdown_on_signals(LONG).unwrap();
            let first = coring::try_spawn_blocking(raise).unwrap();
            coring::shutdown_requested().unwrap();
            first.join().unwrap();
            drop(coring::try_spawn_blocking(raise));
            coro::sleep(Duration::MAX);
        });
        assert!(
            matches!(ended.outcome, Err(coro::JoinError::Cancelled)),
            "{ended:?}"
        );
        assert!(start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    });
}
