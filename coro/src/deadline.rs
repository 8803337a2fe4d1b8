//! Deadlines: `timeout` and `deadline` bound everything a closure waits for.
//!
//! A deadline is a record on the stack of the call that set it, linked to the one outside it, and a timer that
//! names the record:
//!
//! ```text
//!   control block --> inner Deadline --> outer Deadline --> nothing
//!                        ^ timer            ^ timer
//! ```
//!
//! When the timer fires, the record is marked expired and the coroutine's pending interrupt is computed anew: every
//! blocking call inside is refused with [`Interrupt::Elapsed`](crate::wait::Interrupt::Elapsed) from then on, just
//! as after a cancellation. A call that has no error to return unwinds to the *outermost* expired record that is
//! visible, so that nested deadlines which expire together end together.
//!
//! A [`shield`](crate::shield) hides the deadlines outside of it. Those set inside it still work, so that clean-up
//! can be bounded.
//!
//! Invariants:
//! - A record is linked exactly while its call is on the stack, and its timer is live at most as long.
//! - `shields` of the records never grows from inner to outer.
#![expect(
    unsafe_code,
    reason = "records on waiting stacks are reached by pointer"
)]

use crate::cancel::{self, Unwind};
use crate::coroutine::{ControlBlock, State};
use crate::instant::Instant;
use crate::scheduler::{TimerAction, require_current};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::time::Duration;

/// The time given to [`timeout`] or [`deadline`] was over before the closure had done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    /// Kind `TimedOut`.
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// One deadline around the running code.
#[derive(Debug)]
pub(crate) struct Deadline {
    block: NonNull<ControlBlock>,
    outer: Option<NonNull<Deadline>>,
    /// Depth of shields when it was set: under a deeper one it is not seen.
    shields: u32,
    expired: Cell<bool>,
    /// How many calls were refused because of it: if any, the closure's work is not complete.
    refused: Cell<u32>,
}

impl Deadline {
    /// The timer fired.
    ///
    /// # Safety
    ///
    /// `this` is linked: its call has not returned.
    pub(crate) unsafe fn expire(this: NonNull<Self>) {
        // SAFETY: the caller says that it is on its stack still.
        let deadline = unsafe { this.as_ref() };
        deadline.expired.set(true);
        // SAFETY: the call is on the stack of this coroutine, which therefore lives.
        let block = unsafe { deadline.block.as_ref() };
        cancel::refresh(block);
        if block.state.get() == State::Parked && cancel::is_interrupted(block) {
            // SAFETY: a scheduler outlives its coroutines.
            unsafe { block.scheduler.as_ref() }.wake(deadline.block);
        }
    }

    pub(crate) fn mark_refused(&self) {
        self.refused.set(self.refused.get().saturating_add(1));
    }

    pub(crate) fn unmark_refused(&self) {
        self.refused.set(self.refused.get().saturating_sub(1));
    }
}

/// The expired deadlines that the running code can see, inner before outer.
pub(crate) fn visible_expired(block: &ControlBlock) -> impl Iterator<Item = &Deadline> {
    let shields = block.shields.get();
    let mut next = block.deadlines.get();
    std::iter::from_fn(move || {
        // SAFETY: linked records are on the stack of this coroutine.
        let deadline = unsafe { next?.as_ref() };
        next = deadline.outer;
        Some(deadline)
    })
    .take_while(move |deadline| deadline.shields == shields)
    .filter(|deadline| deadline.expired.get())
}

/// Runs `f`; when `duration` is over first, its blocking calls are refused and the result is [`Elapsed`].
///
/// As [`deadline`], from now on.
///
/// # Errors
///
/// [`Elapsed`].
///
/// # Panics
///
/// Outside a coroutine, and with the panic of `f`.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # use std::time::Duration;
/// # coro::testing::run(|| {
/// let slow = coro::timeout(Duration::from_millis(10), || coro::sleep(Duration::from_secs(1)));
/// assert_eq!(slow, Err(coro::Elapsed));
/// let fast = coro::timeout(Duration::from_secs(1), || 42);
/// assert_eq!(fast, Ok(42));
/// # });
/// ```
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let _ = require_current("coro::timeout");
    deadline(Instant::now() + duration, f)
}

/// Runs `f`; once `at` has passed, its blocking calls are refused and the result is [`Elapsed`].
///
/// A closure that never blocks is never disturbed. When it returns although the deadline has passed, its value
/// counts as long as none of its calls was refused; otherwise the value is dropped. Children of a
/// [`scope`](crate::scope()) inside `f` are cancelled when the deadline passes; whatever else `f` has spawned goes on.
///
/// # Cancellation
///
/// A cancellation passes through.
///
/// # Errors
///
/// [`Elapsed`].
///
/// # Panics
///
/// Outside a coroutine, and with the panic of `f`.
pub fn deadline<T>(at: Instant, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let block = require_current("coro::deadline");
    // SAFETY: a scheduler outlives its coroutines.
    let shared = unsafe { block.scheduler.as_ref() };
    let record = Deadline {
        block: NonNull::from(block),
        outer: block.deadlines.get(),
        shields: block.shields.get(),
        expired: Cell::new(at <= Instant::now()),
        refused: Cell::new(0),
    };
    let this = NonNull::from(&record);
    let timer = shared.add_timer(at.as_ns(), TimerAction::Elapse(this));
    block.deadlines.set(Some(this));
    cancel::refresh(block);

    let outcome = catch_unwind(AssertUnwindSafe(f));

    shared.timers.borrow_mut().discard(timer);
    block.deadlines.set(record.outer);
    cancel::refresh(block);
    match outcome {
        Ok(value) if record.refused.get() == 0 => Ok(value),
        Ok(_incomplete) => Err(Elapsed),
        Err(payload) => match payload.downcast::<Unwind>() {
            Ok(unwind) if unwind.stops_at(this) => Err(Elapsed),
            Ok(unwind) => resume_unwind(unwind),
            Err(payload) => resume_unwind(payload),
        },
    }
}
