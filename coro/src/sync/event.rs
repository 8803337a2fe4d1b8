//! Signals: [`Event`], which stays set, and [`Notify`], which is used up.

use super::WaitError;
use super::queue::WaitQueue;
use std::cell::Cell;
use std::time::Duration;

/// A flag to wait for. Once set it lets everybody through, until it is reset.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let started = coro::sync::Event::new();
/// coro::scope(|s| {
///     s.spawn(|| started.wait());
///     s.spawn(|| started.wait());
///     started.set();
/// });
/// # });
/// ```
#[derive(Debug, Default)]
pub struct Event {
    set: Cell<bool>,
    pub(crate) queue: WaitQueue,
}

impl Event {
    /// Not set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            set: Cell::new(false),
            queue: WaitQueue::new(),
        }
    }

    /// Sets it and lets all that wait go on, even if it is reset before they run.
    pub fn set(&self) {
        self.set.set(true);
        self.queue.grant_all();
    }

    /// Unsets it: who comes from now on waits.
    pub fn reset(&self) {
        self.set.set(false);
    }

    /// Whether it is set.
    #[must_use]
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until it is set.
    ///
    /// # Parks
    ///
    /// Unless it is set.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    pub fn wait(&self) {
        if !self.is_set() {
            let nothing = std::ptr::null_mut();
            self.queue.wait_or_unwind(0, nothing, "Event::wait", || ());
        }
    }

    /// As [`wait`](Self::wait), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn wait_timeout(&self, limit: Duration) -> Result<(), WaitError> {
        if self.is_set() {
            return Ok(());
        }
        let nothing = std::ptr::null_mut();
        self.queue.wait(0, nothing, "Event::wait", Some(limit))
    }
}

/// A signal for one waiter. One that comes while nobody waits is kept for the next; more than one are one.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let work = coro::sync::Notify::new();
/// work.notify_one();
/// work.notified(); // returns at once
/// # });
/// ```
#[derive(Debug, Default)]
pub struct Notify {
    permit: Cell<bool>,
    pub(crate) queue: WaitQueue,
}

impl Notify {
    /// Without a signal.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            permit: Cell::new(false),
            queue: WaitQueue::new(),
        }
    }

    /// Lets the coroutine that has waited longest go on, or else the next that comes.
    pub fn notify_one(&self) {
        match self.queue.first_claim() {
            Some(waiter) => self.queue.grant(waiter),
            None => self.permit.set(true),
        }
    }

    /// Lets all that wait now go on. Nothing is kept.
    pub fn notify_waiters(&self) {
        self.queue.grant_all();
    }

    /// Whether a signal is kept.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        self.permit.get()
    }

    /// Waits for a signal and uses it up.
    ///
    /// # Parks
    ///
    /// Unless a signal is kept.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    pub fn notified(&self) {
        if !self.permit.replace(false) {
            let nothing = std::ptr::null_mut();
            self.queue
                .wait_or_unwind(0, nothing, "Notify::notified", || ());
        }
    }

    /// As [`notified`](Self::notified), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn notified_timeout(&self, limit: Duration) -> Result<(), WaitError> {
        if self.permit.replace(false) {
            return Ok(());
        }
        let nothing = std::ptr::null_mut();
        self.queue.wait(0, nothing, "Notify::notified", Some(limit))
    }
}
