//! Groups: messages that a producer writes one by one and shows at once.
//!
//! Only one block has the tail: that in which the group begins, which is where a consumer looks that knows of nothing more. It then knows of all, and
//! goes on without a look. So the lines that a tail has for itself, behind large messages, do not cross. `shown` is stored last, which is
//! what a consumer of many looks at first: it does not take the lines away from who still writes them.
//!
//! The messages come from an iterator, any code, which may put something into the same ring, or park while others do. A group
//! leaves no room (`limit` is where the producer is), so whoever does that passes through `room`, which shows the group and ends it. Who fills it
//! sees that it is not its own any more, and keeps nothing else in mind.
#![expect(
    unsafe_code,
    reason = "slots are shared by protocol, not by the borrow checker"
)]

use super::{BLOCK, Block, Ring, Side};
use crate::mailbox::atomics::Ordering;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Messages of a group, at the most: so many go as far without a look at the consumer.
#[cfg(not(loom))]
pub(super) const GROUP: usize = 64;
#[cfg(loom)]
pub(super) const GROUP: usize = 3;

/// Messages that are written and not shown: they begin where the producer is.
#[derive(Debug)]
pub(super) struct Group {
    /// The call that fills it; null: there is none.
    filler: Cell<*const ()>,
    /// How many it may have, and how many it has.
    size: Cell<usize>,
    written: Cell<usize>,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            filler: Cell::new(ptr::null()),
            size: Cell::new(0),
            written: Cell::new(0),
        }
    }
}

/// Why no more was filled in.
#[derive(Debug)]
pub(crate) enum Filled<T> {
    /// The iterator gives no more.
    Over,
    /// The group is full: to be shown.
    Full,
    /// There was no room for any, and the iterator was not asked.
    NoRoom,
    /// Something else was put in meanwhile. This has still to be.
    Interrupted(T),
}

impl<T> Ring<T> {
    /// Puts in what an iterator gives, each made in its slot, until there is no room, or a group is full. They are shown as one:
    /// by [`show_group`](Self::show_group), or before anything else that is put in.
    ///
    /// The iterator may be any code: one that puts something into this ring itself, or parks while others do, ends the group.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push), also for the iterator.
    #[inline]
    pub(crate) unsafe fn fill(&self, messages: &mut impl Iterator<Item = T>) -> Filled<T> {
        let group = &self.group.0;
        let me = 0u8;
        let filler = (&raw const me).cast();
        // SAFETY: the caller's promise.
        if !unsafe { self.begin_group(filler) } {
            return Filled::NoRoom;
        }
        let side = &self.producer.0;
        let mut block = side.block.get();
        let mut at = side
            .own
            .load(Ordering::Relaxed)
            .wrapping_sub(side.first.get());
        let (size, mut written) = (group.size.get(), 0);
        while written < size {
            if at == BLOCK {
                (block, at) = (self.behind(block, 1), 0);
                self.fetch_ahead(block);
            }
            let some = (BLOCK - at).min(size - written);
            // SAFETY: it is one of the ring's.
            let slots = unsafe { &block.as_ref().slots[at..][..some] };
            for slot in slots {
                let Some(message) = messages.next() else {
                    return Filled::Over;
                };
                if group.filler.get() != filler {
                    return Filled::Interrupted(message);
                }
                // SAFETY: as in `put`: there is room for the group.
                slot.with_mut(|slot| unsafe { slot.write(MaybeUninit::new(message)) });
                written += 1;
                group.written.set(written);
            }
            at += some;
        }
        Filled::Full
    }

    /// Begins a group, if there is room for a message.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    unsafe fn begin_group(&self, filler: *const ()) -> bool {
        let group = &self.group.0;
        // SAFETY: the caller's promise. A group that is there leaves no room, so it is shown by this.
        let size = unsafe { self.room(GROUP) }.min(GROUP);
        if size == 0 {
            return false;
        }
        group.filler.set(filler);
        group.size.set(size);
        group.written.set(0);
        // From here on there is no room: who wants some comes by `room`, and shows the group.
        let side = &self.producer.0;
        side.limit.set(side.own.load(Ordering::Relaxed));
        true
    }

    /// Shows the group, if there is one.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    pub(crate) unsafe fn show_group(&self) {
        let (side, group) = (&self.producer.0, &self.group.0);
        if group.filler.replace(ptr::null()).is_null() {
            return;
        }
        let (first, mut left) = (side.block.get(), group.written.get());
        let own = side.own.load(Ordering::Relaxed);
        let mut room = Self::end_of_block(side).wrapping_sub(own);
        while left > room {
            left -= room;
            self.step(side);
            room = BLOCK;
        }
        self.show_many(first, own.wrapping_add(group.written.get()));
    }

    /// Puts in as many as there is room for, from the front. How many.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    pub(crate) unsafe fn push_many(&self, messages: &mut Vec<T>) -> usize {
        // SAFETY: the caller's promise.
        let count = unsafe { self.room(messages.len()) }.min(messages.len());
        for group in messages[..count].chunks(GROUP) {
            // SAFETY: as above, and there is room for `count`; `messages` forgets them below, and nothing panics before that.
            unsafe { self.put_many(group) };
        }
        forget_first(messages, count);
        count
    }

    /// Puts in messages, for which there is room: shown as one. They are the ring's from here on.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push), and the producer knows room for so many.
    unsafe fn put_many(&self, messages: &[T]) {
        let side = &self.producer.0;
        if self.enter_block(side) {
            self.has_entered(side);
        }
        let first = side.block.get();
        let own = side.own.load(Ordering::Relaxed);
        let mut at = own.wrapping_sub(side.first.get());
        let mut left = messages;
        loop {
            let (some, others) = left.split_at(left.len().min(BLOCK - at));
            for (slot, message) in self.block(side).slots[at..].iter().zip(some) {
                let message = ptr::from_ref(message).cast::<MaybeUninit<T>>();
                // SAFETY: it is there.
                let message = unsafe { message.read() };
                // SAFETY: as in `put`: there is room.
                slot.with_mut(|slot| unsafe { slot.write(message) });
            }
            if others.is_empty() {
                break;
            }
            (left, at) = (others, 0);
            self.step(side);
            self.fetch_ahead(side.block.get());
        }
        self.show_many(first, own.wrapping_add(messages.len()));
    }

    /// On to the next block, before the index is.
    #[inline(always)]
    fn step(&self, side: &Side<T>) {
        side.first.set(Self::end_of_block(side));
        side.block.set(self.behind(side.block.get(), 1));
    }

    /// Shows messages up to this number, of which the oldest that is not shown lies in the block `first`.
    #[inline(always)]
    fn show_many(&self, first: NonNull<Block<T>>, end: usize) {
        let side = &self.producer.0;
        // SAFETY: it is one of `blocks`.
        let first = unsafe { first.as_ref() };
        // Pairs with the load in `look_for_message` and `tail_beyond`.
        first.tail.store(end, Ordering::Release);
        side.own.store(end, Ordering::Relaxed);
        // Pairs with the loads in `look_further` and `len`.
        self.shown.0.store(end, Ordering::Release);
        side.limit.set(end);
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
