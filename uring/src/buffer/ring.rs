//! Provided buffers: the kernel picks one when something arrives.
//!
//! ```text
//!    one mapping
//!    +----------------------+----------+----------+----------+----------+
//!    | ring of entries      | buffer 0 | buffer 1 | buffer 2 | buffer 3 |
//!    +----------------------+----------+----------+----------+----------+
//!      [2][0][3][ ]
//!       ^        ^ tail: ours, moved when a buffer comes back
//!       head: the kernel's, moved when it takes one
//!
//!    in the ring --kernel takes it, a completion names it--> queued --next--> PooledBuffer --drop--> in the ring
//! ```
//!
//! A buffer is in the ring or out of it, and each id is in exactly one of these places: the kernel takes an id from the
//! head and names it in a completion, the completion is filed (the id is *out* from then on), the owner gets a guard,
//! the guard puts the id back at the tail. The ring has room for all ids, so giving back never fails, waits or
//! allocates. That an id is not given out twice is checked always, since two guards for one buffer would be two
//! `&mut` to it; that it is not given back twice follows from the guard.
//!
//! # Exhaustion
//!
//! With no buffer in the ring a receive ends with `-ENOBUFS`; a multishot one has to be submitted again. Nothing is
//! lost, what arrived is in the socket. It may end so even when nothing has arrived: the kernel looks for a buffer
//! first. So submit again when [`available`](BufferRing::available) is not zero, not at once.
//!
//! # Without the kernel's help
//!
//! A ring that was not given to the kernel (the feature is missing or switched off) works by [`lease`](BufferRing::lease):
//! this side plays the kernel's and takes from the head. The guard is the same.
//!
//! Memory order: the tail is stored with Release after the entry it uncovers, and pairs with the kernel's
//! `smp_load_acquire` of it (io_uring/kbuf.c).

#![expect(
    unsafe_code,
    reason = "writes to a ring that the kernel reads, and lends buffers"
)]

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{fmt, slice};

use memmap2::{MmapMut, MmapRaw};

use super::BufferError;
use crate::Completion;
use crate::types::BufRingEntry;

/// Most entries of a ring: io_uring_register_buf_ring(3).
const MOST_BUFFERS: u16 = 1 << 15;
/// Buffers begin on cache lines of their own.
const ALIGNMENT: usize = 64;
const PAGE: usize = 4096;

const _: () = assert!(size_of::<BufRingEntry>() == 16, "the kernel's io_uring_buf");

/// A pool of buffers of one size. Clones are the same pool.
///
/// Made by [`Ring::provide_buffers`](crate::Ring::provide_buffers), or by [`BufferRing::unprovided`] for a kernel
/// without the feature.
#[derive(Clone)]
pub struct BufferRing {
    pool: Rc<Pool>,
}

struct Pool {
    memory: MmapRaw,
    /// Where the buffers begin, and how far apart they are.
    first: usize,
    stride: usize,
    buffer_bytes: usize,
    /// A power of two.
    count: u16,
    /// The name of the ring, once the kernel draws from it.
    group: Cell<Option<u16>>,
    /// Entries ever put in. The kernel's copy is in the ring.
    tail: Cell<u16>,
    /// Entries ever taken out by `lease`.
    head: Cell<u16>,
    /// Whether each buffer is out of the ring.
    out: Box<[Cell<bool>]>,
    available: Cell<u16>,
    fewest_available: Cell<u16>,
    exhausted: Cell<u64>,
}

/// How a pool fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferRingStats {
    /// Buffers of the pool.
    pub count: u16,
    /// Buffers in the ring now.
    pub available: u16,
    /// The fewest that ever were in the ring.
    pub fewest_available: u16,
    /// Operations that ended, and leases that failed, because no buffer was in the ring.
    pub exhausted: u64,
}

impl BufferRing {
    /// A pool that only [`lease`](BufferRing::lease) takes from.
    ///
    /// `count` is rounded up to a power of two.
    ///
    /// # Errors
    /// [`BufferError::Size`] for no buffers, more than 32,768, or empty ones; [`BufferError::Kernel`] if there is no
    /// memory.
    pub fn unprovided(count: u16, buffer_bytes: usize) -> Result<BufferRing, BufferError> {
        if count == 0 || count > MOST_BUFFERS {
            let problem = "a ring of buffers has 1 to 32768 of them";
            return Err(BufferError::Size { problem });
        }
        let count = count.next_power_of_two();
        let first = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE);
        let size = Some(buffer_bytes).filter(|bytes| (1..=crate::op::MAX_TRANSFER).contains(bytes));
        let Some(stride) = size.map(|bytes| bytes.next_multiple_of(ALIGNMENT)) else {
            let problem =
                "a buffer has 1 to 0x7ffff000 bytes, the most that Linux transfers at once";
            return Err(BufferError::Size { problem });
        };
        let memory = MmapMut::map_anon(first + stride * usize::from(count));
        let pool = Pool {
            memory: memory.map_err(BufferError::Kernel)?.into(),
            first,
            stride,
            buffer_bytes,
            count,
            group: Cell::new(None),
            tail: Cell::new(0),
            head: Cell::new(0),
            // Every buffer starts outside, and is put in like one that comes back.
            out: vec![Cell::new(true); usize::from(count)].into(),
            available: Cell::new(0),
            fewest_available: Cell::new(count),
            exhausted: Cell::new(0),
        };
        (0..count).for_each(|id| pool.put_back(id));
        Ok(BufferRing {
            pool: Rc::new(pool),
        })
    }

    /// The ring of entries, for the kernel. It never moves.
    pub(crate) fn entries_address(&self) -> u64 {
        self.pool.memory.as_ptr().expose_provenance() as u64
    }

    /// Bytes of the mapping that the kernel pins.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.pool.first
    }

    /// From now on the kernel takes from the ring, under this name.
    pub(crate) fn set_provided(&self, group: u16) {
        assert_eq!(self.pool.head.get(), 0, "nothing was leased before");
        self.pool.group.set(Some(group));
    }

    /// The group to name in a receive; `None` for a pool that the kernel does not know.
    #[inline]
    #[must_use]
    pub fn group(&self) -> Option<u16> {
        self.pool.group.get()
    }

    /// Size of a buffer.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.pool.buffer_bytes
    }

    /// Buffers in the ring: a receive that arrives when there are none ends with `-ENOBUFS`.
    ///
    /// Exact up to completions that were not reaped yet.
    #[inline]
    #[must_use]
    pub fn available(&self) -> u16 {
        self.pool.available.get()
    }

    /// How the pool fares.
    #[must_use]
    pub fn stats(&self) -> BufferRingStats {
        BufferRingStats {
            count: self.pool.count,
            available: self.pool.available.get(),
            fewest_available: self.pool.fewest_available.get(),
            exhausted: self.pool.exhausted.get(),
        }
    }

    /// Takes a buffer of a pool that the kernel does not take from, its whole length. `None` when there is none.
    ///
    /// # Panics
    /// If the kernel takes from this ring.
    #[must_use]
    pub fn lease(&self) -> Option<PooledBuffer> {
        let pool = &self.pool;
        assert!(
            pool.group.get().is_none(),
            "the kernel takes from this ring, nobody else may"
        );
        if pool.available.get() == 0 {
            self.note_exhausted();
            return None;
        }
        let head = pool.head.get();
        pool.head.set(head.wrapping_add(1));
        // SAFETY: entries between head and tail are initialised, and in the mapping.
        let id = unsafe { &*pool.entry(head) }.bid();
        pool.take_out(id);
        Some(self.guard(id, pool.buffer_bytes))
    }

    /// The buffer that a completion names, if it names one.
    ///
    /// # Panics
    /// If the buffer is not in the ring, as far as this side knows: the completion is of another ring, or was claimed
    /// before.
    ///
    /// # Safety
    /// `completion` is of an operation on this ring's [`group`](BufferRing::group), and its buffer was not claimed
    /// before. (What [`Ring::next`](crate::Ring::next) returns is claimed already.)
    #[must_use]
    pub unsafe fn claim(&self, completion: Completion) -> Option<PooledBuffer> {
        self.file(completion);
        self.guard_of(completion)
    }

    /// Takes note of a completion of an operation on this ring: its buffer is out from now on.
    #[inline]
    pub(crate) fn file(&self, completion: Completion) {
        match completion.buffer_id() {
            Some(id) => self.pool.take_out(id),
            None if completion.result == -libc::ENOBUFS => self.note_exhausted(),
            None => {}
        }
    }

    /// The guard for the buffer of a completion that was filed. Once for each.
    #[inline]
    pub(crate) fn guard_of(&self, completion: Completion) -> Option<PooledBuffer> {
        let length = usize::try_from(completion.result).unwrap_or(0);
        completion.buffer_id().map(|id| self.guard(id, length))
    }

    /// Gives the buffer of a completion back that was filed and will get no guard.
    #[inline]
    pub(crate) fn discard(&self, completion: Completion) {
        if let Some(id) = completion.buffer_id() {
            self.pool.put_back(id);
        }
    }

    fn guard(&self, id: u16, length: usize) -> PooledBuffer {
        assert!(
            length <= self.pool.buffer_bytes,
            "the kernel fills no more than there is"
        );
        PooledBuffer {
            pool: Rc::clone(&self.pool),
            id,
            length: u32::try_from(length).expect("a transfer is below 2 GiB"),
        }
    }

    #[cold]
    fn note_exhausted(&self) {
        self.pool.exhausted.set(self.pool.exhausted.get() + 1);
    }
}

impl Pool {
    /// The entry that is used as number `position`.
    fn entry(&self, position: u16) -> *mut BufRingEntry {
        let index = usize::from(position & (self.count - 1));
        self.memory
            .as_mut_ptr()
            .cast::<BufRingEntry>()
            .wrapping_add(index)
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count, "ids are below the count");
        let offset = self.first + self.stride * usize::from(id);
        self.memory.as_mut_ptr().wrapping_add(offset)
    }

    /// An id leaves the ring.
    #[inline]
    fn take_out(&self, id: u16) {
        let known = self.out.get(usize::from(id));
        let was_out = known.is_none_or(|out| out.replace(true));
        assert!(
            !was_out,
            "buffer {id} was given out a second time, or never existed"
        );
        let available = self.available.get() - 1;
        self.available.set(available);
        self.fewest_available
            .set(self.fewest_available.get().min(available));
    }

    /// An id enters the ring.
    #[inline]
    fn put_back(&self, id: u16) {
        let was_out = self.out[usize::from(id)].replace(false);
        debug_assert!(was_out, "buffer {id} came back twice");
        let tail = self.tail.get();
        // SAFETY: within the mapping; the kernel reads no entry at or beyond the tail, and nobody else is here.
        let entry = unsafe { &mut *self.entry(tail) };
        entry.set_addr(self.buffer(id).expose_provenance() as u64);
        entry.set_len(u32::try_from(self.buffer_bytes).expect("checked when the pool was made"));
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        // Release: the entry is there before the tail says so.
        self.shared_tail().store(self.tail.get(), Ordering::Release);
        self.available.set(self.available.get() + 1);
    }

    /// The tail that the kernel reads: in the first entry, where no entry has a field.
    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the ring starts with an entry, and the mapping is zeroed at first.
        let tail = unsafe { BufRingEntry::tail(self.entry(0)) };
        // SAFETY: aligned, mapped while self lives, and written by nobody but this.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }
}

impl fmt::Debug for BufferRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferRing")
            .field("group", &self.group())
            .field("buffer_bytes", &self.buffer_bytes())
            .field("stats", &self.stats())
            .finish()
    }
}

/// A buffer with what was received into it; goes back to its pool when dropped.
///
/// It may outlive the ring that it came from.
pub struct PooledBuffer {
    pool: Rc<Pool>,
    id: u16,
    length: u32,
}

impl PooledBuffer {
    /// Makes the first `length` bytes the contents, as after a receive into a leased buffer.
    ///
    /// # Panics
    /// If the buffer is not as long as that.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.pool.buffer_bytes, "a buffer does not grow");
        self.length = u32::try_from(length).expect("checked when the pool was made");
    }

    /// How much it could hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pool.buffer_bytes
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the id is out of the ring and this is its only guard, so nobody writes; the mapping is zeroed at
        // first and `length` was checked against the size.
        unsafe { slice::from_raw_parts(self.pool.buffer(self.id), self.length as usize) }
    }
}

impl DerefMut for PooledBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody reads.
        unsafe { slice::from_raw_parts_mut(self.pool.buffer(self.id), self.length as usize) }
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
        self.pool.put_back(self.id);
    }
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "buffer {} of {} bytes", self.id, self.length)
    }
}

#[cfg(test)]
mod tests;
