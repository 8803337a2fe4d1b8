//! Asking the kernel to end operations.
//!
//! A cancel is an operation that looks for others. It is queued behind all that it may be meant for, the receives that wait included,
//! and its own answer is not needed: the end of what it was meant for says all.

use std::os::fd::RawFd;

use super::Ring;
use crate::{Backend, OpId, Sqe, SubmitError, op};

impl<B: Backend> Ring<B> {
    /// Asks the kernel to end `op`. Its completion still comes: `ECANCELED`, `EINTR`, or its real result if that was
    /// faster. Does nothing for an operation that is done already. May be called again.
    ///
    /// Never fails: a cancel that finds no room is kept and queued by the next turn. Reads and writes that a disk
    /// is busy with cannot be cancelled; they end when the disk is done.
    ///
    /// # Source
    /// `IORING_OP_ASYNC_CANCEL`, 5.5; io_uring_cancelation(7).
    pub fn cancel(&mut self, op: OpId) {
        if !self.slots.is_in_flight(op) {
            return;
        }
        self.stats.cancels += 1;
        if self
            .push_cancel(op::cancel::operation(op.user_data()))
            .is_err()
            && !self.own.cancels.contains(&op)
        {
            self.own.cancels.push(op);
            self.stats.cancels_kept += 1;
        }
    }

    /// Asks the kernel to end every operation on the descriptor `fd`. Each one's completion still comes.
    ///
    /// Needed before closing: closing a descriptor ends nothing, and its number may be reused at once.
    ///
    /// # Errors
    /// As [`submit`](Ring::submit).
    ///
    /// # Source
    /// `IORING_OP_ASYNC_CANCEL` with `FD|ALL`, 5.19.
    pub fn cancel_fd(&mut self, fd: RawFd) -> Result<(), SubmitError> {
        self.stats.cancels += 1;
        self.push_cancel(op::cancel::descriptor(fd))
    }

    /// Asks the kernel to end every operation of this ring. Each one's completion still comes.
    ///
    /// # Errors
    /// As [`submit`](Ring::submit).
    ///
    /// # Source
    /// `IORING_OP_ASYNC_CANCEL` with `ANY|ALL`, 5.19.
    pub fn cancel_all(&mut self) -> Result<(), SubmitError> {
        self.stats.cancels += 1;
        self.push_cancel(op::cancel::everything())
    }

    /// Queues a cancel behind what it is to find.
    fn push_cancel(&mut self, cancel: Sqe) -> Result<(), SubmitError> {
        self.queue_all_receives()?;
        self.push_own(cancel)
    }
}
