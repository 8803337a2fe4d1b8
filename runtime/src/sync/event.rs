//! [`SharedEvent`]: a flag that is up or down, and who waits for it to be up.

use super::{refusal, wait_error};
use crate::mailbox::{Stop, WaitQueue};
use coring_coro::sync::WaitError;
use coring_coro::wait::Refusal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Something that has happened, for everybody to see and to wait for.
///
/// # Examples
///
/// ```
/// use coring::sync::SharedEvent;
/// use std::sync::Arc;
///
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let ready = Arc::new(SharedEvent::default());
///     let there = Arc::clone(&ready);
///     coring::spawn_on(1, move || there.set());
///     ready.wait().unwrap();
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[derive(Debug, Default)]
pub struct SharedEvent {
    up: AtomicBool,
    queue: WaitQueue,
}

impl SharedEvent {
    /// Raises it and wakes all who wait. What was done before is seen by them.
    pub fn set(&self) {
        // Release: pairs with the load in `is_set`.
        self.up.store(true, Ordering::Release);
        self.queue.notify_all();
    }

    /// Lowers it.
    pub fn reset(&self) {
        self.up.store(false, Ordering::Relaxed);
    }

    /// Whether it is up.
    #[must_use]
    pub fn is_set(&self) -> bool {
        // Acquire: pairs with the store in `set`.
        self.up.load(Ordering::Acquire)
    }

    /// Waits until it is up. One that is raised and lowered at once may be missed.
    ///
    /// # Parks
    ///
    /// While it is down.
    ///
    /// # Errors
    ///
    /// When the caller may not wait: it was cancelled, or is unwinding.
    pub fn wait(&self) -> Result<(), Refusal> {
        self.wait_within(None).map_err(refusal)
    }

    /// As [`wait`](Self::wait), for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: it is still down, or the caller may not wait.
    pub fn wait_timeout(&self, limit: Duration) -> Result<(), WaitError> {
        self.wait_within(Some(limit)).map_err(wait_error)
    }

    fn wait_within(&self, limit: Option<Duration>) -> Result<(), Stop> {
        self.queue
            .wait("a shared event", limit, || self.is_set().then_some(()))
    }
}
