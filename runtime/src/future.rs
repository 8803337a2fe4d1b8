//! Futures on a coroutine: [`block_on`] drives any of them to its end.
//!
//! ```text
//!   block_on: poll --pending--> park the coroutine ---+
//!              ^                                      |  wakes are hints: poll again
//!              +------------ Waker::wake <------------+  from this core, another one, any thread, at any time
//! ```
//!
//! The waker is a waiter of this core (mailbox/waiter.rs): `Send`, `Sync`, counted. A wake from the same core makes the
//! coroutine ready; one from elsewhere goes through the core's wake list, which cannot be full. After the future is
//! done, or the runtime has ended, a wake finds nobody: nothing happens.

use crate::mailbox::{Stop, Waiter, block};
use coring_coro::wait::{self, Refusal};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        Waiter::tell(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Waiter::tell(self);
    }
}

/// Drives a future to its end: in a coroutine the coroutine waits, elsewhere the thread.
///
/// The future may be any: it need be neither `Send` nor `'static`. It is polled on this coroutine's stack, at once and
/// after each wake; a poll may itself call what waits. Futures that need the reactor of another runtime need that runtime.
///
/// # Parks
///
/// While the future is pending.
///
/// # Cancellation
///
/// When the caller is cancelled, the future is dropped.
///
/// # Errors
///
/// When the caller may not wait (any more).
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     assert_eq!(coring::coro::block_on(async { 6 * 7 }).unwrap(), 42);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
pub fn block_on<F: Future>(future: F) -> Result<F::Output, Refusal> {
    // Futures that are ready at once, one after the other, never park.
    wait::give_way();
    let mut future = pin!(future);
    let mut waker = None;
    let outcome = block("a future", None, |waiter| {
        let waker = waker.get_or_insert_with(|| Waker::from(Arc::clone(waiter)));
        waiter.poll(
            || match future.as_mut().poll(&mut Context::from_waker(waker)) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            },
        )
    });
    outcome.map_err(|stop| match stop {
        Stop::Refused(refusal) => refusal,
        Stop::TimedOut => unreachable!("there is no limit"),
    })
}
