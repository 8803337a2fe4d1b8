//! [`SharedMutex`]: a flag that says whether it is held, the value, and who waits for their turn.
//!
//! Who unlocks hands it over (mailbox/turns.rs): it may be held across waits, and who went on and took it again would keep all
//! others from it. The flag is taken with Acquire and given back with Release, which pair: who holds it sees what the holder before did.
//! There is no poison: a panic in the critical section unlocks, as with locks outside std.
#![expect(
    unsafe_code,
    reason = "a value that only the holder of the flag touches"
)]

use super::{refusal, wait_error};
use crate::mailbox::{Stop, Turns};
use coring_coro::sync::WaitError;
use coring_coro::wait::Refusal;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A value for one at a time, on any core or thread. Who waits gets it first come first served.
///
/// # Examples
///
/// ```
/// use coring::sync::SharedMutex;
/// use std::sync::Arc;
///
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let count = Arc::new(SharedMutex::new(0));
///     let there = Arc::clone(&count);
///     coring::call_all(move |_| *there.lock().unwrap() += 1).unwrap();
///     assert_eq!(*count.lock().unwrap(), 2);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
pub struct SharedMutex<T> {
    held: AtomicBool,
    turns: Turns,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one holder at a time, who may be on any thread: `T: Send`.
unsafe impl<T: Send> Sync for SharedMutex<T> {}

impl<T: fmt::Debug> fmt::Debug for SharedMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("SharedMutex").field(&*value).finish(),
            None => f.write_str("SharedMutex(held)"),
        }
    }
}

impl<T> SharedMutex<T> {
    /// A mutex that nobody holds.
    pub fn new(value: T) -> Self {
        Self {
            held: AtomicBool::new(false),
            turns: Turns::default(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes it if nobody holds it.
    pub fn try_lock(&self) -> Option<SharedMutexGuard<'_, T>> {
        // Lazily: a guard that is made and dropped would unlock.
        self.take().then(|| self.guard())
    }

    fn take(&self) -> bool {
        // Acquire: pairs with the Release in `free`.
        !self.held.load(Ordering::Relaxed) && !self.held.swap(true, Ordering::Acquire)
    }

    fn free(&self) {
        // Release: pairs with the Acquire in `take`.
        self.held.store(false, Ordering::Release);
    }

    /// Of who has taken it.
    fn guard(&self) -> SharedMutexGuard<'_, T> {
        SharedMutexGuard {
            mutex: self,
            stays: PhantomData,
        }
    }

    /// Takes it, and waits while somebody holds it.
    ///
    /// # Parks
    ///
    /// While it is held.
    ///
    /// # Errors
    ///
    /// When the caller may not wait: it was cancelled, or is unwinding.
    pub fn lock(&self) -> Result<SharedMutexGuard<'_, T>, Refusal> {
        self.lock_within(None).map_err(refusal)
    }

    /// As [`lock`](Self::lock), waiting for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: somebody still holds it, or the caller may not wait.
    pub fn lock_timeout(&self, limit: Duration) -> Result<SharedMutexGuard<'_, T>, WaitError> {
        self.lock_within(Some(limit)).map_err(wait_error)
    }

    fn lock_within(&self, limit: Option<Duration>) -> Result<SharedMutexGuard<'_, T>, Stop> {
        let (take, free) = (|| self.take(), || self.free());
        self.turns.take("a shared mutex", limit, take, free)?;
        Ok(self.guard())
    }

    /// The value, when nobody else has the mutex.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// The value, when nobody else has the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The right to the value. Dropping it unlocks. It may be held across waits.
pub struct SharedMutexGuard<'a, T> {
    mutex: &'a SharedMutex<T>,
    /// Not `Send`, so that a value that is not `Sync` is not lent to another thread.
    stays: PhantomData<*const ()>,
}

impl<T> Deref for SharedMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: we hold the flag, so nobody else reaches the value.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for SharedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold the flag, and are borrowed uniquely.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for SharedMutexGuard<'_, T> {
    fn drop(&mut self) {
        let mutex = self.mutex;
        mutex.turns.give(|| mutex.free(), || mutex.take());
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
