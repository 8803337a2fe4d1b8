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
//! put into it. The consumer asks the block that it reads. One that finds it full of small messages may be far behind, and asks
//! how far, so that it looks no more before it has come there: that is what `shown` is for, a number that the producer stores once a block, in a
//! line of its own. The index itself goes up with each message, and a line that the consumer asked for would not be at hand for the next.
//!
//! A producer with many to come writes them as a group (group.rs), which it shows at once, in the block in which the group begins.
//!
//! Why it is right. The tails that a block is given ascend, and each covers only slots that were written before it was stored. So
//! one that is above a slot's number, however old or new, makes that slot's value visible, in whatever block it is found. And there is always one
//! to be found: who has come to the end of what it knows has come to where the producer once had shown all, and what is shown next
//! begins there, with its tail in that block. `head` is written by the consumer only; a slot is written again
//! only after a load of `head` that has passed it: then the read is over. So no slot is touched by both at once, and each message
//! is moved in once and out once.
//!
//! Each side keeps how far it knows that it may go on, and in its block as a limit: below that a message is a comparison, a copy and
//! a store. The two sides lie in lines of their own: two lines each, since processors fetch neighbours in pairs.
//!
//! Neither side waits for lines if it can help it: each has fetched what it comes to next. A coroutine's stores would
//! otherwise queue up behind the one whose line the other core has.
//!
//! Not here: waiting, waking, and who the two sides are (lanes.rs).
#![expect(
    unsafe_code,
    reason = "slots are shared by protocol, not by the borrow checker"
)]

mod ahead;
mod group;

pub(crate) use group::Filled;

use super::atomics::{AtomicUsize, Ordering, UnsafeCell};
use ahead::is_small;
use group::Group;
use std::alloc::Layout;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// A value in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// Messages of a block. With eight bytes each they fill a cache line.
#[cfg(not(loom))]
const BLOCK: usize = 7;
#[cfg(loom)]
const BLOCK: usize = 2;

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

/// One side's index, and where that is. The consumer's is for the producer to see.
#[derive(Debug)]
struct Side<T> {
    own: AtomicUsize,
    /// Up to here the side goes on without a look, in its block.
    limit: Cell<usize>,
    /// The number of the block's first slot.
    first: Cell<usize>,
    block: Cell<NonNull<Block<T>>>,
    /// Up to here it knows that it may go on.
    known: Cell<usize>,
}

impl<T> Side<T> {
    fn new(block: NonNull<Block<T>>, known: usize) -> Apart<Self> {
        Apart(Self {
            own: AtomicUsize::new(0),
            limit: Cell::new(0),
            first: Cell::new(0),
            block: Cell::new(block),
            known: Cell::new(known),
        })
    }

    /// How many it knows of beyond this number, which is one of a slot.
    #[inline(always)]
    fn known_beyond(&self, number: usize) -> usize {
        // Negative: from the lap before, or of a group that is being shown some were taken already.
        distance(number, self.known.get())
    }
}

/// How far it is to a number; zero if that lies behind.
#[inline(always)]
fn distance(from: usize, to: usize) -> usize {
    usize::try_from(to.wrapping_sub(from).cast_signed()).unwrap_or(0)
}

/// The ring. Who pushes and who pops is the caller's promise.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    producer: Apart<Side<T>>,
    /// The producer's.
    group: Apart<Group>,
    /// How far the producer had come when it last entered a block, or showed a group: where it is may be beyond that, in the same block.
    shown: Apart<AtomicUsize>,
    consumer: Apart<Side<T>>,
    /// A box, which both sides point into.
    blocks: NonNull<[Block<T>]>,
    capacity: usize,
}

// SAFETY: messages move through it between two threads: `T: Send`. The cells in each side are its own.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; `push` and `pop` are unsafe, and their callers keep to one thread at a time for each.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// Whether a ring of this capacity can exist: its blocks fit into an address space.
    pub(crate) fn is_possible(capacity: usize) -> bool {
        Layout::array::<Block<T>>(Self::block_count(capacity)).is_ok()
    }

    /// Room for `capacity` messages, which is at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring without room could pass nothing on");
        let blocks = NonNull::from(Box::leak(empty_blocks(Self::block_count(capacity))));
        let first = blocks.cast();
        Self {
            producer: Side::new(first, capacity),
            group: Apart(Group::new()),
            shown: Apart(AtomicUsize::new(0)),
            consumer: Side::new(first, 0),
            blocks,
            capacity,
        }
    }

    #[inline(always)]
    fn block(&self, side: &Side<T>) -> &Block<T> {
        // SAFETY: it is one of `blocks`, which stay where they are as long as the ring.
        unsafe { side.block.get().as_ref() }
    }

    /// The block that is so many behind this one; less than there are.
    #[inline(always)]
    fn behind(&self, block: NonNull<Block<T>>, count: usize) -> NonNull<Block<T>> {
        let blocks = self.blocks.as_ptr().cast::<Block<T>>();
        let block = block.as_ptr().wrapping_add(count);
        let block = if block < blocks.wrapping_add(self.blocks.len()) {
            block
        } else {
            block.wrapping_sub(self.blocks.len())
        };
        NonNull::new(block).expect("it is one of the blocks")
    }

    /// On to the next block, if the side is through with its own. Whether it was.
    #[inline(always)]
    fn enter_block(&self, side: &Side<T>) -> bool {
        let own = side.own.load(Ordering::Relaxed);
        let is_through = own.wrapping_sub(side.first.get()) == BLOCK;
        if is_through {
            side.first.set(own);
            side.block.set(self.behind(side.block.get(), 1));
        }
        is_through
    }

    /// On to the next block, if the side is through with its own and knows of more. Whether it is.
    #[inline(always)]
    fn goes_on(&self, side: &Side<T>) -> bool {
        let own = side.own.load(Ordering::Relaxed);
        let count = side.known_beyond(own);
        // A group has no limit that is an end.
        if count == 0 || own.wrapping_sub(side.first.get()) != BLOCK {
            return false;
        }
        side.first.set(own);
        side.block.set(self.behind(side.block.get(), 1));
        side.limit.set(own.wrapping_add(count.min(BLOCK)));
        true
    }

    /// Where the block ends in which the side is.
    #[inline(always)]
    fn end_of_block(side: &Side<T>) -> usize {
        side.first.get().wrapping_add(BLOCK)
    }

    /// Goes on in its block as far as it knows that it may. Whether that is any further.
    #[inline(always)]
    fn extend(side: &Side<T>) -> bool {
        let own = side.own.load(Ordering::Relaxed);
        let rest = Self::end_of_block(side).wrapping_sub(own);
        let count = side.known_beyond(own).min(rest);
        side.limit.set(own.wrapping_add(count));
        count > 0
    }

    /// How many messages the producer knows to have room for; looks again when that is less than `wanted`.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    unsafe fn room(&self, wanted: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.show_group() };
        let side = &self.producer.0;
        let own = side.own.load(Ordering::Relaxed);
        if side.known_beyond(own) < wanted {
            // Pairs with the stores in `pop` and `Passing`: the consumer has read what it has passed.
            let head = self.consumer.0.own.load(Ordering::Acquire);
            side.known.set(head.wrapping_add(self.capacity));
        }
        if self.enter_block(side) {
            self.has_entered(side);
        }
        side.known_beyond(own)
    }

    /// What the producer does when it has come to a block: tells of those before it, and asks for those to come.
    #[inline(always)]
    fn has_entered(&self, side: &Side<T>) {
        // Pairs with the load in `look_further`.
        self.shown.0.store(side.first.get(), Ordering::Release);
        self.fetch_ahead(side.block.get());
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
        self.knows_room() || unsafe { self.look_for_room() }
    }

    /// Whether the producer knows room in its block: for who may push, without a look.
    #[inline(always)]
    pub(crate) fn knows_room(&self) -> bool {
        let side = &self.producer.0;
        side.own.load(Ordering::Relaxed) != side.limit.get()
    }

    /// On to the next block, if the producer knows room there: what it does mostly when it [knows none](Self::knows_room) in its own.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline(always)]
    pub(crate) unsafe fn room_goes_on(&self) -> bool {
        let side = &self.producer.0;
        let goes_on = self.goes_on(side);
        if goes_on {
            self.has_entered(side);
        }
        goes_on
    }

    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline(never)]
    unsafe fn look_for_room(&self) -> bool {
        // SAFETY: the caller's promise.
        if unsafe { self.room_goes_on() } {
            return true;
        }
        // SAFETY: as above.
        let room = unsafe { self.room(1) };
        room > 0 && Self::extend(&self.producer.0)
    }

    /// Puts a message in.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push); and [`has_room`](Self::has_room) or [`knows_room`](Self::knows_room) said so, with no message put in since.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, message: T) {
        let side = &self.producer.0;
        let own = side.own.load(Ordering::Relaxed);
        let block = self.block(side);
        block.slots[own.wrapping_sub(side.first.get())].with_mut(|slot| {
            // SAFETY: the slot is not between head and tail: the consumer is through with it and we alone write.
            unsafe { slot.write(MaybeUninit::new(message)) }
        });
        self.show(block, own.wrapping_add(1));
    }

    /// Shows the consumer the messages up to this one, of the block in which the producer is.
    #[inline(always)]
    fn show(&self, block: &Block<T>, tail: usize) {
        self.producer.0.own.store(tail, Ordering::Relaxed);
        // Pairs with the load in `look_for_message` and `tail_beyond`.
        block.tail.store(tail, Ordering::Release);
    }

    /// Takes the oldest message out.
    ///
    /// # Safety
    ///
    /// One caller at a time, each after the one before it (as seen by its thread).
    #[inline(always)]
    pub(crate) unsafe fn pop(&self) -> Option<T> {
        // SAFETY: the caller's promise.
        unsafe { self.pop_known() }.or_else(|| {
            // SAFETY: as above.
            unsafe { self.look_for_message() }.then(|| unsafe { self.take() })
        })
    }

    /// As [`pop`](Self::pop), if the consumer has seen it already.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(always)]
    unsafe fn pop_known(&self) -> Option<T> {
        // SAFETY: the caller's promise, and there is one.
        (self.seen() > 0).then(|| unsafe { self.take() })
    }

    /// How many messages [`pop_known`](Self::pop_known) would give.
    #[inline(always)]
    pub(crate) fn seen(&self) -> usize {
        let side = &self.consumer.0;
        side.limit
            .get()
            .wrapping_sub(side.own.load(Ordering::Relaxed))
    }

    /// On to the next block, if the consumer knows that there is something in it: when all that it has [seen](Self::seen) is taken.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(always)]
    pub(crate) unsafe fn messages_go_on(&self) -> bool {
        let side = &self.consumer.0;
        let goes_on = self.goes_on(side);
        if goes_on && is_small::<T>() {
            self.fetch_next(side, side.first.get());
        }
        goes_on
    }

    /// Takes the oldest message out.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop), and at least one was [`seen`](Self::seen).
    #[inline(always)]
    pub(crate) unsafe fn take(&self) -> T {
        let side = &self.consumer.0;
        let own = side.own.load(Ordering::Relaxed);
        let message = self.block(side).slots[own.wrapping_sub(side.first.get())].with_mut(|slot| {
            // SAFETY: between head and tail: written, and not written again before `head` has passed it.
            unsafe { slot.read() }
        });
        // Pairs with the load in `room`.
        side.own.store(own.wrapping_add(1), Ordering::Release);
        // SAFETY: the producer initialised it before it moved `tail` over it.
        unsafe { message.assume_init() }
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
        let own = side.own.load(Ordering::Relaxed);
        // Once for all, and not block by block: nobody disturbs a producer that fills some.
        if side.known_beyond(own) < most {
            self.look_further(side);
        }
        if side.known_beyond(own) < most {
            let known = own.wrapping_add(side.known_beyond(own));
            side.known.set(self.tail_beyond(known));
        }
        let count = side.known_beyond(own).min(most);
        self.fetch_following(side, count / BLOCK);
        let mut passing = Passing { ring: self, own };
        let end = own.wrapping_add(count);
        while passing.own != end {
            // The index itself goes on at the end.
            if passing.own.wrapping_sub(side.first.get()) == BLOCK {
                side.first.set(passing.own);
                side.block.set(self.behind(side.block.get(), 1));
            }
            let at = passing.own.wrapping_sub(side.first.get());
            let some = (BLOCK - at).min(end.wrapping_sub(passing.own));
            for slot in &self.block(side).slots[at..][..some] {
                // SAFETY: as in `pop`: `count` messages are there.
                let message = slot.with_mut(|slot| unsafe { slot.read() });
                passing.own = passing.own.wrapping_add(1);
                // SAFETY: the producer initialised it before it moved `tail` over it.
                each(unsafe { message.assume_init() });
            }
        }
        drop(passing);
        count
    }

    /// How many messages were taken out, ever, up to the room that was given back.
    pub(crate) fn taken(&self) -> usize {
        self.consumer.0.own.load(Ordering::Relaxed)
    }

    /// Looks for messages, when none is known. Whether there is one.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(never)]
    unsafe fn look_for_message(&self) -> bool {
        let side = &self.consumer.0;
        // SAFETY: the caller's promise.
        if unsafe { self.messages_go_on() } {
            return true;
        }
        self.enter_block(side);
        let own = side.own.load(Ordering::Relaxed);
        if side.known_beyond(own) == 0 {
            // Pairs with the stores in `show` and `show_many`: what the producer has written is visible.
            let tail = self.block(side).tail.load(Ordering::Acquire);
            side.known.set(tail);
            if is_small::<T>() && tail == Self::end_of_block(side) {
                self.look_further(side);
                let beyond = side.known_beyond(tail);
                self.fetch_following(side, beyond / BLOCK);
            }
        }
        self.fetch_next(side, own);
        Self::extend(side)
    }

    /// Looks how far the producer has come, from who may be far behind: what follows is then taken without a look a block.
    #[inline(always)]
    fn look_further(&self, side: &Side<T>) {
        // Pairs with the stores in `has_entered` and `show_many`.
        let tail = self.shown.0.load(Ordering::Acquire);
        // The blocks tell of more, or earlier.
        if distance(side.known.get(), tail) > 0 {
            side.known.set(tail);
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many messages are in, about: for anyone to look at.
    pub(crate) fn len(&self) -> usize {
        let (head, shown) = self.bounds();
        distance(head, self.tail_beyond(shown)).min(self.capacity)
    }

    /// Whether no message is in, about: for anyone to look at. Who has counted a message will find it.
    pub(crate) fn is_empty(&self) -> bool {
        let (head, shown) = self.bounds();
        // The producer's block last: it may be at work there.
        distance(head, shown) == 0 && distance(head, self.tail_beyond(shown)) == 0
    }

    /// How far the consumer has come, and the producer within a block.
    fn bounds(&self) -> (usize, usize) {
        // Pairs with the stores in `take` and `Passing`: what is shown is not older.
        let head = self.consumer.0.own.load(Ordering::Acquire);
        // Pairs with the stores in `has_entered` and `show_many`.
        (head, self.shown.0.load(Ordering::Acquire))
    }

    /// How far the producer has come within a block, from a number up to which it had shown all once: what is shown next begins there.
    fn tail_beyond(&self, shown: usize) -> usize {
        // SAFETY: the box stays as long as the ring.
        let blocks = unsafe { self.blocks.as_ref() };
        let block = &blocks[shown / BLOCK % blocks.len()];
        // Pairs with the stores in `show` and `show_many`. Lower: none is in this block yet, and the tail is of a lap before.
        let tail = block.tail.load(Ordering::Acquire);
        shown.wrapping_add(distance(shown, tail))
    }
}

/// Messages that are out, and whose room is still to be given back.
struct Passing<'a, T> {
    ring: &'a Ring<T>,
    /// The first that is not.
    own: usize,
}

impl<T> Drop for Passing<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let side = &self.ring.consumer.0;
        // Pairs with the load in `room`.
        side.own.store(self.own, Ordering::Release);
        side.limit.set(self.own);
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let mut left = Vec::new();
        // SAFETY: nobody else is left.
        while unsafe { self.pop_each(self.capacity, |message| left.push(message)) } > 0 {}
        // SAFETY: it was a box, and nothing points into it any more.
        drop(unsafe { Box::from_raw(self.blocks.as_ptr()) });
        // All of them, also behind one whose destructor panics.
        drop(left);
    }
}

#[cfg(test)]
mod tests;
