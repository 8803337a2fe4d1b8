//! Asks for memory ahead of its use.
//!
//! With thousands of coroutines neither their stacks nor the page tables of these fit into the caches. The processor looks
//! ahead by itself, but no further than its window of some hundred instructions, which is two or three coroutines.
//! Where the next ones are known, their control blocks are asked for this many turns ahead: the ready queue knows who runs
//! soon, a sweep of the timers who is woken soon, and whoever ended a little later is likely to be joined a little later.
//!
//! In a long ready queue all frames down to the block are asked for as well, half as far ahead: their place is written in the control
//! block, which has to be there by then. Where few are ready the caches have it all, and asking costs 2 ns a switch: among 100
//! that only yield, 11.4 ns instead of 9.7. Where the kernel works between two runs of each they do not: so a short queue is enough
//! where the driver has just filled it.
//! With 2,000 connections, CPU time outside of the kernel, of all: with six lines 8.4 %, with all of them, down to the three words
//! that a switch leaves below the locals, 6.4, now 4.4. A coroutine that waits in two places in turn will soon write deeper
//! than where it waits: an echo's send goes three lines deeper than its receive. With those as well 3.6 %.
//!
//! The first run of a coroutine has a known depth, and a spawn takes its stack from a list: where many have been spawned and have not ended,
//! the stack of a spawn four later is asked for. Spawn and join in batches of 10,000 take 52 ns that way instead of 68.
//!
//! It is a hint. It changes nothing, and any address will do.
#![expect(unsafe_code, reason = "the intrinsic is declared unsafe")]

use crate::coroutine::ControlBlock;
use std::ptr::{self, NonNull};

/// How many coroutines ahead. Eight take longer than a miss of cache and page tables does.
pub(crate) const AHEAD: usize = 8;

/// With fewer in the queue frames are not asked for; where as many of them as of the second have just been woken by the driver, with
/// fewer than that.
pub(crate) const CROWD: usize = 128;
pub(crate) const CROWD_FROM_OUTSIDE: usize = 12;
/// With fewer alive a spawn does not look ahead.
pub(crate) const CROWD_ALIVE: usize = 24;
/// Cache lines of frames, at most: a coroutine that waits in a read or write has about ten.
const FRAME_LINES: usize = 14;
/// How many cache lines deeper than where it waits a coroutine may have been when it last waited.
const DEEPER_LINES: u16 = 4;
/// A switch leaves three words below the locals of who switches, and they are what is read first.
const BELOW: usize = 64;
/// Cache lines below where frames begin: what a start touches.
const FIRST_LINES: usize = 2;
const LINE_BYTES: usize = 64;

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
///
/// Not inlined: the run loop would keep registers for it, which costs 1 ns a switch where few are ready.
#[inline(never)]
pub(crate) fn frames(block: &ControlBlock) {
    let depth = usize::from(block.depth.get()) * LINE_BYTES;
    let innermost = ptr::from_ref(block).cast::<u8>().wrapping_sub(depth);
    // No more than there are: what lies above is the block, whose first line has been asked for.
    for number in 0..FRAME_LINES.min(usize::from(block.depth.get())) {
        line(innermost.wrapping_add(LINE_BYTES * number));
    }
}

/// Begins to load what a spawn writes on a stack: two lines of the block, and those below it for the closure and the first frames.
#[inline(always)]
pub(crate) fn vacant(control: NonNull<ControlBlock>) {
    let lowest = control
        .as_ptr()
        .cast::<u8>()
        .wrapping_sub(LINE_BYTES * FIRST_LINES);
    for number in 0..FIRST_LINES + 2 {
        line(lowest.wrapping_add(LINE_BYTES * number));
    }
}

/// The depth of a coroutine that has not run and whose frames will begin so many bytes below its block.
#[expect(clippy::cast_possible_truncation, reason = "a hint")]
#[inline(always)]
pub(crate) fn first_depth(bytes: usize) -> u16 {
    (bytes / LINE_BYTES + FIRST_LINES) as u16
}

/// Notes where the running coroutine, which is the block's, is about to leave its stack.
#[expect(clippy::cast_possible_truncation, reason = "a hint")]
#[inline(always)]
pub(crate) fn note_depth(block: &ControlBlock) {
    let here = 0_u8;
    let bytes = ptr::from_ref(block)
        .addr()
        .wrapping_sub(ptr::from_ref(&here).addr());
    // Rounded up.
    let depth = (bytes.wrapping_add(BELOW + LINE_BYTES - 1) / LINE_BYTES) as u16;
    let deepest = block.depth.get().min(depth.wrapping_add(DEEPER_LINES));
    block.depth.set(depth.max(deepest));
}
