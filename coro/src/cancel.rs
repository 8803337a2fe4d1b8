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
//! Between two blocking calls a coroutine is never disturbed. [`shield`] hides the request from a stretch of
//! clean-up code. With `panic = "abort"` there is no unwinding: calls with a `Result` go on returning errors, and
//! calls without one return at once.

use crate::coroutine::{ControlBlock, State};
use crate::scheduler::{Shared, require_current};
use crate::wait::Interrupt;
use std::cell::Cell;
use std::ptr::NonNull;

/// Errors a cancelled coroutine gets before it is unwound: enough for any honest clean-up path, few enough that a
/// loop which ignores its errors ends at once.
const MAX_REFUSALS: u8 = 16;

/// The payload of a cancellation's unwinding. Private: only we throw it, only the root catches it for good.
pub(crate) struct Unwind;

/// Asks a coroutine to end.
#[expect(
    unsafe_code,
    reason = "reads a control block that the caller vouches for"
)]
pub(crate) fn request(shared: &Shared, control: NonNull<ControlBlock>) {
    // SAFETY: callers pass the block of a coroutine that has not been released (a handle exists, or it was just
    // found live by the slab), so it is initialised and mapped.
    let block = unsafe { control.as_ref() };
    if matches!(block.state.get(), State::Finished | State::Vacant) {
        return;
    }
    block.cancelled.set(true);
    if block.state.get() == State::Parked && block.shields.get() == 0 {
        shared.wake(control);
    }
}

#[inline(always)]
pub(crate) fn is_interrupted(block: &ControlBlock) -> bool {
    block.cancelled.get() && block.shields.get() == 0
}

/// Counts one refused call; unwinds when it was one too many.
#[cold]
pub(crate) fn refuse(block: &ControlBlock) -> Interrupt {
    let refusals = block.refusals.get().saturating_add(1);
    block.refusals.set(refusals);
    if refusals > MAX_REFUSALS {
        unwind();
    }
    Interrupt::Cancelled
}

/// Ends the current coroutine by unwinding it to its root. Returns only where that is impossible.
#[cold]
pub(crate) fn unwind() {
    if cfg!(panic = "unwind") && !std::thread::panicking() {
        // `resume_unwind` does not run the panic hook: a cancellation is not a bug.
        std::panic::resume_unwind(Box::new(Unwind));
    }
}

/// Runs `f` with cancellation hidden from it: for clean-up that has to block.
///
/// Nested shields add up. When the outermost one ends, the next blocking call sees a cancellation that came
/// meanwhile. A shielded coroutine holds up the shutdown of its core until the grace period is over.
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
    struct Lower<'a>(&'a Cell<u32>);
    impl Drop for Lower<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let shields = &require_current("coro::shield").shields;
    shields.set(shields.get() + 1);
    let _lower = Lower(shields);
    f()
}

/// Whether the current coroutine has been asked to end, shielded or not. `false` outside a coroutine.
///
/// For loops that compute: blocking calls see it by themselves.
#[must_use]
pub fn is_cancelled() -> bool {
    crate::scheduler::current().is_some_and(|block| block.cancelled.get())
}

/// Whether a payload caught by [`std::panic::catch_unwind`] is a cancellation passing through.
///
/// Code that catches panics in a coroutine should hand it on with [`std::panic::resume_unwind`]: a swallowed
/// cancellation comes again at the next blocking call.
#[must_use]
pub fn is_cancellation(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.is::<Unwind>()
}
