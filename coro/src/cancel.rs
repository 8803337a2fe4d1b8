//! Cancellation: level-triggered, seen by blocking calls, never in the middle of anything else.
//!
//! ```text
//!   JoinHandle::cancel --> cancelled = true; a parked coroutine is woken
//!                               |
//!      the blocking call it is in, and every later one, is refused:
//!        has a Result  -> Err, up to MAX_REFUSALS times   (I/O cancels and reaps its operation first)
//!        has none, or one refusal too many -> unwinds with a private payload, caught at the root
//!                               |
//!                     join says `JoinError::Cancelled`, or the value if the closure returned one after all
//! ```
//!
//! A deadline that passes (deadline.rs) is the same for the stretch of code it bounds: refused calls, then an
//! unwinding, which ends at the call that set the deadline.
//!
//! Code that swallows the unwinding with `catch_unwind` meets it again at its next blocking call; after
//! a few rounds of that the other coroutines run in between, so that a stubborn one hurts only itself.
//!
//! Between two blocking calls a coroutine is never disturbed. [`shield`] hides the request from a stretch of
//! clean-up code. With `panic = "abort"` there is no unwinding: calls with a `Result` go on returning errors, and
//! calls without one return at once.

use crate::coroutine::{ControlBlock, Marks, Pending, State};
use crate::deadline::{self, Deadline};
use crate::scheduler::require_current;
use crate::wait::{self, Interrupt};
use std::ptr::NonNull;

/// Errors an interrupted coroutine gets before it is unwound: enough for any honest clean-up path, few enough that
/// a loop which ignores its errors ends at once.
const MAX_REFUSALS: u8 = 16;
/// Refusals after which code that also swallows the unwinding lets the others run in between.
const STUBBORN: u8 = 32;

/// The payload of an interrupt's unwinding. Private: only we throw it, only a deadline or the root stop it for good.
pub(crate) struct Unwind {
    /// Address of the deadline it goes to; zero for the root.
    target: usize,
}

impl Unwind {
    pub(crate) fn stops_at(&self, deadline: NonNull<Deadline>) -> bool {
        self.target == deadline.addr().get()
    }
}

/// Asks a coroutine to end.
#[expect(
    unsafe_code,
    reason = "reads a control block that the caller vouches for"
)]
pub(crate) fn request(control: NonNull<ControlBlock>) {
    // SAFETY: callers pass the block of a coroutine that has not been released (a handle exists, it is a child of
    // a scope, or it was just found live by the slab), so it is initialised and mapped.
    let block = unsafe { control.as_ref() };
    if matches!(block.state.get(), State::Finished | State::Vacant) {
        return;
    }
    block.mark(Marks::CANCELLED);
    refresh(block);
    if block.state.get() == State::Parked && is_interrupted(block) {
        // SAFETY: a scheduler outlives the coroutines that have not ended on it.
        unsafe { block.scheduler.as_ref() }.wake(control);
    }
}

/// Computes anew what the coroutine's blocking calls are refused for. Called whenever a part of it changes, so that
/// the hot path reads one byte.
pub(crate) fn refresh(block: &ControlBlock) {
    let pending = if block.is(Marks::CANCELLED) && block.shields.get() == 0 {
        Pending::Cancelled
    } else if deadline::visible_expired(block).next().is_some() {
        Pending::Elapsed
    } else {
        Pending::Nothing
    };
    if block.pending.replace(pending) != pending {
        block.refusals.set(0);
    }
}

#[inline(always)]
pub(crate) fn is_interrupted(block: &ControlBlock) -> bool {
    block.pending.get() != Pending::Nothing
}

/// What is pending, for the caller of a blocking call.
#[inline(always)]
pub(crate) fn interrupt(block: &ControlBlock) -> Option<Interrupt> {
    match block.pending.get() {
        Pending::Nothing => None,
        Pending::Cancelled => Some(Interrupt::Cancelled),
        Pending::Elapsed => Some(Interrupt::Elapsed),
    }
}

/// Counts one refused call; unwinds when it was one too many.
#[cold]
pub(crate) fn refuse(block: &ControlBlock) -> Interrupt {
    count_refusal(block);
    if block.refusals.get() > MAX_REFUSALS {
        throw(block);
    }
    interrupt(block).unwrap_or(Interrupt::Cancelled)
}

/// Ends what was interrupted by unwinding to its edge: the outermost expired deadline, or the root of a cancelled
/// coroutine. Returns only where that is impossible.
#[cold]
pub(crate) fn unwind(block: &ControlBlock) {
    count_refusal(block);
    throw(block);
}

/// The wait of a scope has been interrupted: it goes on, but what is inside a deadline is not complete.
pub(crate) fn refused_by_scope(block: &ControlBlock) {
    count_refusal(block);
}

fn count_refusal(block: &ControlBlock) {
    block.refusals.set(block.refusals.get().saturating_add(1));
    if block.pending.get() == Pending::Elapsed {
        deadline::visible_expired(block).for_each(Deadline::mark_refused);
    }
}

/// Takes back the refusal that was counted last.
#[cold]
pub(crate) fn forgive(block: &ControlBlock) {
    block.refusals.set(block.refusals.get().saturating_sub(1));
    if block.pending.get() == Pending::Elapsed {
        deadline::visible_expired(block).for_each(Deadline::unmark_refused);
    }
}

fn throw(block: &ControlBlock) {
    if cfg!(panic = "abort") || std::thread::panicking() {
        return;
    }
    if block.refusals.get() > STUBBORN {
        // Somebody catches the unwinding and tries again, perhaps for ever: the others must not starve.
        wait::requeue(block);
    }
    let target = match block.pending.get() {
        Pending::Elapsed => deadline::visible_expired(block)
            .last()
            .map_or(0, |outermost| NonNull::from(outermost).addr().get()),
        Pending::Cancelled | Pending::Nothing => 0,
    };
    // `resume_unwind` does not run the panic hook: an interrupt is not a bug.
    std::panic::resume_unwind(Box::new(Unwind { target }));
}

/// Runs `f` with cancellation and outer deadlines hidden from it: for clean-up that has to block.
///
/// Nested shields add up. When the outermost one ends, the next blocking call sees a cancellation that came
/// meanwhile. A [`timeout`](crate::timeout()) inside the shield works, so clean-up can be bounded. A shielded coroutine holds up the shutdown of its core until the grace period is over.
///
/// # Panics
///
/// Outside a coroutine.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let worker = coro::spawn(|| {
///     coro::shield(|| coro::yield_now()); // not interrupted
///     "cleaned up"
/// });
/// coro::yield_now();
/// worker.cancel();
/// assert_eq!(worker.join().unwrap(), "cleaned up");
/// # });
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    struct Lower<'a>(&'a ControlBlock);
    impl Drop for Lower<'_> {
        fn drop(&mut self) {
            self.0.shields.set(self.0.shields.get() - 1);
            refresh(self.0);
        }
    }
    let block = require_current("coro::shield");
    block.shields.set(block.shields.get() + 1);
    refresh(block);
    let _lower = Lower(block);
    f()
}

/// Whether the current coroutine has been asked to end, shielded or not. `false` outside a coroutine.
///
/// For loops that compute: blocking calls see it by themselves.
#[must_use]
pub fn is_cancelled() -> bool {
    crate::scheduler::current().is_some_and(|block| block.is(Marks::CANCELLED))
}

/// Whether a payload caught by [`std::panic::catch_unwind`] is a cancellation passing through.
///
/// Code that catches panics in a coroutine should hand it on with [`std::panic::resume_unwind`]: a swallowed
/// cancellation comes again at the next blocking call.
#[must_use]
pub fn is_cancellation(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.is::<Unwind>()
}
