//! Memory of buffers that have not been needed for a while goes back to the kernel.
//!
//! The kernel takes buffers in turn, so what a burst has brought into the ring would be gone through, and stay in memory, for ever. An id
//! leaves the ring only by the kernel's hand: nobody else knows how far it has come. So the owner has it take some, by reads that are
//! done at once, and hands them in here:
//!
//! ```text
//!    in the ring --a read takes it, as a message would--> PooledBuffer --retire--> kept back, without memory --scarce--> in the ring
//! ```

#![expect(
    unsafe_code,
    reason = "gives up the memory of buffers that are nobody's"
)]

use memmap2::UncheckedAdvice;

use super::{BufferRing, FIRST_BUFFERS, PAGE, Pool, PooledBuffer};

impl BufferRing {
    /// Whether more buffers are in use than a pool begins with.
    #[inline]
    #[must_use]
    pub fn has_grown(&self) -> bool {
        self.pool.used.get() > FIRST_BUFFERS
    }

    /// How many of the buffers in use are too many: with twice as many as were out at a time since this was last asked, the
    /// rest was not needed. To be [retired](BufferRing::retire).
    #[must_use]
    pub fn surplus(&self) -> u16 {
        let pool = &self.pool;
        let fewest = pool.fewest_lately.replace(pool.available.get());
        if pool.incremental.get() {
            return 0;
        }
        let twice = (pool.count - fewest).saturating_mul(2);
        let enough = twice.checked_next_power_of_two().unwrap_or(u16::MAX);
        pool.used.get().saturating_sub(enough.max(FIRST_BUFFERS))
    }

    /// Takes a buffer out of use, and its memory away, as far as it has whole pages of its own, until buffers are scarce again.
    ///
    /// # Panics
    /// If it is of another pool, or shared with others.
    pub fn retire(&self, buffer: PooledBuffer) {
        assert!(
            buffer.is_of(&self.pool) && !self.is_incremental(),
            "a whole buffer of this pool"
        );
        self.pool.retire(buffer.into_id());
    }
}

impl Pool {
    /// Keeps back an id that was out, and is nobody's now.
    fn retire(&self, id: u16) {
        self.places[usize::from(id)].held.set(0);
        self.give_up_memory(id);
        self.retired.borrow_mut().push(id);
        self.available.set(self.available.get() + 1);
        self.set_used(self.used.get() - 1);
        self.use_more_if_scarce();
    }

    fn give_up_memory(&self, id: u16) {
        let begin = self.first + self.stride * usize::from(id);
        let (first, end) = (
            begin.next_multiple_of(PAGE),
            (begin + self.stride) / PAGE * PAGE,
        );
        if first < end {
            // SAFETY: these pages are one buffer's, which the kernel has left and which has no guard any more.
            let given = unsafe {
                self.memory
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, first, end - first)
            };
            // Refused for memory that is locked: then it stays.
            drop(given);
        }
    }
}
