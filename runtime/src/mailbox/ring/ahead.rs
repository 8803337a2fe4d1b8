//! What each side of a ring has fetched before it comes there.
//!
//! The producer asks for lines to write: the receiver was the last to read them, a lap ago. The consumer asks for those to read that it knows
//! to be full: others the producer still writes, and would have to fetch back.
//!
//! In a full ring the producer is right behind the consumer, and what comes next is the consumer's. So a ring has some blocks more than its
//! capacity takes: as many as are fetched ahead.

use super::{BLOCK, Block, Ring, Side};
use crate::mailbox::prefetch;
use std::ptr::NonNull;

const LINE: usize = 64;

/// Whether some messages share a line.
pub(super) const fn is_small<T>() -> bool {
    size_of::<T>() < LINE / 2
}

/// How far ahead blocks are fetched.
const AHEAD_BYTES: usize = 1024;

impl<T> Ring<T> {
    /// How many blocks ahead that is.
    const AHEAD: usize = AHEAD_BYTES / size_of::<Block<T>>();

    /// Blocks for this capacity. There are some more than that takes, if any are fetched ahead: so the consumer is through with those, also
    /// when the ring is full, and has not to fetch its lines twice.
    pub(super) fn block_count(capacity: usize) -> usize {
        let needed = capacity.div_ceil(BLOCK);
        match Self::AHEAD {
            0 => needed,
            ahead if needed > 4 * ahead => needed + ahead + 1,
            _ => needed,
        }
    }

    /// Has what the consumer reads next fetched: blocks of small messages as far as they are full, and of large ones those that
    /// were found.
    #[inline(always)]
    pub(super) fn fetch_next(&self, side: &Side<T>, own: usize) {
        let beyond = side.known_beyond(Self::end_of_block(side));
        if is_small::<T>() {
            // Those before it were fetched from the blocks before, or when they were seen.
            let ahead = Self::AHEAD.min(self.blocks.len() - 1);
            if beyond >= ahead * BLOCK {
                self.fetch(self.behind(side.block.get(), ahead));
            }
            return;
        }
        let at = own.wrapping_sub(side.first.get());
        let slots = &self.block(side).slots[at..];
        for slot in slots.iter().take(side.known_beyond(own)) {
            prefetch::to_read(&raw const *slot);
        }
        if side.known.get() == Self::end_of_block(side) {
            let next = self.behind(side.block.get(), 1);
            prefetch::to_read(next.as_ptr());
        }
    }

    /// Has so many blocks fetched that follow the one in which the consumer is, within bounds.
    #[inline(always)]
    pub(super) fn fetch_following(&self, side: &Side<T>, count: usize) {
        let mut block = side.block.get();
        for _ in 0..count.min(Self::AHEAD) {
            block = self.behind(block, 1);
            self.fetch(block);
        }
    }

    /// Has a block fetched that the consumer will read soon.
    #[inline(always)]
    fn fetch(&self, block: NonNull<Block<T>>) {
        for line in 0..(size_of::<Block<T>>() / LINE).min(AHEAD_BYTES / LINE) {
            prefetch::to_read(block.as_ptr().wrapping_byte_add(line * LINE));
        }
    }

    /// Has a block fetched that the producer will write soon: the consumer was the last to touch it. A store that waits for
    /// its line holds up all stores behind it.
    #[inline(always)]
    pub(super) fn fetch_ahead(&self, block: NonNull<Block<T>>) {
        // In a small ring it would be one that the consumer reads.
        if self.blocks.len() <= 4 * Self::AHEAD {
            return;
        }
        let block = self.behind(block, Self::AHEAD);
        for line in 0..(size_of::<Block<T>>() / LINE).min(AHEAD_BYTES / LINE) {
            prefetch::to_write(block.as_ptr().wrapping_byte_add(line * LINE));
        }
    }
}
