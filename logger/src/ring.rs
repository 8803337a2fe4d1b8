//! The index protocol of one ring: one writer, one reader, no lock, no read-modify-write.
//!
//! ```text
//!   offset 0                                                            capacity
//!   |  free   | record | record | record |  unpublished  |     free        |
//!             ^tail                      ^head           ^position         |
//!             reader stores              writer stores   writer, private
//! ```
//!
//! Positions are byte counts that only grow; the offset in the ring is `position % capacity`. A record is never split
//! at the end of the ring: what is left there is covered by a skip record and the record starts at offset 0.
//!
//! **The fast path is one compare** ([`Writer::begin`]): does the record end below `limits`? Whatever else a record may have to wait for closes the
//! limits or lies beyond them, and is looked at only then:
//!
//! ```text
//!   position     limits               room                    tail + capacity
//!      | ---------> | ---------------> | ---------------------> |
//!          go on        publish first      look at the reader's line
//! ```
//!
//! *room* is the least of *free space*, *end of this lap* and *a quarter of the ring further on*, or the length of the longest record, if
//! that is less: what fits there is a record. Only when a record does not fit
//! below that does the writer look at the reader's line ([`Writer::refill`]); the quarter makes it come by now and then, so that a
//! sleeping drain can be woken early. *limits* end with the batch: so many bytes after what is published. Of both there are two: ordinary
//! records stop an eighth of the ring before it is full, urgent ones (warnings and errors) may use that eighth too.
//!
//! **Memory order.** Two edges, and nothing else crosses between the threads:
//!
//! 1. `head`: the writer's Release store in [`Writer::publish`] pairs with the reader's Acquire load in
//!    [`Reader::published`]. All bytes written below `head` happen before the reader looks at them.
//! 2. `tail`: the reader's Release store in [`Reader::release`] pairs with the writer's Acquire load in
//!    [`Writer::refill`]. All reads below `tail` happen before the writer overwrites those bytes.
//!
//! `since` says how old the oldest unpublished record is, so that a reader that merges rings by time knows how far it may go: 0 if there is none,
//! stored before the first record of a batch and again behind its `head`. A reader that loads `since` and then `head` has therefore either
//! the bound or the records (Release and Acquire, as edge 1). What it cannot see is a writer that has read the clock and stored nothing
//! yet; for that the reader stays a little behind the clock (drain.rs).
//!
//! A writer that only expects to write says so in `since` too, with [`PERHAPS`]. The reader then looks at the memory where the next record would begin:
//! as long as there is none of this lap, `since` binds nobody, and a turn that goes on without a line holds up nobody else's.
//!
//! `dropped` is a statistic: only the writer stores, Relaxed; the reader learns of a drop from a record (which edge 1 orders) or by polling.
//!
//! This file knows no bytes: it hands out positions. That is what lets the loom model in `ring/tests.rs` run exactly this code
//! over cells that loom watches (`RUSTFLAGS="--cfg loom" cargo test -p coring-logger --lib loom_`).

use std::cell::Cell;

use crate::record::MAX_RECORD_BYTES;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

/// Two lines of 64 bytes: the adjacent-line prefetcher fetches pairs (Intel optimisation manual, 3.7.3).
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Line<T>(pub(crate) T);

/// What writer and reader share. All-zero bytes are a valid, empty state, so a fresh mapping needs no initialisation.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Shared {
    /// How far the writer is. Stored by it.
    pub(crate) head: Line<Head>,
    /// Everything below may be overwritten. Stored by the reader.
    pub(crate) tail: Line<AtomicU64>,
    /// Lines that found no room, ever, by level (error first). Stored by the writer.
    pub(crate) dropped: Line<[AtomicU64; 5]>,
}

/// In `since`: a record may follow, and need not. Times are rounded down to even ticks for it.
const PERHAPS: u64 = 1;

/// What a writer says of the time of what it has not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// It has begun nothing.
    Nothing,
    /// No record is older; there is one, or one will be made as old as this.
    Ticks(u64),
    /// The same, if there is a record.
    Perhaps(u64),
}

impl Since {
    #[inline(always)]
    fn word(self) -> u64 {
        match self {
            Since::Nothing => 0,
            Since::Ticks(ticks) => ticks & !PERHAPS,
            Since::Perhaps(ticks) => ticks | PERHAPS,
        }
    }

    fn of(word: u64) -> Self {
        match word {
            0 => Since::Nothing,
            word if word & PERHAPS == 0 => Since::Ticks(word),
            word => Since::Perhaps(word & !PERHAPS),
        }
    }
}

/// The writer's progress: one line, so that a reader fetches both at once.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Head {
    /// Everything below is published.
    pub(crate) position: AtomicU64,
    /// How old the records above are: a [`Since`].
    pub(crate) since: AtomicU64,
}

impl Shared {
    #[cfg(any(test, loom))]
    pub(crate) fn new() -> Self {
        Self {
            head: Line(Head {
                position: AtomicU64::new(0),
                since: AtomicU64::new(0),
            }),
            tail: Line(AtomicU64::new(0)),
            dropped: Line(std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    /// Counts one lost line of `level_index` (0 = error). Only the writer calls this, so load and store suffice.
    pub(crate) fn count_drop(&self, level_index: usize) {
        let counter = &self.dropped.0[level_index];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A new writer takes the ring over; losses of the old one have been told.
    pub(crate) fn forget_drops(&self) {
        self.dropped
            .0
            .iter()
            .for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// How old the records are that are not published yet.
    pub(crate) fn unpublished_since(&self) -> Since {
        // Acquire: pairs with the Release in `Writer::announce`.
        Since::of(self.head.0.since.load(Ordering::Acquire))
    }

    /// The position up to which the ring is published: where a new writer goes on.
    pub(crate) fn end(&self) -> u64 {
        self.head.0.position.load(Ordering::Relaxed)
    }

    /// Lines lost so far, by level (error first).
    pub(crate) fn drops(&self) -> [u64; 5] {
        std::array::from_fn(|index| self.dropped.0[index].load(Ordering::Relaxed))
    }
}

/// The answer of [`Writer::refill`].
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Room {
    /// The record fits at `position`.
    Ready,
    /// The record does not fit before the end of the ring: cover so many bytes with a skip record, [`Writer::advance`], ask again.
    Wrap(u64),
    /// No room until the reader releases some.
    Full,
}

/// The writer's private half. What a record needs comes first, so that an owner can put it into one cache line with its own.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Writer {
    /// Where the next record goes.
    position: Cell<u64>,
    /// Where ordinary (0) and urgent (1) records of this batch must end at the latest.
    limits: [Cell<u64>; 2],
    /// The same of all records, until the reader's line is looked at again.
    room: [Cell<u64>; 2],
    published: Cell<u64>,
    capacity: u64,
    reserve: u64,
    /// Bytes that may stay unpublished.
    batch: u64,
}

/// The longest record that a ring takes, in any position: three eighths for it, less than that skipped before it, one for the reserve.
pub(crate) fn longest_record(capacity: u64) -> u64 {
    capacity / 8 * 3
}

impl Writer {
    /// The bytes at its beginning that [`Writer::begin`] and [`Writer::finish`] touch.
    pub(crate) const HOT_BYTES: usize = std::mem::offset_of!(Self, room);

    /// A writer that goes on at `position` in a ring of `capacity` bytes (a power of two), and keeps up to `batch` bytes of records to itself.
    pub(crate) fn new(capacity: u64, position: u64, batch: u64) -> Self {
        assert!(
            capacity.is_power_of_two() && capacity >= 16,
            "ring capacity"
        );
        Self {
            position: Cell::new(position),
            limits: [Cell::new(position), Cell::new(position)],
            room: [Cell::new(position), Cell::new(position)],
            published: Cell::new(position),
            capacity,
            reserve: capacity / 8,
            batch,
        }
    }

    /// Where the next record goes.
    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.position.get()
    }

    /// The fast path: begins a record of `size` bytes and returns its position, if nothing stands in its way. [`Writer::finish`] ends it.
    #[inline(always)]
    pub(crate) fn begin(&self, size: u64, urgent: bool) -> Option<u64> {
        let position = self.position.get();
        (position + size <= self.limits[usize::from(urgent)].get()).then_some(position)
    }

    /// Steps over a record that has been written: it ended at `end`.
    #[inline(always)]
    pub(crate) fn finish(&self, end: u64) {
        self.position.set(end);
    }

    /// Whether a record of `size` bytes may be written at `position` without asking the reader.
    #[inline(always)]
    pub(crate) fn fits(&self, size: u64, urgent: bool) -> bool {
        self.position() + size <= self.room[usize::from(urgent)].get()
    }

    /// Lets records of this batch begin by [`Writer::begin`].
    pub(crate) fn open(&self) {
        let batch = self.published.get() + self.batch;
        for (limit, room) in self.limits.iter().zip(&self.room) {
            limit.set(room.get().min(batch));
        }
    }

    /// Looks at the reader's line and sets the limits anew.
    #[cold]
    pub(crate) fn refill(&self, shared: &Shared, size: u64, urgent: bool) -> Room {
        let position = self.position();
        // Acquire: pairs with the Release in `Reader::release`; the reader is done with what we are about to overwrite.
        let tail = shared.tail.0.load(Ordering::Acquire);
        let lap_left = self.capacity - (position & (self.capacity - 1));
        let skip = if size > lap_left { lap_left } else { 0 };
        let ends = [tail + self.capacity - self.reserve, tail + self.capacity];
        if position + skip + size > ends[usize::from(urgent)] {
            return Room::Full;
        }
        if skip > 0 {
            return Room::Wrap(skip);
        }
        let visit = position + size.max((self.capacity / 4).min(MAX_RECORD_BYTES));
        for (room, end) in self.room.iter().zip(ends) {
            room.set(end.min(position + lap_left).min(visit));
        }
        Room::Ready
    }

    /// Steps over a record that has been written.
    #[inline(always)]
    pub(crate) fn advance(&self, size: u64) {
        self.position.set(self.position.get() + size);
    }

    /// Bytes written and not yet published.
    #[inline(always)]
    pub(crate) fn unpublished(&self) -> u64 {
        self.position() - self.published.get()
    }

    /// Says how old the records are that follow.
    #[inline(always)]
    pub(crate) fn announce(&self, shared: &Shared, since: Since) {
        // Release: a reader that loads this value finds the `head` that was stored before it.
        shared.head.0.since.store(since.word(), Ordering::Release);
    }

    /// Shows the reader everything written so far. `since` as for [`Writer::announce`].
    #[inline(always)]
    pub(crate) fn publish(&self, shared: &Shared, since: Since) {
        let position = self.position();
        self.published.set(position);
        // Release: pairs with the Acquire in `Reader::published`.
        shared.head.0.position.store(position, Ordering::Release);
        self.announce(shared, since);
    }

    /// Keeps the next record, whatever its size, from beginning by [`Writer::begin`].
    #[inline(always)]
    pub(crate) fn close(&self) {
        self.limits.iter().for_each(|limit| limit.set(0));
    }

    /// Makes the next record ask the reader, whatever its size.
    pub(crate) fn close_room(&self) {
        self.close();
        self.room.iter().for_each(|room| room.set(0));
    }

    /// Bytes not yet released by the reader, as far as the writer can know.
    pub(crate) fn used(&self, shared: &Shared) -> u64 {
        self.position() - shared.tail.0.load(Ordering::Relaxed)
    }
}

/// The reader's private half.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The next byte to read.
    pub(crate) position: u64,
    released: u64,
}

impl Reader {
    /// A reader that starts at the ring's tail.
    pub(crate) fn new(shared: &Shared) -> Self {
        // Relaxed: this reader's predecessor, which stored it, is ordered before us by the lock of the registry.
        let position = shared.tail.0.load(Ordering::Relaxed);
        Self {
            position,
            released: position,
        }
    }

    /// Everything below this position may be read.
    pub(crate) fn published(&self, shared: &Shared) -> u64 {
        // Acquire: pairs with the Release in `Writer::publish`.
        shared.head.0.position.load(Ordering::Acquire)
    }

    /// The oldest byte that is still intact.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// Gives the bytes below `position` back to the writer.
    pub(crate) fn release(&mut self, shared: &Shared, position: u64) {
        if position > self.released {
            self.released = position;
            // Release: pairs with the Acquire in `Writer::refill`.
            shared.tail.0.store(position, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
