//! Child processes.

use crate::{Sqe, opcode};

/// Waits until the child `pid` has changed as `options` say. Result: 0. Borrows `information` for writing.
///
/// # Source
/// `IORING_OP_WAITID`, 6.7 ([`Feature::Waitid`](crate::Feature)); waitid(2).
#[must_use]
pub fn waitid(pid: u32, options: i32, information: *mut libc::siginfo_t) -> Sqe {
    opcode::WaitId::new(libc::P_PID, pid, options)
        .infop(information)
        .build()
}
