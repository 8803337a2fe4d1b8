//! Warm stacks: a stack of those that are free and have pages. Spawn takes the last one given back; the coldest end is trimmed.
//!
//! ```text
//!   [ - - - w w w w w ]  <- pop, push
//!           ^ bottom: what lies before it has been trimmed
//! ```
//!
//! A spawn pops and a join pushes, by a handful of instructions each: no counter of a `RefCell`, and no ring that wraps.
//!
//! Invariants: `bottom` is no more than the length. No reference to the places outlives a method of this file, and none of them
//! calls anything that could come back here.
#![expect(unsafe_code, reason = "the places are reached without a counter")]

use crate::coroutine::ControlBlock;
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;

/// A table this long is made smaller once what it named has been trimmed: 64 KiB.
const LONG: usize = 8192;

type Places = Vec<NonNull<ControlBlock>>;

#[derive(Debug, Default)]
pub(super) struct Warm {
    places: UnsafeCell<Places>,
    bottom: Cell<usize>,
}

impl Warm {
    #[expect(clippy::mut_from_ref, reason = "private; see the invariants")]
    #[inline(always)]
    fn places(&self) -> &mut Places {
        // SAFETY: this type is not `Sync`, and no other reference is alive (see the invariants).
        unsafe { &mut *self.places.get() }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.places().len() - self.bottom.get()
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<NonNull<ControlBlock>> {
        let places = self.places();
        let top = places.len().wrapping_sub(1);
        if places.len() <= self.bottom.get() {
            return None;
        }
        // SAFETY: the length is above the bottom, hence at least one: this is one less.
        unsafe { places.set_len(top) };
        // SAFETY: inside of what is allocated: it was the last one a moment ago.
        let last = unsafe { places.as_ptr().add(top) };
        // SAFETY: nothing has been written to its place since.
        Some(unsafe { last.read() })
    }

    #[inline(always)]
    pub(super) fn push(&self, control: NonNull<ControlBlock>) {
        self.places().push(control);
    }

    /// Who will be popped after `ahead` others, if so many are there; perhaps one that has been trimmed. For a prefetch.
    #[inline(always)]
    pub(super) fn peek(&self, ahead: usize) -> Option<NonNull<ControlBlock>> {
        let places = self.places();
        let place = places.len().wrapping_sub(ahead + 1);
        places.get(place).copied()
    }

    /// Takes `count` from the cold end. There are as many.
    pub(super) fn take_coldest(&self, count: usize) -> Vec<NonNull<ControlBlock>> {
        let places = self.places();
        let bottom = self.bottom.get();
        let coldest = places[bottom..bottom + count].to_vec();
        let bottom = bottom + count;
        self.bottom.set(bottom);
        // Each is moved once for as many that have been trimmed.
        if bottom > places.len() / 2 {
            places.drain(..bottom);
            self.bottom.set(0);
        }
        coldest
    }

    /// Gives memory back, when many more were warm once than are now.
    pub(super) fn shrink(&self) {
        let places = self.places();
        if places.capacity() > LONG {
            places.drain(..self.bottom.replace(0));
            places.shrink_to(2 * places.len());
        }
    }
}
