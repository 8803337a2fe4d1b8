//! [`SharedWatch`]: a value that is replaced now and then; who looks sees the newest, who waits is woken by a new one.
//!
//! The value and its version are under one lock, held for the time of a look: a look must not wait.

use crate::mailbox::{Stop, WaitQueue};
use coring_coro::wait::Refusal;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why there is no change to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchError {
    /// All writers have gone, and this reader has seen their last value.
    Disconnected,
    /// The caller may not wait: it was cancelled, or is unwinding.
    Refused(Refusal),
    /// The time was over before the value was replaced.
    TimedOut,
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the watched value has no writer any more"),
            Self::Refused(refusal) => write!(f, "cannot wait for a watched value: {refusal}"),
            Self::TimedOut => f.write_str("the watched value was not replaced in time"),
        }
    }
}

impl std::error::Error for WatchError {}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<(T, u64)>,
    /// Those who can replace the value.
    writers: AtomicUsize,
    queue: WaitQueue,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, (T, u64)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing side of a value that others watch. Clone it for more writers.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let level = coring::sync::SharedWatch::new(1);
///     let mut there = level.subscribe();
///     let seen = coring::spawn_on(1, move || { there.changed().unwrap(); there.get() });
///     level.set(2);
///     assert_eq!(seen.join().unwrap(), 2);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[derive(Debug)]
pub struct SharedWatch<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for SharedWatch<T> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        // Made from one that is there: it cannot have been zero, and orders nothing.
        shared.writers.fetch_add(1, Ordering::Relaxed);
        Self { shared }
    }
}

impl<T> Drop for SharedWatch<T> {
    fn drop(&mut self) {
        // Pairs with the load in `changed_within`: who sees that there is none sees what all have set.
        if self.shared.writers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.queue.notify_all();
        }
    }
}

impl<T> SharedWatch<T> {
    /// A watched value.
    pub fn new(value: T) -> Self {
        let state = Mutex::new((value, 0));
        let shared = Shared {
            state,
            writers: AtomicUsize::new(1),
            queue: WaitQueue::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Replaces the value and wakes all who wait for a change. The one before comes back.
    pub fn set(&self, value: T) -> T {
        let before = {
            let mut state = self.shared.lock();
            state.1 += 1;
            std::mem::replace(&mut state.0, value)
        };
        self.shared.queue.notify_all();
        before
    }

    /// A reader that has seen the value as it is now.
    #[must_use]
    pub fn subscribe(&self) -> WatchReceiver<T> {
        let seen = self.shared.lock().1;
        let shared = Arc::clone(&self.shared);
        WatchReceiver { shared, seen }
    }
}

/// The reading side of a watched value.
#[derive(Debug)]
pub struct WatchReceiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Clone for WatchReceiver<T> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, ..*self }
    }
}

impl<T> WatchReceiver<T> {
    /// Waits until the value was replaced since this reader last looked or waited. Values in between may be missed.
    ///
    /// # Parks
    ///
    /// While it was not.
    ///
    /// # Cancellation
    ///
    /// No change is missed: the next call tells of it.
    ///
    /// # Errors
    ///
    /// [`WatchError`].
    pub fn changed(&mut self) -> Result<(), WatchError> {
        self.changed_within(None)
    }

    /// As [`changed`](Self::changed), for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`WatchError`].
    pub fn changed_timeout(&mut self, limit: Duration) -> Result<(), WatchError> {
        self.changed_within(Some(limit))
    }

    fn changed_within(&mut self, limit: Option<Duration>) -> Result<(), WatchError> {
        let (shared, seen) = (&*self.shared, self.seen);
        let found = shared.queue.wait("a watched value", limit, || {
            // Before the look at the version, which is the last one then. Pairs with the decrement of each writer.
            let is_over = shared.writers.load(Ordering::Acquire) == 0;
            let version = shared.lock().1;
            match version != seen {
                true => Some(Ok(version)),
                false => is_over.then_some(Err(WatchError::Disconnected)),
            }
        });
        self.seen = found.unwrap_or_else(|stop| match stop {
            Stop::Refused(refusal) => Err(WatchError::Refused(refusal)),
            Stop::TimedOut => Err(WatchError::TimedOut),
        })?;
        Ok(())
    }

    /// Looks at the newest value. `look` must not wait: it holds a lock.
    pub fn with<R>(&mut self, look: impl FnOnce(&T) -> R) -> R {
        let state = self.shared.lock();
        self.seen = state.1;
        look(&state.0)
    }

    /// A copy of the newest value.
    pub fn get(&mut self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }
}
