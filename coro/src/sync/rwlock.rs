//! A reader-writer lock for one core, fair: a reader that comes while a writer waits queues up behind it.
#![expect(
    unsafe_code,
    reason = "`state` is what makes the access to the value exclusive or shared"
)]

use super::WaitError;
use super::queue::WaitQueue;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

const WRITER: isize = -1;
const WANT_READ: usize = 0;
const WANT_WRITE: usize = 1;

/// As [`std::sync::RwLock`], for the coroutines of one core and without poisoning.
///
/// A coroutine that holds a read guard and asks for another one while a writer waits, waits for ever.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let table = coro::sync::RwLock::new(vec![1, 2]);
/// table.write().push(3);
/// let (a, b) = (table.read(), table.read());
/// assert_eq!(a.len(), b.len());
/// # });
/// ```
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    /// Number of readers, or [`WRITER`].
    state: Cell<isize>,
    queue: WaitQueue,
    value: UnsafeCell<T>,
}

/// Shared access. Dropping it unlocks.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

/// Exclusive access. Dropping it unlocks.
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

impl<T> RwLock<T> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        Self {
            state: Cell::new(0),
            queue: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Shared access, after everyone who came before.
    ///
    /// # Parks
    ///
    /// While a writer has it or waits for it.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.try_read().unwrap_or_else(|| {
            self.acquire(WANT_READ, "RwLock::read");
            RwLockReadGuard { lock: self }
        })
    }

    /// Exclusive access, after everyone who came before.
    ///
    /// # Parks
    ///
    /// While anybody has it.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.try_write().unwrap_or_else(|| {
            self.acquire(WANT_WRITE, "RwLock::write");
            RwLockWriteGuard { lock: self }
        })
    }

    /// As [`read`](Self::read), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn read_timeout(&self, limit: Duration) -> Result<RwLockReadGuard<'_, T>, WaitError> {
        match self.try_read() {
            Some(guard) => Ok(guard),
            None => self
                .acquire_timeout(WANT_READ, "RwLock::read", limit)
                .map(|()| RwLockReadGuard { lock: self }),
        }
    }

    /// As [`write`](Self::write), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn write_timeout(&self, limit: Duration) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        match self.try_write() {
            Some(guard) => Ok(guard),
            None => self
                .acquire_timeout(WANT_WRITE, "RwLock::write", limit)
                .map(|()| RwLockWriteGuard { lock: self }),
        }
    }

    /// Shared access if that needs no waiting.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        if self.state.get() == WRITER || !self.queue.is_empty() {
            return None;
        }
        self.state.set(self.state.get() + 1);
        Some(RwLockReadGuard { lock: self })
    }

    /// Exclusive access if that needs no waiting.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        if self.state.get() != 0 || !self.queue.is_empty() {
            return None;
        }
        self.state.set(WRITER);
        Some(RwLockWriteGuard { lock: self })
    }

    /// The value, of a lock that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn acquire(&self, want: usize, what_for: &'static str) {
        let nothing = std::ptr::null_mut();
        self.queue
            .wait_or_unwind(want, nothing, what_for, || self.offer());
    }

    fn acquire_timeout(
        &self,
        want: usize,
        what_for: &'static str,
        limit: Duration,
    ) -> Result<(), WaitError> {
        let nothing = std::ptr::null_mut();
        let outcome = self.queue.wait(want, nothing, what_for, Some(limit));
        if outcome.is_err() {
            self.offer();
        }
        outcome
    }

    /// Grants what can be granted from the front: one writer, or all readers up to the next writer. Called after
    /// every release, and after a claim was withdrawn, which may have been what the others waited behind.
    fn offer(&self) {
        while let Some(claim) = self.queue.first_claim() {
            let state = self.state.get();
            match (claim.want(), state) {
                (WANT_WRITE, 0) => self.state.set(WRITER),
                (WANT_READ, 0..) => self.state.set(state + 1),
                _ => return,
            }
            self.queue.grant(claim);
        }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.state.set(self.lock.state.get() - 1);
        self.lock.offer();
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.state.set(0);
        self.lock.offer();
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `state` counts us as a reader, so there is no writer.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `state` says that we are the writer.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `state` says that we are the writer.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Some(guard) => debug.field("value", &&*guard),
            None => debug.field("value", &format_args!("<locked>")),
        };
        debug.finish()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
