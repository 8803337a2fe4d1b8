//! What a timer costs among many, without a kernel.
//!
//! `cargo run --release -p coring-coro --example timers`

use coring_coro::timer::{TimerKey, Wheel};
use std::time::Instant;

const LIVE: usize = 1_000_000;
const MS: u64 = 1_000_000;

/// A cheap generator: the order matters, not its quality.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn per_call(calls: usize, started: Instant) -> f64 {
    started.elapsed().as_nanos() as f64 / calls as f64
}

/// Nanoseconds to insert and to cancel a timer, a million live; deadlines within a minute, in steps of `step_ns`.
fn churn(step_ns: u64, cancel_in_order: bool) -> (f64, f64) {
    const BATCH: usize = 100_000;
    let mut wheel = Wheel::<usize>::default();
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut deadline = || (1 + random(&mut seed) % (60_000 * MS / step_ns)) * step_ns;
    let mut keys: Vec<TimerKey> = (0..LIVE).map(|n| wheel.insert(deadline(), n)).collect();
    let mut order = 7;
    let (mut inserting, mut cancelling) = (f64::MAX, f64::MAX);
    for round in 0..20 {
        let first = if cancel_in_order {
            (round * BATCH) % LIVE
        } else {
            0
        };
        if !cancel_in_order {
            for n in 0..BATCH {
                let other = n + usize::try_from(random(&mut order)).unwrap_or(0) % (LIVE - n);
                keys.swap(n, other);
            }
        }
        let deadlines: Vec<u64> = (0..BATCH).map(|_| deadline()).collect();
        let started = Instant::now();
        for key in &keys[first..first + BATCH] {
            wheel.cancel(*key);
        }
        cancelling = cancelling.min(per_call(BATCH, started));
        let started = Instant::now();
        for (n, deadline) in deadlines.iter().enumerate() {
            keys[first + n] = wheel.insert(*deadline, n);
        }
        inserting = inserting.min(per_call(BATCH, started));
    }
    (inserting, cancelling)
}

/// Nanoseconds to insert into a wheel that grows, or that has held as many before, and to fire.
fn fill(step_ns: u64) -> (f64, f64, f64) {
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut wheel = Wheel::<usize>::default();
    let mut all = |wheel: &mut Wheel<usize>, from: u64| {
        let mut deadline = || from + (1 + random(&mut seed) % (60_000 * MS / step_ns)) * step_ns;
        let deadlines: Vec<u64> = (0..LIVE).map(|_| deadline()).collect();
        let started = Instant::now();
        for (n, deadline) in deadlines.iter().enumerate() {
            wheel.insert(*deadline, n);
        }
        per_call(LIVE, started)
    };
    let first = all(&mut wheel, 0);
    let started = Instant::now();
    let mut fired = 0;
    for now_ms in 1..=60_000 {
        wheel.advance(now_ms * MS, |_, _| fired += 1);
    }
    assert_eq!(fired, LIVE);
    let fire = per_call(LIVE, started);
    (first, fire, all(&mut wheel, 60_000 * MS))
}

fn main() {
    for (name, step_ns) in [("1 ms", MS), ("1 ns", 1)] {
        let (first, fire, again) = (0..3)
            .map(|_| fill(step_ns))
            .fold((f64::MAX, f64::MAX, f64::MAX), |a, b| {
                (a.0.min(b.0), a.1.min(b.1), a.2.min(b.2))
            });
        println!(
            "steps of {name}: insert {first:6.1} ns, fire {fire:6.1} ns, insert after all have fired {again:6.1} ns"
        );
        for in_order in [true, false] {
            let (insert, cancel) = churn(step_ns, in_order);
            let order = if in_order {
                "the order of insertion"
            } else {
                "random order"
            };
            println!("  cancelled in {order}: cancel {cancel:6.1} ns, insert {insert:6.1} ns");
        }
    }
}
