//! The ready queue: first in, first out, over a power-of-two ring of pointers.
//!
//! A coroutine is in it at most once, so its capacity is kept at or above the number of live coroutines (spawn
//! grows it) and a push can neither fail nor allocate.

use crate::coroutine::ControlBlock;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

type Place = Cell<Option<NonNull<ControlBlock>>>;

#[derive(Debug)]
pub(crate) struct ReadyQueue {
    ring: RefCell<Box<[Place]>>,
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self {
            ring: RefCell::new(places(64)),
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    #[inline(always)]
    pub(crate) fn push(&self, control: NonNull<ControlBlock>) {
        let ring = self.ring.borrow();
        debug_assert!(
            self.len() < ring.len(),
            "the ring holds every live coroutine"
        );
        let tail = self.tail.get();
        ring[tail & (ring.len() - 1)].set(Some(control));
        self.tail.set(tail.wrapping_add(1));
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<NonNull<ControlBlock>> {
        let head = self.head.get();
        if head == self.tail.get() {
            return None;
        }
        self.head.set(head.wrapping_add(1));
        let ring = self.ring.borrow();
        ring[head & (ring.len() - 1)].get()
    }

    /// Makes room for `live` coroutines.
    #[inline]
    pub(crate) fn reserve(&self, live: usize) {
        if live > self.ring.borrow().len() {
            self.grow(live);
        }
    }

    #[cold]
    fn grow(&self, live: usize) {
        let bigger = places(live.next_power_of_two());
        let mut count = 0;
        while let Some(control) = self.pop() {
            bigger[count].set(Some(control));
            count += 1;
        }
        *self.ring.borrow_mut() = bigger;
        self.head.set(0);
        self.tail.set(count);
    }
}

fn places(count: usize) -> Box<[Place]> {
    (0..count).map(|_| Place::new(None)).collect()
}
