//! What a spawn takes from its scheduler and a join gives back: a stack, and a number.
//!
//! Both are a handful of instructions as a rule. What need not be looked at each time - whether a stack is due for a sample,
//! whether there could be more coroutines than may be, whether the ready queue has room for all that are at hand - is looked at
//! at the end of each block of numbers, and when no stack is warm.
//!
//! Invariant: the default group's ready queue has room for all stacks in use and all warm ones.
#![expect(unsafe_code, reason = "the last one to give back frees the scheduler")]

use super::{Shared, current};
use crate::coroutine::{ControlBlock, State};
use crate::prefetch::{self, AHEAD};
use crate::spawn::SpawnError;
use crate::stack::Lease;
use crate::stack::slab::SAMPLE_INTERVAL;
use std::cell::Cell;
use std::ptr::NonNull;

/// What numbers the next coroutines get: unique on this thread, never zero. They are taken from the thread's in blocks, and the
/// end of a block is when a spawn looks at what need not be looked at each time.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: Cell<u64>,
    /// The spawn that would get this number goes the slow way.
    pause: Cell<u64>,
    /// The end of the block.
    end: Cell<u64>,
    /// How many there were in all blocks.
    taken: Cell<u64>,
}

impl Numbers {
    /// How many have been given out.
    pub(super) fn count(&self) -> u64 {
        self.taken.get() - (self.end.get() - self.next.get())
    }
}

impl Shared {
    /// A stack and a number for a new coroutine.
    #[inline(always)]
    pub(crate) fn lease(&self, stack_bytes: Option<usize>) -> Result<(Lease, u64), SpawnError> {
        let id = self.numbers.next.get();
        if stack_bytes.is_none()
            && id != self.numbers.pause.get()
            && let Some(control) = self.slab.take_warm()
        {
            self.numbers.next.set(id + 1);
            if self.live.get() >= prefetch::CROWD_ALIVE {
                self.fetch_warm();
            }
            let lease = Lease {
                control,
                class: 0,
                sampled: false,
            };
            return Ok((lease, id));
        }
        self.lease_slowly(stack_bytes)
    }

    /// Many have been spawned and have not ended: the stack of a spawn soon to come is not in the caches.
    #[inline(never)]
    fn fetch_warm(&self) {
        if let Some(soon) = self.slab.peek_warm(AHEAD / 2 - 1) {
            prefetch::vacant(soon);
        }
    }

    /// As [`lease`](Self::lease): no stack is warm, or it is of another size, or it is time to look at everything.
    #[cold]
    #[inline(never)]
    fn lease_slowly(&self, stack_bytes: Option<usize>) -> Result<(Lease, u64), SpawnError> {
        let numbers = &self.numbers;
        let is_used_up = numbers.next.get() == numbers.end.get();
        // Not at the first spawn: few coroutines are not worth a measurement.
        let chance = is_used_up && numbers.taken.get() > 0;
        let lease = self.slab.acquire(stack_bytes, chance)?;
        if is_used_up {
            let block = current::uniques(SAMPLE_INTERVAL);
            numbers.next.set(*block.start());
            numbers.end.set(block.end() + 1);
            numbers.taken.set(numbers.taken.get() + SAMPLE_INTERVAL);
        }
        let id = numbers.next.get();
        numbers.next.set(id + 1);
        // What is counted exactly is counted in `acquire`.
        let oversized = self.slab.is_oversized();
        let pause = if oversized { id + 1 } else { numbers.end.get() };
        numbers.pause.set(pause);
        self.groups
            .default_group()
            .ready
            .reserve(self.slab.at_hand());
        Ok((lease, id))
    }

    /// Gives back the stack of a finished coroutine, and `self` with it when that was the last thing holding it.
    ///
    /// # Safety
    ///
    /// `control` has finished, its result has been taken or dropped, and no handle to it is left. `self` was
    /// obtained from a pointer that may be used to free it; it is not used after the call.
    #[inline(always)]
    pub(crate) unsafe fn release(shared: NonNull<Self>, control: NonNull<ControlBlock>) {
        // SAFETY: `shared` is alive: it is freed only here and in `Scheduler::drop`, when no stack is in use.
        let this = unsafe { shared.as_ref() };
        // SAFETY: the caller says that this coroutine has finished: we are the only one to look at its block.
        let block = unsafe { control.as_ref() };
        debug_assert_eq!(block.state.get(), State::Finished);
        let class = block.class;
        // SAFETY: finished, and the caller was the last to refer to it.
        unsafe { ControlBlock::retire(control) };
        this.slab.release(control, class);
        if this.orphaned.get() {
            // SAFETY: as for this function.
            unsafe { Self::free_if_last(shared) };
        }
    }

    /// # Safety
    ///
    /// The owner is gone, and so is the caller's coroutine. `shared` is alive, and not used after the call.
    #[cold]
    unsafe fn free_if_last(shared: NonNull<Self>) {
        // SAFETY: the caller says that it is alive.
        if unsafe { shared.as_ref() }.slab.in_use() == 0 {
            // SAFETY: the owner left it to us (`orphaned`), and no coroutine or handle is left.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
        }
    }
}
