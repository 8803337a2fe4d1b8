//! The 64 bits that travel with an operation into the kernel and back.
//!
//! ```text
//!   63                        32  31  30                         0
//!  +----------------------------+---+-----------------------------+
//!  | generation                 | 0 | slot index                  |   an operation: its `OpId`
//!  +----------------------------+---+-----------------------------+
//!  | payload (a ring fd, or 0)  | 1 | class                       |   one of the ring's own
//!  +----------------------------+---+-----------------------------+
//! ```
//!
//! An operation is found by its index and recognised by its generation: the slot counts its generation up when
//! it is freed, so a completion that comes too late finds a different number and is dropped. No pointer travels
//! through the kernel. What the ring submits for itself (wake-ups, cancels) has bit 31 set; since no slot index
//! reaches that bit, the fast path needs no extra test for it: the index is simply out of range.

use std::fmt;

/// Bit 31: the completion belongs to the ring itself.
const OWN: u64 = 1 << 31;

/// A peer or a doorbell woke this ring. Carries no data, may be spurious.
pub(crate) const WAKE: u64 = OWN;
/// The multishot poll that watches the doorbell's eventfd.
pub(crate) const DOORBELL_POLL: u64 = OWN | 1;
/// An `ASYNC_CANCEL`. What happened to the target is told by the target's own completion, so this one is ignored.
pub(crate) const CANCEL: u64 = OWN | 2;
/// An `MSG_RING` to a peer failed (success posts nothing). The payload is the peer's ring fd.
pub(crate) const MESSAGE: u64 = OWN | 3;

/// An operation that nobody waits for. Only their number is of interest.
pub(crate) const DETACHED: u64 = OWN | 4;

/// Largest number of slots: their indices must stay below bit 31.
pub(crate) const MAX_SLOTS: u32 = 1 << 31;

/// Names one submitted operation: slot index and generation.
///
/// It is the `user_data` of the operation. It stays meaningful for ever in the sense that using an old one is
/// harmless: every function that takes one recognises that its slot has moved on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(u64);

impl OpId {
    #[inline]
    pub(crate) fn new(index: u32, generation: u32) -> OpId {
        debug_assert!(index < MAX_SLOTS, "slot indices stay below bit 31");
        OpId(u64::from(generation) << 32 | u64::from(index))
    }

    /// The operation that `user_data` names, be it live or not.
    #[inline]
    #[must_use]
    pub const fn from_user_data(user_data: u64) -> OpId {
        OpId(user_data)
    }

    /// The value that goes into the SQE and comes back in the CQE.
    #[inline]
    #[must_use]
    pub const fn user_data(self) -> u64 {
        self.0
    }

    /// The slot, as it is kept in lists of slots.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is the index")]
    pub(crate) const fn slot(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.slot() as usize
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {}.{}", self.index(), self.generation())
    }
}

/// Whether `user_data` is one of the ring's own.
#[inline]
pub(crate) const fn is_own(user_data: u64) -> bool {
    user_data & OWN != 0
}

/// `MESSAGE` with the peer's ring fd as payload.
pub(crate) fn message_to(ring_fd: i32) -> u64 {
    u64::from(ring_fd.cast_unsigned()) << 32 | MESSAGE
}

/// Splits a reserved value into class and payload.
pub(crate) const fn split_own(user_data: u64) -> (u64, i32) {
    (
        user_data & 0xffff_ffff,
        ((user_data >> 32) as u32).cast_signed(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_gives_back_what_was_put_in() {
        for (index, generation) in [(0, 0), (7, u32::MAX), (MAX_SLOTS - 1, 1)] {
            let op = OpId::new(index, generation);
            assert_eq!(op.index(), index as usize);
            assert_eq!(op.generation(), generation);
            assert!(!is_own(op.user_data()));
            assert_eq!(OpId::from_user_data(op.user_data()), op);
        }
    }

    #[test]
    fn reserved_values_never_look_like_a_slot() {
        for own in [
            WAKE,
            DOORBELL_POLL,
            CANCEL,
            DETACHED,
            message_to(0),
            message_to(1 << 20),
        ] {
            assert!(is_own(own));
            assert!(OpId::from_user_data(own).index() >= MAX_SLOTS as usize);
        }
        assert_eq!(split_own(message_to(77)), (MESSAGE, 77));
    }
}
