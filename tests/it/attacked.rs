//! Ends that come in the middle of everything: whatever is under way, nothing hangs, nothing is left, and what is stuck is named.

use coring::{coro, mailbox, map_reduce, spawn_on};
use coring_tests::{alone, builder, check, proc, rounds, runtime, until, until_outside};
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
    // Method: all of them in loops on both cores; asked from main, another core, a thread, a blocking call; at once or forced. Who
    // is forced has a tenth of a second, in which a busy machine may give a core no time, but not again and again.
    alone(|| {
        let is_forced = |round: usize| round.is_multiple_of(3);
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
                let ask = move || match is_forced(round) {
                    true => handle.force(),
                    false => handle.shutdown(Duration::ZERO),
                };
                match round % 4 {
                    0 => ask(),
                    1 => drop(spawn_on(1, ask)),
                    2 => drop(thread::spawn(ask)),
                    _ => drop(coring::try_spawn_blocking(ask)),
                }
                coro::sleep(HOUR);
            });
            let names = ended.abandoned;
            assert!(is_forced(round) || names.is_empty(), "{round}: {names:?}");
            names.is_empty()
        };
        live(1);
        let (mut before, mut late) = (proc::fds(), 0);
        let rounds = rounds(40, 1_000);
        for round in 0..rounds {
            if live(round) {
                assert_eq!(proc::fds(), before, "round {round}");
            } else {
                late += 1;
                before = proc::fds();
            }
        }
        assert!(late <= rounds / 10, "{late} forced ends left a core behind");
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

#[test]
fn a_log_sink_that_never_returns() {
    // Goal: a runtime ends although the logger's sink is stuck, and so does the logger: it says so and leaves the sink behind. What
    // was logged with room in the rings held nobody up. Method: a sink that waits for ever in its first write.
    struct Stuck(Arc<AtomicBool>);
    impl coring::logger::Sink for Stuck {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            self.0.store(true, Ordering::Release);
            loop {
                thread::park();
            }
        }
    }
    alone(|| {
        let is_stuck = Arc::new(AtomicBool::new(false));
        let sink = Stuck(Arc::clone(&is_stuck));
        let logger = coring::logging::builder().sink(sink).start().unwrap();
        let runtime = builder(2).shutdown_grace(HOUR).build().unwrap();
        let ended = runtime.run_to_end(|| {
            coring::logger::info!("the first line");
            until("it is stuck", || is_stuck.load(Ordering::Acquire));
            for core in 0..2 {
                let log = move || (0..100).for_each(|n| coring::logger::info!("{n} of {core}"));
                coring::call(core, log).unwrap();
            }
        });
        assert_eq!(ended.abandoned.len(), 0, "{:?}", ended.abandoned);
        logger.shutdown();
        // Its place is taken until it comes back.
        assert!(coring::logging::builder().stderr().start().is_err());
    });
}

/// Waits in every way when it is dropped, and is counted.
struct Waits(usize, Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        let other = 1 - self.0;
        coro::shield(|| coro::sleep(Duration::from_millis(1)));
        let _ = coring::call(other, || 1);
        let _ = coring::blocking(|| 1);
        let (sender, mut receiver) = mailbox::<u8>(1);
        drop(spawn_on(other, move || sender.send(1)));
        let _ = receiver.recv_timeout(HOUR);
        self.1.fetch_add(1, Ordering::Relaxed);
        // In a coroutine that is cancelled and does not unwind yet this begins it.
        coro::yield_now();
    }
}

#[test]
fn destructors_that_wait_while_all_ends() {
    // Goal: a destructor that waits - behind a shield, for another core, the pool, a message that does not come - is run to its end
    // whoever runs it at the end: a coroutine that unwinds, one that never began, a mailbox that goes. Nothing is abandoned.
    // Method: such values on both cores, in frames, in closures that wait for their turn, in mailboxes; an hour of grace.
    alone(|| {
        for round in 0..rounds(20, 500) {
            let drops = Arc::new(AtomicUsize::new(0));
            let runtime = builder(2).shutdown_grace(HOUR).build().unwrap();
            let ended = runtime.run_to_end(|| {
                let (ready, counted) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&drops));
                for core in 0..2 {
                    let (ready, drops) = (Arc::clone(&ready), Arc::clone(&counted));
                    drop(spawn_on(core, move || {
                        let (sender, receiver) = mailbox(1);
                        sender.send(Waits(core, Arc::clone(&drops))).ok().unwrap();
                        let _held = (Waits(core, Arc::clone(&drops)), receiver);
                        ready.fetch_add(1, Ordering::Release);
                        coro::sleep(HOUR);
                    }));
                }
                until("they wait", || ready.load(Ordering::Acquire) == 2);
                for core in 0..2 {
                    let waits = Waits(core, Arc::clone(&counted));
                    drop(spawn_on(core, move || drop(waits)));
                }
                if round % 2 == 0 {
                    coring::shutdown(Duration::ZERO);
                }
            });
            assert_eq!(ended.abandoned.len(), 0, "{:?}", ended.abandoned);
            assert_eq!(drops.load(Ordering::Relaxed), 6, "round {round}");
        }
    });
}

#[test]
fn a_core_that_never_turns_is_left_by_all() {
    // Goal: a coroutine that sends to a core in an endless loop, calls it, asks its shard or joins its work is let go when all ends;
    // only what runs there is named. A thread that joins work of it hears when the core comes to its senses, and then what was
    // under way to it is dropped. Method: all of them wait; the core is let go after the end has been reported.
    alone(|| {
        let (free, drops) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let is_free = Arc::clone(&free);
        let runtime = builder(2)
            .shutdown_grace(Duration::from_millis(200))
            .build()
            .unwrap();
        let before = proc::threads();
        let let_go = Arc::new(AtomicUsize::new(0));
        let (counted, tokens) = (Arc::clone(&let_go), Arc::clone(&drops));
        let ended = runtime.run_to_end(move || {
            let shards = coring::Sharded::new(|core| core).unwrap();
            let (sender, receiver) = mailbox(2);
            let stuck = Arc::new(AtomicBool::new(false));
            let is_stuck = Arc::clone(&stuck);
            drop(spawn_on(1, move || {
                is_stuck.store(true, Ordering::Release);
                while !is_free.load(Ordering::Acquire) {
                    thread::yield_now(); // keeps the core
                }
                drop(receiver);
            }));
            until("it is stuck", || stuck.load(Ordering::Acquire));
            let token = || coring_tests::conserve::Token(Arc::clone(&tokens));
            let waiting = Arc::new(AtomicUsize::new(0));
            let wait = |what: Box<dyn FnOnce() -> bool>| {
                let (waiting, counted) = (Arc::clone(&waiting), Arc::clone(&counted));
                drop(coro::spawn(move || {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    assert!(!what(), "it cannot have been done");
                    counted.fetch_add(1, Ordering::Relaxed);
                }));
            };
            let (one, two, three) = (token(), token(), token());
            wait(Box::new(move || {
                sender.send(one).is_ok() && sender.send(two).is_ok() && sender.send(three).is_ok()
            }));
            let called = token();
            wait(Box::new(move || {
                coring::call(1, move || drop(called)).is_ok()
            }));
            wait(Box::new(move || shards.on(1, |shard| *shard).is_ok()));
            let work = spawn_on(1, || 1);
            wait(Box::new(move || work.join().is_ok()));
            let work = spawn_on(1, || 1);
            let counted = Arc::clone(&counted);
            drop(thread::spawn(move || {
                assert!(work.join().is_err());
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            until("all wait", || waiting.load(Ordering::Relaxed) == 4);
        });
        let text = ended.abandoned.join("\n");
        assert!(text.contains("core 1 did not stop in time"), "{text}");
        assert!(!text.contains("core 0"), "{text}");
        assert_eq!(ended.exit_code(), 1);
        assert_eq!(let_go.load(Ordering::Relaxed), 4);
        free.store(true, Ordering::Release);
        until_outside("the thread is told", || let_go.load(Ordering::Relaxed) == 5);
        until_outside("what was under way is dropped", || {
            drops.load(Ordering::Relaxed) == 4
        });
        until_outside("its thread ends", || proc::threads() < before);
    });
}
