//! What a scheduler counts about itself. Plain additions on its own thread; who asks gets a copy.
//!
//! How long a coroutine waits between being ready and running is sampled, because a clock reading for each would cost
//! more than the switch. One turn in 16 is followed by a probe: it marks the end of the ready queue when the turn
//! begins, and reads the clock when whoever was last in line has run. So the sample is what a newcomer waits, its own
//! run included. A probed turn runs no more than up to the mark. Queues of groups other than the default one are not
//! probed.

use crate::histogram::{Histogram, Tally};
use std::cell::Cell;

/// One turn in this many is probed. A power of two.
const PROBE_EVERY: u64 = 16;

/// Counters of one scheduler since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerStats {
    /// Turns taken.
    pub turns: u64,
    /// Switches into a coroutine.
    pub switches: u64,
    /// Coroutines spawned.
    pub spawned: u64,
    /// Coroutines that exist and have not ended.
    pub live: usize,
    /// Stacks in use: live coroutines and ended ones whose handle was neither joined nor dropped.
    pub stacks: usize,
    /// The deepest that a sampled stack went, in bytes. [`stack_usage`](crate::stack_usage) has them by spawn site.
    pub deepest_stack_bytes: usize,
    /// Coroutines ready to run now.
    pub ready: usize,
    /// Live timers.
    pub timers: usize,
    /// Coroutines that ended by a panic.
    pub panicked: u64,
    /// How many coroutines were ready when a turn began.
    pub ready_length: Histogram,
    /// How long who comes last in line waits until it has run, in nanoseconds: a sample in 16 turns.
    pub ready_wait_ns: Histogram,
    /// How long after its time a timer fired, in nanoseconds.
    pub timer_late_ns: Histogram,
}

/// The part of the counters that turns and switches touch.
#[derive(Debug, Default)]
pub(super) struct Measures {
    pub(super) turns: Cell<u64>,
    pub(super) switches: Cell<u64>,
    pub(super) ready_length: Tally,
    pub(super) ready_wait_ns: Tally,
    pub(super) timer_late_ns: Tally,
    /// Switches until the mark of the probe is reached; zero without one.
    left: Cell<usize>,
    since_ns: Cell<u64>,
}

impl Measures {
    /// A turn begins with so many ready. Returns how many may run in it, if a probe wants to know when they have.
    #[inline]
    pub(super) fn begin_turn(&self, ready: usize, now_ns: u64) -> Option<usize> {
        self.ready_length.record(ready as u64);
        if self.turns.get().is_multiple_of(PROBE_EVERY) && self.left.get() == 0 {
            self.left.set(ready);
            self.since_ns.set(now_ns);
        }
        Some(self.left.get()).filter(|left| *left > 0)
    }

    /// So many of those that the probe is about have run.
    pub(super) fn ran(&self, ran: usize, now_ns: impl FnOnce() -> u64) {
        let left = self.left.get().saturating_sub(ran);
        self.left.set(left);
        if left == 0 {
            let waited_ns = now_ns().saturating_sub(self.since_ns.get());
            self.ready_wait_ns.record(waited_ns);
        }
    }

    /// The turn is over.
    #[inline]
    pub(super) fn end_turn(&self, ran: usize) {
        self.switches.set(self.switches.get() + ran as u64);
        self.turns.set(self.turns.get() + 1);
    }
}
