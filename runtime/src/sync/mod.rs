//! Locks and signals between cores and threads: waiting parks the coroutine, never its core.
//!
//! The names begin with `Shared`, to tell them from those of [`coro::sync`](crate::coro), which serve one core, need no
//! atomic and are faster. What they share is better kept by one core and asked for with a [`call`](crate::call); where
//! it cannot be, these are the tools.
//!
//! | type | for |
//! |---|---|
//! | [`SharedMutex`] | one at a time |
//! | [`SharedSemaphore`] | a few at a time |
//! | [`SharedEvent`] | something that has happened, and stays so until it is reset |
//! | [`shared_oneshot`] | one value, from one to one |
//! | [`SharedWatch`] | the newest of many values, to all who look |
//! | [`SharedBarrier`] | all have come this far |
//!
//! Everything may be used on any core of any runtime and on any thread: there the thread waits. Each wait has a
//! `_timeout` twin. Waits are queues, first in first out, but a newcomer may be faster than who has just been woken. A
//! wait that is given up passes its wake on (mailbox/wait_queue.rs argues why none is lost). Where nothing has to be waited for others
//! of the core run first when the coroutine has had its time slice.

mod barrier;
mod event;
mod mutex;
mod oneshot;
mod semaphore;
mod watch;

pub use barrier::SharedBarrier;
pub use event::SharedEvent;
pub use mutex::{SharedMutex, SharedMutexGuard};
pub use oneshot::{OneshotError, OneshotReceiver, OneshotSender, shared_oneshot};
pub use semaphore::{SharedPermit, SharedSemaphore};
pub use watch::{SharedWatch, WatchError, WatchReceiver};

use crate::mailbox::Stop;
use coring_coro::sync::WaitError;
use coring_coro::wait::Refusal;

/// Why a wait without a limit was given up.
fn refusal(stop: Stop) -> Refusal {
    match stop {
        Stop::Refused(refusal) => refusal,
        Stop::TimedOut => unreachable!("there is no limit"),
    }
}

/// Why a wait with a limit was given up.
fn wait_error(stop: Stop) -> WaitError {
    match stop {
        Stop::Refused(refusal) => WaitError::Refused(refusal),
        Stop::TimedOut => WaitError::TimedOut,
    }
}
