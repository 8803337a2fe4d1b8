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
//! The kernel takes buffers in turn, so that all of a ring are used, and their memory with them, however few are out at a time. So
//! some are kept back until so many are out that the rest might not last, and then as many again enter the ring: what a pool
//! takes of memory and caches is what has been needed. What has not been needed for a while is kept back again (cold.rs).
//!
//! # Several buffers for one completion, several completions for one buffer
//!
//! A *bundle* fills buffers that follow each other in the ring and names the first. Each id knows its position, so the
//! others are found from there; the completion is filed as one for each.
//!
//! Of an *incremental* ring a completion uses up as much of a buffer as it fills, and the next one goes on behind it:
//!
//! ```text
//!    | piece, guard | piece, guard given back | the kernel's           |     in the ring: the kernel goes on here
//!    | piece, guard | piece, guard given back | piece, guard           |     out: full; back with the last guard
//! ```
//!
//! How much is used up is added up here, in the order of the completions. The flag that says that more follows
//! (`IORING_CQE_F_BUF_MORE`) is not read: at the end of a stream kernels before 7.0 leave it out although they go on with the
//! buffer. The kernel is done with a buffer exactly when nothing is left of it.
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

mod cold;
mod guard;

pub use guard::PooledBuffer;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use memmap2::{MmapMut, MmapRaw};

use super::BufferError;
use crate::types::BufRingEntry;
use crate::{CQE_F_MORE, Completion};

/// Most entries of a ring: io_uring_register_buf_ring(3).
const MOST_BUFFERS: u16 = 1 << 15;
/// Buffers begin on cache lines of their own.
const ALIGNMENT: usize = 64;
const PAGE: usize = 4096;
/// Buffers that enter the ring at first. With a quarter of those in use left in the ring, as many again do.
const FIRST_BUFFERS: u16 = 32;
const SCARCE: u16 = 4;

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
    places: Box<[Place]>,
    /// Whether a completion uses up only as much of a buffer as it fills.
    incremental: Cell<bool>,
    /// How many are in the ring or out of it; the others are kept back: those that were retired, and the last ids, which have never
    /// been in the ring.
    used: Cell<u16>,
    retired: RefCell<Vec<u16>>,
    /// Buffers that are not out.
    available: Cell<u16>,
    /// With fewer available more enter the ring. Zero once all have.
    scarce_below: Cell<u16>,
    fewest_available: Cell<u16>,
    /// The same since somebody asked for the surplus.
    fewest_lately: Cell<u16>,
    exhausted: Cell<u64>,
}

/// Where a buffer is.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The kernel has it no more.
    out: Cell<bool>,
    /// Its position in the ring, when it is in it.
    position: Cell<u16>,
    /// How much of it was filled, in an incremental ring.
    used: Cell<u32>,
    /// Pieces of it that were filed and not given back.
    held: Cell<u32>,
}

/// How a pool fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferRingStats {
    /// Buffers of the pool.
    pub count: u16,
    /// Buffers that are not out now.
    pub available: u16,
    /// The fewest that ever were.
    pub fewest_available: u16,
    /// Buffers in use now: those that have been out lately, and some more. The others have no memory.
    pub used: u16,
    /// Operations that ended, and leases that failed, because all buffers were out.
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
            // Every buffer starts outside, and enters like one that comes back.
            places: vec![Place::new(); usize::from(count)].into(),
            incremental: Cell::new(false),
            used: Cell::new(0),
            retired: RefCell::default(),
            available: Cell::new(count),
            scarce_below: Cell::new(0),
            fewest_available: Cell::new(count),
            fewest_lately: Cell::new(count),
            exhausted: Cell::new(0),
        };
        pool.use_more(FIRST_BUFFERS);
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

    /// From now on a completion uses up only as much of a buffer as it fills.
    pub(crate) fn set_incremental(&self) {
        self.pool.incremental.set(true);
    }

    /// Whether a completion uses up only as much of a buffer as it fills.
    #[must_use]
    pub fn is_incremental(&self) -> bool {
        self.pool.incremental.get()
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

    /// Buffers that are not out: a receive that arrives when there are none ends with `-ENOBUFS`. So may one that arrives
    /// in a burst of others, before more of them have entered the ring: submitted again it finds some.
    ///
    /// Exact up to completions that were not reaped yet.
    #[inline]
    #[must_use]
    pub fn available(&self) -> u16 {
        self.pool.available.get()
    }

    /// How many buffers are in use, in the ring or out of it. When it has grown, a receive that found none would find one now.
    #[inline]
    #[must_use]
    pub fn used(&self) -> u16 {
        self.pool.used.get()
    }

    /// How the pool fares.
    #[must_use]
    pub fn stats(&self) -> BufferRingStats {
        BufferRingStats {
            count: self.pool.count,
            available: self.pool.available.get(),
            fewest_available: self.pool.fewest_available.get(),
            used: self.pool.used.get(),
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
            self.note_empty();
            return None;
        }
        let head = pool.head.get();
        pool.head.set(head.wrapping_add(1));
        // SAFETY: entries between head and tail are initialised, and in the mapping.
        let id = unsafe { &*pool.entry(head) }.bid();
        pool.take_out(id);
        Some(self.guard(id, 0, pool.buffer_bytes))
    }

    /// The buffer that a completion names, if it names one.
    ///
    /// # Panics
    /// If the buffer is not in the ring, as far as this side knows: the completion is of another ring, or was claimed
    /// before. Of an incremental ring, whose completions have to be taken in their order, and of a bundle.
    ///
    /// # Safety
    /// `completion` is of an operation on this ring's [`group`](BufferRing::group), and its buffer was not claimed
    /// before. (What [`Ring::next`](crate::Ring::next) returns is claimed already.)
    #[must_use]
    pub unsafe fn claim(&self, completion: Completion) -> Option<PooledBuffer> {
        assert!(
            !self.is_incremental(),
            "an incremental ring is for multishot operations"
        );
        let mut whole = None;
        self.file(completion, |piece, offset| {
            assert!(whole.is_none(), "a bundle is for multishot operations");
            whole = Some((piece, offset));
        });
        whole.and_then(|(piece, offset)| self.guard_of(piece, offset))
    }

    /// Takes note of a completion of an operation on this ring: what it filled is the caller's from now on. `each` gets
    /// the completion, or one for each buffer of a bundle, and where in the buffer the bytes begin.
    #[inline]
    pub(crate) fn file(&self, completion: Completion, mut each: impl FnMut(Completion, u32)) {
        let Some(id) = completion.buffer_id() else {
            if completion.result == -libc::ENOBUFS {
                self.note_empty();
            }
            return each(completion, 0);
        };
        let length = usize::try_from(completion.result).unwrap_or(0);
        if self.is_incremental() {
            each(completion, self.pool.use_up(id, length));
        } else if length <= self.pool.buffer_bytes {
            self.pool.take_out(id);
            each(completion, 0);
        } else {
            self.unbundle(id, completion, length, &mut each);
        }
    }

    /// A completion for each buffer of a bundle. All but the last say that more follows.
    fn unbundle(
        &self,
        first: u16,
        bundle: Completion,
        mut left: usize,
        each: &mut impl FnMut(Completion, u32),
    ) {
        let pool = &self.pool;
        let mut id = first;
        loop {
            pool.take_out(id);
            let position = pool.places[usize::from(id)].position.get();
            let length = left.min(pool.buffer_bytes);
            left -= length;
            let more = if left == 0 { 0 } else { CQE_F_MORE };
            let piece = Completion {
                result: i32::try_from(length).expect("a transfer is below 2 GiB"),
                flags: bundle.flags & 0xffff | more | u32::from(id) << 16,
            };
            each(piece, 0);
            if left == 0 {
                return;
            }
            let next = position.wrapping_add(1);
            // SAFETY: in the mapping, and initialised: zeroed at first.
            id = unsafe { &*pool.entry(next) }.bid();
            let place = pool.places.get(usize::from(id));
            assert!(
                place.is_some_and(|place| place.position.get() == next),
                "a bundle goes beyond what was put in"
            );
        }
    }

    /// The guard for what a completion filled, as it was given out when the completion was filed. Once for each.
    #[inline]
    pub(crate) fn guard_of(&self, completion: Completion, offset: u32) -> Option<PooledBuffer> {
        let length = usize::try_from(completion.result).unwrap_or(0);
        let id = completion.buffer_id()?;
        Some(self.guard(id, offset, length))
    }

    /// Gives back what a completion filled that was filed and will get no guard.
    #[inline]
    pub(crate) fn discard(&self, completion: Completion) {
        if let Some(id) = completion.buffer_id() {
            self.pool.give_back(id);
        }
    }

    fn guard(&self, id: u16, offset: u32, length: usize) -> PooledBuffer {
        assert!(
            offset as usize + length <= self.pool.buffer_bytes,
            "the kernel fills no more than there is"
        );
        PooledBuffer {
            pool: Rc::clone(&self.pool),
            id,
            offset,
            length: u32::try_from(length).expect("a transfer is below 2 GiB"),
        }
    }

    /// Nothing was in the ring.
    #[cold]
    fn note_empty(&self) {
        let pool = &self.pool;
        if pool.used.get() == pool.count {
            pool.exhausted.set(pool.exhausted.get() + 1);
        } else {
            pool.use_more(pool.used.get());
        }
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
        let place = self.in_ring(id);
        place.held.set(1);
        self.leave(place);
    }

    /// The next `length` bytes of an id are filled. Where they begin.
    fn use_up(&self, id: u16, length: usize) -> u32 {
        let place = self.in_ring(id);
        let offset = place.used.get();
        let used = offset as usize + length;
        assert!(
            used <= self.buffer_bytes,
            "the kernel fills no more than there is"
        );
        place.held.set(place.held.get() + 1);
        place
            .used
            .set(u32::try_from(used).expect("checked when the pool was made"));
        if used == self.buffer_bytes {
            self.leave(place);
        }
        offset
    }

    /// The place of an id that the kernel may name.
    #[inline]
    fn in_ring(&self, id: u16) -> &Place {
        let place = self.places.get(usize::from(id));
        let place = place.filter(|place| !place.out.get());
        place.unwrap_or_else(|| panic!("buffer {id} was given out a second time, or never existed"))
    }

    #[inline]
    fn leave(&self, place: &Place) {
        place.out.set(true);
        let available = self.available.get() - 1;
        self.available.set(available);
        self.fewest_available
            .set(self.fewest_available.get().min(available));
        self.fewest_lately
            .set(self.fewest_lately.get().min(available));
        self.use_more_if_scarce();
    }

    #[inline]
    fn use_more_if_scarce(&self) {
        if self.available.get() < self.scarce_below.get() {
            // One where all have been retired.
            self.use_more(self.used.get().max(1));
        }
    }

    /// So many of those that were kept back enter the ring, or all that are left.
    #[cold]
    fn use_more(&self, more: u16) {
        let used = self.used.get();
        let enough = used + more.min(self.count - used);
        for used in used..enough {
            // With none retired, as many have ever been in the ring as are in use.
            let id = self.retired.borrow_mut().pop().unwrap_or(used);
            self.enter(id);
        }
        self.set_used(enough);
    }

    fn set_used(&self, used: u16) {
        self.used.set(used);
        let kept_back = self.count - used;
        // What is out is out of those in use.
        self.scarce_below.set(match kept_back {
            0 => 0,
            _ => kept_back + used / SCARCE + 1,
        });
    }

    /// A piece of an id is of no use any more. With the last one of a buffer that the kernel has left, the id enters the
    /// ring.
    #[inline]
    fn give_back(&self, id: u16) {
        let place = &self.places[usize::from(id)];
        let held = place.held.get() - 1;
        place.held.set(held);
        if held == 0 && place.out.get() {
            self.enter(id);
            self.available.set(self.available.get() + 1);
        }
    }

    /// An id enters the ring.
    #[inline]
    fn enter(&self, id: u16) {
        let tail = self.tail.get();
        let place = &self.places[usize::from(id)];
        let was_out = place.out.replace(false);
        debug_assert!(was_out, "buffer {id} came back twice");
        place.used.set(0);
        place.position.set(tail);
        // SAFETY: within the mapping; the kernel reads no entry at or beyond the tail, and nobody else is here.
        let entry = unsafe { &mut *self.entry(tail) };
        entry.set_addr(self.buffer(id).expose_provenance() as u64);
        entry.set_len(u32::try_from(self.buffer_bytes).expect("checked when the pool was made"));
        entry.set_bid(id);
        self.tail.set(tail.wrapping_add(1));
        // Release: the entry is there before the tail says so.
        self.shared_tail().store(self.tail.get(), Ordering::Release);
    }

    /// The tail that the kernel reads: in the first entry, where no entry has a field.
    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the ring starts with an entry, and the mapping is zeroed at first.
        let tail = unsafe { BufRingEntry::tail(self.entry(0)) };
        // SAFETY: aligned, mapped while self lives, and written by nobody but this.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }
}

impl Place {
    /// Outside, and nobody's.
    fn new() -> Place {
        let place = Place::default();
        place.out.set(true);
        place
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

#[cfg(test)]
mod tests;
