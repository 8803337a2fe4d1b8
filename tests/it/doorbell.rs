//! Doorbells: a core that is falling asleep is woken by whatever comes at that moment.
//!
//! The window between the last look at memory and the sleep in the kernel is some hundred nanoseconds wide, and a server
//! comes by it once a sleep. Here every round aims at it. The heavy lane has 3.6 million rounds: what a core that falls
//! asleep a thousand times a second does in an hour, in three to five minutes on two CPUs.

use coring::{mailbox, spawn_on};
use coring_tests::random::Random;
use coring_tests::{builder, check, rounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Rounds under one watchdog: a wake that is lost ends the process within its minute.
const ROUNDS: usize = 50_000;

/// Waits a random time around that which a core needs to fall asleep: from nothing to about 20 us, most of it short.
fn aim(random: &mut Random) {
    let most = 1 << random.below(13);
    (0..random.below(most)).for_each(|_| std::hint::spin_loop());
}

/// Waits for the answer without a switch: the core that answers is on its own. Gives the CPU away now and then, for
/// machines that are busy with other tests.
fn answered(answers: &AtomicU64, round: u64) {
    for look in 1u32.. {
        if answers.load(Ordering::Acquire) == round {
            return;
        }
        if look.is_multiple_of(10_000) {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

/// How often core 1 has slept.
fn sleeps() -> u64 {
    coring::call(1, coring::stats).unwrap().unwrap().sleeps
}

/// The rounds with one way of waking; `ring` sends the number of a round to the sleeper, which stores it. How often it slept.
fn ring_in_rounds(rounds: usize, answers: &AtomicU64, mut ring: impl FnMut(u64)) -> u64 {
    let (before, mut random) = (sleeps(), Random::new());
    for round in 1..=rounds as u64 {
        aim(&mut random);
        ring(round);
        answered(answers, round);
    }
    sleeps() - before
}

#[test]
fn nobody_is_left_asleep() {
    // Goal: no wake is lost, whatever wakes: a message, a closure, a message of a foreign thread.
    // Method: as above, from core 0 to core 1, with and without looks before the sleep. A lost wake hangs, and the watchdog
    // ends it; that enough sleeps were met is counted.
    let total = rounds(6_000, 3_600_000);
    let (start, mut done, mut slept) = (Instant::now(), 0, 0);
    while done < total {
        let some = ROUNDS.min(total - done).div_ceil(6);
        check(|| {
            for spin in [Duration::ZERO, Duration::from_micros(6)] {
                let runtime = builder(2).spin(spin).build().unwrap();
                slept += runtime.run(|| {
                    let answers = Arc::new(AtomicU64::new(0));
                    let there = Arc::clone(&answers);
                    let (sender, mut receiver) = mailbox(16);
                    let receiving = spawn_on(1, move || {
                        receiver
                            .iter()
                            .for_each(|round| there.store(round, Ordering::Release));
                    });
                    let messages =
                        ring_in_rounds(some, &answers, |round| sender.send(round).unwrap());
                    let closures = ring_in_rounds(some, &answers, |round| {
                        let there = Arc::clone(&answers);
                        drop(spawn_on(1, move || there.store(round, Ordering::Release)));
                    });
                    let before = sleeps();
                    let there = Arc::clone(&answers);
                    let outside = thread::spawn(move || {
                        let mut random = Random::new();
                        for round in 1..=some as u64 {
                            aim(&mut random);
                            sender.send(round).unwrap();
                            answered(&there, round);
                        }
                    });
                    // Ends with its sender.
                    receiving.join().unwrap();
                    outside.join().unwrap();
                    messages + closures + sleeps() - before
                });
            }
        });
        done += 6 * some;
    }
    println!("{done} rounds, {slept} sleeps, {:.1?}", start.elapsed());
    assert!(
        slept > (done / 20) as u64,
        "{slept} sleeps in {done} rounds"
    );
}
