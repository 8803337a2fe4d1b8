//! A bounded ring between one producer and one consumer: how messages cross cores.
//!
//! ```text
//!   blocks   [ tail m m m m m m m ][ tail m m m . . . . ][ tail . . . . . . . ]
//!                       ^                       ^
//!                     head                    tail       both count up for ever; tail - head is what is in
//!
//!   producer: writes its slot, then stores tail into that slot's block (Release)
//!   consumer: loads the tail of the block its head is in (Acquire), reads the slots that it covers, then stores head (Release)
//!   producer: loads head (Acquire) before it writes a slot again
//! ```
//!
//! The tail lies beside the messages it tells of, so that a message of a word crosses in one cache line: with an index in a
//! line of its own it takes two, one after the other. Each block keeps the tail as it was after the last message that was
//! put into it. The consumer asks only the block that it reads, and there for no more than up to its end, so a burst costs one
//! look a block.
//!
//! A producer with many to come writes them into a group (group.rs), which it shows at once.
//!
//! Why it is right. The tails that a block is given ascend, and each covers only slots that were written before it was stored. So
//! one that is above a slot's number, however old or new, makes that slot's value visible; one that is left from the lap before is
//! at the most where the block begins, and covers nothing. `head` is written by the consumer only; a slot is written again
//! only after a load of `head` that has passed it: then the read is over. So no slot is touched by both at once, and each message
//! is moved in once and out once.
//!
//! The producer keeps what it last saw of `head` and looks again only when that says full. The two sides lie in lines of their
//! own: two lines each, since processors fetch neighbours in pairs. The producer's own copy of the tail is for others to count.
//!
//! Neither side waits for lines if it can help it: each has fetched what it comes to next. A coroutine's stores would
//! otherwise queue up behind the one whose line the other core has.
//!
//! Not here: waiting, waking, and who the two sides are (lanes.rs).
#![expect(
    unsafe_code,
    reason = "slots are shared by protocol, not by the borrow checker"
)]

mod group;

pub(crate) use group::Filled;

use super::atomics::{AtomicUsize, Ordering, UnsafeCell};
use super::prefetch;
use group::Group;
use std::alloc::Layout;
use std::cell::Cell;
use std::mem::MaybeUninit;

/// A value in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// Messages of a block. With eight bytes each they fill a cache line.
#[cfg(not(loom))]
const BLOCK: usize = 7;
#[cfg(loom)]
const BLOCK: usize = 2;

const LINE: usize = 64;
/// How far ahead of the producer blocks are fetched.
const AHEAD_BYTES: usize = 512;

/// Some slots, and how far the producer had come when it was last here.
#[derive(Debug)]
#[repr(C, align(64))]
struct Block<T> {
    slots: [UnsafeCell<MaybeUninit<T>>; BLOCK],
    tail: AtomicUsize,
}

/// Blocks as they begin: nothing in the slots, and a tail of zero. Made where they stay, since a block of large messages has no
/// room on a coroutine's stack; and the kernel gives zeroes page by page, when they are used.
#[cfg(not(loom))]
fn empty_blocks<T>(count: usize) -> Box<[Block<T>]> {
    let zeroes = Box::new_zeroed_slice(count);
    // SAFETY: a tail may be zero, and a slot may hold anything.
    unsafe { zeroes.assume_init() }
}

#[cfg(loom)]
fn empty_blocks<T>(count: usize) -> Box<[Block<T>]> {
    let block = |_| Block {
        slots: std::array::from_fn(|_| UnsafeCell::new(MaybeUninit::uninit())),
        tail: AtomicUsize::new(0),
    };
    (0..count).map(block).collect()
}

/// One side's index, where that is, and what it last saw of the other's.
#[derive(Debug)]
struct Side {
    own: AtomicUsize,
    other_seen: Cell<usize>,
    place: Place,
}

impl Side {
    fn new() -> Apart<Self> {
        Apart(Self {
            own: AtomicUsize::new(0),
            other_seen: Cell::new(0),
            place: Place::default(),
        })
    }
}

/// A slot.
#[derive(Clone, Debug, Default)]
struct Place {
    block: Cell<usize>,
    slot: Cell<usize>,
}

impl Place {
    /// Slots from here to the end of the block.
    #[inline(always)]
    fn rest(&self) -> usize {
        BLOCK - self.slot.get()
    }

    /// Goes on by so many slots of the block, in a ring of so many blocks. Whether it has come to the next one.
    #[inline(always)]
    fn go_on(&self, count: usize, blocks: usize) -> bool {
        let slot = self.slot.get() + count;
        if slot < BLOCK {
            self.slot.set(slot);
            return false;
        }
        self.slot.set(0);
        let next = self.block.get() + 1;
        self.block.set(if next < blocks { next } else { 0 });
        true
    }
}

/// The ring. Who pushes and who pops is the caller's promise.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    producer: Apart<Side>,
    /// The producer's.
    group: Apart<Group>,
    consumer: Apart<Side>,
    blocks: Box<[Block<T>]>,
    capacity: usize,
}

// SAFETY: messages move through it between two threads: `T: Send`. The cells in each side are its own.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; `push` and `pop` are unsafe, and their callers keep to one thread at a time for each.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// Whether a ring of this capacity can exist: its blocks fit into an address space.
    pub(crate) fn is_possible(capacity: usize) -> bool {
        Layout::array::<Block<T>>(capacity.div_ceil(BLOCK)).is_ok()
    }

    /// Room for `capacity` messages, which is at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring without room could pass nothing on");
        Self {
            producer: Side::new(),
            group: Apart(Group::new()),
            consumer: Side::new(),
            blocks: empty_blocks(capacity.div_ceil(BLOCK)),
            capacity,
        }
    }

    #[inline(always)]
    fn block(&self, side: &Side) -> &Block<T> {
        &self.blocks[side.place.block.get()]
    }

    /// How many messages the producer knows to have room for; looks again when that is less than `wanted`.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline(always)]
    unsafe fn room(&self, wanted: usize) -> usize {
        let side = &self.producer.0;
        let room = || {
            let tail = side.own.load(Ordering::Relaxed);
            self.capacity - tail.wrapping_sub(side.other_seen.get())
        };
        if room() < wanted {
            // SAFETY: the caller's promise.
            unsafe { self.show_group() };
            // Pairs with the store in `pass`: the consumer has read what it has passed.
            side.other_seen
                .set(self.consumer.0.own.load(Ordering::Acquire));
        }
        room()
    }

    /// Puts a message in, or gives it back when there is no room.
    ///
    /// # Safety
    ///
    /// One caller at a time, each after the one before it (as seen by its thread).
    #[inline(always)]
    pub(crate) unsafe fn push(&self, message: T) -> Result<(), T> {
        // SAFETY: the caller's promise.
        if !unsafe { self.has_room() } {
            return Err(message);
        }
        // SAFETY: as above, and there is room.
        unsafe { self.put(message) };
        Ok(())
    }

    /// Whether there is room for a message.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline(always)]
    pub(crate) unsafe fn has_room(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.room(1) > 0 }
    }

    /// Puts a message in.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push); and [`has_room`](Self::has_room) said that there is room, with no message put in since.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, message: T) {
        let side = &self.producer.0;
        let block = self.block(side);
        block.slots[side.place.slot.get()].with_mut(|slot| {
            // SAFETY: the slot is not between head and tail: the consumer is through with it and we alone write.
            unsafe { slot.write(MaybeUninit::new(message)) }
        });
        self.show(block, 1);
    }

    /// Puts in as many as there is room for, from the front. How many.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    pub(crate) unsafe fn push_many(&self, messages: &mut Vec<T>) -> usize {
        // SAFETY: the caller's promise.
        let count = unsafe { self.room(messages.len()) }.min(messages.len());
        let side = &self.producer.0;
        let mut moved = 0;
        while moved < count {
            let block = self.block(side);
            let some = side.place.rest().min(count - moved);
            let slots = &block.slots[side.place.slot.get()..][..some];
            for (slot, message) in slots.iter().zip(&messages[moved..]) {
                let message = std::ptr::from_ref(message).cast::<MaybeUninit<T>>();
                // SAFETY: it is there. From here on it is the ring's, and `messages` forgets it below.
                let message = unsafe { message.read() };
                // SAFETY: as in `push`: there is room for `count`.
                slot.with_mut(|slot| unsafe { slot.write(message) });
            }
            self.show(block, some);
            moved += some;
        }
        forget_first(messages, count);
        count
    }

    /// Shows the consumer so many more messages of the block in which the producer is.
    #[inline(always)]
    fn show(&self, block: &Block<T>, count: usize) {
        let side = &self.producer.0;
        let tail = side.own.load(Ordering::Relaxed).wrapping_add(count);
        // Pairs with the loads in `pop_each` and `len`.
        side.own.store(tail, Ordering::Release);
        // Pairs with the load in `available`.
        block.tail.store(tail, Ordering::Release);
        if side.place.go_on(count, self.blocks.len()) {
            self.fetch_ahead(&side.place);
        }
    }

    /// Takes the oldest message out.
    ///
    /// # Safety
    ///
    /// One caller at a time, each after the one before it (as seen by its thread).
    #[inline(always)]
    pub(crate) unsafe fn pop(&self) -> Option<T> {
        // SAFETY: the caller's promise.
        if unsafe { self.available() } == 0 {
            return None;
        }
        let side = &self.consumer.0;
        let message = self.block(side).slots[side.place.slot.get()].with_mut(|slot| {
            // SAFETY: between head and tail: written, and not written again before `head` has passed it.
            unsafe { slot.read() }
        });
        self.pass(1);
        // SAFETY: the producer initialised it before it moved `tail` over it.
        Some(unsafe { message.assume_init() })
    }

    /// Takes out up to `most`, the oldest first, and gives each to `each` from where it lies. How many.
    ///
    /// Each is out before it is given; their room is given back at the end, also when `each` panics.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop), also for `each`.
    #[inline]
    pub(crate) unsafe fn pop_each(&self, most: usize, mut each: impl FnMut(T)) -> usize {
        let side = &self.consumer.0;
        // Once for all, and not block by block: nobody disturbs a producer that fills some. Pairs with the store in `show`.
        let tail = self.producer.0.own.load(Ordering::Acquire);
        let all = tail.wrapping_sub(side.own.load(Ordering::Relaxed));
        // Negative: of a group that is being shown some were taken already.
        let all = usize::try_from(all.cast_signed()).unwrap_or(0);
        let count = all.min(most);
        self.fetch_following(side, count / BLOCK);
        let mut passing = Passing {
            ring: self,
            taken: 0,
            of_block: 0,
        };
        while passing.taken < count {
            let some = side.place.rest().min(count - passing.taken);
            for slot in &self.block(side).slots[side.place.slot.get()..][..some] {
                // SAFETY: as in `pop`: `count` messages are there.
                let message = slot.with_mut(|slot| unsafe { slot.read() });
                passing.of_block += 1;
                // SAFETY: the producer initialised it before it moved `tail` over it.
                each(unsafe { message.assume_init() });
            }
            passing.taken += some;
            passing.of_block = 0;
            side.place.go_on(some, self.blocks.len());
        }
        drop(passing);
        count
    }

    /// How many messages were taken out, ever, up to the room that was given back.
    pub(crate) fn taken(&self) -> usize {
        self.consumer.0.own.load(Ordering::Relaxed)
    }

    /// Gives back the room of so many messages of the block in which the consumer is.
    #[inline(always)]
    fn pass(&self, count: usize) {
        let side = &self.consumer.0;
        let head = side.own.load(Ordering::Relaxed).wrapping_add(count);
        // Pairs with the load in `room`.
        side.own.store(head, Ordering::Release);
        side.place.go_on(count, self.blocks.len());
    }

    /// How many messages of its block the consumer knows of; looks again when it knows of none.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(always)]
    unsafe fn available(&self) -> usize {
        let side = &self.consumer.0;
        let head = side.own.load(Ordering::Relaxed);
        let known = side.other_seen.get().wrapping_sub(head);
        if known > 0 {
            return known;
        }
        // Pairs with the store in `show`: what the producer has written is visible.
        let tail = self.block(side).tail.load(Ordering::Acquire);
        let covered = tail.wrapping_sub(head).cast_signed();
        let Ok(covered) = usize::try_from(covered) else {
            // From the lap before.
            return 0;
        };
        let available = covered.min(side.place.rest());
        self.fetch_next(side, available);
        side.other_seen.set(head.wrapping_add(available));
        available
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Has what the consumer reads next fetched: the messages that were found, and the next block if the producer is through
    /// with this one.
    #[inline(always)]
    fn fetch_next(&self, side: &Side, found: usize) {
        if size_of::<T>() >= LINE / 2 {
            let slots = &self.block(side).slots[side.place.slot.get()..];
            for slot in slots.iter().take(found) {
                prefetch::to_read(&raw const *slot);
            }
        }
        if found == side.place.rest() {
            let next = side.place.block.get() + 1;
            let next = &self.blocks[if next < self.blocks.len() { next } else { 0 }];
            prefetch::to_read(&raw const next.tail);
        }
    }

    /// Has so many blocks fetched that follow the one in which the consumer is, within bounds.
    #[inline(always)]
    fn fetch_following(&self, side: &Side, count: usize) {
        let mut index = side.place.block.get();
        for _ in 0..count.min(AHEAD_BYTES / size_of::<Block<T>>()) {
            index = if index + 1 < self.blocks.len() {
                index + 1
            } else {
                0
            };
            let block = &raw const self.blocks[index];
            for line in 0..(size_of::<Block<T>>() / LINE).min(AHEAD_BYTES / LINE) {
                prefetch::to_read(block.wrapping_byte_add(line * LINE));
            }
        }
    }

    /// Has a block fetched that the producer will write soon: the consumer was the last to touch it. A store that waits for
    /// its line holds up all stores behind it.
    #[inline(always)]
    fn fetch_ahead(&self, place: &Place) {
        let ahead = AHEAD_BYTES / size_of::<Block<T>>();
        // In a small ring it would be one that the consumer reads.
        if self.blocks.len() <= 4 * ahead {
            return;
        }
        let block = place.block.get() + ahead;
        let wrapped = block.checked_sub(self.blocks.len()).unwrap_or(block);
        let block = &raw const self.blocks[wrapped];
        for line in 0..(size_of::<Block<T>>() / LINE).min(AHEAD_BYTES / LINE) {
            prefetch::to_write(block.wrapping_byte_add(line * LINE));
        }
    }

    /// How many messages are in, about: for anyone to look at.
    pub(crate) fn len(&self) -> usize {
        // Pairs with the store in `pass`: the tail is not older.
        let head = self.consumer.0.own.load(Ordering::Acquire);
        // Pairs with the store in `show`, which comes a moment before the block's: who has counted a message will find it, soon.
        let tail = self.producer.0.own.load(Ordering::Acquire);
        // As in `pop_each`.
        let count = usize::try_from(tail.wrapping_sub(head).cast_signed()).unwrap_or(0);
        count.min(self.capacity)
    }
}

/// Messages that are out, and whose room is still to be given back.
struct Passing<'a, T> {
    ring: &'a Ring<T>,
    /// Those of the blocks that the consumer has left.
    taken: usize,
    /// Those of the block in which it is.
    of_block: usize,
}

impl<T> Drop for Passing<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let side = &self.ring.consumer.0;
        side.place.go_on(self.of_block, self.ring.blocks.len());
        let head = side.own.load(Ordering::Relaxed);
        let head = head.wrapping_add(self.taken + self.of_block);
        // Pairs with the load in `room`.
        side.own.store(head, Ordering::Release);
        // Of the block in which the consumer is now nothing is known.
        side.other_seen.set(head);
    }
}

/// Takes out the first `count`, which are somebody else's already.
fn forget_first<T>(messages: &mut Vec<T>, count: usize) {
    let left = messages.len() - count;
    // SAFETY: none is claimed.
    unsafe { messages.set_len(0) };
    if left == 0 {
        return;
    }
    let base = messages.as_mut_ptr();
    // SAFETY: within the allocation.
    let rest = unsafe { base.add(count) };
    // SAFETY: so many are left, and moved over what is gone.
    unsafe { std::ptr::copy(rest, base, left) };
    // SAFETY: they were initialised, and are where they should be.
    unsafe { messages.set_len(left) };
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let mut left = Vec::new();
        // SAFETY: nobody else is left.
        while unsafe { self.pop_each(self.capacity, |message| left.push(message)) } > 0 {}
        // All of them, also behind one whose destructor panics.
        drop(left);
    }
}

#[cfg(test)]
mod tests;
