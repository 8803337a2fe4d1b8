//! Groups: messages that a producer writes one by one and shows at once.
//!
//! The messages come from an iterator, any code, which may put something into the same ring, or park while others do. A group
//! leaves no room (`limit` is where the producer is), so whoever does that passes through `room`, which shows the group and ends it. Who fills it
//! sees that it is not its own any more, and keeps nothing else in mind.
#![expect(
    unsafe_code,
    reason = "slots are shared by protocol, not by the borrow checker"
)]

use super::slots::Slots;
use super::{Ring, Slot};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;

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
    /// How many it has.
    written: Cell<usize>,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            filler: Cell::new(ptr::null()),
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
        let group = self.group();
        let me = 0u8;
        let filler = (&raw const me).cast();
        // SAFETY: the caller's promise.
        let slots = unsafe { self.begin_group(filler) };
        if slots.is_empty() {
            return Filled::NoRoom;
        }
        let mut written = 0;
        for lot in slots.chunks(Slots::<T>::LOT) {
            self.fetch_ahead(written + lot.len(), lot.len());
            for slot in lot {
                // So many are the group's, whatever the iterator does.
                group.written.set(written);
                let Some(message) = messages.next() else {
                    return Filled::Over;
                };
                if group.filler.get() != filler {
                    return Filled::Interrupted(message);
                }
                // SAFETY: as in `put`: there is room for the group.
                slot.with_mut(|slot| unsafe { slot.write(MaybeUninit::new(message)) });
                written += 1;
            }
        }
        group.written.set(written);
        Filled::Full
    }

    /// Begins a group. Its slots: none if there is no room for a message.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    unsafe fn begin_group(&self, filler: *const ()) -> &[Slot<T>] {
        // SAFETY: the caller's promise. A group that is there leaves no room, so it is shown by this.
        let room = unsafe { self.room(GROUP) };
        if room == 0 {
            return &[];
        }
        let (side, group) = (self.producer(), self.group());
        group.filler.set(filler);
        group.written.set(0);
        // From here on there is no room: who wants some comes by `room`, and shows the group.
        side.limit.set(side.own.get());
        let rest = &self.slots[side.place(side.own.get(), self.slots.len())..];
        &rest[..room.min(GROUP).min(rest.len())]
    }

    /// Shows the group, if there is one.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline(always)]
    pub(crate) unsafe fn show_group(&self) {
        let group = self.group();
        if group.filler.replace(ptr::null()).is_null() {
            return;
        }
        self.show(group.written.get());
        let side = self.producer();
        side.limit.set(side.own.get());
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
        let side = self.producer();
        let own = side.own.get();
        let mut put = 0;
        while put < messages.len() {
            let at = side.place(own.wrapping_add(put), self.slots.len());
            let before = put;
            for (slot, message) in self.slots[at..].iter().zip(&messages[before..]) {
                let message = ptr::from_ref(message).cast::<MaybeUninit<T>>();
                // SAFETY: it is there.
                let message = unsafe { message.read() };
                // SAFETY: as in `put`: there is room.
                slot.with_mut(|slot| unsafe { slot.write(message) });
                put += 1;
            }
        }
        self.show(put);
        side.limit.set(side.own.get());
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
