//! Registered buffers: pinned once, named by number in each read or write.
//!
//! For a read or write the kernel looks up and pins the pages of the buffer, and lets them go afterwards. For a
//! registered buffer it did so when the ring was told; what is left is a number. It pays with files opened with
//! `O_DIRECT` (5 to 13 % at a depth of 32), which also want aligned memory: these buffers start on pages.
//!
//! All of the memory is pinned and charged to the limit on locked memory. Where that is too tight the same pool works
//! without being registered: [`FixedBuffer::read`] and [`FixedBuffer::write`] then build the plain operations.
//!
//! A buffer is free or has one guard; which are free is a stack of numbers, so that the same few stay in the cache.

#![expect(unsafe_code, reason = "lends buffers out of a mapping")]

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::{fmt, slice};

use memmap2::{MmapMut, MmapRaw};

use super::BufferError;
use crate::{Sqe, op};

/// Most buffers of a table: `IORING_MAX_REG_BUFFERS`, io_uring/rsrc.c.
const MOST_BUFFERS: u16 = 1 << 14;
/// Enough for `O_DIRECT` on any block device whose sectors are no larger than a page.
const PAGE: usize = 4096;

/// A pool of page-aligned buffers of one size. Clones are the same pool.
///
/// Made by [`Ring::register_buffers`](crate::Ring::register_buffers), or by [`RegisteredBuffers::unregistered`].
#[derive(Clone)]
pub struct RegisteredBuffers {
    pool: Rc<Pool>,
}

struct Pool {
    memory: MmapRaw,
    buffer_bytes: usize,
    count: u16,
    registered: Cell<bool>,
    free: RefCell<Vec<u16>>,
}

impl RegisteredBuffers {
    /// A pool that the kernel knows nothing of: the fallback, with plain reads and writes.
    ///
    /// # Errors
    /// [`BufferError::Size`] for no buffers, more than 16,384, or sizes of 0 or more than 1 GiB;
    /// [`BufferError::Kernel`] if there is no memory.
    pub fn unregistered(count: u16, buffer_bytes: usize) -> Result<RegisteredBuffers, BufferError> {
        if count == 0 || count > MOST_BUFFERS {
            let problem = "a table of registered buffers has 1 to 16384 of them";
            return Err(BufferError::Size { problem });
        }
        if !(1..=1 << 30).contains(&buffer_bytes) {
            let problem = "a registered buffer has 1 byte to 1 GiB";
            return Err(BufferError::Size { problem });
        }
        let buffer_bytes = buffer_bytes.next_multiple_of(PAGE);
        let memory = MmapMut::map_anon(buffer_bytes * usize::from(count));
        let pool = Pool {
            memory: memory.map_err(BufferError::Kernel)?.into(),
            buffer_bytes,
            count,
            registered: Cell::new(false),
            free: RefCell::new((0..count).rev().collect()),
        };
        Ok(RegisteredBuffers {
            pool: Rc::new(pool),
        })
    }

    /// Every buffer, for the kernel.
    pub(crate) fn vectors(&self) -> Vec<libc::iovec> {
        let vector = |index| libc::iovec {
            iov_base: self.pool.buffer(index).cast(),
            iov_len: self.pool.buffer_bytes,
        };
        (0..self.pool.count).map(vector).collect()
    }

    pub(crate) fn set_registered(&self) {
        self.pool.registered.set(true);
    }

    /// All memory of the pool.
    pub(crate) fn bytes(&self) -> usize {
        self.pool.memory.len()
    }

    /// Whether the kernel knows the buffers.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.pool.registered.get()
    }

    /// Size of a buffer: whole pages.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes
    }

    /// Buffers that nobody has.
    #[must_use]
    pub fn available(&self) -> usize {
        self.pool.free.borrow().len()
    }

    /// By which number the kernel knows the memory of `slice`; `None` if it is not all in one of the buffers, or they
    /// are not registered. For code that gets slices and not guards.
    #[inline]
    #[must_use]
    pub fn number_of(&self, slice: &[u8]) -> Option<u16> {
        let pool = &*self.pool;
        // Below the pool this wraps around to something beyond it.
        let start = slice
            .as_ptr()
            .addr()
            .wrapping_sub(pool.memory.as_ptr().addr());
        if start >= pool.memory.len() || slice.is_empty() || !pool.registered.get() {
            return None;
        }
        let (first, last) = (start, start + slice.len() - 1);
        let number = first / pool.buffer_bytes;
        if last / pool.buffer_bytes != number {
            return None;
        }
        u16::try_from(number).ok()
    }

    /// A buffer, with whatever was in it last. `None` when all are taken.
    #[must_use]
    pub fn take(&self) -> Option<FixedBuffer> {
        let index = self.pool.free.borrow_mut().pop()?;
        Some(FixedBuffer {
            pool: Rc::clone(&self.pool),
            index,
        })
    }
}

impl Pool {
    fn buffer(&self, index: u16) -> *mut u8 {
        let offset = self.buffer_bytes * usize::from(index);
        self.memory.as_mut_ptr().wrapping_add(offset)
    }
}

impl fmt::Debug for RegisteredBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredBuffers")
            .field("count", &self.pool.count)
            .field("buffer_bytes", &self.pool.buffer_bytes)
            .field("registered", &self.is_registered())
            .field("available", &self.available())
            .finish()
    }
}

/// A page-aligned buffer of a [`RegisteredBuffers`]; goes back to its pool when dropped.
///
/// Reads and writes are of the ring that the pool was registered with.
pub struct FixedBuffer {
    pool: Rc<Pool>,
    index: u16,
}

impl FixedBuffer {
    /// Whether the kernel knows it.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.pool.registered.get()
    }

    /// Reads at `offset` into the first `length` bytes. Result: bytes, 0 at the end. Borrows this buffer for writing.
    ///
    /// # Panics
    /// If the buffer is not as long as that.
    ///
    /// # Source
    /// `IORING_OP_READ_FIXED`, 5.1; [`op::fs::read`] for a pool that is not registered.
    #[must_use]
    pub fn read(&mut self, fd: RawFd, length: usize, offset: u64) -> Sqe {
        assert!(length <= self.len(), "a buffer does not grow");
        let buffer = self.pool.buffer(self.index);
        if self.pool.registered.get() {
            op::fs::read_fixed(fd, buffer, length, offset, self.index)
        } else {
            op::fs::read(fd, buffer, length, offset)
        }
    }

    /// Writes the first `length` bytes at `offset`. Result: bytes. Borrows this buffer.
    ///
    /// # Panics
    /// If the buffer is not as long as that.
    ///
    /// # Source
    /// `IORING_OP_WRITE_FIXED`, 5.1; [`op::fs::write`] for a pool that is not registered.
    #[must_use]
    pub fn write(&self, fd: RawFd, length: usize, offset: u64) -> Sqe {
        assert!(length <= self.len(), "there is no more in a buffer");
        let buffer = self.pool.buffer(self.index);
        if self.pool.registered.get() {
            op::fs::write_fixed(fd, buffer, length, offset, self.index)
        } else {
            op::fs::write(fd, buffer, length, offset)
        }
    }
}

impl Deref for FixedBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: within the mapping, which is zeroed at first; the index has one guard, so nobody writes.
        unsafe { slice::from_raw_parts(self.pool.buffer(self.index), self.pool.buffer_bytes) }
    }
}

impl DerefMut for FixedBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody reads.
        unsafe { slice::from_raw_parts_mut(self.pool.buffer(self.index), self.pool.buffer_bytes) }
    }
}

impl Drop for FixedBuffer {
    fn drop(&mut self) {
        self.pool.free.borrow_mut().push(self.index);
    }
}

impl fmt::Debug for FixedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixed buffer {} of {} bytes", self.index, self.len())
    }
}
