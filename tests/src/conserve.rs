//! Rounds of a race that must leave nothing behind, and values that say when they go.

use crate::{builder, in_flight, proc, until};
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

/// So many operations at once are enough for a round; one of each that was left behind would use them up.
const OPERATIONS: u32 = 256;

/// Runs rounds on one core, and sees that they leave neither descriptors nor operations nor results of those nor buffers.
/// For tests that are `alone`.
///
/// # Panics
///
/// When they do.
pub fn conserved(times: usize, mut round: impl FnMut(usize)) {
    let runtime = builder(1).max_operations(OPERATIONS).build();
    runtime.expect("io_uring is allowed").run(|| {
        // What is made once and kept: pools, rings.
        round(0);
        until("nothing in flight", || in_flight() == 0);
        let fds = proc::fds();
        (1..times).for_each(&mut round);
        until("nothing in flight", || in_flight() == 0);
        assert_eq!(proc::fds(), fds, "descriptors before and after");
        pools_are_whole();
    });
}

/// The core's pools are whole: every buffer is there.
///
/// # Panics
///
/// When one is not.
pub fn pools_are_whole() {
    let stats = coring::stats().expect("on a core");
    for pool in [stats.receive_buffers, stats.stream_buffers]
        .into_iter()
        .flatten()
    {
        assert_eq!(pool.available, pool.count, "{pool:?}");
    }
}

/// Gives the others a moment whose length depends on the round.
pub fn stagger(round: usize) {
    for _ in 0..round % 4 {
        coro::yield_now();
    }
}
