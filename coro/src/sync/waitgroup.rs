//! A wait group: waits until a number of things are done.

use super::WaitError;
use super::queue::WaitQueue;
use std::cell::Cell;
use std::time::Duration;

/// Counts what is under way, and lets wait until nothing is.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let requests = std::rc::Rc::new(coro::sync::WaitGroup::new());
/// for _ in 0..3 {
///     requests.add(1);
///     let requests = requests.clone();
///     drop(coro::spawn(move || requests.done()));
/// }
/// requests.wait();
/// assert_eq!(requests.count(), 0);
/// # });
/// ```
#[derive(Debug, Default)]
pub struct WaitGroup {
    count: Cell<usize>,
    queue: WaitQueue,
}

/// One thing under way. Dropping it says that it is done.
#[derive(Debug)]
#[must_use = "dropping it says that the thing is done"]
pub struct WaitGroupGuard<'a>(&'a WaitGroup);

impl WaitGroup {
    /// With nothing under way.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: Cell::new(0),
            queue: WaitQueue::new(),
        }
    }

    /// More is under way.
    ///
    /// # Panics
    ///
    /// When the count would exceed `usize::MAX`.
    pub fn add(&self, count: usize) {
        let sum = self.count.get().checked_add(count);
        self.count
            .set(sum.expect("a wait group counts to usize::MAX"));
    }

    /// One is done; the last one lets all that wait go on.
    ///
    /// # Panics
    ///
    /// When nothing is under way.
    pub fn done(&self) {
        let left = self.count.get().checked_sub(1);
        self.count.set(left.expect("more was done than was added"));
        if self.count.get() == 0 {
            self.queue.grant_all();
        }
    }

    /// As [`add`](Self::add) of one, with a guard for [`done`](Self::done).
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add).
    pub fn enter(&self) -> WaitGroupGuard<'_> {
        self.add(1);
        WaitGroupGuard(self)
    }

    /// How much is under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Waits until nothing is under way.
    ///
    /// # Parks
    ///
    /// Unless nothing is.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    pub fn wait(&self) {
        if self.count.get() > 0 {
            let nothing = std::ptr::null_mut();
            self.queue
                .wait_or_unwind(0, nothing, "WaitGroup::wait", || ());
        }
    }

    /// As [`wait`](Self::wait), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn wait_timeout(&self, limit: Duration) -> Result<(), WaitError> {
        if self.count.get() == 0 {
            return Ok(());
        }
        let nothing = std::ptr::null_mut();
        self.queue.wait(0, nothing, "WaitGroup::wait", Some(limit))
    }
}

impl Drop for WaitGroupGuard<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}
