//! Rounds of a race that must leave nothing behind, and values that say when they go.

use crate::{in_flight, proc, runtime, until};
use coring::coro;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts its drops.
#[derive(Clone, Debug)]
pub struct Token(pub Arc<AtomicUsize>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs rounds on one core, and sees that they leave neither descriptors nor operations. For tests that are `alone`.
///
/// # Panics
///
/// When they do.
pub fn conserved(times: usize, mut round: impl FnMut(usize)) {
    runtime(1).run(|| {
        // What is made once and kept: pools, rings.
        round(0);
        until("nothing in flight", || in_flight() == 0);
        let fds = proc::fds();
        (1..times).for_each(&mut round);
        until("nothing in flight", || in_flight() == 0);
        assert_eq!(proc::fds(), fds, "descriptors before and after");
    });
}

/// Gives the others a moment whose length depends on the round.
pub fn stagger(round: usize) {
    for _ in 0..round % 4 {
        coro::yield_now();
    }
}
