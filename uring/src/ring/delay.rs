//! Completions on their way from the queue to their slots, a few at a time.
//!
//! To wake the owner of an operation is to touch what its token points at, and with thousands of owners that is a miss of cache
//! and page tables for each. So where many operations are under way a completion waits until some more have been seen, and the memory
//! of its owner is asked for when it begins to wait. The order stays as it is.

use crate::Cqe;

/// With fewer operations under way the caches have the owners, and completions are filed at once. More are not needed: the kernel
/// has worked since the owners ran, and its memory has been through the caches.
pub(super) const CROWD: usize = 24;
/// How many completions one waits for: that takes longer than a miss.
const AHEAD: usize = 8;

/// The completions that wait: a ring, filled from the beginning.
#[derive(Debug)]
pub(super) struct Delay {
    waiting: [Cqe; AHEAD],
    seen: usize,
}

impl Delay {
    pub(super) fn new() -> Self {
        let none = Cqe {
            user_data: 0,
            result: 0,
            flags: 0,
        };
        Self {
            waiting: [none; AHEAD],
            seen: 0,
        }
    }

    /// Takes one more, and gives the oldest if there are enough.
    #[inline]
    pub(super) fn exchange(&mut self, cqe: Cqe) -> Option<Cqe> {
        let oldest = std::mem::replace(&mut self.waiting[self.seen % AHEAD], cqe);
        self.seen += 1;
        (self.seen > AHEAD).then_some(oldest)
    }

    /// Those that are left, the oldest first.
    #[inline]
    pub(super) fn rest(self) -> impl Iterator<Item = Cqe> {
        let first = self.seen.saturating_sub(AHEAD);
        (first..self.seen).map(move |number| self.waiting[number % AHEAD])
    }
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, Cqe, Delay};

    fn cqe(user_data: u64) -> Cqe {
        Cqe {
            user_data,
            result: 0,
            flags: 0,
        }
    }

    /// Goal: every completion comes out once, in its place, however many there are, and `AHEAD` after it went in. Method: all
    /// lengths from none to several times round.
    #[test]
    fn it_keeps_all_and_their_order() {
        for count in 0..4 * AHEAD as u64 {
            let mut delay = Delay::new();
            let mut out = Vec::new();
            for number in 0..count {
                let before = out.len();
                out.extend(delay.exchange(cqe(number)));
                assert_eq!(out.len() - before, usize::from(number >= AHEAD as u64));
            }
            out.extend(delay.rest());
            assert!(out.into_iter().eq((0..count).map(cqe)), "{count} went in");
        }
    }
}
