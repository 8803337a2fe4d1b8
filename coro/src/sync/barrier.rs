//! A barrier for one core: coroutines wait for each other.

use super::WaitError;
use super::queue::WaitQueue;
use crate::cancel;
use crate::scheduler::require_current;
use crate::wait;
use std::cell::Cell;
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
    /// For the meeting to come.
    arrived: Cell<usize>,
    /// How many there were.
    meetings: Cell<u64>,
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
            meetings: Cell::new(0),
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
        if !self.is_complete_with_one_more() && !std::thread::panicking() {
            // Who gives up has not come: on its way out it may let others run, who must not meet it.
            let block = require_current("Barrier::wait");
            if cancel::is_interrupted(block) {
                cancel::unwind(block);
            }
        }
        let Some(arrival) = self.arrive() else {
            return BarrierWaitResult(true);
        };
        let nothing = std::ptr::null_mut();
        self.queue.wait_or_unwind(0, nothing, "Barrier::wait", || {
            // Without unwinding the wait goes on.
            if !cfg!(panic = "abort") {
                arrival.take_back();
            }
        });
        BarrierWaitResult(false)
    }

    /// As [`wait`](Self::wait), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait. It is as if it had never come.
    pub fn wait_timeout(&self, limit: Duration) -> Result<BarrierWaitResult, WaitError> {
        if !self.is_complete_with_one_more() {
            wait::begin().map_err(WaitError::Refused)?;
        }
        let Some(_arrival) = self.arrive() else {
            return Ok(BarrierWaitResult(true));
        };
        let nothing = std::ptr::null_mut();
        self.queue.wait(0, nothing, "Barrier::wait", Some(limit))?;
        Ok(BarrierWaitResult(false))
    }

    fn is_complete_with_one_more(&self) -> bool {
        self.arrived.get() + 1 >= self.size
    }

    /// Counts an arrival. `None` for the last one, which lets everybody go.
    fn arrive(&self) -> Option<Arrival<'_>> {
        if self.is_complete_with_one_more() {
            self.arrived.set(0);
            self.meetings.set(self.meetings.get() + 1);
            self.queue.grant_all();
            return None;
        }
        self.arrived.set(self.arrived.get() + 1);
        Some(Arrival {
            barrier: self,
            meeting: Cell::new(Some(self.meetings.get())),
        })
    }
}

/// An arrival that is taken back when it is dropped before all have met: by an error, or by an unwinding.
struct Arrival<'a> {
    barrier: &'a Barrier,
    /// For which meeting; none when it has been taken back.
    meeting: Cell<Option<u64>>,
}

impl Arrival<'_> {
    fn take_back(&self) {
        let Barrier {
            arrived, meetings, ..
        } = self.barrier;
        if self.meeting.take() == Some(meetings.get()) {
            arrived.set(arrived.get() - 1);
        }
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}
