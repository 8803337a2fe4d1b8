//! A condition variable for one core.
//!
//! Waiting and unlocking are one step, since nothing runs in between. A waiter that was notified takes the mutex
//! again whatever happens to it meanwhile, so a notification is never eaten by one that was cancelled or timed out.

use super::queue::WaitQueue;
use super::{MutexGuard, WaitError};
use crate::cancel;
use crate::instant::Instant;
use crate::scheduler::require_current;
use std::time::Duration;

/// As [`std::sync::Condvar`], for the coroutines of one core. Notifications wake the longest waiting first.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let ready = coro::sync::Mutex::new(false);
/// let changed = coro::sync::Condvar::new();
/// coro::scope(|s| {
///     s.spawn(|| drop(changed.wait_while(ready.lock(), |ready| !*ready)));
///     s.spawn(|| {
///         *ready.lock() = true;
///         changed.notify_one();
///     });
/// });
/// # });
/// ```
#[derive(Debug, Default)]
pub struct Condvar {
    queue: WaitQueue,
}

/// Whether a wait with a limit ended by the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over before a notification came.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queue: WaitQueue::new(),
        }
    }

    /// Unlocks, waits for a notification, locks again. May return without a notification: look at the condition.
    ///
    /// # Parks
    ///
    /// Until notified, and until the mutex is free again.
    ///
    /// # Cancellation
    ///
    /// A coroutine that was not notified is unwound, with the mutex unlocked.
    ///
    /// # Panics
    ///
    /// Outside a coroutine.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_for(guard, None).0
    }

    /// [`wait`](Self::wait)s as long as `condition` holds.
    ///
    /// # Panics
    ///
    /// Outside a coroutine; with the panic of `condition`.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// As [`wait`](Self::wait), for `limit` at the most (and then until the mutex is free).
    ///
    /// # Panics
    ///
    /// Outside a coroutine.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        self.wait_for(guard, Some(limit))
    }

    /// As [`wait_while`](Self::wait_while), for `limit` at the most in all. [`std::sync::Condvar::wait_timeout_while`] is the
    /// same.
    ///
    /// # Parks
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        let end = Instant::now() + limit;
        while condition(&mut guard) {
            let left = end - Instant::now();
            if left.is_zero() {
                return (guard, WaitTimeoutResult(true));
            }
            guard = self.wait_for(guard, Some(left)).0;
        }
        (guard, WaitTimeoutResult(false))
    }

    fn wait_for<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        let block = require_current("Condvar::wait");
        if std::thread::panicking() {
            // No wait is possible, but a wake without a notification always is.
            return (guard, WaitTimeoutResult(false));
        }
        let mutex = guard.mutex();
        drop(guard);
        let nothing = std::ptr::null_mut();
        let outcome = self.queue.wait(0, nothing, "Condvar::wait", limit);
        if let Err(WaitError::Refused(_)) = outcome {
            // Returns only where there is no unwinding; then this is a wake without a notification.
            cancel::unwind(block);
        }
        let timed_out = outcome == Err(WaitError::TimedOut);
        (mutex.lock_uninterrupted(), WaitTimeoutResult(timed_out))
    }

    /// Wakes the coroutine that has waited longest.
    pub fn notify_one(&self) {
        if let Some(waiter) = self.queue.first_claim() {
            self.queue.grant(waiter);
        }
    }

    /// Wakes all that wait now.
    pub fn notify_all(&self) {
        self.queue.grant_all();
    }
}
