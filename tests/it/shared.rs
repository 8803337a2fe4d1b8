//! Locks between cores and threads, and what can be seen of all cores from one.

use coring::coro::sync::WaitError;
use coring::coro::wait::{Interrupt, Refusal};
use coring::sync::{
    OneshotError, SharedBarrier, SharedEvent, SharedMutex, SharedSemaphore, SharedWatch,
    WatchError, shared_oneshot,
};
use coring::{Sharded, call_all, coro, spawn_on};
use coring_tests::random::Random;
use coring_tests::{check, rounds, runtime};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_shared_mutex_lets_one_in_at_a_time() {
    // Goal: no update is lost and nobody waits for ever, with cores, threads and waiters that are cancelled.
    // Method: a count that is read, held over a switch, and written; some waiters are cancelled at random.
    check(|| {
        let each = rounds(500, 50_000);
        let count = Arc::new(SharedMutex::new(0));
        let counted = Arc::clone(&count);
        let threads = runtime(2).run(move || {
            let work = move |count: &SharedMutex<usize>, pause: fn()| {
                for _ in 0..each {
                    let mut value = count.lock().unwrap();
                    let before = *value;
                    pause();
                    *value = before + 1;
                }
            };
            let thread = {
                let count = Arc::clone(&counted);
                thread::spawn(move || work(&count, thread::yield_now))
            };
            let there = Arc::clone(&counted);
            let done = call_all(move |_| {
                let mut random = Random::new();
                let workers: Vec<_> = (0..2)
                    .map(|_| {
                        let count = Arc::clone(&there);
                        coro::spawn(move || work(&count, coro::yield_now))
                    })
                    .collect();
                for _ in 0..each {
                    let count = Arc::clone(&there);
                    let impatient = coro::spawn(move || drop(count.lock()));
                    (0..random.below(4)).for_each(|_| coro::yield_now());
                    impatient.cancel();
                    drop(impatient.join());
                }
                workers
                    .into_iter()
                    .for_each(|worker| worker.join().unwrap());
            });
            done.unwrap();
            thread
        });
        threads.join().unwrap();
        assert_eq!(*count.try_lock().unwrap(), 5 * each);
    });
}

#[test]
fn permits_are_never_more_than_there_are() {
    // Goal: at most three are inside, all come through, and every permit is back in the end.
    // Method: coroutines on two cores and a thread count who is inside.
    check(|| {
        let (semaphore, inside) = (
            Arc::new(SharedSemaphore::new(3)),
            Arc::new(AtomicUsize::new(0)),
        );
        let enter = {
            let (semaphore, inside) = (Arc::clone(&semaphore), Arc::clone(&inside));
            move |pause: fn()| {
                for _ in 0..rounds(200, 20_000) {
                    let _permit = semaphore.acquire().unwrap();
                    assert!(inside.fetch_add(1, Ordering::Relaxed) < 3);
                    pause();
                    inside.fetch_sub(1, Ordering::Relaxed);
                }
            }
        };
        let outside = enter.clone();
        let thread = thread::spawn(move || outside(thread::yield_now));
        runtime(2).run(move || {
            let done = call_all(move |_| {
                let workers: Vec<_> = (0..4)
                    .map(|_| {
                        let enter = enter.clone();
                        coro::spawn(move || enter(coro::yield_now))
                    })
                    .collect();
                workers
                    .into_iter()
                    .for_each(|worker| worker.join().unwrap());
            });
            done.unwrap();
        });
        thread.join().unwrap();
        assert_eq!(semaphore.available(), 3);
    });
}

#[test]
fn permits_beyond_the_maximum_are_refused() {
    // Goal: the count never wraps; what is refused changes nothing, and permits that are out may still come back.
    // Method: at the maximum, one more; with one out, one more, and the one comes back.
    let max = SharedSemaphore::MAX_PERMITS;
    let refused = |call: &dyn Fn()| catch_unwind(AssertUnwindSafe(call)).is_err();
    assert!(refused(&|| drop(SharedSemaphore::new(max + 1))));
    let semaphore = SharedSemaphore::new(max);
    assert!(refused(&|| semaphore.add(1)));
    assert!(refused(&|| semaphore.add(usize::MAX)));
    assert_eq!(semaphore.available(), max);
    let permit = semaphore.acquire().unwrap();
    semaphore.add(1);
    assert!(refused(&|| semaphore.add(1)));
    drop(permit);
    assert_eq!(semaphore.available(), max + 1);
}

#[test]
fn events_oneshots_watches_and_barriers_wake_everyone() {
    // Goal: each tells all who wait, wherever they wait. Method: rounds of all four between two cores and a thread.
    check(|| {
        runtime(2).run(|| {
            for round in 0..rounds(200, 10_000) {
                let event = Arc::new(SharedEvent::default());
                let (one, other) = (Arc::clone(&event), Arc::clone(&event));
                let there = spawn_on(1, move || one.wait().unwrap());
                let outside = thread::spawn(move || other.wait().unwrap());
                let limit = Duration::from_micros(round as u64 % 50);
                assert_eq!(event.wait_timeout(limit), Err(WaitError::TimedOut));
                event.set();
                event.wait().unwrap();
                there.join().unwrap();
                coring_tests::until("the thread was woken", || outside.is_finished());

                let (sender, receiver) = shared_oneshot();
                drop(spawn_on(1, move || sender.send(round)));
                assert_eq!(receiver.recv(), Ok(round));
                let (sender, receiver) = shared_oneshot::<()>();
                drop(spawn_on(1, move || drop(sender)));
                assert_eq!(receiver.recv(), Err(OneshotError::Disconnected));

                let watch = SharedWatch::new(0);
                let mut reader = watch.subscribe();
                let seen = spawn_on(1, move || {
                    let mut last = 0;
                    while last < 10 {
                        reader.changed().unwrap();
                        let now = reader.get();
                        assert!(now > last);
                        last = now;
                    }
                });
                for value in 1..=10 {
                    assert_eq!(watch.set(value), value - 1);
                    coro::yield_now();
                }
                seen.join().unwrap();

                let barrier = Arc::new(SharedBarrier::new(4));
                let here = Arc::clone(&barrier);
                let late = coro::spawn(move || here.wait());
                coro::yield_now();
                late.cancel();
                assert!(late.join().unwrap().is_err(), "it has not come");
                let meet = move |_| {
                    let barrier = Arc::clone(&barrier);
                    let two = coro::spawn({
                        let barrier = Arc::clone(&barrier);
                        move || usize::from(barrier.wait().unwrap())
                    });
                    usize::from(barrier.wait().unwrap()) + two.join().unwrap()
                };
                assert_eq!(
                    call_all(meet).unwrap().iter().sum::<usize>(),
                    1,
                    "one is the last"
                );
            }
        });
    });
}

/// What a wait is refused for when its caller was cancelled.
const CANCELLED: WaitError = WaitError::Refused(Refusal::Interrupted(Interrupt::Cancelled));

/// In a coroutine and on a thread: `wait` with a short limit, while there is nothing to be had.
fn in_both_worlds(wait: impl Fn(Duration) -> Result<(), WaitError> + Clone + Send + 'static) {
    let short = Duration::from_millis(2);
    assert_eq!(wait(short), Err(WaitError::TimedOut));
    assert_eq!(wait(Duration::ZERO), Err(WaitError::TimedOut));
    let outside = {
        let wait = wait.clone();
        thread::spawn(move || wait(short))
    };
    coring_tests::until("the thread has given up", || outside.is_finished());
    assert_eq!(outside.join().unwrap(), Err(WaitError::TimedOut));
    let waiter = coro::spawn(move || wait(Duration::MAX));
    coro::yield_now();
    assert!(!waiter.is_finished(), "the longest limit is none");
    waiter.cancel();
    assert_eq!(waiter.join().unwrap(), Err(CANCELLED));
}

#[test]
fn every_wait_between_cores_can_have_a_limit() {
    // Goal: each wait gives up when its time is over or its caller is cancelled, says which, and has changed nothing: the
    // next one gets what is there. Method: each type with nothing to be had, then with something.
    check(|| {
        runtime(2).run(|| {
            let event = Arc::new(SharedEvent::default());
            let up = Arc::clone(&event);
            in_both_worlds(move |limit| event.wait_timeout(limit));
            up.set();
            assert_eq!(up.wait_timeout(Duration::ZERO), Ok(()));

            let mutex = Arc::new(SharedMutex::new(0));
            let held = mutex.try_lock().unwrap();
            let there = Arc::clone(&mutex);
            in_both_worlds(move |limit| there.lock_timeout(limit).map(drop));
            drop(held);
            *mutex.lock_timeout(Duration::ZERO).unwrap() += 1;

            let semaphore = Arc::new(SharedSemaphore::new(1));
            let permit = semaphore.try_acquire().unwrap();
            let there = Arc::clone(&semaphore);
            in_both_worlds(move |limit| there.acquire_timeout(limit).map(drop));
            drop(permit);
            drop(semaphore.acquire_timeout(Duration::ZERO).unwrap());
            assert_eq!(semaphore.available(), 1);

            let watch = SharedWatch::new(0);
            let reader = watch.subscribe();
            let mut late = reader.clone();
            in_both_worlds(move |limit| {
                let changed = reader.clone().changed_timeout(limit);
                changed.map_err(|error| match error {
                    WatchError::TimedOut => WaitError::TimedOut,
                    WatchError::Refused(refusal) => WaitError::Refused(refusal),
                    other => panic!("{other}"),
                })
            });
            watch.set(1);
            assert_eq!(late.changed_timeout(Duration::ZERO), Ok(()));
            assert_eq!(late.get(), 1);

            let barrier = Arc::new(SharedBarrier::new(2));
            let there = Arc::clone(&barrier);
            in_both_worlds(move |limit| there.wait_timeout(limit).map(drop));
            let there = Arc::clone(&barrier);
            let other = spawn_on(1, move || there.wait_timeout(Duration::MAX).unwrap());
            let last = barrier.wait_timeout(Duration::MAX).unwrap();
            assert_ne!(last, other.join().unwrap(), "one of the two is the last");

            let (sender, receiver) = shared_oneshot();
            let receiver = receiver.recv_timeout(Duration::ZERO).unwrap_err();
            let receiver = receiver.recv_timeout(Duration::from_millis(2)).unwrap_err();
            let outside = thread::spawn(|| receiver.recv_timeout(Duration::from_millis(2)));
            coring_tests::until("the thread has given up", || outside.is_finished());
            let receiver = outside.join().unwrap().unwrap_err();
            drop(spawn_on(1, move || sender.send(7)));
            let received = receiver.recv_timeout(Duration::MAX);
            assert_eq!(received.expect("it came"), Ok(7));
        });
    });
}

#[test]
fn who_watches_learns_that_all_writers_have_gone() {
    // Goal: a reader gets the last value first, and then, also when it waits already, the end: in a coroutine and on a thread.
    // Method: writers that set and go while the readers wait; the last one is a clone.
    check(|| {
        runtime(2).run(|| {
            for _ in 0..rounds(50, 5_000) {
                let watch = SharedWatch::new(0);
                let read_all = |mut reader: coring::sync::WatchReceiver<i32>| {
                    let mut last = 0;
                    let end = loop {
                        match reader.changed() {
                            Ok(()) => last = reader.get(),
                            Err(error) => break error,
                        }
                    };
                    assert_eq!(reader.changed_timeout(Duration::MAX), Err(end));
                    (last, end)
                };
                let (reader, outer) = (watch.subscribe(), watch.subscribe());
                let here = coro::spawn(move || read_all(reader));
                let outside = thread::spawn(move || read_all(outer));
                let other = watch.clone();
                watch.set(1);
                drop(watch);
                coro::yield_now();
                let there = spawn_on(1, move || assert_eq!(other.set(2), 1));
                there.join().unwrap();
                assert_eq!(here.join().unwrap(), (2, WatchError::Disconnected));
                coring_tests::until("the thread has ended", || outside.is_finished());
                assert_eq!(outside.join().unwrap(), (2, WatchError::Disconnected));
            }
        });
    });
}

#[test]
fn waits_that_give_up_keep_nothing() {
    // Goal: who has given up by its limit or by a cancellation has neither the lock nor a permit, and who has not has both.
    // Method: patient workers of two cores come through a lock and a semaphore although impatient ones come and go; all who
    // got in are counted under the lock.
    check(|| {
        let each = rounds(300, 30_000);
        let doors = Arc::new((SharedMutex::new(0), SharedSemaphore::new(1)));
        let entered = Arc::new(AtomicUsize::new(0));
        let (there, counted) = (Arc::clone(&doors), Arc::clone(&entered));
        runtime(2).run(move || {
            let done = call_all(move |_| {
                let enter = |doors: &(SharedMutex<usize>, SharedSemaphore), limit| {
                    let Ok(_permit) = doors.1.acquire_timeout(limit) else {
                        return 0;
                    };
                    // Held over a switch, so that others wait.
                    coro::yield_now();
                    let Ok(mut count) = doors.0.lock_timeout(limit) else {
                        return 0;
                    };
                    *count += 1;
                    1
                };
                let patient: Vec<_> = (0..2)
                    .map(|_| {
                        let doors = Arc::clone(&there);
                        coro::spawn(move || (0..each).map(|_| enter(&doors, Duration::MAX)).sum())
                    })
                    .collect();
                let mut random = Random::new();
                let mut inside = 0;
                for round in 0..each {
                    let doors = Arc::clone(&there);
                    let limit = Duration::from_micros(random.below(30) as u64);
                    let impatient = coro::spawn(move || enter(&doors, limit));
                    if round % 2 == 0 {
                        (0..random.below(4)).for_each(|_| coro::yield_now());
                        impatient.cancel();
                    }
                    // Cancelled in its yield it had not got in.
                    inside += impatient.join().unwrap_or(0);
                }
                for worker in patient {
                    let through: usize = worker.join().unwrap();
                    assert_eq!(through, each, "the longest limit is none");
                    inside += through;
                }
                counted.fetch_add(inside, Ordering::Relaxed);
            });
            done.unwrap();
        });
        assert_eq!(doors.1.available(), 1);
        let count = *doors.0.try_lock().unwrap();
        assert_eq!(count, entered.load(Ordering::Relaxed));
    });
}

#[test]
fn who_gives_up_passes_the_wake_on() {
    // Goal: who is picked in the moment of giving up wakes the next one: nobody else would, with the lock free.
    // Method: one with a limit and one without wait on core 1, in this order, and the lock is released once, at about the
    // time when the first gives up. A wake that is lost hangs the second for ever.
    check(|| {
        runtime(2).run(|| {
            let mut random = Random::new();
            for _ in 0..rounds(5_000, 200_000) {
                let mutex = Arc::new(SharedMutex::new(()));
                let held = mutex.try_lock().unwrap();
                let queued = Arc::new(AtomicUsize::new(0));
                let (there, ready) = (Arc::clone(&mutex), Arc::clone(&queued));
                let others = spawn_on(1, move || {
                    let limit = Duration::from_micros(20);
                    let mutex = Arc::clone(&there);
                    let first = coro::spawn(move || drop(mutex.lock_timeout(limit)));
                    let second = coro::spawn(move || drop(there.lock()));
                    // Both wait when this goes on.
                    coro::yield_now();
                    ready.store(1, Ordering::Release);
                    first.join().unwrap();
                    second.join().unwrap();
                });
                while queued.load(Ordering::Acquire) == 0 {
                    std::hint::spin_loop();
                }
                let release = Instant::now() + Duration::from_nanos(random.below(30_000) as u64);
                while Instant::now() < release {
                    std::hint::spin_loop();
                }
                drop(held);
                others.join().unwrap();
            }
        });
    });
}

#[test]
fn all_who_met_at_a_barrier_are_told_so() {
    // Goal: whose time ends just when the others come either was there, or was not: nobody is counted and then told that it
    // had not come. Method: two cores and a thread meet by twos, with limits about as long as it takes to come, or inside a deadline that
    // has passed.
    check(|| {
        let barrier = Arc::new(SharedBarrier::new(2));
        let (met, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let come = {
            let (barrier, met, last) = (Arc::clone(&barrier), Arc::clone(&met), Arc::clone(&last));
            move || {
                let mut random = Random::new();
                for round in 0..rounds(20_000, 500_000) {
                    let limit = Duration::from_nanos(random.below(20_000) as u64);
                    let outcome = if round % 2 == 0 && coring::current_core().is_some() {
                        let waited = coro::timeout(Duration::ZERO, || barrier.wait().ok());
                        waited.ok().flatten()
                    } else {
                        barrier.wait_timeout(limit).ok()
                    };
                    if let Some(was_last) = outcome {
                        met.fetch_add(1, Ordering::Relaxed);
                        last.fetch_add(usize::from(was_last), Ordering::Relaxed);
                    }
                }
            }
        };
        let outside = thread::spawn(come.clone());
        runtime(2).run(move || call_all(move |_| come()).unwrap());
        outside.join().unwrap();
        let (met, last) = (met.load(Ordering::Relaxed), last.load(Ordering::Relaxed));
        assert_eq!(met, 2 * last, "two met each time, and one was the last");
        println!("{last} meetings");
    });
}

#[test]
fn who_never_has_to_wait_lets_others_run() {
    // Goal: a loop of calls that find each time what they would wait for does not keep the core.
    // Method: each loops until another coroutine, which is ready, has run.
    check(|| {
        runtime(1).run(|| {
            let (mutex, semaphore) = (SharedMutex::new(()), SharedSemaphore::new(1));
            let (event, watch) = (SharedEvent::default(), SharedWatch::new(0));
            event.set();
            let mut watcher = watch.subscribe();
            let calls: [(&str, &mut dyn FnMut()); 4] = [
                ("mutex", &mut || drop(mutex.lock().unwrap())),
                ("semaphore", &mut || drop(semaphore.acquire().unwrap())),
                ("event", &mut || event.wait().unwrap()),
                ("watch", &mut || {
                    watch.set(1);
                    watcher.changed().unwrap();
                }),
            ];
            for (what, call) in calls {
                let other = coro::spawn(|| ());
                let begun = Instant::now();
                while !other.is_finished() && begun.elapsed() < Duration::from_secs(5) {
                    call();
                }
                assert!(other.is_finished(), "{what}");
            }
        });
    });
}

#[test]
fn who_waits_for_a_turn_gets_it_before_who_comes_again() {
    // Goal: a mutex and a semaphore that are held across waits are handed over, first come first served: nobody who gives
    // one back and takes it again comes before those who wait.
    // Method: four that note their turns; each has had as many as the others at any time, but for one.
    check(|| {
        runtime(1).run(|| {
            let mutex = Rc::new(SharedMutex::new(()));
            let semaphore = Rc::new(SharedSemaphore::new(1));
            for which in ["mutex", "semaphore"] {
                let turns = Rc::new(RefCell::new(Vec::new()));
                let all: Vec<_> = (0..4)
                    .map(|number| {
                        let (mutex, semaphore) = (Rc::clone(&mutex), Rc::clone(&semaphore));
                        let turns = Rc::clone(&turns);
                        coro::spawn(move || {
                            for _ in 0..50 {
                                let held = (which == "mutex").then(|| mutex.lock().unwrap());
                                let permit = held.is_none().then(|| semaphore.acquire().unwrap());
                                turns.borrow_mut().push(number);
                                coro::yield_now();
                                drop((held, permit));
                            }
                        })
                    })
                    .collect();
                all.into_iter().for_each(|one| one.join().unwrap());
                let mut counts = [0usize; 4];
                for number in turns.borrow().iter().copied() {
                    counts[number as usize] += 1;
                    let (least, most) = (counts.iter().min(), counts.iter().max());
                    assert!(most.unwrap() - least.unwrap() <= 1, "{which}: {turns:?}");
                }
            }
            assert_eq!(semaphore.available(), 1);
            assert!(mutex.try_lock().is_some());
        });
    });
}

#[test]
fn calls_that_never_wait_let_the_core_turn() {
    // Goal: a loop of calls that could wait and never have to - a future that is ready, a topic that nobody holds up - does not keep its core: others and what comes from elsewhere have their turn.
    // Method: each loop goes on until a coroutine that is sent to its core from the other one has run.
    fn until_told(call: impl Fn() + Send + 'static) {
        let told = Arc::new(AtomicBool::new(false));
        let (begun, there) = (Arc::new(SharedEvent::default()), Arc::clone(&told));
        let begins = Arc::clone(&begun);
        let looping = coring::spawn_on(1, move || {
            begins.set();
            while !there.load(Ordering::Relaxed) {
                call();
            }
        });
        begun.wait().unwrap();
        coring::call(1, move || told.store(true, Ordering::Relaxed)).unwrap();
        looping.join().unwrap();
    }
    check(|| {
        runtime(2).run(|| {
            until_told(|| coro::block_on(std::future::ready(())).unwrap());
            let topic = coring::mailbox::topic::<()>();
            let slow = topic.subscribe(1, coring::mailbox::Lagging::Misses);
            until_told(move || _ = topic.publish(()).unwrap());
            drop(slow);
        });
    });
}

#[test]
fn one_core_sees_what_all_are_doing() {
    // Goal: counters and coroutines of every core, by name, from one. Method: a named sleeper on core 1.
    check(|| {
        runtime(2).run(|| {
            spawn_on(1, || {
                let sleeper = coro::Builder::new().name("sleeper");
                drop(sleeper.spawn(|| coro::sleep(Duration::MAX)).unwrap());
            })
            .join()
            .unwrap();
            coring_tests::until("it sleeps", || {
                let dump = coring::dump_all().unwrap();
                let waits = |info: &coro::CoroutineInfo| {
                    info.name.as_deref() == Some("sleeper")
                        && matches!(
                            info.activity,
                            coro::Activity::Waiting {
                                what_for: "sleep",
                                ..
                            }
                        )
                };
                assert_eq!(dump.len(), 2);
                dump[1].iter().any(waits) && !dump[0].iter().any(waits)
            });
            let stats = coring::Runtime::stats().unwrap();
            assert_eq!((stats[0].core, stats[1].core), (0, 1));
            assert!(stats[1].scheduler.live >= 2 && stats[1].scheduler.turns > 0);
            assert_eq!(stats[1].inbox_lanes, 1, "only core 0 has sent to it");
        });
    });
}

#[test]
fn a_shard_may_ask_its_core_at_the_end() {
    // Goal: what a shard's destructor can ask of its core is right, or nothing, also when the core has run its last turn.
    // Method: shards that ask for the counters when they are dropped at the end of the runtime.
    struct Asks(usize, Arc<AtomicUsize>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let stats = coring::stats().expect("its core is still there");
            assert_eq!((stats.core, stats.scheduler.live), (self.0, 0));
            assert!(stats.scheduler.spawned > 0);
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    check(|| {
        let answers = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answers);
        runtime(2).run(move || {
            Sharded::new(move |core| Asks(core, Arc::clone(&counted))).unwrap();
        });
        assert_eq!(answers.load(Ordering::Relaxed), 2);
    });
}
