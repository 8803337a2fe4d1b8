//! [`SharedSemaphore`]: a count of permits, and who waits for their turn to have one (mailbox/turns.rs).

use super::{refusal, wait_error};
use crate::mailbox::{Stop, Turns};
use coring_coro::sync::WaitError;
use coring_coro::wait::Refusal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A number of permits, for cores and threads to take and give back.
///
/// # Examples
///
/// ```
/// let two = coring::sync::SharedSemaphore::new(2);
/// let (one, _other) = (two.try_acquire().unwrap(), two.try_acquire().unwrap());
/// assert!(two.try_acquire().is_none());
/// drop(one);
/// assert_eq!(two.available(), 1);
/// ```
#[derive(Debug)]
pub struct SharedSemaphore {
    permits: AtomicUsize,
    turns: Turns,
}

impl SharedSemaphore {
    /// The most permits it may have available. Those taken are then fewer than would make the count wrap when given back.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    /// A semaphore with so many permits.
    ///
    /// # Panics
    ///
    /// When they are more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    #[must_use]
    pub fn new(permits: usize) -> Self {
        assert!(permits <= Self::MAX_PERMITS, "{TOO_MANY}");
        Self {
            permits: AtomicUsize::new(permits),
            turns: Turns::default(),
        }
    }

    /// How many permits nobody has now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.load(Ordering::Relaxed)
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> Option<SharedPermit<'_>> {
        // Lazily: a permit that is made and dropped would be given back.
        self.take().then(|| SharedPermit(self))
    }

    fn take(&self) -> bool {
        // Acquire: pairs with the Release in `free`: what was done under a permit is seen under the next.
        let less = |permits: usize| permits.checked_sub(1);
        let taken = self
            .permits
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, less);
        taken.is_ok()
    }

    /// Gives back one that was taken. Cannot wrap: each that is out is a value in memory of a pointer's size, so all of them
    /// together are fewer than what `MAX_PERMITS` leaves.
    fn free(&self) {
        self.permits.fetch_add(1, Ordering::Release);
    }

    /// Takes a permit, and waits for one.
    ///
    /// # Parks
    ///
    /// While there is none.
    ///
    /// # Errors
    ///
    /// When the caller may not wait: it was cancelled, or is unwinding.
    pub fn acquire(&self) -> Result<SharedPermit<'_>, Refusal> {
        self.acquire_within(None).map_err(refusal)
    }

    /// As [`acquire`](Self::acquire), waiting for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: there is still none, or the caller may not wait.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<SharedPermit<'_>, WaitError> {
        self.acquire_within(Some(limit)).map_err(wait_error)
    }

    fn acquire_within(&self, limit: Option<Duration>) -> Result<SharedPermit<'_>, Stop> {
        let (take, free) = (|| self.take(), || self.free());
        self.turns.take("a shared semaphore", limit, take, free)?;
        Ok(SharedPermit(self))
    }

    /// Adds permits.
    ///
    /// # Panics
    ///
    /// When there would be more than [`MAX_PERMITS`](Self::MAX_PERMITS); none is added then.
    pub fn add(&self, permits: usize) {
        let sum = |now: usize| {
            let sum = now.checked_add(permits);
            sum.filter(|sum| *sum <= Self::MAX_PERMITS)
        };
        let added = self
            .permits
            .fetch_update(Ordering::Release, Ordering::Relaxed, sum);
        assert!(added.is_ok(), "{TOO_MANY}");
        self.turns.offer(|| self.free(), || self.take());
    }
}

const TOO_MANY: &str = "a shared semaphore has at most SharedSemaphore::MAX_PERMITS permits";

/// A permit, given back when dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped is given back"]
pub struct SharedPermit<'a>(&'a SharedSemaphore);

impl SharedPermit<'_> {
    /// Keeps the permit for good: the semaphore has one less.
    pub fn forget(self) {
        let _ = std::mem::ManuallyDrop::new(self);
    }
}

impl Drop for SharedPermit<'_> {
    fn drop(&mut self) {
        let semaphore = self.0;
        semaphore
            .turns
            .give(|| semaphore.free(), || semaphore.take());
    }
}
