//! What a switch and a spawn cost on this machine, without a kernel: a first look, not the harness.
//!
//! Many short runs, of which the best counts: so that other work on the machine shows less.
//!
//! `cargo run --release -p coring-coro --example switch`

use coring_coro as coro;
use std::time::Instant;

const RUNS: usize = 60;
const STEPS: u32 = 200_000;

fn best(run: impl Fn() -> f64) -> f64 {
    (0..RUNS).map(|_| run()).fold(f64::MAX, f64::min)
}

/// Nanoseconds a switch, with this many coroutines that only yield.
fn yields(coroutines: u32) -> f64 {
    let rounds = STEPS / coroutines;
    coro::testing::run(move || {
        let handles: Vec<_> = (0..coroutines)
            .map(|_| coro::spawn(move || (0..rounds).for_each(|_| coro::yield_now())))
            .collect();
        let started = Instant::now();
        handles
            .into_iter()
            .for_each(|handle| handle.join().expect("it only yields"));
        started.elapsed().as_nanos() as f64 / f64::from(rounds * coroutines)
    })
}

/// Nanoseconds to spawn and join one coroutine, this many at a time, on warm stacks.
fn spawns(batch: u32) -> f64 {
    coro::testing::run(move || {
        let mut handles = Vec::with_capacity(batch as usize);
        let mut spawn_all = |rounds| {
            let started = Instant::now();
            for _ in 0..rounds {
                handles.extend((0..batch).map(|n| coro::spawn(move || n)));
                handles.drain(..).for_each(|handle| {
                    handle.join().expect("it only returns");
                });
            }
            started.elapsed().as_nanos() as f64 / f64::from(rounds * batch)
        };
        spawn_all(1); // warm
        spawn_all(STEPS / batch)
    })
}

fn main() {
    for coroutines in [2, 100, 10_000] {
        let ns = best(|| yields(coroutines));
        println!("yield_now, {coroutines:>6} runnable: {ns:6.1} ns");
    }
    for batch in [1, 100, 10_000] {
        let ns = best(|| spawns(batch));
        println!("spawn + join, batch {batch:>6}: {ns:6.1} ns");
    }
}
