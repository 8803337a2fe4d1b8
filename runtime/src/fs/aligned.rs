//! Buffers at aligned addresses, for direct I/O.
#![expect(unsafe_code, reason = "owns an allocation")]

use std::alloc::{self, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

/// A buffer of fixed length whose address is a multiple of an alignment. Dereferences to bytes; zeroed at first.
///
/// # Examples
///
/// ```
/// use coring::fs::AlignedBuf;
///
/// let mut buffer = AlignedBuf::new(8192, 4096);
/// assert_eq!(buffer.as_ptr().addr() % 4096, 0);
/// buffer[..5].copy_from_slice(b"hello");
/// ```
pub struct AlignedBuf {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its bytes, as a Vec does.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `bytes` zeroes at a multiple of `alignment`.
    ///
    /// # Panics
    ///
    /// If `bytes` is zero or too large to exist, or `alignment` is not a power of two.
    #[must_use]
    pub fn new(bytes: usize, alignment: usize) -> Self {
        assert!(bytes != 0, "a buffer has at least one byte");
        let layout = Layout::from_size_align(bytes, alignment)
            .expect("the alignment is a power of two, and the length fits an address space");
        // SAFETY: the layout has bytes.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            alloc::handle_alloc_error(layout);
        };
        Self { start, layout }
    }

    /// What its address is a multiple of.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.layout.align()
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the allocation is this long and initialised, and lives as long as `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; `self` is borrowed uniquely.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed once.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("bytes", &self.layout.size())
            .field("alignment", &self.layout.align())
            .finish()
    }
}
