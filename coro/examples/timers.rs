//! What a timer costs among few and among many, without a kernel, and what the memory it lives in costs alone.
//!
//! A timer is an entry of 24 bytes in the wheel and a place of 8 bytes that its key names. `floor` is a bare loop over
//! arrays of that size, with the same keys in the same order: for an insertion it writes an entry and a place, for a
//! cancellation it changes a place, and for firing it reads an entry and changes its place.
//!
//! `cargo run --release -p coring-coro --example timers`

use coring_coro::timer::{TimerKey, Wheel};
use std::hint::black_box;
use std::time::Instant;

const MS: u64 = 1_000_000;
/// Timers to cancel and insert in all for each figure, whatever the number of live ones.
const CHURN: usize = 2_000_000;

/// A cheap generator: the order matters, not its quality.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn below(state: &mut u64, bound: usize) -> usize {
    usize::try_from(random(state) % bound as u64).expect("it is below a usize")
}

fn per_call(calls: usize, started: Instant) -> f64 {
    started.elapsed().as_nanos() as f64 / calls as f64
}

/// Brings some of `items` to the front, at random.
fn shuffle<T>(items: &mut [T], some: usize, seed: &mut u64) {
    for n in 0..some {
        let other = n + below(seed, items.len() - n);
        items.swap(n, other);
    }
}

/// Nanoseconds to insert and to cancel a timer, so many live; deadlines within a minute, in steps of `step_ns`.
fn churn(live: usize, step_ns: u64, in_order: bool) -> (f64, f64) {
    let batch = live / 10;
    let rounds = (CHURN / batch).min(1000);
    let mut wheel = Wheel::<usize>::default();
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut deadline = || (1 + random(&mut seed) % (60_000 * MS / step_ns)) * step_ns;
    let mut keys: Vec<TimerKey> = (0..live).map(|n| wheel.insert(deadline(), n)).collect();
    let mut order = 7;
    let (mut inserting, mut cancelling) = (f64::MAX, f64::MAX);
    for round in 0..rounds {
        let first = if in_order { (round * batch) % live } else { 0 };
        if !in_order {
            shuffle(&mut keys, batch, &mut order);
        }
        let deadlines: Vec<u64> = (0..batch).map(|_| deadline()).collect();
        let started = Instant::now();
        for key in &keys[first..first + batch] {
            wheel.discard(*key);
        }
        cancelling = cancelling.min(per_call(batch, started));
        let started = Instant::now();
        for (n, deadline) in deadlines.iter().enumerate() {
            keys[first + n] = wheel.insert(*deadline, n);
        }
        inserting = inserting.min(per_call(batch, started));
    }
    (inserting, cancelling)
}

/// Nanoseconds to insert into a wheel that has held as many before, and to fire.
fn fill(live: usize, step_ns: u64) -> (f64, f64) {
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut wheel = Wheel::<usize>::default();
    let (mut inserting, mut firing) = (f64::MAX, f64::MAX);
    let mut from = 0;
    for _ in 0..(CHURN / live).clamp(3, 200) {
        let mut deadline = || from + (1 + random(&mut seed) % (1_000 * MS / step_ns)) * step_ns;
        let deadlines: Vec<u64> = (0..live).map(|_| deadline()).collect();
        let started = Instant::now();
        for (n, deadline) in deadlines.iter().enumerate() {
            wheel.insert(*deadline, n);
        }
        inserting = inserting.min(per_call(live, started));
        let started = Instant::now();
        let mut fired = 0;
        for now_ms in 1..=1_000 {
            wheel.advance(from + now_ms * MS, |_, _| fired += 1);
        }
        assert_eq!(fired, live);
        firing = firing.min(per_call(live, started));
        from += 1_000 * MS;
    }
    (inserting, firing)
}

/// The same touches of memory without a wheel: nanoseconds to insert, to cancel in order and at random, and to fire.
fn floor(live: usize) -> [f64; 4] {
    let batch = live / 10;
    let mut entries = vec![[0u64; 3]; live];
    let mut places = vec![(0u32, 0u32); live];
    let mut keys: Vec<u32> = (0..).take(live).collect();
    let (mut best, mut seed, mut at) = ([f64::MAX; 4], 7, 0);
    let mut lowest = |figure: usize, calls, started| {
        let each: &mut f64 = &mut best[figure];
        *each = each.min(per_call(calls, started));
    };
    for round in 0..(CHURN / batch).min(1000) {
        for (figure, at_random) in [(1, false), (2, true)] {
            let first = if at_random { 0 } else { (round * batch) % live };
            if at_random {
                shuffle(&mut keys, batch, &mut seed);
            }
            let started = Instant::now();
            for key in &keys[first..first + batch] {
                let place = &mut places[*key as usize];
                *place = (u32::MAX, place.1 + 1);
            }
            lowest(figure, batch, started);
            let started = Instant::now();
            for key in &keys[first..first + batch] {
                entries[at] = [u64::from(*key); 3];
                places[*key as usize].0 = 0;
                at = (at + 1) % live;
            }
            if at_random {
                lowest(0, batch, started);
            }
        }
        if round % 10 == 9 {
            keys.sort_unstable();
        }
    }
    for _ in 0..3 {
        let started = Instant::now();
        for entry in &entries {
            let place = &mut places[usize::try_from(entry[0]).expect("it is a key")];
            *place = (u32::MAX, place.1 + 1);
        }
        lowest(3, live, started);
    }
    black_box((&entries, &places));
    best
}

fn main() {
    println!(
        "{:>9} {:>6} {:>22} {:>22} {:>22} {:>22}",
        "live", "steps", "insert (again, churn)", "cancel in order", "cancel at random", "fire"
    );
    for live in [1_000, 10_000, 100_000, 1_000_000] {
        for (name, step_ns) in [("1 ms", MS), ("1 ns", 1)] {
            let (again, fire) = fill(live, step_ns);
            let (insert, in_order) = churn(live, step_ns, true);
            let (_, at_random) = churn(live, step_ns, false);
            let insert = format!("{again:.1}, {insert:.1}");
            println!(
                "{live:>9} {name:>6} {insert:>22} {in_order:>22.1} {at_random:>22.1} {fire:>22.1}"
            );
        }
        let [insert, in_order, at_random, fire] = floor(live);
        println!(
            "{live:>9} {:>6} {insert:>22.1} {in_order:>22.1} {at_random:>22.1} {fire:>22.1}",
            "floor"
        );
    }
}
