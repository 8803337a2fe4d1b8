//! The ready queue: first in, first out, over a power-of-two ring of pointers.
//!
//! A coroutine is in it at most once, so its capacity is kept at or above the number of live coroutines, and of those
//! that a spawn can make without looking (`Shared::lease`), and a push can neither fail nor allocate.
//!
//! Each switch takes one from the front, and each wake puts one to the back: the ring is reached without the counter of a
//! `RefCell` and without bounds checks, which were 40 of the 560 instructions of a spawn and join.
//!
//! Invariants: the length of the ring is a power of two, so a masked index lies in it. No reference to the ring outlives a
//! method of this file; the one that replaces it (`resize`) holds none.
#![expect(unsafe_code, reason = "the ring is reached without checks")]

use crate::coroutine::ControlBlock;
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;

/// Places of a new queue.
const FEWEST: usize = 64;
/// A ring this long is made shorter when it is no longer needed: 64 KiB.
const LONG: usize = 8192;

type Place = Cell<Option<NonNull<ControlBlock>>>;

#[derive(Debug)]
pub(crate) struct ReadyQueue {
    ring: UnsafeCell<Box<[Place]>>,
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self {
            ring: UnsafeCell::new(places(FEWEST)),
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    #[inline(always)]
    fn ring(&self) -> &[Place] {
        // SAFETY: this type is not `Sync`, and only `resize` replaces the ring, at a moment when nobody holds a reference
        // to it (see the invariants).
        unsafe { &*self.ring.get() }
    }

    /// The place of the coroutine with this running number.
    #[inline(always)]
    fn place(&self, number: usize) -> &Place {
        let ring = self.ring();
        let index = number & (ring.len() - 1);
        // SAFETY: the length is a power of two, never zero (`places`): a masked index is below it.
        unsafe { ring.get_unchecked(index) }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    /// How many have been popped since the beginning.
    #[inline(always)]
    pub(crate) fn popped(&self) -> usize {
        self.head.get()
    }

    #[inline(always)]
    pub(crate) fn push(&self, control: NonNull<ControlBlock>) {
        debug_assert!(
            self.len() < self.ring().len(),
            "the ring holds every live coroutine"
        );
        let tail = self.tail.get();
        self.place(tail).set(Some(control));
        self.tail.set(tail.wrapping_add(1));
    }

    /// Who will be popped after `ahead` others, if so many are ready; otherwise anybody. For a prefetch.
    #[inline(always)]
    pub(crate) fn peek(&self, ahead: usize) -> Option<NonNull<ControlBlock>> {
        self.place(self.head.get().wrapping_add(ahead)).get()
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<NonNull<ControlBlock>> {
        let head = self.head.get();
        if head == self.tail.get() {
            return None;
        }
        self.head.set(head.wrapping_add(1));
        self.place(head).get()
    }

    /// Whether this one is ready, and nobody else.
    #[inline(always)]
    pub(crate) fn holds_only(&self, control: NonNull<ControlBlock>) -> bool {
        self.len() == 1 && self.peek(0) == Some(control)
    }

    /// Makes room for `live` coroutines.
    #[inline]
    pub(crate) fn reserve(&self, live: usize) {
        if live > self.ring().len() {
            self.resize(live);
        }
    }

    /// Gives memory back, when many more coroutines were live once than are now.
    pub(crate) fn shrink(&self, live: usize) {
        let long = self.ring().len();
        if long > LONG && long / 8 > live {
            self.resize(2 * live.max(FEWEST));
        }
    }

    /// Puts what is ready into an order drawn from `random`; returns how many there are.
    #[cold]
    pub(crate) fn shuffle(&self, random: &Cell<u64>) -> usize {
        let (head, len) = (self.head.get(), self.len());
        let place = |index: usize| self.place(head.wrapping_add(index));
        for last in (1..len).rev() {
            place(last).swap(place(draw(random, last + 1)));
        }
        len
    }

    #[cold]
    fn resize(&self, live: usize) {
        let ring = places(live);
        let (head, mask) = (self.head.get(), ring.len() - 1);
        for number in 0..self.len() {
            let number = head.wrapping_add(number);
            ring[number & mask].set(self.place(number).get());
        }
        // SAFETY: as in `ring`; here is that moment.
        unsafe { *self.ring.get() = ring };
    }
}

/// A number below `bound`: xorshift64*, which is enough to vary an order.
fn draw(random: &Cell<u64>, bound: usize) -> usize {
    let mut x = random.get();
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random.set(x);
    let spread = u128::from(x.wrapping_mul(0x2545_F491_4F6C_DD1D));
    usize::try_from((spread * bound as u128) >> 64).expect("it is below the bound")
}

/// Places for so many at least: a power of two.
fn places(count: usize) -> Box<[Place]> {
    let count = count.next_power_of_two();
    (0..count).map(|_| Place::new(None)).collect()
}

#[cfg(test)]
mod tests;
