//! [`SharedBarrier`]: a place where so many meet before any goes on. It can be used again and again.

use super::{refusal, wait_error};
use crate::mailbox::{Stop, WaitQueue};
use coring_coro::sync::WaitError;
use coring_coro::wait::{self, Refusal};
use std::mem::ManuallyDrop;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    here: usize,
    meeting: u64,
}

/// A meeting place of a fixed number of coroutines and threads.
///
/// # Examples
///
/// ```
/// use coring::sync::SharedBarrier;
/// use std::sync::Arc;
///
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let barrier = Arc::new(SharedBarrier::new(2));
///     let last = coring::call_all(move |_| barrier.wait().unwrap()).unwrap();
///     assert_eq!(last.iter().filter(|last| **last).count(), 1);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[derive(Debug)]
pub struct SharedBarrier {
    size: usize,
    state: Mutex<State>,
    queue: WaitQueue,
}

impl SharedBarrier {
    /// A barrier for `size` of them.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            size,
            state: Mutex::default(),
            queue: WaitQueue::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all are here. `true` for the one that came last.
    ///
    /// # Parks
    ///
    /// Until then.
    ///
    /// # Cancellation
    ///
    /// Who is cancelled while it waits has not come. When all have met before it goes, the wait succeeds.
    ///
    /// # Errors
    ///
    /// When the caller may not wait: it was cancelled, or is unwinding.
    pub fn wait(&self) -> Result<bool, Refusal> {
        self.wait_within(None).map_err(refusal)
    }

    /// As [`wait`](Self::wait), for at the most `limit`. Whose time is over has not come.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: not all are here, or the caller may not wait.
    pub fn wait_timeout(&self, limit: Duration) -> Result<bool, WaitError> {
        self.wait_within(Some(limit)).map_err(wait_error)
    }

    fn wait_within(&self, limit: Option<Duration>) -> Result<bool, Stop> {
        let meeting = {
            let mut state = self.lock();
            state.here += 1;
            if state.here >= self.size {
                state.here = 0;
                state.meeting += 1;
                drop(state);
                self.queue.notify_all();
                return Ok(true);
            }
            state.meeting
        };
        let place = Place {
            barrier: self,
            meeting,
        };
        let is_over = || (self.lock().meeting != meeting).then_some(false);
        let waited = self.queue.wait("a shared barrier", limit, is_over);
        if place.leave() {
            return waited;
        }
        // The others have met since our last look, and counted us.
        if let Err(Stop::Refused(Refusal::Interrupted(_))) = waited {
            wait::forgive();
        }
        Ok(false)
    }
}

/// Who waits; leaves again, also by unwinding, when the meeting has not taken place.
struct Place<'a> {
    barrier: &'a SharedBarrier,
    meeting: u64,
}

impl Place<'_> {
    /// Whether the meeting has not taken place: we have not come then.
    fn leave(self) -> bool {
        ManuallyDrop::new(self).take_back()
    }

    fn take_back(&self) -> bool {
        let mut state = self.barrier.lock();
        let is_on = state.meeting == self.meeting;
        state.here -= usize::from(is_on);
        is_on
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}
