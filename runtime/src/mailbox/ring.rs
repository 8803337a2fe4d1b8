//! A bounded ring between one producer and one consumer: how messages cross cores.
//!
//! ```text
//!   slots      [ . . m m m m . . ]      index & mask
//!                    ^       ^
//!                  head     tail        both count up for ever; tail - head is what is in
//!
//!   producer: writes its slot, then stores tail (Release)  ---> consumer loads tail (Acquire), reads the slot
//!   consumer: reads the slot, then stores head (Release)   ---> producer loads head (Acquire), writes the slot again
//! ```
//!
//! Why it is right. `tail` is written by the producer only and `head` by the consumer only. A slot is read only
//! after a load of `tail` that covers it: the Release of that store makes its value visible. It is written again
//! only after a load of `head` that has passed it: then the read is over. So no slot is touched by both at once, and
//! each message is moved in once and out once.
//!
//! Each side keeps what it last saw of the other's index and looks again only when that says full or empty, so a
//! burst costs one miss, not one a message. The two indices lie in lines of their own: two lines each, since
//! processors fetch neighbours in pairs.
//!
//! Not here: waiting, waking, and who the two sides are (lanes.rs).
#![expect(
    unsafe_code,
    reason = "slots are shared by protocol, not by the borrow checker"
)]

use super::atomics::{AtomicUsize, Ordering, UnsafeCell};
use std::alloc::Layout;
use std::cell::Cell;
use std::mem::MaybeUninit;

/// A value in cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// One side's index, and what it last saw of the other's.
#[derive(Debug)]
struct Side {
    own: AtomicUsize,
    other_seen: Cell<usize>,
}

impl Side {
    fn new() -> Apart<Self> {
        Apart(Self {
            own: AtomicUsize::new(0),
            other_seen: Cell::new(0),
        })
    }
}

/// The ring. Who pushes and who pops is the caller's promise.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    producer: Apart<Side>,
    consumer: Apart<Side>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    capacity: usize,
}

// SAFETY: messages move through it between two threads: `T: Send`. The cells in each side are its own.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; `push` and `pop` are unsafe, and their callers keep to one thread at a time for each.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// Whether a ring of this capacity can exist: a power of two of slots that an address space holds.
    pub(crate) fn is_possible(capacity: usize) -> bool {
        let slots = capacity.checked_next_power_of_two();
        slots.is_some_and(|slots| Layout::array::<UnsafeCell<MaybeUninit<T>>>(slots).is_ok())
    }

    /// Room for `capacity` messages, which is at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a ring without room could pass nothing on");
        let slots =
            (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit()));
        Self {
            producer: Side::new(),
            consumer: Side::new(),
            slots: slots.collect(),
            capacity,
        }
    }

    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }

    /// Puts a message in, or gives it back when there is no room.
    ///
    /// # Safety
    ///
    /// One caller at a time, each after the one before it (as seen by its thread).
    #[inline]
    pub(crate) unsafe fn push(&self, message: T) -> Result<(), T> {
        let side = &self.producer.0;
        let tail = side.own.load(Ordering::Relaxed);
        if tail.wrapping_sub(side.other_seen.get()) >= self.capacity {
            // Pairs with the store in `pop`: the consumer has read what it has passed.
            side.other_seen
                .set(self.consumer.0.own.load(Ordering::Acquire));
            if tail.wrapping_sub(side.other_seen.get()) >= self.capacity {
                return Err(message);
            }
        }
        self.slot(tail).with_mut(|slot| {
            // SAFETY: the slot is not between head and tail: the consumer is through with it and we alone write.
            unsafe { slot.write(MaybeUninit::new(message)) }
        });
        // Pairs with the load in `available`.
        side.own.store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// Puts in as many as there is room for, from the front, and shows them all at once. How many.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    pub(crate) unsafe fn push_many(&self, messages: &mut Vec<T>) -> usize {
        let side = &self.producer.0;
        let tail = side.own.load(Ordering::Relaxed);
        let room = || self.capacity - tail.wrapping_sub(side.other_seen.get());
        if room() < messages.len() {
            // Pairs with the store in `pop`.
            side.other_seen
                .set(self.consumer.0.own.load(Ordering::Acquire));
        }
        let count = room().min(messages.len());
        // Nothing but moves happens in this loop: no code of a message's type runs before `tail` is stored.
        for (offset, message) in messages.drain(..count).enumerate() {
            self.slot(tail.wrapping_add(offset)).with_mut(|slot| {
                // SAFETY: as in `push`: there is room for `count`.
                unsafe { slot.write(MaybeUninit::new(message)) }
            });
        }
        // Pairs with the load in `available`.
        side.own.store(tail.wrapping_add(count), Ordering::Release);
        count
    }

    /// Takes the oldest message out.
    ///
    /// # Safety
    ///
    /// One caller at a time, each after the one before it (as seen by its thread).
    #[inline]
    pub(crate) unsafe fn pop(&self) -> Option<T> {
        // SAFETY: the caller's promise.
        if unsafe { self.available() } == 0 {
            return None;
        }
        let side = &self.consumer.0;
        let head = side.own.load(Ordering::Relaxed);
        let message = self.slot(head).with_mut(|slot| {
            // SAFETY: between head and tail: written, and not written again before `head` has passed it.
            unsafe { slot.read() }
        });
        // Pairs with the load in `push`.
        side.own.store(head.wrapping_add(1), Ordering::Release);
        // SAFETY: the producer initialised it before it moved `tail` over it.
        Some(unsafe { message.assume_init() })
    }

    /// Takes out up to `most`, the oldest first, and gives their room back at once. How many.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    pub(crate) unsafe fn pop_many(&self, most: usize, into: &mut Vec<T>) -> usize {
        if most == 0 {
            return 0;
        }
        // SAFETY: the caller's promise.
        let count = unsafe { self.available() }.min(most);
        let side = &self.consumer.0;
        let head = side.own.load(Ordering::Relaxed);
        // First: nothing between the first read and the store of `head` may fail.
        into.reserve(count);
        for offset in 0..count {
            let message = self.slot(head.wrapping_add(offset)).with_mut(|slot| {
                // SAFETY: as in `pop`: `count` messages are there.
                unsafe { slot.read() }
            });
            // SAFETY: the producer initialised it before it moved `tail` over it.
            into.push(unsafe { message.assume_init() });
        }
        // Pairs with the loads in `push` and `push_many`.
        side.own.store(head.wrapping_add(count), Ordering::Release);
        count
    }

    /// How many messages the consumer knows of; looks again when it knows of none.
    ///
    /// # Safety
    ///
    /// As [`pop`](Self::pop).
    #[inline]
    pub(crate) unsafe fn available(&self) -> usize {
        let side = &self.consumer.0;
        let head = side.own.load(Ordering::Relaxed);
        if side.other_seen.get() == head {
            // Pairs with the store in `push`: what the producer has written is visible.
            side.other_seen
                .set(self.producer.0.own.load(Ordering::Acquire));
        }
        side.other_seen.get().wrapping_sub(head)
    }

    /// How many messages are in, about: for anyone to look at.
    pub(crate) fn len(&self) -> usize {
        let head = self.consumer.0.own.load(Ordering::Relaxed);
        let tail = self.producer.0.own.load(Ordering::Relaxed);
        tail.wrapping_sub(head).min(self.capacity)
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else is left.
        while let Some(message) = unsafe { self.pop() } {
            drop(message);
        }
    }
}

#[cfg(test)]
mod tests;
