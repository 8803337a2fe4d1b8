//! [`SharedWatch`]: a value that is replaced now and then; who looks sees the newest, who waits is woken by a new one.
//!
//! The value and its version are under one lock, held for the time of a look: a look must not wait.

use super::{refusal, wait_error};
use crate::mailbox::{Stop, WaitQueue};
use coring_coro::sync::WaitError;
use coring_coro::wait::Refusal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<(T, u64)>,
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
        Self { shared }
    }
}

impl<T> SharedWatch<T> {
    /// A watched value.
    pub fn new(value: T) -> Self {
        let state = Mutex::new((value, 0));
        let queue = WaitQueue::default();
        Self {
            shared: Arc::new(Shared { state, queue }),
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
    /// # Errors
    ///
    /// When the caller may not wait: it was cancelled, or is unwinding.
    pub fn changed(&mut self) -> Result<(), Refusal> {
        self.changed_within(None).map_err(refusal)
    }

    /// As [`changed`](Self::changed), for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: it was not replaced, or the caller may not wait.
    pub fn changed_timeout(&mut self, limit: Duration) -> Result<(), WaitError> {
        self.changed_within(Some(limit)).map_err(wait_error)
    }

    fn changed_within(&mut self, limit: Option<Duration>) -> Result<(), Stop> {
        let seen = self.seen;
        self.seen = self.shared.queue.wait("a watched value", limit, || {
            let version = self.shared.lock().1;
            (version != seen).then_some(version)
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
