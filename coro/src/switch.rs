//! The switch: from whoever resumes a coroutine to the coroutine, and back.
//!
//! corosensei makes, starts and ends coroutines, links their stacks for unwinders, and as a rule it also does each switch between.
//! With the feature `jump`, on x86_64, switch/jump.rs does the switch to a coroutine that has suspended itself, and its
//! suspension; all else stays corosensei's.

#![expect(unsafe_code, reason = "who switches has to know that it may")]

use crate::coroutine::ControlBlock;

#[cfg_attr(
    all(feature = "jump", target_arch = "x86_64", not(feature = "sanitizer")),
    path = "switch/jump.rs"
)]
#[cfg_attr(
    not(all(feature = "jump", target_arch = "x86_64", not(feature = "sanitizer"))),
    path = "switch/plain.rs"
)]
mod chosen;

/// corosensei's coroutine: no values travel by the switch, they travel by memory.
pub(crate) type Switch = corosensei::Coroutine<(), (), (), crate::stack::Frames>;
pub(crate) type Yielder = corosensei::Yielder<(), ()>;

/// Switches to a coroutine. Whether it has ended; else it has suspended itself.
///
/// # Safety
///
/// It was ready, has been taken out of the ready queue, and nobody else resumes it.
#[inline(always)]
pub(crate) unsafe fn resume(block: &ControlBlock) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { chosen::resume(block) }
}

/// Switches back to whoever resumed the running coroutine last, until it is resumed again.
///
/// # Safety
///
/// `block` is that of the running coroutine.
#[inline(always)]
pub(crate) unsafe fn suspend(block: &ControlBlock) {
    // SAFETY: passed on to the caller.
    unsafe { chosen::suspend(block) }
}
