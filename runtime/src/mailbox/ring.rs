//! A bounded ring between one producer and one consumer: how messages cross cores.
//!
//! ```text
//!   slots    . . m m m m m m . . . . . .
//!                ^           ^
//!              head        tail         both count up for ever; tail - head is what is in
//!
//!   producer: writes its slot, then stores tail (Release)
//!   consumer: loads tail (Acquire), reads the slots below it, then stores head (Release)
//!   producer: loads head (Acquire) before it writes a slot again
//! ```
//!
//! Why it is right. `tail` is written by the producer only and ascends; who has loaded it sees what was written to the slots below it.
//! `head` is written by the consumer only; a slot is written again only after a load of `head` that has passed it: then the read is
//! over. So no slot is touched by both at once, and each message is moved in once and out once.
//!
//! Each side keeps how far it knows that it may go on, and a stretch of that as a limit: below the limit a message is a comparison, a copy
//! and two stores. What each side keeps to itself, what it tells, and what neither writes lie in lines of their own: two lines each,
//! since processors fetch neighbours in pairs.
//!
//! A message crosses in two lines: its own, and that of the tail. A consumer that finds nothing asks for the line of the slot
//! where the next message will be, as it asks for that of the tail. So both are under way at once, and a word there and back takes no
//! longer than if the tail lay beside it. The slots then hold nothing but messages, and who writes many has few lines to wait for: slots.rs.
//!
//! A producer with many to come writes them as a group (group.rs), which it shows at once.
//!
//! Not here: waiting, waking, and who the two sides are (lanes.rs).
#![expect(
    unsafe_code,
    reason = "slots are shared by protocol, not by the borrow checker"
)]

mod group;
mod slots;

pub(crate) use group::Filled;

use super::atomics::{AtomicUsize, Ordering, UnsafeCell};
use group::Group;
use slots::Slots;
use std::cell::Cell;
use std::mem::MaybeUninit;

/// A value in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// Bytes of a message of which no more than two share a line.
const LARGE: usize = 32;

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// Messages of a stretch, at the most: what a side does once in a while it does after so many.
#[cfg(not(loom))]
const STRETCH: usize = 16;
#[cfg(loom)]
const STRETCH: usize = 2;

/// What one side keeps to itself.
#[derive(Debug)]
struct Side {
    /// The number of its next message.
    own: Cell<usize>,
    /// Up to here it goes on without a look: within the lap, and no further than it knows.
    limit: Cell<usize>,
    /// Up to here it knows that it may go on.
    known: Cell<usize>,
    /// The number of the message in the first slot: that of its lap.
    lap: Cell<usize>,
}

impl Side {
    fn new(known: usize) -> Self {
        Self {
            own: Cell::new(0),
            limit: Cell::new(0),
            known: Cell::new(known),
            lap: Cell::new(0),
        }
    }

    /// How many it knows that it may put in or take out.
    #[inline(always)]
    fn known_beyond(&self) -> usize {
        self.known.get().wrapping_sub(self.own.get())
    }

    /// How many it may put in or take out without a look.
    #[inline(always)]
    fn within_limit(&self) -> usize {
        self.limit.get().wrapping_sub(self.own.get())
    }

    /// Which slot this number has, of so many; on to the next lap after the last.
    #[inline(always)]
    fn place(&self, number: usize, slots: usize) -> usize {
        let at = number.wrapping_sub(self.lap.get());
        if at < slots {
            return at;
        }
        self.lap.set(number);
        0
    }

    /// Goes on as far as it knows that it may, in a ring of so many slots: to the end of the stretch or the lap. How many.
    #[inline(always)]
    fn extend(&self, known: usize, slots: usize) -> usize {
        let own = self.own.get();
        let rest = slots - self.place(own, slots);
        let count = known.wrapping_sub(own).min(rest).min(STRETCH);
        self.limit.set(own.wrapping_add(count));
        count
    }
}

/// The ring. Who pushes and who pops is the caller's promise.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    producer: Apart<(Side, Group)>,
    tail: Apart<AtomicUsize>,
    consumer: Apart<Side>,
    head: Apart<AtomicUsize>,
    slots: Slots<T>,
    capacity: usize,
}

// SAFETY: messages move through it between two threads: `T: Send`. The cells of each side are its own.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; `push` and `pop` are unsafe, and their callers keep to one thread at a time for each.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// Whether a ring of this capacity can exist: its slots fit into an address space.
    pub(crate) fn is_possible(capacity: usize) -> bool {
        Slots::<T>::are_possible(capacity)
    }

    /// Room for `capacity` messages, which is at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring without room could pass nothing on");
        Self {
            producer: Apart((Side::new(capacity), Group::new())),
            tail: Apart(AtomicUsize::new(0)),
            consumer: Apart(Side::new(0)),
            head: Apart(AtomicUsize::new(0)),
            slots: Slots::new(capacity),
            capacity,
        }
    }

    /// The slot of a side's next message, which is below its limit.
    #[inline(always)]
    fn slot(&self, side: &Side) -> &Slot<T> {
        // SAFETY: a limit is within the lap.
        unsafe { self.slots.at(side.own.get().wrapping_sub(side.lap.get())) }
    }

    #[inline(always)]
    fn producer(&self) -> &Side {
        &self.producer.0.0
    }

    #[inline(always)]
    fn group(&self) -> &Group {
        &self.producer.0.1
    }

    /// How many messages the producer knows to have room for; looks again when that is less than `wanted`.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline(always)]
    unsafe fn room(&self, wanted: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe { self.show_group() };
        let side = self.producer();
        if side.known_beyond() < wanted {
            // Pairs with the stores in `take` and `Passing`: the consumer has read what it has passed.
            let head = self.head.0.load(Ordering::Acquire);
            side.known.set(head.wrapping_add(self.capacity));
        }
        side.known_beyond()
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

    /// Whether the producer knows room: for who may push, without a look.
    #[inline(always)]
    pub(crate) fn knows_room(&self) -> bool {
        let side = self.producer();
        side.own.get() != side.limit.get()
    }

    /// Whether there is room, for who [knows none](Self::knows_room).
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline(never)]
    pub(crate) unsafe fn look_for_room(&self) -> bool {
        // SAFETY: the caller's promise.
        if unsafe { self.room(1) } == 0 {
            return false;
        }
        let side = self.producer();
        let count = side.extend(side.known.get(), self.slots.len());
        self.fetch_ahead(count, count);
        true
    }

    /// Has the lines fetched of so many slots, which the producer will write after so many others (slots.rs).
    #[inline(always)]
    fn fetch_ahead(&self, after: usize, count: usize) {
        if Slots::<T>::gap(self.capacity) == 0 {
            // They would be those that the consumer reads.
            return;
        }
        let side = self.producer();
        let at = side.own.get().wrapping_sub(side.lap.get()) + after;
        let at = at.checked_sub(self.slots.len()).unwrap_or(at);
        self.slots.fetch_to_write(at, count);
    }

    /// Puts a message in.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push); and [`has_room`](Self::has_room) or [`knows_room`](Self::knows_room) said so, with no message put in since.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, message: T) {
        let side = self.producer();
        self.slot(side).with_mut(|slot| {
            // SAFETY: the slot is not between head and tail: the consumer is through with it and we alone write.
            unsafe { slot.write(MaybeUninit::new(message)) }
        });
        self.show(1);
    }

    /// Shows the consumer so many messages more.
    #[inline(always)]
    fn show(&self, count: usize) {
        let side = self.producer();
        let tail = side.own.get().wrapping_add(count);
        side.own.set(tail);
        // Pairs with the load in `look` and `len`.
        self.tail.0.store(tail, Ordering::Release);
    }

    /// Takes the oldest message out.
    ///
    /// # Safety
    ///
    /// One caller at a time, each after the one before it (as seen by its thread).
    #[inline(always)]
    pub(crate) unsafe fn pop(&self) -> Option<T> {
        // SAFETY: the caller's promise.
        let is_there = self.seen() > 0 || unsafe { self.look_for_message() };
        // SAFETY: as above.
        is_there.then(|| unsafe { self.take() })
    }

    /// How many messages the consumer may take without a look.
    #[inline(always)]
    pub(crate) fn seen(&self) -> usize {
        self.consumer.0.within_limit()
    }

    /// Whether the consumer knows that there are more, when all that it has [seen](Self::seen) are taken: those are seen then.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(always)]
    pub(crate) unsafe fn messages_go_on(&self) -> bool {
        let side = &self.consumer.0;
        let known = side.known.get();
        known != side.own.get() && {
            self.see(known);
            true
        }
    }

    /// Goes on in what is known, which is something.
    #[inline(always)]
    fn see(&self, known: usize) {
        let side = &self.consumer.0;
        let count = side.extend(known, self.slots.len());
        self.fetch_seen(side.own.get(), count);
    }

    /// Has the lines fetched of so many messages that are there, from this one on, if they are large: of small ones the processor has many under way by itself.
    #[inline(always)]
    fn fetch_seen(&self, number: usize, count: usize) {
        if size_of::<T>() >= LARGE {
            let at = number.wrapping_sub(self.consumer.0.lap.get());
            self.slots.fetch_to_read(at, count);
        }
    }

    /// Takes the oldest message out.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop), and at least one was [`seen`](Self::seen).
    #[inline(always)]
    pub(crate) unsafe fn take(&self) -> T {
        let side = &self.consumer.0;
        let message = self.slot(side).with_mut(|slot| {
            // SAFETY: between head and tail: written, and not written again before `head` has passed it.
            unsafe { slot.read() }
        });
        let head = side.own.get().wrapping_add(1);
        side.own.set(head);
        // Pairs with the load in `room`.
        self.head.0.store(head, Ordering::Release);
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
        if side.known_beyond() < most {
            self.look();
        }
        let count = side.known_beyond().min(most);
        let own = side.own.get();
        let mut passing = Passing { ring: self, own };
        let end = own.wrapping_add(count);
        while passing.own != end {
            let at = side.place(passing.own, self.slots.len());
            let rest = &self.slots[at..];
            let some = rest.len().min(end.wrapping_sub(passing.own));
            for lot in rest[..some].chunks(Slots::<T>::LOT) {
                let next = passing.own.wrapping_add(lot.len());
                self.fetch_seen(next, end.wrapping_sub(next).min(Slots::<T>::LOT));
                for slot in lot {
                    // SAFETY: as in `take`: `count` messages are there.
                    let message = slot.with_mut(|slot| unsafe { slot.read() });
                    passing.own = passing.own.wrapping_add(1);
                    // SAFETY: the producer initialised it before it moved `tail` over it.
                    each(unsafe { message.assume_init() });
                }
            }
        }
        drop(passing);
        count
    }

    /// How many messages were taken out, ever, up to the room that was given back: for the consumer.
    pub(crate) fn taken(&self) -> usize {
        self.consumer.0.own.get()
    }

    /// Looks for messages, when none is known. Whether there is one.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline(never)]
    unsafe fn look_for_message(&self) -> bool {
        let (side, slots) = (&self.consumer.0, &self.slots);
        let own = side.own.get();
        // The tail goes on from hand to hand: memory in between would take some nanoseconds more.
        let mut known = side.known.get();
        if known == own {
            // If there is nothing yet: it is on its way when the next look finds it.
            slots.fetch_to_read(side.place(own, slots.len()), 1);
            known = self.look();
            if known == own {
                return false;
            }
        }
        self.see(known);
        true
    }

    /// Looks how far the producer has come: for the consumer.
    #[inline(always)]
    fn look(&self) -> usize {
        // Pairs with the store in `show`: what the producer has written is visible.
        let tail = self.tail.0.load(Ordering::Acquire);
        self.consumer.0.known.set(tail);
        tail
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many messages are in, about: for anyone to look at. Who has counted a message will find it.
    pub(crate) fn len(&self) -> usize {
        // Pairs with the stores in `take` and `Passing`: the tail is not older. It may be newer by any number.
        let head = self.head.0.load(Ordering::Acquire);
        let tail = self.tail.0.load(Ordering::Acquire);
        tail.wrapping_sub(head).min(self.capacity)
    }

    /// Whether no message is in, about: as [`len`](Self::len).
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
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
        side.own.set(self.own);
        side.limit.set(self.own);
        // Pairs with the load in `room`.
        self.ring.head.0.store(self.own, Ordering::Release);
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let mut left = Vec::new();
        // SAFETY: nobody else is left.
        while unsafe { self.pop_each(self.capacity, |message| left.push(message)) } > 0 {}
        // All of them, also those behind one whose destructor panics, and the slots with them.
        drop(left);
    }
}

#[cfg(test)]
mod tests;
