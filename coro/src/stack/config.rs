//! Sizes and bounds of stacks: what may be asked for, and what it is rounded to.

use std::ops::RangeInclusive;

/// Sizes and bounds of the stacks of one scheduler.
#[derive(Clone, Copy, Debug)]
pub struct StackConfig {
    /// Usable bytes of a stack by default, rounded up to an even number of pages. Committed lazily.
    pub stack_bytes: usize,
    /// Bytes of the guard below each stack, 64 KiB to 1 GiB, rounded up to an odd number of pages.
    pub guard_bytes: usize,
    /// How many coroutines may exist at once, over all sizes.
    pub max_coroutines: usize,
    /// Free stacks of each size that keep their pages while the core is idle.
    pub warm_stacks: usize,
    /// Whether guards may be `MADV_GUARD_INSTALL` markers (Linux 6.13); `mprotect` otherwise.
    pub guard_markers: bool,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            stack_bytes: 256 * 1024,
            guard_bytes: 64 * 1024,
            max_coroutines: 1 << 20,
            warm_stacks: 128,
            guard_markers: true,
        }
    }
}

/// Smallest and largest stack that may be asked for.
pub(super) const STACK_BYTES_RANGE: RangeInclusive<usize> = 16 * 1024..=1 << 30;
/// Smallest and largest guard: below, C frames step over it (guard.rs); above, sizes of chunks could wrap.
pub(super) const GUARD_BYTES_RANGE: RangeInclusive<usize> = 64 * 1024..=1 << 30;
/// A quarter of any stack is no less: smaller closures need not be compared with their stack.
pub(crate) const LEAST_QUARTER: usize = *STACK_BYTES_RANGE.start() / 4;

impl StackConfig {
    /// The same with sizes in bounds and in pages: stacks even and guards odd, an odd number from one stack top to the next (mod.rs).
    pub(super) fn in_pages(self, page_bytes: usize) -> Self {
        let guard_bytes = self
            .guard_bytes
            .clamp(*GUARD_BYTES_RANGE.start(), *GUARD_BYTES_RANGE.end());
        Self {
            stack_bytes: stack_bytes_for(self.stack_bytes, page_bytes),
            guard_bytes: (guard_bytes + page_bytes).next_multiple_of(2 * page_bytes) - page_bytes,
            ..self
        }
    }
}

/// The size of a stack for who asks for so much.
pub(super) fn stack_bytes_for(wanted: usize, page_bytes: usize) -> usize {
    wanted
        .clamp(*STACK_BYTES_RANGE.start(), *STACK_BYTES_RANGE.end())
        .next_multiple_of(2 * page_bytes)
}
