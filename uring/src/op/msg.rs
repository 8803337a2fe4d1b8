//! Messages from ring to ring, and the operation that does nothing.

use std::os::fd::RawFd;

use crate::{Sqe, opcode, types};

/// Does nothing, and completes with 0. Borrows nothing.
///
/// # Source
/// `IORING_OP_NOP`, 5.1.
#[must_use]
pub fn nop() -> Sqe {
    opcode::Nop::new().build()
}

/// Posts a CQE with `result` and `user_data` to the ring `ring_fd`. Borrows nothing.
///
/// The receiver's `user_data` values belong to its [`Ring`](crate::Ring), so this is for doorbells, not for mail.
///
/// # Source
/// `IORING_OP_MSG_RING`, 5.18.
#[must_use]
pub fn message(ring_fd: RawFd, result: i32, user_data: u64) -> Sqe {
    opcode::MsgRingData::new(types::Fd(ring_fd), result, user_data, None).build()
}
