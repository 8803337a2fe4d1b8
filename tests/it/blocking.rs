//! The offload pool: blocking calls hold up their coroutine and nothing else, within their bounds.

use coring::{
    BlockingError, RemoteHandle, Runtime, TrySpawnBlockingError, blocking, blocking_stats, coro,
    try_spawn_blocking,
};
use coring_tests::{alone, builder, check, proc, rounds, runtime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

fn one_thread_and_a_queue_of_one() -> Runtime {
    let builder = builder(1).blocking_threads(1).blocking_queue(1);
    builder.build().unwrap()
}

/// In a runtime of one thread: it is taken until somebody sends.
fn hold_the_thread() -> (mpsc::Sender<()>, RemoteHandle<Result<(), mpsc::RecvError>>) {
    let (go, wait) = mpsc::channel();
    let held = try_spawn_blocking(move || wait.recv()).unwrap();
    coring_tests::until("the thread has begun", || {
        blocking_stats().unwrap().started == 1
    });
    (go, held)
}

#[test]
fn the_core_goes_on_while_a_call_blocks() {
    // Goal: a call that blocks its thread holds up no other coroutine of the core.
    // Method: the call waits for a message that another coroutine of the same core sends.
    check(|| {
        let value = runtime(1).run(|| {
            let (send, receive) = mpsc::channel();
            let sender = coro::spawn(move || {
                coro::sleep(Duration::from_millis(5));
                send.send(7).unwrap();
            });
            let value = blocking(move || receive.recv().unwrap()).unwrap();
            sender.join().unwrap();
            value
        });
        assert_eq!(value, 7);
    });
}

#[test]
fn names_and_directories_are_read_in_the_pool() {
    // Goal: what has no opcode, a look-up of a name and the entries of a directory, holds up no core.
    // Method: the pool's one thread is taken. Both calls queue behind it while the core goes on, and end once it is free.
    check(|| {
        let runtime = builder(1).blocking_threads(1).build().unwrap();
        runtime.run(|| {
            let (release, taken) = mpsc::channel::<()>();
            let holder = coro::spawn(move || blocking(move || taken.recv().unwrap()).unwrap());
            let name = coro::spawn(|| {
                let addresses = coring::net::ToSocketAddrs::to_socket_addrs("localhost:80");
                addresses.unwrap().all(|address| address.ip().is_loopback())
            });
            let entries = coro::spawn(|| {
                let mut entries = coring::fs::read_dir("/proc/self").unwrap();
                entries.any(|entry| entry.unwrap().file_name() == "status")
            });
            coring_tests::until("both wait for the thread", || {
                let stats = blocking_stats().unwrap();
                (stats.started, stats.queued) == (1, 2)
            });
            assert!(!name.is_finished() && !entries.is_finished());
            release.send(()).unwrap();
            holder.join().unwrap();
            assert!(name.join().unwrap(), "localhost is this machine");
            assert!(entries.join().unwrap(), "a process has its status");
        });
    });
}

#[test]
fn every_result_comes_back_from_every_core() {
    // Goal: many calls at once, from two cores, through few threads and a short queue: each gets its own result.
    // Method: numbers; the queue of two makes most callers wait for room; the counters are exact.
    check(|| {
        let each = rounds(500, 20_000);
        let runtime = builder(2)
            .blocking_threads(3)
            .blocking_queue(2)
            .build()
            .unwrap();
        let stats = runtime.run(|| {
            let cores = coring::spawn_on_each(move |core| {
                let calls: Vec<_> = (0..each)
                    .map(|number| coro::spawn(move || blocking(move || number * 2 + core).unwrap()))
                    .collect();
                for (number, call) in calls.into_iter().enumerate() {
                    assert_eq!(call.join().unwrap(), number * 2 + core);
                }
            });
            cores.into_iter().for_each(|core| core.join().unwrap());
            coring_tests::until("all are counted", || {
                blocking_stats().unwrap().finished == 2 * each as u64
            });
            blocking_stats().unwrap()
        });
        assert_eq!(
            (stats.started, stats.panicked, stats.queued),
            (2 * each as u64, 0, 0)
        );
        assert!(
            (1..=3).contains(&stats.threads) && stats.most_queued <= 2,
            "{stats:?}"
        );
    });
}

#[test]
fn a_panic_comes_to_the_caller() {
    // Goal: a panic in the call unwinds the caller with the same payload; the thread lives on.
    // Method: one thread; panics and results in turn.
    check(|| {
        runtime(1).run(|| {
            for number in 0..20 {
                let call = || blocking(move || std::panic::resume_unwind(Box::new(number)));
                let payload = catch_unwind(AssertUnwindSafe(|| {
                    let _: Result<(), _> = call();
                }))
                .unwrap_err();
                assert_eq!(payload.downcast_ref(), Some(&number));
                assert_eq!(blocking(move || number).unwrap(), number);
            }
            // Counted when the thread is done with the call, which is after its caller was told.
            coring_tests::until("all are counted", || {
                blocking_stats().unwrap().panicked == 20
            });
        });
    });
}

#[test]
fn a_full_queue_gives_the_closure_back() {
    // Goal: at the bound, `try_spawn_blocking` returns the closure at once, and `blocking` waits for room.
    // Method: one thread is held, the queue of one is filled.
    check(|| {
        let runtime = one_thread_and_a_queue_of_one();
        runtime.run(|| {
            let (go, held) = hold_the_thread();
            let second = try_spawn_blocking(|| 2).unwrap();
            let precious = Box::new(3);
            let back = match try_spawn_blocking(move || *precious) {
                Err(TrySpawnBlockingError::Full(back)) => back,
                other => panic!("{other:?}"),
            };
            assert_eq!(back(), 3);
            let waits = coro::spawn(|| blocking(|| 4).unwrap());
            (0..10).for_each(|_| coro::yield_now());
            assert!(!waits.is_finished());
            coro::sleep(Duration::from_millis(20));
            go.send(()).unwrap();
            assert_eq!((second.join().unwrap(), waits.join().unwrap()), (2, 4));
            assert!(held.join().unwrap().is_ok());
            let stats = blocking_stats().unwrap();
            assert_eq!(stats.threads, 1);
            assert!(stats.longest_wait >= Duration::from_millis(20), "{stats:?}");
        });
    });
}

#[test]
fn a_call_that_has_not_begun_is_taken_back() {
    // Goal: calls of files and processes that go to the pool are done to their end or not at all. While they wait for a thread or
    // for room, a time limit and the end of the runtime are as they are elsewhere, however long the threads are stuck; what was
    // given up never happens and takes no place, and a command can be started later.
    // Method: one thread is held, a queue of one. Limits for one call in the queue, one before it, and a command.
    check(|| {
        let name = std::env::temp_dir().join(format!("coring-taken-back-{}", std::process::id()));
        std::fs::write(&name, "there").unwrap();
        let runtime = one_thread_and_a_queue_of_one();
        runtime.run(|| {
            let (go, held) = hold_the_thread();
            let limit = Duration::from_millis(20);
            let mut command = coring::process::Command::new("true");
            let chown = || coring::fs::lchown(&name, Some(12345), None);
            let outcome = coro::timeout(limit, chown);
            assert!(outcome.is_err(), "queued: {outcome:?}");
            assert_eq!(blocking_stats().unwrap().queued, 0, "its place is free");
            let filler = try_spawn_blocking(|| ()).expect("there is room");
            let outcome = coro::timeout(limit, || command.spawn().map(drop));
            assert!(outcome.is_err(), "no room: {outcome:?}");
            let there = name.clone();
            let waits = coro::spawn(move || coring::fs::lchown(&there, Some(12345), None));
            (0..10).for_each(|_| coro::yield_now());
            waits.cancel();
            assert!(coring::io::is_cancelled(
                &waits.join().unwrap().unwrap_err()
            ));
            go.send(()).unwrap();
            assert!(held.join().unwrap().is_ok());
            filler.join().unwrap();
            assert!(command.status().unwrap().success());
            let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&name).unwrap());
            assert_ne!(owner, 12345, "what was given up has happened");
        });
        std::fs::remove_file(&name).unwrap();
    });
}

#[test]
fn a_cancelled_caller_leaves_and_the_call_runs_on() {
    // Goal: cancellation ends the wait with an error, whether it waits for the result or for room.
    // Method: callers are cancelled while their call is held; those calls run to their end all the same.
    check(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let runtime = one_thread_and_a_queue_of_one();
        runtime.run(|| {
            let (go, wait) = mpsc::channel::<()>();
            let counted = Arc::clone(&count);
            let running = coro::spawn(move || {
                blocking(move || {
                    wait.recv().unwrap();
                    counted.fetch_add(1, Ordering::Relaxed);
                })
            });
            coring_tests::until("it runs", || blocking_stats().unwrap().started == 1);
            let queued = coro::spawn(|| blocking(|| ()));
            coro::yield_now();
            let no_room = coro::spawn(|| blocking(|| ()));
            coro::yield_now();
            for caller in [running, queued, no_room] {
                caller.cancel();
                let error = caller.join().unwrap().unwrap_err();
                assert!(matches!(error, BlockingError::Refused(_)), "{error}");
                assert!(coring::io::is_cancelled(&error.into()));
            }
            go.send(()).unwrap();
            coring_tests::until("both are through", || {
                blocking_stats().unwrap().finished == 2
            });
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn idle_threads_end_and_none_is_left() {
    // Goal: threads end when they have had nothing to do, and all have ended when the runtime has.
    // Method: the process's threads are counted, in a process of its own. What is counted while there are calls is kept
    // waiting until it has been.
    alone(|| {
        let before = proc::threads();
        let runtime = builder(1)
            .blocking_keep_alive(Duration::from_millis(30))
            .build()
            .unwrap();
        runtime.run(|| {
            let kept_waiting = |calls| {
                let gate = Arc::new(Barrier::new(calls + 1));
                let call = || {
                    let gate = Arc::clone(&gate);
                    coro::spawn(|| _ = blocking(move || gate.wait()).unwrap())
                };
                let waiting: Vec<_> = (0..calls).map(|_| call()).collect();
                coring_tests::until("each has a thread of its own", || {
                    blocking_stats().unwrap().threads == calls
                });
                gate.wait();
                waiting.into_iter().for_each(|call| call.join().unwrap());
            };
            kept_waiting(10);
            let name = blocking(|| thread::current().name().map(str::to_owned)).unwrap();
            let number = name
                .as_deref()
                .and_then(|name| name.strip_prefix("coring-block-"));
            assert!(
                number.is_some_and(|number| number.parse::<u32>().is_ok()),
                "{name:?}"
            );
            coring_tests::until("they end", || blocking_stats().unwrap().threads == 0);
            kept_waiting(1);
        });
        let start = Instant::now();
        while proc::threads() > before {
            assert!(start.elapsed() < Duration::from_secs(5), "a thread is left");
            thread::yield_now();
        }
    });
}

#[test]
fn a_stuck_call_is_abandoned_in_time() {
    // Goal: a call that does not return holds up the stop for the grace period and no longer, and is named by its place.
    // Method: a grace of 200 ms against a call that takes 10 s; what is queued behind it is dropped, not run.
    check(|| {
        let ran = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let runtime = builder(1)
            .shutdown_grace(Duration::from_millis(200))
            .blocking_threads(1)
            .build()
            .unwrap();
        let ended = runtime.run_to_end(|| {
            let _stuck = try_spawn_blocking(|| thread::sleep(Duration::from_secs(10))).unwrap();
            coring_tests::until("it has begun", || blocking_stats().unwrap().started == 1);
            let ran = Arc::clone(&ran);
            try_spawn_blocking(move || ran.fetch_add(1, Ordering::Relaxed)).unwrap()
        });
        let text = ended.abandoned.join("\n");
        let words = [
            "the blocking call from tests/it/blocking.rs:",
            "coring-block-0",
        ];
        assert!(words.iter().all(|words| text.contains(words)), "{text}");
        let never = ended.outcome.unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        assert!(matches!(never.join(), Err(coring::RemoteError::Stopped)));
        assert_eq!(ran.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn outside_a_runtime_it_says_so() {
    // Goal: no runtime is an error that names it, and the closure comes back.
    // Method: calls from a plain thread.
    check(|| {
        let error = blocking(|| ()).unwrap_err();
        assert!(error.to_string().contains("Runtime::run"), "{error}");
        let back = try_spawn_blocking(|| 5).unwrap_err();
        assert!(matches!(back, TrySpawnBlockingError::Stopped(f) if f() == 5));
    });
}

#[test]
fn calls_that_never_began_may_panic_when_dropped() {
    // Goal: at the stop, what the closures of queued calls captured is dropped, and a panic of that stays there.
    // Method: one thread, which is busy until the second closure is dropped; that one and the third panic.
    struct Captured(mpsc::Sender<()>);
    impl Drop for Captured {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
            panic!("a destructor of the test's");
        }
    }
    check(|| {
        let (send, receive) = mpsc::channel();
        let ended = builder(1)
            .blocking_threads(1)
            .build()
            .unwrap()
            .run_to_end(move || {
                let busy = try_spawn_blocking(move || {
                    receive.recv().unwrap();
                    receive.recv().unwrap();
                });
                drop(busy.unwrap());
                for _ in 0..2 {
                    let captured = Captured(send.clone());
                    drop(try_spawn_blocking(move || drop(captured)).unwrap());
                }
            });
        assert!(ended.outcome.is_ok());
        assert_eq!(ended.abandoned, [""; 0]);
    });
}
