//! One number: spawn and join in batches of 100, for a profiler.
//!
//! `cargo run --release -p coring-coro --example spawn_loop`

use coring_coro as coro;

fn main() {
    coro::testing::run(|| {
        let mut handles = Vec::with_capacity(100);
        for _ in 0..200_000 {
            handles.extend((0..100).map(|n| coro::spawn(move || n)));
            handles.drain(..).for_each(|handle| {
                handle.join().expect("it only returns");
            });
        }
    });
}
