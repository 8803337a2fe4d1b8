//! What a switch and a spawn cost on this machine, without a kernel: a first look, not the harness.
//!
//! `cargo run --release -p coring-coro --example switch`

use coring_coro as coro;
use std::time::Instant;

fn main() {
    for coroutines in [2u32, 100, 10_000] {
        let rounds = 20_000_000 / coroutines;
        let ns = coro::testing::run(move || {
            let started = Instant::now();
            let handles: Vec<_> = (0..coroutines)
                .map(|_| coro::spawn(move || (0..rounds).for_each(|_| coro::yield_now())))
                .collect();
            handles
                .into_iter()
                .for_each(|handle| handle.join().expect("it only yields"));
            started.elapsed().as_nanos() as f64 / f64::from(rounds * coroutines)
        });
        println!("yield_now, {coroutines:>6} runnable: {ns:6.1} ns");
    }
    for batch in [1u32, 100, 10_000] {
        let rounds = 3_000_000 / batch;
        let ns = coro::testing::run(move || {
            let mut handles = Vec::with_capacity(batch as usize);
            let mut started = Instant::now();
            for round in 0..rounds + rounds / 10 {
                if round == rounds / 10 {
                    started = Instant::now();
                }
                handles.extend((0..batch).map(|n| coro::spawn(move || n)));
                handles.drain(..).for_each(|handle| {
                    handle.join().expect("it only returns");
                });
            }
            started.elapsed().as_nanos() as f64 / f64::from(rounds * batch)
        });
        println!("spawn + join, batch {batch:>6}: {ns:6.1} ns");
    }
}
