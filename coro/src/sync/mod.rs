//! Synchronisation between the coroutines of one core: no atomics, first come first served.
//!
//! The types carry the names and habits of `std::sync`, with these differences:
//!
//! - They are neither `Send` nor `Sync`: share them by `Rc`, or by borrowing in a [`scope`](crate::scope()).
//! - What a waiter waits for is handed to it while it is still parked, so nobody can barge in before it runs, and a
//!   grant that has been made counts even when the waiter was cancelled or timed out meanwhile.
//! - A wait without an error to return unwinds when it is [cancelled](crate::JoinHandle::cancel); its `_timeout`
//!   twin returns [`WaitError`].
//! - **No poisoning.** A panic ends one coroutine and is handed to whoever joins it, while the others go on: that
//!   is what a core is for. A guard that is dropped by a panic unlocks. Data that a panic may leave
//!   half-changed needs a flag of its own.
//!
//! What does not have to wait never fails: an uncontended `lock` works in a cancelled coroutine and in a destructor
//! during a panic. One that would have to wait panics there, which aborts. Nor does anybody else run meanwhile: between two waits
//! the core is the coroutine's own. A loop that may find everything ready each time calls [`checkpoint`](crate::checkpoint()).
//!
//! All of them rest on one queue: queue.rs, where the proof is.

mod barrier;
mod condvar;
mod event;
mod gate;
mod mutex;
mod once;
pub(crate) mod queue;
mod rwlock;
mod semaphore;
mod waitgroup;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::{Event, Notify};
pub use gate::{Gate, GateClosed, GateGuard};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceCell};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphorePermit};
pub use waitgroup::{WaitGroup, WaitGroupGuard};

use crate::wait::Refusal;
use std::fmt;

/// Why a wait with a limit ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The time is over.
    TimedOut,
    /// The caller could not wait, or not any longer.
    Refused(Refusal),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for WaitError {}
