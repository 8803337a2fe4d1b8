//! Shutting down on request: seen everywhere, drained in time, forced after it, and what stays behind is named.

use coring::{ShutdownHandle, coro, spawn_on};
use coring_tests::{alone, builder, check, proc, rounds, runtime, until_in_flight};
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
fn no_grace_is_time_to_unwind() {
    // Goal: with a grace period of nothing nobody is waited for, and all who end when they are told to do: their destructors run,
    // and nothing is abandoned.
    // Method: on both cores one that sleeps and one in an operation of the ring, which takes a turn to be cancelled.
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    check(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let there = Arc::clone(&dropped);
        let runtime = builder(2).shutdown_grace(Duration::ZERO).build().unwrap();
        let ended = runtime.run_to_end(move || {
            coring::call_all(move |_| {
                let (sleeps, reads) = (Counts(Arc::clone(&there)), Counts(Arc::clone(&there)));
                coro::spawn(move || {
                    let _counts = sleeps;
                    coro::sleep(LONG);
                });
                coro::spawn(move || {
                    let _counts = reads;
                    let (ours, _theirs) = coring::net::UnixStream::pair().unwrap();
                    std::io::Read::read(&mut &ours, &mut [0]).unwrap_err();
                });
                until_in_flight(1);
            })
            .unwrap();
        });
        assert_eq!((ended.exit_code(), ended.abandoned), (0, vec![]));
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
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
    // Goal: SIGTERM asks, a second one forces, and `run_to_end` returns. Method: the process sends them to itself; main
    // never ends by itself.
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

#[test]
fn who_could_not_hear_signals_may_try_again() {
    // Goal: when there is nothing to hear signals with, the call says so, and again when it is repeated; later it succeeds, and
    // they are heard.
    // Method: no descriptors are left for a moment. A signal that nobody hears ends this process.
    alone(|| {
        runtime(1).run(|| {
            proc::limit_files(0);
            assert!(coring::shutdown_on_signals(LONG).is_err());
            assert!(coring::shutdown_on_signals(LONG).is_err());
            proc::raise_file_limit();
            coring::shutdown_on_signals(LONG).unwrap();
            raise_sigterm();
            coring::shutdown_requested().unwrap();
        });
    });
}

#[expect(unsafe_code, reason = "sends a signal to this thread")]
fn raise_sigterm() {
    // SAFETY: it has a handler.
    assert_eq!(unsafe { libc::raise(libc::SIGTERM) }, 0);
}

#[test]
fn a_request_may_come_from_anywhere() {
    // Goal: the request works from wherever code runs, twice as well as once: inside a scope, in a destructor, also one that runs
    // while a panic unwinds, on another core, in a foreign thread, in a blocking call, where a value of a core is made. Main is
    // cancelled in the middle of an operation, and nothing is left.
    // Method: main accepts and nobody connects; an hour of grace, so who is not woken hangs.
    struct Asks(fn());
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0();
        }
    }
    fn ask() {
        coring::shutdown(Duration::ZERO);
    }
    type Place = fn(ShutdownHandle);
    let places: [(&str, Place); 9] = [
        ("a coroutine", |_| drop(coro::spawn(ask))),
        ("twice", |handle| {
            handle.shutdown(LONG);
            ask();
        }),
        ("a scope", |_| coro::scope(|scope| drop(scope.spawn(ask)))),
        ("a destructor", |_| drop(Asks(ask))),
        ("a destructor that unwinds", |_| {
            let unwinds = coro::spawn(|| {
                let _asks = Asks(ask);
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(unwinds.join().is_err());
        }),
        ("another core", |_| drop(spawn_on(1, ask))),
        ("a thread", |handle| {
            drop(thread::spawn(move || handle.shutdown(Duration::ZERO)));
        }),
        ("a blocking call", |handle| {
            drop(coring::try_spawn_blocking(move || handle.force()));
        }),
        ("where a value is made", |_| {
            drop(coring::Sharded::new(|_| ask()))
        }),
    ];
    check(move || {
        for (place, request) in places {
            coring_tests::note(place);
            let hour = Duration::from_secs(3600);
            let runtime = builder(2).shutdown_grace(hour).build().unwrap();
            let handle = runtime.shutdown_handle();
            let ended = runtime.run_to_end(|| {
                let (listener, _) = coring_tests::tcp::listen();
                request(handle);
                let error = listener.accept().unwrap_err();
                assert!(coring::io::is_cancelled(&error), "{place}: {error}");
            });
            assert!(ended.outcome.is_ok(), "{place}: {ended:?}");
            assert_eq!(ended.abandoned.len(), 0, "{place}: {ended:?}");
        }
    });
}

#[test]
fn destructors_that_panic_at_the_very_end() {
    // Goal: panics of the user's destructors, where no coroutine is left to have them, end neither `run` nor the process:
    // values of a `Sharded` that outlive their core, blocking calls that are dropped unrun. Two of each: a panic while another one
    // unwinds would abort.
    // Method: tokens that count their drops and panic; in a process of its own.
    struct Panics(Arc<AtomicUsize>);
    impl Drop for Panics {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("on purpose");
        }
    }
    alone(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let runtime = builder(2).blocking_threads(1).build().unwrap();
        let ended = runtime.run_to_end(|| {
            let values = [(); 2].map(|()| {
                let drops = Arc::clone(&drops);
                coring::Sharded::new(move |_| Panics(Arc::clone(&drops))).unwrap()
            });
            let begun = Arc::new(AtomicBool::new(false));
            let (seen, has_begun) = (Arc::clone(&drops), Arc::clone(&begun));
            let busy = coring::try_spawn_blocking(move || {
                has_begun.store(true, Ordering::Release);
                // Until both values of both cores are gone and the first of those that wait behind it.
                while seen.load(Ordering::Acquire) < 5 {
                    thread::yield_now();
                }
            });
            coring_tests::until("it has begun", || begun.load(Ordering::Acquire));
            let queued = [(); 2].map(|()| {
                let panics = Panics(Arc::clone(&drops));
                coring::try_spawn_blocking(move || drop(panics))
            });
            (values, busy, queued)
        });
        assert_eq!(ended.exit_code(), 0, "{:?}", ended.abandoned);
        assert_eq!(drops.load(Ordering::Relaxed), 6);
        // Handles of values that are gone.
        drop(ended.outcome);
    });
}

#[test]
fn children_are_started_while_all_stops() {
    // Goal: processes that are started while all is cancelled are either started and waited for or not; no descriptor is left
    // of them, and nothing hangs.
    // Method: coroutines on both cores that run `true` again and again; the end comes at some moment.
    alone(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        let live = |ran: &Arc<AtomicUsize>, rounds: usize| {
            let runtime = runtime(2);
            let handle = runtime.shutdown_handle();
            let (ran, enough) = (Arc::clone(ran), ran.load(Ordering::Relaxed) + rounds);
            runtime.run_to_end(|| {
                let seen = Arc::clone(&ran);
                let runners = coring::spawn_on_each(move |_| {
                    coro::scope(|scope| {
                        for _ in 0..4 {
                            scope.spawn(|| {
                                while coring::process::Command::new("true").status().is_ok() {
                                    ran.fetch_add(1, Ordering::Relaxed);
                                }
                            });
                        }
                    });
                });
                coring_tests::until("some have run", || seen.load(Ordering::Relaxed) >= enough);
                handle.shutdown(Duration::ZERO);
                runners.into_iter().for_each(|runner| drop(runner.join()));
            })
        };
        drop(live(&ran, 10));
        let before = proc::fds();
        for round in 0..rounds(20, 500) {
            let ended = live(&ran, round);
            assert_eq!(ended.abandoned.len(), 0, "{:?}", ended.abandoned);
            assert_eq!(proc::fds(), before);
        }
    });
}
