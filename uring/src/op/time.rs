//! Timers in the kernel. A scheduler keeps its own and passes the next deadline to [`Wait`](crate::Wait), which is
//! an order of magnitude cheaper (650 ns to add and remove one here); this is for what has no scheduler.

use crate::types::{TimeoutFlags, Timespec};
use crate::{Sqe, opcode};

/// Completes with `-ETIME` after `time` has passed, or at `time` of `CLOCK_MONOTONIC` if `absolute`. Borrows `time`.
///
/// # Source
/// `IORING_OP_TIMEOUT`, 5.4.
#[must_use]
pub fn timeout(time: *const Timespec, absolute: bool) -> Sqe {
    let flags = if absolute {
        TimeoutFlags::ABS
    } else {
        TimeoutFlags::empty()
    };
    opcode::Timeout::new(time).flags(flags).build()
}
