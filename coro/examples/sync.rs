//! What local channels, locks and timers cost on this machine, without a kernel: a first look, not the harness.
//!
//! `cargo run --release -p coring-coro --example sync`

use coring_coro as coro;
use coro::timer::Wheel;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 50_000;

/// Nanoseconds a round of what `work` does [`ROUNDS`] times, inside a coroutine; the best of sixty short runs, so
/// that other work on the machine shows less.
fn measure(name: &str, work: impl Fn() + Copy + 'static) {
    let once = || {
        coro::testing::run(move || {
            let started = Instant::now();
            work();
            started.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        })
    };
    let best = (0..60).map(|_| once()).fold(f64::MAX, f64::min);
    println!("{name}: {best:6.1} ns");
}

fn main() {
    measure("channel, round trip of two messages", || {
        let (there, from_there) = coro::channel::bounded(1);
        let (back, from_back) = coro::channel::bounded(1);
        let echo = coro::spawn(move || {
            while let Ok(value) = from_there.recv() {
                back.send(value).expect("the other end waits");
            }
        });
        for round in 0..ROUNDS {
            there.send(round).expect("the other end waits");
            assert_eq!(from_back.recv(), Ok(round));
        }
        drop(there);
        echo.join().expect("it only echoes");
    });
    measure("channel, streaming through 128 places", || {
        let (sender, receiver) = coro::channel::bounded(128);
        let producer = coro::spawn(move || {
            (0..ROUNDS).for_each(|n| sender.send(n).expect("somebody receives"));
        });
        let sum: u64 = receiver.iter().map(u64::from).sum();
        assert_eq!(sum, u64::from(ROUNDS) * u64::from(ROUNDS - 1) / 2);
        producer.join().expect("it only sends");
    });
    measure("mutex, lock and unlock", || {
        let mutex = coro::sync::Mutex::new(0);
        (0..ROUNDS).for_each(|_| *black_box(&mutex).lock() += 1);
    });
    measure("rwlock, read and release", || {
        let lock = coro::sync::RwLock::new(0);
        (0..ROUNDS).for_each(|_| assert_eq!(*black_box(&lock).read(), 0));
    });
    measure("semaphore, acquire and release", || {
        let semaphore = coro::sync::Semaphore::new(1);
        (0..ROUNDS).for_each(|_| drop(black_box(&semaphore).acquire()));
    });
    measure("oneshot, make, send, receive", || {
        for round in 0..ROUNDS {
            let (sender, receiver) = coro::channel::oneshot();
            sender.send(round).expect("the receiver is there");
            assert_eq!(receiver.recv(), Ok(round));
        }
    });
    measure("watch, send and look", || {
        let (sender, receiver) = coro::channel::watch(0);
        for round in 0..ROUNDS {
            sender.send(round).expect("the receiver is there");
            assert_eq!(*black_box(&receiver).borrow(), round);
        }
    });
    measure("broadcast, send and receive", || {
        let (sender, receiver) = coro::channel::broadcast(16);
        for round in 0..ROUNDS {
            sender.send(round);
            assert_eq!(receiver.recv(), Ok(round));
        }
    });
    measure("checkpoint", || {
        (0..ROUNDS).for_each(|_| coro::checkpoint())
    });
    measure("timeout around nothing", || {
        let second = std::time::Duration::from_secs(1);
        (0..ROUNDS).for_each(|_| assert!(coro::timeout(second, || ()).is_ok()));
    });
    for live in [1_000, 1_000_000] {
        timers("in steps of 1 ms", live, |index, _| {
            1_000_000 * (index % 1000 + 1)
        });
        timers("at random", live, |_, random| 1 + random % 1_000_000_000);
    }
}

/// Insert, cancel and fire with `live` timers spread over a second, on a wheel that had as many before.
fn timers(name: &str, live: u64, distance: impl Fn(u64, u64) -> u64) {
    let repeats = 2_000_000 / live;
    let (mut insert, mut cancel, mut fire) = (0, 0, 0);
    let mut wheel = Wheel::new(0);
    let mut keys = Vec::new();
    let mut now = 0;
    let mut random = 1u64;
    for repeat in 0..=repeats {
        let deadlines: Vec<u64> = (0..live)
            .map(|index| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                now + distance(index, random >> 20)
            })
            .collect();
        let fill = |wheel: &mut Wheel<u64>, keys: &mut Vec<_>| {
            keys.clear();
            keys.reserve(deadlines.len());
            let started = Instant::now();
            keys.extend(
                deadlines
                    .iter()
                    .map(|deadline| wheel.insert(*deadline, *deadline)),
            );
            started.elapsed().as_nanos()
        };
        let first_insert = fill(&mut wheel, &mut keys);
        let started = Instant::now();
        keys.drain(..)
            .for_each(|key| assert!(wheel.cancel(key).is_some()));
        let first_cancel = started.elapsed().as_nanos();
        let second_insert = fill(&mut wheel, &mut keys);
        let started = Instant::now();
        let mut fired = 0;
        for _ in 0..1000 {
            now += 1_000_000;
            wheel.advance(now, |_, _| fired += 1);
        }
        assert_eq!(fired, live);
        if repeat > 0 {
            insert += first_insert + second_insert;
            cancel += first_cancel;
            fire += started.elapsed().as_nanos();
        }
    }
    let each = |ns: u128| ns as f64 / (repeats * live) as f64;
    let (insert, cancel, fire) = (each(insert) / 2.0, each(cancel), each(fire));
    println!(
        "{live:>7} timers {name}: insert {insert:5.1} ns, cancel {cancel:5.1} ns, fire {fire:5.1} ns"
    );
}
