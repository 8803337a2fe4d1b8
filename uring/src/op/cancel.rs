//! Asking the kernel to end operations. The answers come through the operations' own completions.

use crate::Sqe;
use crate::opcode;
use crate::types::{CancelBuilder, Fd};
use crate::user_data::CANCEL;
use std::os::fd::RawFd;

use io_uring::squeue::Flags;

/// Ends the operation with this `user_data`. Borrows nothing.
///
/// # Source
/// `IORING_OP_ASYNC_CANCEL`, 5.5.
#[must_use]
pub fn operation(user_data: u64) -> Sqe {
    own(CancelBuilder::user_data(user_data))
}

/// Ends every operation on `fd`. Borrows nothing.
///
/// # Source
/// `IORING_OP_ASYNC_CANCEL` with `FD|ALL`, 5.19.
#[must_use]
pub fn descriptor(fd: RawFd) -> Sqe {
    own(CancelBuilder::fd(Fd(fd)).all())
}

/// Ends every operation of the ring. Borrows nothing.
///
/// # Source
/// `IORING_OP_ASYNC_CANCEL` with `ANY|ALL`, 5.19.
#[must_use]
pub fn everything() -> Sqe {
    own(CancelBuilder::any().all())
}

/// A cancel tells nothing by succeeding, so it is silent then; when it fails its answer is ignored.
fn own(which: CancelBuilder) -> Sqe {
    opcode::AsyncCancel2::new(which)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(CANCEL)
}
