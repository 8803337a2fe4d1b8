//! What a core counts: plain additions on its own thread, copied for whoever asks.
//!
//! Asking is a call on the core ([`Runtime::stats`](crate::Runtime::stats)), so counting needs no atomics. What must be
//! seen although the core does not turn - that it does not - is counted elsewhere (stall.rs).

use coring_coro::{Histogram, SchedulerStats, Tally};
use coring_uring::{BufferRingStats, RingStats};
use std::cell::Cell;
use std::time::Duration;

/// Counters of one core since its start.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CoreStats {
    /// The core's number.
    pub core: usize,
    /// What the core's scheduler has counted: turns, switches, coroutines and their stacks, the ready queue, timers.
    pub scheduler: SchedulerStats,
    /// Closures of other cores that wait to be started here.
    pub inbox_depth: usize,
    /// Cores, with foreign threads as one more, that have sent closures here. Each has a ring of its own.
    pub inbox_lanes: usize,
    /// How many closures of other cores were found when there were any.
    pub inbox_batch: Histogram,
    /// What the core's ring has counted: submissions, completions, enters, cancels, doorbells.
    pub ring: RingStats,
    /// How many operations one entry into the kernel has submitted, where it did.
    pub submit_batch: Histogram,
    /// How many completions one entry into the kernel has brought, where it did.
    pub complete_batch: Histogram,
    /// Operations whose memory the kernel may still use: slots in use.
    pub in_flight: usize,
    /// The pool of receive buffers, once it was asked for.
    pub receive_buffers: Option<BufferRingStats>,
    /// The pool of incremental buffers ([`Filling::Incremental`](crate::net::Filling)), once a receive stream asked for it.
    pub stream_buffers: Option<BufferRingStats>,
    /// Times that the core went to sleep in the kernel.
    pub sleeps: u64,
    /// Times that an idle core found work by looking at memory.
    pub looks: u64,
    /// Times that the core did not turn for as long as [`Builder::stall_detector`](crate::Builder::stall_detector) says.
    pub stalls: u64,
    /// The longest of them, as far as it was watched.
    pub longest_stall: Duration,
    /// Log lines that the core's log ring had no room for.
    pub log_dropped: u64,
}

/// The counters that a core's engine keeps.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sleeps: Cell<u64>,
    pub(super) looks: Cell<u64>,
    pub(super) inbox_batch: Tally,
    pub(super) submit_batch: Tally,
    pub(super) complete_batch: Tally,
}

impl Counters {
    /// An entry into the kernel took so many submissions with it and handed so many tokens out.
    #[inline]
    pub(super) fn entered(&self, submitted: usize, completed: usize) {
        if submitted > 0 {
            self.submit_batch.record(submitted as u64);
        }
        if completed > 0 {
            self.complete_batch.record(completed as u64);
        }
    }
}

pub(super) fn add(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}
