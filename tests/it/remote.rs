//! Work on other cores: it arrives in order, once, with its result or its panic; and when it cannot, that is told.

use coring::{RemoteError, RemoteHandle, TrySpawnOnError, coro, spawn_on, try_spawn_on};
use coring_tests::{builder, check, note, rounds, runtime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn closures_start_in_the_order_they_were_sent() {
    // Goal: what one coroutine sends to one core starts there in that order, also when the inbox is full each time.
    // Method: numbers are pushed on arrival; inboxes of one and of many.
    check(|| {
        for capacity in [1, 2, 1024] {
            let runtime = builder(2).inbox_capacity(capacity).build().unwrap();
            let seen = Arc::new(Mutex::new(Vec::new()));
            runtime.run(|| {
                let handles: Vec<_> = (0..3000)
                    .map(|number| {
                        let seen = Arc::clone(&seen);
                        spawn_on(1, move || seen.lock().unwrap().push(number))
                    })
                    .collect();
                handles
                    .into_iter()
                    .for_each(|handle| handle.join().unwrap());
            });
            assert_eq!(*seen.lock().unwrap(), (0..3000).collect::<Vec<_>>());
        }
    });
}

#[test]
fn results_and_panics_come_back() {
    // Goal: join gives the value, or the panic with its payload; the other core runs on after a panic.
    // Method: every third closure panics with its own number.
    check(|| {
        runtime(2).run(|| {
            for number in 0..300usize {
                let core = number % 2;
                let handle = spawn_on(core, move || {
                    assert_eq!(coring::current_core(), Some(core));
                    if number % 3 == 0 {
                        std::panic::resume_unwind(Box::new(number));
                    }
                    number
                });
                match handle.join() {
                    Ok(value) => assert_eq!(value, number),
                    Err(RemoteError::Panicked(payload)) => {
                        assert_eq!(payload.into_inner().downcast_ref(), Some(&number));
                        assert_eq!(number % 3, 0);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
}

#[test]
fn errors_go_into_other_errors() {
    // Goal: what a join says when there is no result can be the source of an `io::Error` and of any other error that may
    // cross threads; the text of the panic stays.
    // Method: a panic here and one there.
    check(|| {
        runtime(2).run(|| {
            let there = spawn_on(1, || std::panic::resume_unwind(Box::new("over there")));
            let here = coro::spawn(|| std::panic::resume_unwind(Box::new("right here")));
            let there = std::io::Error::other(Result::<(), _>::unwrap_err(there.join()));
            let here = std::io::Error::other(Result::<(), _>::unwrap_err(here.join()));
            assert!(there.to_string().contains("over there"), "{there}");
            assert!(here.to_string().contains("right here"), "{here}");
            let source = there.into_inner().unwrap().downcast::<RemoteError>();
            assert!(matches!(*source.unwrap(), RemoteError::Panicked(_)));
        });
    });
}

#[test]
fn a_full_inbox_gives_the_closure_back() {
    // Goal: `try_spawn_on` never waits and never loses the closure; `spawn_on` waits until there is room.
    // Method: core 1 is kept from draining its inbox of one until core 0 has seen it full.
    check(|| {
        let runtime = builder(2).inbox_capacity(1).build().unwrap();
        runtime.run(|| {
            let (started, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (tell, wait) = (Arc::clone(&started), Arc::clone(&go));
            let blocker = spawn_on(1, move || {
                tell.store(1, Ordering::Release);
                while wait.load(Ordering::Acquire) == 0 {
                    thread::yield_now(); // keeps the core
                }
            });
            coring_tests::until("core 1 is busy", || started.load(Ordering::Acquire) == 1);
            let first = try_spawn_on(1, || 1).expect("there is room for one");
            let precious = Box::new(2);
            let back = match try_spawn_on(1, move || *precious) {
                Err(TrySpawnOnError::Full(back)) => back,
                other => panic!("{other:?}"),
            };
            assert_eq!(back(), 2, "it can still be called here");
            assert!(!first.is_finished());
            let waits = coro::spawn(|| spawn_on(1, || 3).join().unwrap());
            (0..10).for_each(|_| coro::yield_now());
            assert!(!waits.is_finished(), "no room yet");
            go.store(1, Ordering::Release);
            blocker.join().unwrap();
            assert_eq!(first.join().unwrap(), 1);
            assert_eq!(waits.join().unwrap(), 3);
        });
    });
}

#[test]
fn handles_are_joined_anywhere() {
    // Goal: a handle may be joined on its own core, another core, a thread; or dropped, and the closure still runs.
    // Method: one closure for each way; those that are dropped are counted.
    check(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let joiner = runtime(2).run(move || {
            let work = |core, number: usize| {
                let count = Arc::clone(&counted);
                spawn_on(core, move || {
                    coro::yield_now();
                    count.fetch_add(1, Ordering::Relaxed);
                    number
                })
            };
            let from_thread =
                |handle: RemoteHandle<usize>| thread::spawn(|| handle.join().unwrap());
            let threads = [from_thread(work(0, 1)), from_thread(work(1, 2))];
            // Joined on the core where it runs, which is not where it was sent from.
            let there = work(1, 3);
            let there = spawn_on(1, move || there.join().unwrap());
            assert_eq!(there.join().unwrap(), 3);
            assert_eq!(work(0, 4).join().unwrap(), 4);
            drop((work(0, 5), work(1, 6)));
            coring_tests::until("all have run", || counted.load(Ordering::Relaxed) == 6);
            coring_tests::until("threads are through", || {
                threads.iter().all(|thread| thread.is_finished())
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(joiner, [1, 2]);
    });
}

#[test]
fn everyone_to_everyone() {
    // Goal: four cores flood each other through tiny inboxes without a deadlock; every closure runs once.
    // Method: each core sends to all others and joins; those closures send one more back.
    check(|| {
        let (cores, each) = (4, rounds(400, 20_000));
        let runtime = builder(cores).inbox_capacity(2).build().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        runtime.run(move || {
            let senders = coring::spawn_on_each(move |me| {
                let mut handles = Vec::new();
                for number in 0..each {
                    for core in (0..cores).filter(|core| *core != me) {
                        let count = Arc::clone(&counted);
                        handles.push(spawn_on(core, move || {
                            count.fetch_add(1, Ordering::Relaxed);
                            let back = spawn_on(me, move || number);
                            assert_eq!(back.join().unwrap(), number);
                        }));
                    }
                }
                handles
                    .into_iter()
                    .for_each(|handle| handle.join().unwrap());
            });
            senders
                .into_iter()
                .for_each(|sender| sender.join().unwrap());
        });
        assert_eq!(count.load(Ordering::Relaxed), cores * (cores - 1) * each);
    });
}

#[test]
fn ping_pong_wakes_a_sleeping_core_each_time() {
    // Goal: no wake-up is lost between a core that falls asleep and one that sends.
    // Method: thousands of round trips, with a spin window of zero so that each side sleeps every time.
    check(|| {
        for spin in [0, 20] {
            let spin = std::time::Duration::from_micros(spin);
            let runtime = builder(2).spin(spin).build().unwrap();
            let trips = rounds(5000, 200_000);
            runtime.run(|| {
                for number in 0..trips {
                    assert_eq!(spawn_on(1, move || number).join().unwrap(), number);
                }
            });
        }
    });
}

#[test]
fn a_joiner_that_is_cancelled_lets_the_closure_run() {
    // Goal: cancelling who waits for another core ends the wait with an error and does not disturb that core; the
    // news that comes later finds nobody.
    // Method: joiners are cancelled around the moment of completion, thousands of times, so that some are refused and
    // some are not; each closure must have run.
    check(|| {
        let rounds = rounds(2000, 50_000);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let refused = runtime(2).run(move || {
            let mut refused = 0;
            for round in 0..rounds {
                let count = Arc::clone(&counted);
                let joiner = coro::spawn(move || {
                    let handle =
                        coro::shield(|| spawn_on(1, move || count.fetch_add(1, Ordering::Relaxed)));
                    handle.join().map(|_| ())
                });
                // Up to 100 us: about what the way there and back takes.
                let wait = Duration::from_micros(round as u64 * 7 % 100);
                let start = Instant::now();
                coro::yield_now();
                while start.elapsed() < wait {
                    coro::yield_now();
                }
                joiner.cancel();
                match joiner.join().unwrap() {
                    Ok(()) => {}
                    Err(RemoteError::Refused(_)) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            coring_tests::until("every closure has run", || {
                counted.load(Ordering::Relaxed) == rounds
            });
            refused
        });
        println!("{refused} of {rounds} joins were refused");
        assert!((1..rounds).contains(&refused), "both ways out were taken");
        assert_eq!(count.load(Ordering::Relaxed), rounds);
    });
}

#[test]
fn what_is_sent_when_all_stops_is_dropped_or_run() {
    // Goal: main ends with closures still on their way: each is run or dropped, exactly once, and who waits for one
    // is told. No core sleeps through it, though a bell may have been rung in main's very last turn.
    // Method: every closure carries a token that counts its drop. A thread joins one handle of each round.
    struct Token(Arc<AtomicUsize>);
    impl Drop for Token {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    check(|| {
        for round in 0..rounds(40, 1000) {
            let drops = Arc::new(AtomicUsize::new(0));
            let start = Instant::now();
            let last = runtime(2).run(|| {
                let mut last = None;
                for _ in 0..100 {
                    let token = Token(Arc::clone(&drops));
                    last = Some(spawn_on(1, move || {
                        let _token = token;
                        coro::yield_now();
                    }));
                }
                if round % 2 == 0 {
                    coro::yield_now();
                }
                last.unwrap()
            });
            let took = start.elapsed();
            assert!(
                took < Duration::from_secs(5),
                "a core slept through the stop: {took:?}"
            );
            assert_eq!(drops.load(Ordering::Relaxed), 100, "in round {round}");
            match last.join() {
                Ok(()) | Err(RemoteError::Stopped | RemoteError::Cancelled) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn a_bound_on_the_other_core_is_an_answer() {
    // Goal: when the other core may not have more coroutines, the sender learns that, and the runtime lives on.
    // Method: core 1 is filled to its bound; then there is room again.
    check(|| {
        let runtime = builder(2).max_coroutines(8).build().unwrap();
        runtime.run(|| {
            let go = Arc::new(AtomicUsize::new(0));
            let send = || {
                let go = Arc::clone(&go);
                spawn_on(1, move || {
                    while go.load(Ordering::Acquire) == 0 {
                        coro::yield_now();
                    }
                })
            };
            let full: Vec<_> = (0..8).map(|_| send()).collect();
            let error = send().join().unwrap_err();
            assert!(matches!(error, RemoteError::NotSpawned(_)), "{error}");
            assert!(error.to_string().contains("max_coroutines"), "{error}");
            go.store(1, Ordering::Release);
            full.into_iter().for_each(|handle| handle.join().unwrap());
            send().join().unwrap();
        });
    });
}

#[test]
fn wrong_calls_say_so() {
    // Goal: outside a runtime, and to a core that does not exist, the panic names what is wrong.
    // Method: the messages of the panics.
    check(|| {
        let message = |call: &dyn Fn()| {
            let payload = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            let text = payload.downcast_ref::<String>();
            text.expect("a formatted message").clone()
        };
        let outside = message(&|| drop(spawn_on(0, || ())));
        assert!(outside.contains("Runtime::run"), "{outside}");
        let outside = message(&|| drop(coring::spawn_on_each(|_| ())));
        assert!(outside.contains("Runtime::run"), "{outside}");
        runtime(2).run(|| {
            let nowhere = message(&|| drop(spawn_on(2, || ())));
            assert!(
                nowhere.contains("no core 2") && nowhere.contains('2'),
                "{nowhere}"
            );
        });
    });
}

#[test]
fn a_handle_is_joined_in_another_runtime() {
    // Goal: a handle of one runtime may be joined by a coroutine of another one, whatever the numbers of the cores.
    // Method: two runtimes at once; the closure ends only when the other side waits. With core numbers that the
    // first runtime does not have.
    check(|| {
        let (send, handles) = std::sync::mpsc::channel::<RemoteHandle<usize>>();
        let waits = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&waits);
        let other = thread::spawn(move || {
            let handle = handles.recv().unwrap();
            runtime(3).run(move || {
                let joiner = spawn_on(2, move || {
                    let joiner = coro::spawn(move || handle.join().unwrap());
                    // It waits when it has had its first turn.
                    coro::yield_now();
                    waiting.store(1, Ordering::Release);
                    joiner.join().unwrap()
                });
                joiner.join().unwrap()
            })
        });
        runtime(1).run(|| {
            let until_waited_for = Arc::clone(&waits);
            let handle = spawn_on(0, move || {
                coring_tests::until("somebody waits", || {
                    until_waited_for.load(Ordering::Acquire) == 1
                });
                42
            });
            send.send(handle).unwrap();
            coring_tests::until("it has ended", || other.is_finished());
        });
        assert_eq!(other.join().unwrap(), 42);
    });
}

#[test]
fn bad_news_finds_a_full_inbox() {
    // Goal: a core that cannot start a closure tells who waits for it, even when the waiter's inbox is full just then:
    // the news waits for room, and nothing breaks.
    // Method: core 1 is at its bound of coroutines and delivers four closures in one go, all that its inbox takes;
    // core 0 is kept from draining for a while.
    check(|| {
        let runtime = builder(2)
            .inbox_capacity(4)
            .max_coroutines(7)
            .build()
            .unwrap();
        runtime.run(|| {
            let stage = Arc::new(AtomicUsize::new(0));
            let (of_blocker, of_finisher) = (Arc::clone(&stage), Arc::clone(&stage));
            let blocker = spawn_on(1, move || {
                while of_blocker.load(Ordering::Acquire) < 3 {
                    coro::yield_now();
                }
                while coro::try_spawn(|| coro::sleep(Duration::MAX)).is_ok() {}
                of_blocker.store(4, Ordering::Release);
                while of_blocker.load(Ordering::Acquire) < 5 {
                    thread::yield_now(); // keeps the core, while its inbox fills
                }
                while of_blocker.load(Ordering::Acquire) < 6 {
                    coro::yield_now();
                }
            });
            let finisher = spawn_on(1, move || {
                of_finisher.fetch_max(1, Ordering::AcqRel);
                while of_finisher.load(Ordering::Acquire) < 6 {
                    coro::yield_now();
                }
            });
            let finished = coro::spawn(move || finisher.join().unwrap());
            let begun = || stage.load(Ordering::Acquire) == 1;
            coring_tests::until("the finisher has its place", begun);
            stage.fetch_max(3, Ordering::AcqRel);
            coring_tests::until("core 1 is kept busy", || stage.load(Ordering::Acquire) == 4);
            let joiners: Vec<_> = (0..4)
                .map(|_| coro::spawn(|| spawn_on(1, || ()).join()))
                .collect();
            (0..4).for_each(|_| coro::yield_now());
            stage.store(5, Ordering::Release);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(50) {
                thread::yield_now(); // keeps the core: its inbox fills, too
            }
            let told = joiners.into_iter().map(|joiner| joiner.join().unwrap());
            let refused = told.filter(|told| matches!(told, Err(RemoteError::NotSpawned(_))));
            assert_eq!(refused.count(), 4, "each of them is told");
            stage.store(6, Ordering::Release);
            finished.join().unwrap();
            blocker.join().unwrap();
        });
    });
}

#[test]
fn a_sender_that_computes_holds_nobody_asleep() {
    // Goal: who sends to a sleeping core wakes it at once, even if the sender's coroutine never gives its core back.
    // Method: core 0 sends to core 1 and blocks its thread until core 1 has answered by way of std.
    check(|| {
        runtime(2).run(|| {
            for round in 0..rounds(200, 5000) {
                note(format!("round {round}"));
                let (sender, receiver) = std::sync::mpsc::channel();
                drop(coring::spawn_on(1, move || sender.send(round)));
                assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(round));
            }
        });
    });
}

#[test]
fn a_destructor_that_panics_where_it_cannot_be_started() {
    // Goal: a closure that the other core cannot start is dropped there, outside of any coroutine; a panic in its
    // destructor is the user's and ends neither that core nor the process.
    // Method: a capture that panics when dropped, sent to a core that has all the coroutines it may; it works on.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a destructor's panic, on purpose");
        }
    }
    check(|| {
        builder(2).max_coroutines(1).build().unwrap().run(|| {
            let stays = coring::spawn_on(1, || coro::sleep(Duration::from_millis(50)));
            let bomb = Bomb;
            let failed = coring::spawn_on(1, move || drop(bomb));
            assert!(failed.join().is_err());
            stays.join().unwrap();
            assert_eq!(coring::spawn_on(1, || 7).join().unwrap(), 7);
        });
    });
}
