//! Stacks: where coroutines live.
//!
//! ```text
//!  high   +--------------------------+  slot end, page-aligned
//!         | colour: 0..32 lines      |  so that not every stack top falls into the same cache set
//!         +--------------------------+
//!         | ControlBlock             |  state, cancellation, name, waiter (coroutine.rs)
//!         +--------------------------+
//!         | result of the closure    |  read by join
//!         +--------------------------+  <- base given to corosensei
//!         | closure, first frames    |
//!         |            |             |
//!         |            v             |  committed page by page, as it is touched
//!         +--------------------------+  <- limit
//!         | guard, >= 64 KiB         |  a touch ends in the overflow report (overflow.rs)
//!  low    +--------------------------+  the next slot begins below
//! ```
//!
//! Everything a small coroutine touches lies in the one page at the top, and from one of these pages to the next it is an
//! odd number of pages. With an even number they would share a part of the sets of the TLB, as tops without colour share
//! those of the cache: a walk along 2,000 tops measured 19.5 ns each when they were 80 pages apart (an eighth of 128 sets
//! and less), 6.2 ns at 81, as with neighbours.
//!
//! Stacks of one size come from chunks of one mapping each ([`slab`]), are handed out last-in-first-out so that they are
//! warm, and go back to the kernel's free pages when a core is idle and holds more than it needs. The mapping stays until
//! the scheduler ends, so an address inside a stack never becomes invalid while anything could still name it.

mod advise;
mod chunk;
pub(crate) mod config;
mod guard;
pub(crate) mod overflow;
pub(crate) mod pointer;
pub(crate) mod slab;
pub(crate) mod usage;
mod valgrind;
mod warm;

use crate::coroutine::ControlBlock;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

/// Cache lines by which neighbouring stack tops are shifted against each other.
///
/// Without the shift all tops share one page offset, hence one set of the first-level cache: a switch among 100
/// coroutines measured 12.8 ns instead of 3.6. 32 lines are half of a page, which leaves the other half for the
/// control block and the first frames.
pub(crate) const COLOURS: usize = 32;
pub(crate) const COLOUR_BYTES: usize = 64;

/// A stack that was handed out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// Where the control block goes: just below the colour.
    pub(crate) control: NonNull<ControlBlock>,
    /// Index of the size class in the slab.
    pub(crate) class: u8,
    /// It was clean when it was handed out: how deep it is used is measured at the end (usage.rs).
    pub(crate) sampled: bool,
}

/// Where one stack is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// Lowest usable address; the guard lies below.
    pub(crate) limit: usize,
    /// End of the slot: page-aligned.
    pub(crate) top: usize,
    /// Bytes of the guard below `limit`.
    pub(crate) guard_bytes: u32,
}

/// The part of a slot that frames may use, as corosensei wants to see it.
///
/// It asks for the limit only to tell AddressSanitizer; without that one word is enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    base: NonZeroUsize,
    #[cfg(feature = "sanitizer")]
    limit: NonZeroUsize,
}

impl Frames {
    /// Frames from `base` down to the limit of the slot.
    #[cfg_attr(not(feature = "sanitizer"), inline(always))]
    pub(crate) fn new(base: usize, limit: impl FnOnce() -> usize) -> Self {
        debug_assert!(
            base.is_multiple_of(corosensei::stack::STACK_ALIGNMENT),
            "misaligned stack base"
        );
        #[cfg(not(feature = "sanitizer"))]
        let _ = limit;
        Self {
            base: NonZeroUsize::new(base).expect("a mapping is never at address zero"),
            #[cfg(feature = "sanitizer")]
            limit: NonZeroUsize::new(limit()).expect("a mapping is never at address zero"),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "corosensei's Stack trait is a promise about memory"
)]
mod promise {
    use super::Frames;
    use std::num::NonZeroUsize;

    // SAFETY: a `Frames` is only made from a slab slot (spawn.rs), below a closure that takes no more than a quarter of it: at
    // least MIN_STACK_SIZE writable bytes between limit and base, and a guard of 64 KiB or more below the limit. The slab keeps
    // the mapping until every coroutine on it has ended.
    unsafe impl corosensei::stack::Stack for Frames {
        fn base(&self) -> NonZeroUsize {
            self.base
        }

        #[cfg(feature = "sanitizer")]
        fn limit(&self) -> NonZeroUsize {
            self.limit
        }

        /// As much as there is at the least.
        #[cfg(not(feature = "sanitizer"))]
        fn limit(&self) -> NonZeroUsize {
            let limit = self.base.get() - corosensei::stack::MIN_STACK_SIZE;
            NonZeroUsize::new(limit).expect("a mapping is never at address zero")
        }
    }
}
