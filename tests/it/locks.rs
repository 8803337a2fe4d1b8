//! Locks between cores and threads in random programs.

use coring::sync::{SharedEvent, SharedMutex, SharedSemaphore};
use coring::{coro, spawn_on};
use coring_tests::random::Random;
use coring_tests::{check, rounds, runtime};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Takes and gives back what a semaphore, a mutex, a barrier and an event have, in every way, and gives up at any moment.
fn take_at_random(shared: &Arc<Shared>, count: usize, mut random: Random) {
    let in_coroutine = coro::try_current().is_some();
    let pause = || match in_coroutine {
        true => coro::yield_now(),
        false => thread::yield_now(),
    };
    for _ in 0..count {
        let limit = Duration::from_micros(random.below(60) as u64);
        match random.below(9) {
            0 => drop(shared.permits.acquire().unwrap()),
            1 => drop(shared.permits.acquire_timeout(limit)),
            2 => drop(shared.permits.try_acquire()),
            3 => {
                let one = shared.permits.acquire().unwrap();
                pause();
                // One is made while another is kept for good.
                shared.permits.add(1);
                one.forget();
            }
            4 => {
                let mut value = shared.value.lock().unwrap();
                let before = *value;
                pause();
                *value = before + 1;
                shared.locked.fetch_add(1, Ordering::Relaxed);
            }
            5 => {
                if let Ok(mut value) = shared.value.lock_timeout(limit) {
                    *value += 1;
                    shared.locked.fetch_add(1, Ordering::Relaxed);
                }
            }
            6 => drop(shared.event.wait_timeout(limit)),
            7 => {
                shared.event.set();
                shared.event.reset();
            }
            _ if in_coroutine => {
                let (there, way) = (Arc::clone(shared), random.below(3));
                let impatient = coro::spawn(move || match way {
                    0 => drop(there.permits.acquire()),
                    1 => drop(there.value.lock()),
                    _ => drop(there.event.wait()),
                });
                (0..random.below(4)).for_each(|_| coro::yield_now());
                impatient.cancel();
                drop(impatient.join());
            }
            _ => pause(),
        }
    }
}

struct Shared {
    permits: SharedSemaphore,
    value: SharedMutex<usize>,
    locked: AtomicUsize,
    event: SharedEvent,
}

#[test]
fn locks_in_random_programs() {
    // Goal: whoever waits and gives up, in whatever way, nothing is lost: all permits are back, each lock was held by one, nobody waits for ever.
    // Method: coroutines of two cores and threads, with limits of microseconds and cancellations; all counts add up.
    check(|| {
        let mut random = Random::new();
        for permits in [1, 2, 3] {
            let shared = Arc::new(Shared {
                permits: SharedSemaphore::new(permits),
                value: SharedMutex::new(0),
                locked: AtomicUsize::new(0),
                event: SharedEvent::default(),
            });
            let count = rounds(1_000, 100_000);
            let threads = [(); 2].map(|()| {
                let (shared, random) = (Arc::clone(&shared), random.fork());
                thread::spawn(move || take_at_random(&shared, count, random))
            });
            runtime(2).run(|| {
                let of_core = |core| {
                    let (shared, mut random) = (Arc::clone(&shared), random.fork());
                    spawn_on(core, move || {
                        let ones = [(); 3].map(|()| {
                            let (shared, random) = (Arc::clone(&shared), random.fork());
                            coro::spawn(move || take_at_random(&shared, count, random))
                        });
                        ones.into_iter().for_each(|one| one.join().unwrap());
                    })
                };
                let both = [0, 1].map(of_core);
                both.into_iter().for_each(|one| one.join().unwrap());
            });
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            assert_eq!(shared.permits.available(), permits);
            assert_eq!(
                *shared.value.try_lock().unwrap(),
                shared.locked.load(Ordering::Relaxed)
            );
        }
    });
}
