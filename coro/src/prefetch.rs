//! Asks for memory ahead of its use.
//!
//! With thousands of coroutines neither their stacks nor the page tables of these fit into the caches. The processor looks
//! ahead by itself, but no further than its window of some hundred instructions, which is two or three coroutines.
//! Where the next ones are known, their control blocks are asked for this many turns ahead: the ready queue knows who runs
//! soon, a sweep of the timers who is woken soon, and whoever ended a little later is likely to be joined a little later.
//!
//! It is a hint. It changes nothing, and any address will do.
#![expect(unsafe_code, reason = "the intrinsic is declared unsafe")]

/// How many coroutines ahead. Eight take longer than a miss of cache and page tables does.
pub(crate) const AHEAD: usize = 8;

/// Begins to load the cache line at `address`, and to find its page.
#[inline(always)]
pub(crate) fn line<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch faults nowhere and has no effect that could be observed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
