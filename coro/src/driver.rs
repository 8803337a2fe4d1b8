//! The seam between a core's scheduler and the world.
//!
//! The scheduler knows coroutines, their order and their timers. It knows no kernel: time, completions,
//! messages of other cores and sleep come through one [`Driver`], which the runtime implements with a ring and
//! mailboxes and which a test implements with a counter. The run loop is generic over it, so it inlines.

use crate::scheduler::Scheduler;

/// What a scheduler needs of the world.
///
/// A driver wakes coroutines through the [`Token`](crate::wait::Token) tokens they left with their
/// operations. No method runs user code, and none may unwind: a driver that panics takes the core down.
pub trait Driver {
    /// Monotonic time in nanoseconds from any fixed origin. Never runs backwards.
    ///
    /// Called once a turn, by every `sleep`, and once in a few switches to see whether the time slice is over.
    fn now(&self) -> u64;

    /// Delivers what has happened, without blocking: submits what is queued, reaps completions, drains messages.
    ///
    /// Called between two batches of ready coroutines.
    fn poll(&self, scheduler: &Scheduler);

    /// Nothing is ready: blocks until something happened or `deadline_ns` (on the scale of [`now`](Self::now))
    /// is reached, and delivers it. `None` means there is no timer. May return early for any reason.
    fn park(&self, scheduler: &Scheduler, deadline_ns: Option<u64>);
}
