//! A batch: the loop that switches to coroutines, and what is done with those that return from their root.
//!
//! It runs who is ready, first in first out, until the batch is over, nobody is ready or the time slice is spent. The resume is
//! inlined into one flat loop, and the suspend into the waits: every call between the two costs a mispredicted return, which is
//! more than the switch itself. Those who run soon are asked for ahead (prefetch.rs). Only a join may switch by itself (within.rs).
//!
//! No user code runs on the loop's own stack.
#![expect(
    unsafe_code,
    reason = "control blocks are reached by pointer; the keeper of each is named"
)]

use super::current::{self, Entered};
use super::{ReadyQueue, Scheduler, Shared};
use crate::coroutine::{ControlBlock, Marks, State};
use crate::driver::Driver;
use crate::prefetch::{self, AHEAD};
use crate::scope::Family;
use crate::switch::{self, Switch};
use std::ptr::NonNull;

/// The clock is read once in this many switches, or as soon as a coroutine has found that the slice is spent.
const SLICE_CHECK: usize = 32;

impl Scheduler {
    #[inline(always)]
    pub(super) fn run_batch<D: Driver>(
        &self,
        driver: &D,
        queue: &ReadyQueue,
        budget: usize,
        started_ns: u64,
        entered: &Entered,
        urgent: impl Fn() -> bool,
    ) -> usize {
        let shared = self.shared();
        let mut ran = 0;
        while ran < budget {
            let from = queue.popped();
            let until = from.wrapping_add((budget - ran).min(SLICE_CHECK));
            shared.run_until.set(until);
            let is_crowded = queue.len() > AHEAD;
            let crowd = shared.crowd.get();
            let is_over = self.run_some(queue, is_crowded, crowd, entered, &urgent);
            ran += queue.popped().wrapping_sub(from);
            // The driver may ask who is current: that is nobody, here on the loop's own stack.
            entered.clear_coroutine();
            if is_over
                || ran == budget
                || driver.now().saturating_sub(started_ns) >= shared.time_slice_ns
            {
                break;
            }
        }
        ran
    }

    /// Runs who is ready, until it is time to look at the clock. Whether it is over before: nobody is ready, or others are urgent.
    #[inline(always)]
    fn run_some(
        &self,
        queue: &ReadyQueue,
        is_crowded: bool,
        crowd: usize,
        entered: &Entered,
        urgent: impl Fn() -> bool,
    ) -> bool {
        while queue.popped() != self.shared().run_until.get() {
            let Some(control) = queue.pop() else {
                return true;
            };
            // SAFETY: a coroutine in the ready queue is live, so its block is initialised and mapped.
            let block = unsafe { control.as_ref() };
            let mut soon = None;
            if is_crowded {
                soon = queue.peek(AHEAD);
                if let Some(soon) = soon {
                    prefetch::line(soon.as_ptr());
                }
                if queue.len() >= crowd
                    && let Some(next) = queue.peek(AHEAD / 2)
                {
                    // SAFETY: so many are in the queue, hence it is: live, as above.
                    prefetch::frames(unsafe { next.as_ref() });
                }
            }
            // `Running` it says itself, once it is on its own stack (`wait::switch_out`).
            entered.set_coroutine(control);
            if has_ended_after_resume(block) {
                block.set_ends_soon(soon);
                self.shared().finish(control);
            }
            if urgent() {
                return true;
            }
        }
        false
    }
}

/// Switches to a coroutine that has been taken out of the ready queue. Whether it has ended; else it has suspended itself.
#[inline(always)]
pub(super) fn has_ended_after_resume(block: &ControlBlock) -> bool {
    debug_assert_eq!(block.state.get(), State::Ready);
    // SAFETY: it was in the queue, which holds who is ready, exactly once.
    unsafe { switch::resume(block) }
}

impl Shared {
    /// A coroutine has returned from its root: tell who waits, and free what nobody waits for.
    #[inline(always)]
    fn finish(&self, control: NonNull<ControlBlock>) {
        let block = self.count_out(control);
        if !block.is(Marks::AFTER_THE_END) {
            return;
        }
        if block.is(Marks::JOINED)
            && let Some(joiner) = block.joiner()
        {
            // SAFETY: a coroutine that joins has not ended.
            let joining = unsafe { joiner.as_ref() };
            // Its own: several schedulers may take turns on this thread.
            crate::wait::scheduler_of(joining).wake(joiner);
        }
        if block.is(Marks::UNUSUAL) {
            finish_slowly(control);
        }
    }

    /// As [`finish`](Self::finish), for a joiner that needs no wake.
    #[inline(always)]
    pub(super) fn finish_joined(&self, control: NonNull<ControlBlock>) {
        if self.count_out(control).is(Marks::UNUSUAL) {
            finish_slowly(control);
        }
    }

    /// The end of what every coroutine has: of its right to run.
    #[inline(always)]
    fn count_out<'a>(&self, control: NonNull<ControlBlock>) -> &'a ControlBlock {
        // SAFETY: the coroutine has just run, so its block is initialised and mapped, and nobody has released it yet.
        let block = unsafe { control.as_ref() };
        debug_assert_eq!(block.state.get(), State::Finished);
        let switch = block.switch.get().cast::<Switch>();
        // SAFETY: initialised at spawn, dropped exactly once, here: it has finished and is resumed no more.
        unsafe { switch.drop_in_place() };
        self.live.set(self.live.get() - 1);
        block
    }
}

#[cold]
#[inline(never)]
fn finish_slowly(control: NonNull<ControlBlock>) {
    // SAFETY: it has just ended, and is released no earlier than below. No parameter: that would have to be valid to the end.
    let block = unsafe { control.as_ref() };
    if let Some(family) = block.scope() {
        // SAFETY: a scope does not end before its last child (scope.rs), and this one has just ended.
        unsafe { Family::child_ended(family, control) };
    }
    if block.is(Marks::SAMPLED) {
        let shared = crate::wait::scheduler_of(block);
        shared.slab.measure(block.slot(), block.site);
    }
    if block.is(Marks::DETACHED) {
        // A signal handler would look at its name.
        current::clear_coroutine();
        // SAFETY: finished, its root has dropped the result (spawn.rs), and there is no handle.
        unsafe { Shared::release(block.scheduler, control) };
    }
}
