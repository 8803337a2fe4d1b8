//! The end of a mailbox's receiver: what nobody will receive is dropped then, and not when the last sender goes.
//!
//! ```text
//!   sender                                     receiver that goes
//!   1 closed? then the message comes back      1 closed = true
//!   2 lane open, message in                    2 fence
//!   3 fence (the announcement's)               3 drop what is in the lanes, locked
//!   4 closed? then drop what is in the lanes
//! ```
//!
//! Why nothing stays. Each side writes one place, fences (`SeqCst`), and reads the other's, as a waiter and a notifier do
//! (wait_queue.rs): either the receiver finds the message, or the sender finds the mark. A sender that leaves its fence out is reached
//! with a barrier between steps 2 and 3 of the receiver (bias.rs). A lane that opens meanwhile is part of what the sender has written.
//!
//! Why nothing is taken twice: who takes messages out is the receiver as long as there is one, and then whoever has the lock.

use super::atomics::{AtomicBool, Mutex, Ordering, fence};
use std::sync::PoisonError;

/// Whether the receiver has gone, and who may take its messages then.
#[derive(Debug)]
pub(super) struct Ending {
    closed: AtomicBool,
    /// The right to receive, when there is no receiver.
    orphans: Mutex<()>,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self {
            closed: AtomicBool::new(false),
            orphans: Mutex::new(()),
        }
    }

    /// Steps 1 and 4 of a sender.
    #[inline(always)]
    pub(super) fn has_come(&self) -> bool {
        // Pairs with the store in `begin`.
        self.closed.load(Ordering::Acquire)
    }

    /// Steps 1 and 2 of the receiver. `wake_senders` comes between them.
    pub(super) fn begin(&self, wake_senders: impl FnOnce()) {
        // Pairs with the load in `has_come`.
        self.closed.store(true, Ordering::Release);
        wake_senders();
        // Pairs with the fence of who announces a message.
        fence(Ordering::SeqCst);
    }

    /// Takes messages out, with the right to: after `begin`, or when `has_come`.
    pub(super) fn take_orphans<R>(&self, take: impl FnOnce() -> R) -> R {
        let _right = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        take()
    }
}

#[cfg(all(test, loom))]
mod tests;
