//! The smallest program: two coroutines on one core, and one on another.
//!
//! `cargo run --release --example hello`

use coring::{Runtime, coro};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    coring_examples::exit(
        Runtime::builder()
            .cores(2)
            .build()
            .map(|runtime| runtime.run(greet)),
    )
}

fn greet() {
    let world = coro::spawn(|| {
        coro::sleep(Duration::from_millis(10));
        "world"
    });
    let core = coring::spawn_on(1, || coring::current_core().expect("it runs on a core"));
    let world = world.join().expect("it does not panic");
    println!(
        "hello, {world}, and hello, core {}",
        core.join().expect("it does not panic")
    );
}
