//! A large batch goes to the kernel in portions, and the memory of each is asked for before it goes in.
//!
//! ```text
//!    queue    | 128 | 128 | 128 | rest |
//!             fetch, enter, fetch, enter, fetch, enter, fetch, enter: runs deferred completions, sleeps if it is to
//! ```
//!
//! The kernel keeps each request of a batch (256 bytes) until the end of the batch: a thousand of them pass through the caches, where
//! 128 are used again and again. And it comes to the buffers one after the other, each a miss of page tables and cache for which it waits.
//! The processor looks for many at once when they are only asked for; of 128 they are still there when the kernel comes.
//!
//! A portion only submits. It may end anywhere, since a ring has no chains. Whatever stops it is met
//! again by the enter that follows, which says so. Where a thread of the kernel takes submissions there are no batches, and no portions.

use std::ptr;

use crate::op::raw::decode;
use crate::{Sqe, prefetch};

/// Operations of a portion. Requests over 2,000 connections with 16 / 32 / 64 / 128, of those without: 1.05 / 1.06 / 1.07 / 1.065; with 64 /
/// 128 / 256 / 512, on another day: 1.11 / 1.11 / 1.11 / 1.08, at 0.95 / 0.94 / 0.93 / 0.93 of the CPU.
pub(crate) const PORTION: u32 = 128;
/// What is asked for of a buffer: a short message lies in two lines, and of more the processor sees by itself that it goes on.
const LINES: usize = 2;
const LINE_BYTES: usize = 64;

/// Where the memory of the queued operations begins: a ring as long as the queue, by running number. Only for the prefetch.
#[derive(Debug)]
pub(crate) struct Lent {
    addresses: Box<[usize]>,
    pushed: u32,
}

impl Lent {
    /// For a queue of so many entries, a power of two.
    pub(crate) fn new(entries: u32) -> Self {
        Self {
            addresses: vec![0; entries as usize].into_boxed_slice(),
            pushed: 0,
        }
    }

    #[inline(always)]
    fn place(&self, number: u32) -> usize {
        number as usize & (self.addresses.len() - 1)
    }

    /// An operation has been queued.
    #[expect(clippy::cast_possible_truncation, reason = "an address")]
    #[inline(always)]
    pub(crate) fn note(&mut self, sqe: &Sqe) {
        let place = self.place(self.pushed);
        self.addresses[place] = decode(sqe).addr as usize;
        self.pushed = self.pushed.wrapping_add(1);
    }

    /// Those of the next portion, where `pending` operations are queued.
    fn next_portion(&self, pending: u32) -> impl Iterator<Item = usize> {
        let first = self.pushed.wrapping_sub(pending);
        let numbers = (0..pending.min(PORTION)).map(move |ahead| first.wrapping_add(ahead));
        numbers.map(|number| self.addresses[self.place(number)])
    }

    /// Begins to load what the next portion is about.
    pub(crate) fn fetch(&self, pending: u32) {
        for address in self.next_portion(pending) {
            for line in 0..LINES {
                let address = address.wrapping_add(line * (LINE_BYTES - 1));
                prefetch::line(ptr::without_provenance::<u8>(address));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{Lent, PORTION};
    use crate::op;

    proptest! {
        /// Goal: what is asked for are the first of those that are queued, in their order. Method: a queue of the same
        /// length, filled and emptied at random, also where the running number wraps.
        #[test]
        fn the_next_portion_is_the_front_of_the_queue(
            steps in prop::collection::vec((any::<bool>(), 1..200_u32), 1..50),
            begin in prop_oneof![Just(0), (u32::MAX - 2000)..=u32::MAX],
        ) {
            const ENTRIES: usize = 256;
            let mut lent = Lent { pushed: begin, ..Lent::new(256) };
            let mut queue = VecDeque::new();
            let mut address = 0;
            for (is_push, count) in steps {
                for _ in 0..count {
                    if is_push && queue.len() < ENTRIES {
                        address += 64;
                        lent.note(&op::fs::read(0, std::ptr::without_provenance_mut(address), 64, 0));
                        queue.push_back(address);
                    } else if !is_push {
                        queue.pop_front();
                    }
                }
                let pending = u32::try_from(queue.len()).unwrap();
                let portion: Vec<usize> = lent.next_portion(pending).collect();
                prop_assert!(queue.iter().copied().take(PORTION as usize).eq(portion));
            }
        }
    }
}
