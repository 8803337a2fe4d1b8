//! A counting semaphore for one core, fair: a large request at the front is not overtaken by small ones.

use super::WaitError;
use super::queue::WaitQueue;
use std::cell::Cell;
use std::time::Duration;

/// A number of permits that coroutines take and give back.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let connections = coro::sync::Semaphore::new(2);
/// let (a, b) = (connections.acquire(), connections.acquire());
/// assert!(connections.try_acquire().is_none());
/// drop(a);
/// assert_eq!(connections.available(), 1);
/// # drop(b);
/// # });
/// ```
#[derive(Debug)]
pub struct Semaphore {
    permits: Cell<usize>,
    queue: WaitQueue,
}

/// Permits of a [`Semaphore`]. Dropping it gives them back.
#[derive(Debug)]
#[must_use = "the permits are given back when this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: usize,
}

impl Semaphore {
    /// With this many permits.
    #[must_use]
    pub const fn new(permits: usize) -> Self {
        Self {
            permits: Cell::new(permits),
            queue: WaitQueue::new(),
        }
    }

    /// Takes one permit. As [`acquire_many`](Self::acquire_many).
    ///
    /// # Panics
    ///
    /// As [`acquire_many`](Self::acquire_many).
    #[inline]
    pub fn acquire(&self) -> SemaphorePermit<'_> {
        self.acquire_many(1)
    }

    /// Takes permits, after everyone who came before.
    ///
    /// # Parks
    ///
    /// Until there are enough. More than there will ever be are waited for for ever.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    #[inline]
    pub fn acquire_many(&self, permits: usize) -> SemaphorePermit<'_> {
        self.try_acquire_many(permits).unwrap_or_else(|| {
            let nothing = std::ptr::null_mut();
            let what_for = "Semaphore::acquire";
            self.queue
                .wait_or_unwind(permits, nothing, what_for, || self.offer());
            SemaphorePermit {
                semaphore: self,
                permits,
            }
        })
    }

    /// As [`acquire`](Self::acquire), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<SemaphorePermit<'_>, WaitError> {
        self.acquire_many_timeout(1, limit)
    }

    /// As [`acquire_many`](Self::acquire_many), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn acquire_many_timeout(
        &self,
        permits: usize,
        limit: Duration,
    ) -> Result<SemaphorePermit<'_>, WaitError> {
        if let Some(permit) = self.try_acquire_many(permits) {
            return Ok(permit);
        }
        let nothing = std::ptr::null_mut();
        let what_for = "Semaphore::acquire";
        let outcome = self.queue.wait(permits, nothing, what_for, Some(limit));
        if outcome.is_err() {
            self.offer();
        }
        outcome.map(|()| SemaphorePermit {
            semaphore: self,
            permits,
        })
    }

    /// Takes one permit if that needs no waiting.
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes permits if that needs no waiting.
    #[inline]
    pub fn try_acquire_many(&self, permits: usize) -> Option<SemaphorePermit<'_>> {
        if permits > self.permits.get() || !self.queue.is_empty() {
            return None;
        }
        self.permits.set(self.permits.get() - permits);
        Some(SemaphorePermit {
            semaphore: self,
            permits,
        })
    }

    /// Permits that nobody has.
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.get()
    }

    /// Adds permits to those there are.
    ///
    /// # Panics
    ///
    /// When there would be more than `usize::MAX`.
    #[inline]
    pub fn add_permits(&self, permits: usize) {
        let sum = self.permits.get().checked_add(permits);
        self.permits
            .set(sum.expect("a semaphore has at most usize::MAX permits"));
        if !self.queue.is_empty() {
            self.offer();
        }
    }

    /// Grants from the front as long as there are enough permits. Called after every release, and after a claim
    /// was withdrawn, which may have been what the others waited behind.
    fn offer(&self) {
        while let Some(claim) = self.queue.first_claim() {
            let Some(left) = self.permits.get().checked_sub(claim.want()) else {
                return;
            };
            self.permits.set(left);
            self.queue.grant(claim);
        }
    }
}

impl SemaphorePermit<'_> {
    /// Takes the permits out of circulation.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for SemaphorePermit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.add_permits(self.permits);
        }
    }
}
