//! Timers that are to go without an answer, each a few others late.
//!
//! Among a million timers the place of one that ends out of turn lies in no cache. To read it at once stops the processor for as long
//! as memory takes (a load that misses: 120 ns), since what comes after does not fit into its window: 27 ns a timer in a row of many. So
//! the memory is asked for first, and read when sixteen others have been asked for: 11 ns, where loads and stores of the same places
//! without a wheel take 6.
//!
//! Whoever looks at the timers ends those that wait here first ([`Wheel::settle`](super::Wheel::settle)), so nobody can tell.

use super::TimerKey;

/// How many wait: as many as misses of the cache overlap.
const LATE: usize = 16;

#[derive(Debug)]
pub(super) struct Discarded {
    keys: [TimerKey; LATE],
    /// Where the next one goes, modulo [`LATE`].
    end: usize,
    waiting: usize,
}

impl Default for Discarded {
    fn default() -> Self {
        Self {
            keys: [TimerKey::NOBODY; LATE],
            end: 0,
            waiting: 0,
        }
    }
}

impl Discarded {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn contains(&self, key: TimerKey) -> bool {
        (1..=self.waiting).any(|back| self.keys[self.end.wrapping_sub(back) % LATE] == key)
    }

    /// Adds one; returns the oldest if there are too many now.
    #[inline]
    pub(super) fn push(&mut self, key: TimerKey) -> Option<TimerKey> {
        let oldest = std::mem::replace(&mut self.keys[self.end % LATE], key);
        self.end = self.end.wrapping_add(1);
        if self.waiting == LATE {
            return Some(oldest);
        }
        self.waiting += 1;
        None
    }

    pub(super) fn pop(&mut self) -> Option<TimerKey> {
        let oldest = self.keys[self.end.wrapping_sub(self.waiting) % LATE];
        self.waiting = self.waiting.checked_sub(1)?;
        Some(oldest)
    }
}
