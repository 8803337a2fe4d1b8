//! A mutual exclusion lock for one core, fair: unlocking hands it to who has waited longest.
//!
//! Locking a free mutex is a load and a store. Unlike a `std` mutex it may be held across a park, which makes the
//! others wait, not the core.
#![expect(
    unsafe_code,
    reason = "`locked` is what makes the access to the value exclusive"
)]

use super::WaitError;
use super::queue::WaitQueue;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// As [`std::sync::Mutex`], for the coroutines of one core and without poisoning.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let balance = coro::sync::Mutex::new(0);
/// coro::scope(|s| {
///     for _ in 0..10 {
///         s.spawn(|| {
///             let mut balance = balance.lock();
///             let before = *balance;
///             coro::yield_now(); // the others wait
///             *balance = before + 1;
///         });
///     }
/// });
/// assert_eq!(balance.into_inner(), 10);
/// # });
/// ```
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    locked: Cell<bool>,
    queue: WaitQueue,
    value: UnsafeCell<T>,
}

/// The right to the value of a locked [`Mutex`]. Dropping it unlocks.
#[must_use = "the mutex is unlocked when the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self {
            locked: Cell::new(false),
            queue: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks, after everyone who came before.
    ///
    /// # Parks
    ///
    /// While it is locked.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound; an uncontended lock succeeds.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if self.locked.replace(true) {
            let nothing = std::ptr::null_mut();
            self.queue.wait_or_unwind(0, nothing, "Mutex::lock", || ());
        }
        MutexGuard { mutex: self }
    }

    /// Locks, unless somebody else has it for `limit` from now.
    ///
    /// # Parks
    ///
    /// While it is locked.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn lock_timeout(&self, limit: Duration) -> Result<MutexGuard<'_, T>, WaitError> {
        if self.locked.replace(true) {
            let nothing = std::ptr::null_mut();
            self.queue.wait(0, nothing, "Mutex::lock", Some(limit))?;
        }
        Ok(MutexGuard { mutex: self })
    }

    /// Locks, come what may: for a [`Condvar`](super::Condvar).
    pub(super) fn lock_uninterrupted(&self) -> MutexGuard<'_, T> {
        if self.locked.replace(true) {
            let nothing = std::ptr::null_mut();
            self.queue.wait_uninterrupted(0, nothing, "Mutex::lock");
        }
        MutexGuard { mutex: self }
    }

    /// Locks if that needs no waiting.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        (!self.locked.replace(true)).then(|| MutexGuard { mutex: self })
    }

    /// The value, of a mutex that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[inline]
    fn unlock(&self) {
        match self.queue.first_claim() {
            // It stays locked: it is theirs.
            Some(next) => self.queue.grant(next),
            None => self.locked.set(false),
        }
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `locked` is true and ours while the guard exists.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `locked` is true and ours while the guard exists.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(guard) => debug.field("value", &&*guard),
            None => debug.field("value", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
