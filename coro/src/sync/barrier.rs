//! A barrier for one core: coroutines wait for each other.

use super::WaitError;
use super::queue::WaitQueue;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::time::Duration;

/// As [`std::sync::Barrier`], for the coroutines of one core.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let barrier = coro::sync::Barrier::new(3);
/// let leaders = coro::join_all((0..3).map(|_| || barrier.wait().is_leader()));
/// assert_eq!(leaders.into_iter().filter(|leader| *leader).count(), 1);
/// # });
/// ```
#[derive(Debug)]
pub struct Barrier {
    size: usize,
    arrived: Cell<usize>,
    queue: WaitQueue,
}

/// Tells one of the coroutines that met from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this one came last.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// For this many coroutines; zero is as one.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self {
            size,
            arrived: Cell::new(0),
            queue: WaitQueue::new(),
        }
    }

    /// Waits until as many coroutines as the barrier is for have come; then it begins anew.
    ///
    /// # Parks
    ///
    /// Unless it comes last.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound, and is as if it had never come.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    pub fn wait(&self) -> BarrierWaitResult {
        if self.arrive() {
            return BarrierWaitResult(true);
        }
        let arrival = Arrival(self);
        let nothing = std::ptr::null_mut();
        self.queue
            .wait_or_unwind(0, nothing, "Barrier::wait", || ());
        arrival.counted();
        BarrierWaitResult(false)
    }

    /// As [`wait`](Self::wait), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait. It is as if it had never come.
    pub fn wait_timeout(&self, limit: Duration) -> Result<BarrierWaitResult, WaitError> {
        if self.arrive() {
            return Ok(BarrierWaitResult(true));
        }
        let arrival = Arrival(self);
        let nothing = std::ptr::null_mut();
        self.queue.wait(0, nothing, "Barrier::wait", Some(limit))?;
        arrival.counted();
        Ok(BarrierWaitResult(false))
    }

    /// Counts an arrival; the last one lets everybody go.
    fn arrive(&self) -> bool {
        let arrived = self.arrived.get() + 1;
        if arrived < self.size {
            self.arrived.set(arrived);
            return false;
        }
        self.arrived.set(0);
        self.queue.grant_all();
        true
    }
}

/// An arrival that is taken back when it is dropped: by an error, or by an unwinding.
struct Arrival<'a>(&'a Barrier);

impl Arrival<'_> {
    /// Everybody has come: the barrier has begun anew.
    fn counted(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.0.arrived.set(self.0.arrived.get() - 1);
    }
}
