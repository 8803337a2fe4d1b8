//! Join handles: the claim on a coroutine's result.
//!
//! The result waits in the coroutine's own stack (spawn.rs), so a handle is one word and needs no count: the
//! stack is given back when the coroutine has ended *and* the handle is gone. A handle may outlive its scheduler;
//! the last one then frees the memory.
#![expect(
    unsafe_code,
    reason = "reads the result out of the finished coroutine's stack"
)]

use crate::cancel;
use crate::coroutine::{ControlBlock, Marks, State};
use crate::payload::PanicPayload;
use crate::prefetch;
use crate::scheduler::Shared;
use crate::spawn::{Outcome, below};
use crate::wait::{self, Alarm, Refusal};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

/// Why there is no result.
#[non_exhaustive]
pub enum JoinError {
    /// The coroutine panicked; its payload is for [`std::panic::resume_unwind`].
    Panicked(PanicPayload),
    /// The coroutine was cancelled and ended by that.
    Cancelled,
    /// The *caller* of `join` could not wait: it was itself cancelled, is unwinding, or is no coroutine. The
    /// joined coroutine goes on, detached.
    Refused(Refusal),
}

impl JoinError {
    /// The text of the panic, where it had one.
    #[must_use]
    pub fn panic_message(&self) -> Option<&str> {
        match self {
            Self::Panicked(payload) => payload.message(),
            _ => None,
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(_) => write!(f, "Panicked({:?})", self.panic_message().unwrap_or("..")),
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Refused(refusal) => write!(f, "Refused({refusal:?})"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(_) => match self.panic_message() {
                Some(text) => write!(f, "the coroutine panicked: {text}"),
                None => f.write_str("the coroutine panicked"),
            },
            Self::Cancelled => f.write_str("the coroutine was cancelled"),
            Self::Refused(refusal) => write!(f, "cannot wait for the coroutine: {refusal}"),
        }
    }
}

impl std::error::Error for JoinError {}

/// The right to the result of a coroutine. Dropping it detaches the coroutine, which runs on.
///
/// A coroutine that has ended keeps its stack until its handle is joined or dropped.
pub struct JoinHandle<T> {
    control: NonNull<ControlBlock>,
    outcome: PhantomData<Outcome<T>>,
}

impl<T> JoinHandle<T> {
    #[inline(always)]
    pub(crate) fn new(control: NonNull<ControlBlock>) -> Self {
        Self {
            control,
            outcome: PhantomData,
        }
    }

    #[inline(always)]
    fn block(&self) -> &ControlBlock {
        // SAFETY: `handle` is true as long as we exist, and keeps the block from being released.
        unsafe { self.control.as_ref() }
    }

    /// Waits until the coroutine has ended and returns its result.
    ///
    /// # Parks
    ///
    /// Unless it has ended already.
    ///
    /// # Cancellation
    ///
    /// When the caller is cancelled, returns [`JoinError::Refused`]; the joined coroutine is detached, not
    /// cancelled.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: it panicked, it was cancelled, or the caller could not wait.
    ///
    /// # Panics
    ///
    /// When a coroutine joins itself.
    // Inlined, down to the switch: a return from below a switch is mispredicted, which costs as much as the switch.
    #[inline(always)]
    pub fn join(self) -> Result<T, JoinError> {
        if !self.is_finished()
            && let Err(refusal) = self.wait(None)
        {
            return Err(JoinError::Refused(refusal));
        }
        self.take()
    }

    /// As [`join`](Self::join), for `limit` at the most; then the handle comes back.
    ///
    /// # Errors
    ///
    /// The handle itself, when the coroutine has not ended. What `join` returns is inside the `Ok`.
    ///
    /// # Panics
    ///
    /// When a coroutine joins itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coring_coro as coro;
    /// # use std::time::Duration;
    /// # coro::testing::run(|| {
    /// let slow = coro::spawn(|| { coro::sleep(Duration::from_secs(2)); "done" });
    /// let slow = slow.join_timeout(Duration::from_secs(1)).unwrap_err();
    /// assert_eq!(slow.join().unwrap(), "done");
    /// # });
    /// ```
    pub fn join_timeout(self, limit: Duration) -> Result<Result<T, JoinError>, Self> {
        if !self.is_finished() {
            let waited = wait::with_alarm(limit, |alarm| self.wait(Some(alarm)));
            match waited {
                Err(refusal) => return Ok(Err(JoinError::Refused(refusal))),
                Ok(()) if !self.is_finished() => return Err(self),
                Ok(()) => {}
            }
        }
        Ok(self.take())
    }

    /// Parks until the coroutine has ended, or the alarm rang.
    #[inline(always)]
    fn wait(&self, alarm: Option<&Alarm<'_>>) -> Result<(), Refusal> {
        let block = self.block();
        let me = wait::begin_block()?;
        if NonNull::from(me) == self.control {
            join_itself();
        }
        block.set_joiner(Some(NonNull::from(me)));
        loop {
            if wait::announce(me, "join") {
                if wait::scheduler_of(me).run_within(me, self.control) {
                    return Ok(());
                }
                wait::leave(me);
            }
            if self.is_finished() {
                return Ok(());
            }
            if cancel::is_interrupted(me) {
                block.set_joiner(None);
                return Err(Refusal::Interrupted(wait::refuse_current()));
            }
            if alarm.is_some_and(Alarm::rang) {
                block.set_joiner(None);
                return Ok(());
            }
        }
    }

    /// Whether the coroutine has ended, so that [`join`](Self::join) will not wait.
    #[must_use]
    #[inline(always)]
    pub fn is_finished(&self) -> bool {
        self.block().state.get() == State::Finished
    }

    /// Asks the coroutine to end: the blocking call it is in, and each later one, is refused.
    ///
    /// Returns at once; `join` tells when it has ended. Idempotent. A coroutine that never blocks never notices, nor does one whose
    /// calls never have to wait, such as a lock that is always free or a channel with something in it each time: unless it asks
    /// [`coro::is_cancelled`](crate::is_cancelled) or comes by a [`coro::checkpoint`](crate::checkpoint). One that has not started does not start.
    pub fn cancel(&self) {
        let block = self.block();
        if block.state.get() != State::Finished {
            cancel::request(self.control);
        }
    }

    /// The name given to [`Builder::name`](crate::Builder::name).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.block().name()
    }

    pub(crate) fn control(&self) -> NonNull<ControlBlock> {
        self.control
    }

    /// Takes the outcome of a finished coroutine and gives its stack back.
    #[inline(always)]
    fn take(self) -> Outcome<T> {
        let this = std::mem::ManuallyDrop::new(self);
        let shared = this.block().scheduler;
        let soon = this.block().ends_soon();
        if !soon.is_null() {
            prefetch::line(soon);
            // Where a small outcome lies.
            prefetch::line(soon.wrapping_sub(1));
        }
        let place = below::<Outcome<T>>(this.control);
        // SAFETY: finished with a handle: the root has written the outcome, and nobody has read it.
        let outcome = match unsafe { place.as_ref() } {
            // Only the value, as it was written: a load of more than one store wrote waits for all of them.
            // SAFETY: as above; it is not used again where it is.
            Ok(value) => Ok(unsafe { ptr::read(value) }),
            // SAFETY: as above.
            Err(_) => unsafe { place.read() },
        };
        // SAFETY: finished, outcome taken, and this was the handle. `scheduler` points to the leaked box.
        unsafe { Shared::release(shared, this.control) };
        outcome
    }

    /// What dropping does, but hands out the outcome of a coroutine that has finished.
    pub(crate) fn take_or_detach(self) -> Option<Outcome<T>> {
        if self.is_finished() {
            return Some(self.take());
        }
        let this = std::mem::ManuallyDrop::new(self);
        this.block().mark(Marks::DETACHED);
        None
    }
}

#[cold]
fn join_itself() -> ! {
    panic!("a coroutine cannot join itself: it would wait for ever")
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let this = Self {
            control: self.control,
            outcome: PhantomData,
        };
        drop(this.take_or_detach());
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("coroutine", &format_args!("{}", self.block().label()))
            .field("finished", &self.is_finished())
            .finish()
    }
}
