//! The guard of a provided buffer: whoever has it has the bytes, and its drop gives them back.
#![expect(unsafe_code, reason = "lends a part of a pool's memory")]

use super::Pool;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::{fmt, ptr, slice};

/// A buffer with what was received into it; goes back to its pool when dropped.
///
/// It may outlive the ring that it came from.
pub struct PooledBuffer {
    pub(super) pool: Rc<Pool>,
    pub(super) id: u16,
    /// Where in the buffer the contents begin.
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl PooledBuffer {
    pub(super) fn is_of(&self, pool: &Rc<Pool>) -> bool {
        Rc::ptr_eq(&self.pool, pool)
    }

    /// The id, which does not go back into the ring.
    pub(super) fn into_id(self) -> u16 {
        let this = ManuallyDrop::new(self);
        // SAFETY: the guard is not used again, nor dropped.
        drop(unsafe { ptr::read(&raw const this.pool) });
        this.id
    }

    fn start(&self) -> *mut u8 {
        self.pool.buffer(self.id).wrapping_add(self.offset as usize)
    }

    /// Makes the first `length` bytes the contents, as after a receive into a leased buffer.
    ///
    /// # Panics
    /// If the buffer is not as long as that.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity(), "a buffer does not grow");
        self.length = u32::try_from(length).expect("checked when the pool was made");
    }

    /// How much it could hold. Of a buffer that is shared with others, what it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        if self.pool.incremental.get() {
            return self.length as usize;
        }
        self.pool.buffer_bytes
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the kernel has left this part of the buffer and this is its only guard, so nobody writes; the mapping
        // is zeroed at first, and offset and length were checked against the size.
        unsafe { slice::from_raw_parts(self.start(), self.length as usize) }
    }
}

impl DerefMut for PooledBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody reads.
        unsafe { slice::from_raw_parts_mut(self.start(), self.length as usize) }
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for PooledBuffer {
    #[inline]
    fn drop(&mut self) {
        self.pool.give_back(self.id);
    }
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer {} of {} bytes", self.id, self.length)
    }
}
