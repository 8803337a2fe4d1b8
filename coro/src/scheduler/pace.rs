//! Whether the running coroutine has had its time, without reading the clock each time.
//!
//! `checkpoint` is called in loops: a handful of ns is what it may cost, and a clock reading costs more. The calls are taken to come at the
//! pace they came at so far, so most are let through by a counter. Each coroutine is measured anew.

use super::Shared;
use crate::coroutine::ControlBlock;
use std::cell::Cell;

/// The clock is read about this many times in a time slice.
const READINGS_A_SLICE: u64 = 16;

/// What is known of the calls of one coroutine.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The coroutine the rest is about.
    owner: Cell<u64>,
    /// Calls that are let through before the clock is read again.
    left: Cell<u64>,
    skip: Cell<u64>,
    read_ns: Cell<u64>,
}

impl Shared {
    /// Whether the running coroutine has had its time. Reads the clock rarely.
    #[inline]
    pub(crate) fn should_yield(&self, block: &ControlBlock) -> bool {
        !self.lets_through(block) && self.look_at_clock(block)
    }

    /// Whether this call of the running coroutine comes before the next look at the clock; it is counted then.
    #[inline(always)]
    pub(crate) fn lets_through(&self, block: &ControlBlock) -> bool {
        let pace = &self.pace;
        let left = pace.left.get();
        let lets = left > 0 && pace.owner.get() == block.id.get();
        if lets {
            pace.left.set(left - 1);
        }
        lets
    }

    #[cold]
    fn look_at_clock(&self, block: &ControlBlock) -> bool {
        let pace = &self.pace;
        let now_ns = self.now();
        let spent = now_ns.saturating_sub(self.turn_started_ns.get()) >= self.time_slice_ns;
        let skip = if pace.owner.get() == block.id.get() && !spent {
            let calls = pace.skip.get() + 1;
            let a_call_ns = (now_ns.saturating_sub(pace.read_ns.get()) / calls).max(1);
            // At most double: one quick call says little about the next ones.
            (self.time_slice_ns / READINGS_A_SLICE / a_call_ns).min(2 * calls)
        } else {
            0
        };
        if spent {
            // Whoever yields now yields to the driver.
            self.run_until.set(block.queue().popped());
        }
        pace.owner.set(block.id.get());
        pace.skip.set(skip);
        pace.left.set(skip);
        pace.read_ns.set(now_ns);
        spent || (self.groups.is_urgent() && !self.groups.get(block.group).is_latency())
    }
}
