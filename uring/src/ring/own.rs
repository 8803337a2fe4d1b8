//! What a ring does beside the operations of others: hearing wake-ups, and keeping what found no room.

use std::os::fd::RawFd;

use crate::CQE_F_MORE;
use crate::error::fatal;
use crate::user_data::{self, CANCEL, DETACHED, DOORBELL_POLL, MESSAGE, WAKE};
use crate::{Cqe, OpId};

/// The ring's own affairs, beside the operations of others.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// A doorbell rang and no sleep was skipped for it yet.
    pub(super) rung: bool,
    /// The doorbell's poll has to be armed.
    pub(super) watch: bool,
    /// Operations that nobody waits for: those in flight, and all that ever were.
    pub(super) detached: usize,
    pub(super) detached_ever: u64,
    /// Cancels that found no room in the submission queue. At most one for an operation.
    pub(super) cancels: Vec<OpId>,
    /// Peers to wake, whose message the kernel had no memory for. At most one for a peer.
    pub(super) messages: Vec<RawFd>,
    /// Descriptors that came for owners who are gone.
    pub(super) closes: Vec<RawFd>,
    /// Times that a multishot operation was ended because its owner did not keep up.
    pub(super) crowded: u64,
    pub(super) wakes: u64,
    pub(super) doorbells_failed: u64,
}

impl Own {
    /// Whether nothing is waiting to be queued.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        !self.watch && self.cancels.is_empty() && self.messages.is_empty()
    }

    /// Has the kernel end a multishot operation by the next turn, because its owner does not keep up.
    #[cold]
    pub(super) fn end_crowded(&mut self, op: OpId) {
        if !self.cancels.contains(&op) {
            self.cancels.push(op);
            self.crowded += 1;
        }
    }

    /// Files a completion of something that the ring submitted for itself.
    #[cold]
    pub(super) fn file(&mut self, cqe: Cqe) {
        match user_data::split_own(cqe.user_data) {
            (WAKE, _) => {
                self.rung = true;
                self.wakes += 1;
            }
            (DOORBELL_POLL, _) => {
                self.rung = true;
                self.wakes += 1;
                self.watch |= cqe.flags & CQE_F_MORE == 0;
            }
            (MESSAGE, peer) => match -cqe.result {
                libc::ENOMEM | libc::EAGAIN | libc::EOVERFLOW if !self.messages.contains(&peer) => {
                    self.messages.push(peer);
                }
                1.. => self.doorbells_failed += 1,
                _ => {}
            },
            (DETACHED, _) if cqe.flags & CQE_F_MORE == 0 => {
                self.detached = self.detached.saturating_sub(1);
            }
            (DETACHED, _) => {}
            // A cancel's own answer says nothing that the target's does not say better.
            (CANCEL, _) => {}
            _ => fatal(format_args!(
                "a completion with the unknown user_data {:#x}",
                cqe.user_data
            )),
        }
    }
}
