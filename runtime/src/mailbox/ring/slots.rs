//! The slots of a ring: memory that begins with a cache line, and what of it is fetched ahead.
//!
//! A store that waits for its line holds up all stores behind it, and a processor keeps some dozens: of messages of a word it has no more than a few lines under way.
//! So a producer asks for lines before it comes to them. The consumer was the last to read those. In a full ring the producer is right behind it, and what
//! comes next is still to be read: so a ring has some slots more than its capacity, as many as are fetched ahead.
#![expect(unsafe_code, reason = "the memory is aligned to more than its slots")]

use super::Slot;
use crate::mailbox::prefetch;
use std::alloc::{self, Layout, LayoutError};
use std::ops::Deref;
use std::ptr::NonNull;

const LINE: usize = 64;
/// Bytes that are left between the two sides in a full ring.
const GAP_BYTES: usize = 1024;
/// Lines that are asked for at once, at the most.
const MOST_LINES: usize = GAP_BYTES / LINE;

/// So many slots, with nothing in them.
#[derive(Debug)]
pub(super) struct Slots<T> {
    memory: NonNull<[Slot<T>]>,
}

impl<T> Slots<T> {
    /// Slots whose lines are asked for at once, by who has many before it.
    pub(super) const LOT: usize = match size_of::<T>() {
        0 => MOST_LINES,
        bytes if bytes > LINE * MOST_LINES => 1,
        bytes => LINE * MOST_LINES / bytes,
    };

    /// Slots between the two sides of a full ring, for a capacity.
    #[inline(always)]
    pub(super) fn gap(capacity: usize) -> usize {
        let gap = GAP_BYTES.checked_div(size_of::<T>()).unwrap_or(0);
        // In a small ring it would be most of it.
        if capacity > 4 * gap { gap } else { 0 }
    }

    fn layout(capacity: usize) -> Result<Layout, LayoutError> {
        // More than an address space holds, either way.
        let count = capacity.saturating_add(Self::gap(capacity));
        // Also of messages without bytes there are no more than that: the sides are less than half of all numbers apart.
        Layout::array::<u8>(count)?;
        Layout::array::<Slot<T>>(count)?.align_to(LINE)
    }

    /// Whether there can be so many.
    pub(super) fn are_possible(capacity: usize) -> bool {
        Self::layout(capacity).is_ok()
    }

    /// For a capacity. The kernel gives the memory page by page, when it is used.
    pub(super) fn new(capacity: usize) -> Self {
        let layout = Self::layout(capacity).expect("they are possible");
        let count = capacity + Self::gap(capacity);
        let memory = if layout.size() == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: it has a size.
            let memory = unsafe { alloc::alloc(layout) };
            NonNull::new(memory.cast()).unwrap_or_else(|| alloc::handle_alloc_error(layout))
        };
        #[cfg(loom)]
        for at in 0..count {
            // SAFETY: there is room for so many.
            unsafe {
                memory
                    .add(at)
                    .write(Slot::new(std::mem::MaybeUninit::uninit()))
            };
        }
        let memory = NonNull::slice_from_raw_parts(memory, count);
        Self { memory }
    }

    /// The slot with this index, without a look at how many there are.
    ///
    /// # Safety
    ///
    /// There is one.
    #[inline(always)]
    pub(super) unsafe fn at(&self, index: usize) -> &Slot<T> {
        debug_assert!(index < self.len());
        // SAFETY: the caller's promise.
        unsafe { self.get_unchecked(index) }
    }

    /// Has the lines of so many slots fetched for writing, from this one on, within bounds.
    #[inline(always)]
    pub(super) fn fetch_to_write(&self, first: usize, count: usize) {
        self.each_line(first, count, prefetch::to_write);
    }

    /// Has the lines of so many slots fetched for reading, from this one on, within bounds.
    #[inline(always)]
    pub(super) fn fetch_to_read(&self, first: usize, count: usize) {
        self.each_line(first, count, prefetch::to_read);
    }

    #[inline(always)]
    fn each_line(&self, first: usize, count: usize, fetch: impl Fn(*const u8)) {
        let first = self.as_ptr().wrapping_add(first).cast::<u8>();
        for line in 0..(count * size_of::<T>()).div_ceil(LINE).min(MOST_LINES) {
            fetch(first.wrapping_add(line * LINE));
        }
    }
}

impl<T> Deref for Slots<T> {
    type Target = [Slot<T>];

    #[inline(always)]
    fn deref(&self) -> &[Slot<T>] {
        // SAFETY: they are there as long as this is, and hold anything.
        unsafe { self.memory.as_ref() }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        let layout = Layout::for_value::<[Slot<T>]>(self).align_to(LINE);
        let layout = layout.expect("it was possible");
        #[cfg(loom)]
        // SAFETY: nobody looks at them any more.
        unsafe {
            self.memory.drop_in_place();
        };
        if layout.size() > 0 {
            // SAFETY: it was allocated so.
            unsafe { alloc::dealloc(self.memory.as_ptr().cast(), layout) };
        }
    }
}
