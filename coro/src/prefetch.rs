//! Asks for memory ahead of its use.
//!
//! With thousands of coroutines neither their stacks nor the page tables of these fit into the caches. The processor looks
//! ahead by itself, but no further than its window of some hundred instructions, which is two or three coroutines.
//! Where the next ones are known, their control blocks are asked for this many turns ahead: the ready queue knows who runs
//! soon, a sweep of the timers who is woken soon, and whoever ended a little later is likely to be joined a little later.
//!
//! In a long ready queue the innermost frames are asked for as well, half as far ahead: their place is written in the control
//! block, which has to be there by then. With 2,000 connections that is a quarter of the time that a request spends outside of
//! the kernel. Where few are ready the caches have it all, and asking costs 2 ns a switch.
//!
//! It is a hint. It changes nothing, and any address will do.
#![expect(unsafe_code, reason = "the intrinsic is declared unsafe")]

use crate::coroutine::ControlBlock;
use std::ptr;

/// How many coroutines ahead. Eight take longer than a miss of cache and page tables does.
pub(crate) const AHEAD: usize = 8;

/// With fewer in the queue frames are not asked for.
pub(crate) const CROWD: usize = 128;
/// Cache lines of frames: what a coroutine that waits in a read or write touches first.
const FRAME_LINES: usize = 6;

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

/// Begins to load the innermost frames of a coroutine that does not run.
#[inline(always)]
pub(crate) fn frames(block: &ControlBlock) {
    let depth = block.depth.get() as usize;
    let innermost = ptr::from_ref(block).cast::<u8>().wrapping_sub(depth);
    for number in 0..FRAME_LINES {
        line(innermost.wrapping_add(64 * number));
    }
}

/// Notes where the running coroutine, which is the block's, is about to leave its stack.
#[inline(always)]
pub(crate) fn note_depth(block: &ControlBlock) {
    let here = 0_u8;
    let depth = ptr::from_ref(block)
        .addr()
        .wrapping_sub(ptr::from_ref(&here).addr());
    #[expect(clippy::cast_possible_truncation, reason = "a hint")]
    block.depth.set(depth as u32);
}
