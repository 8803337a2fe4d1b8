//! A core's port: its bounded inbox, and the bell that wakes it.
//!
//! ```text
//!   sender                                  receiver, about to sleep
//!   1 push the message                      1 sleeping = true
//!   2 fence                                 2 fence
//!   3 sleeping? then take the flag, ring    3 inbox empty? then sleep in the ring
//! ```
//!
//! Why no wake is lost. Each side writes one location, fences (`SeqCst`), and reads the other's. The two fences are
//! ordered; whichever side's comes second sees the other's write. So either the sender sees `sleeping` and rings,
//! and a rung bell makes the receiver's current or next sleep return; or the receiver sees the message and does
//! not sleep. Taking the flag with `swap` makes one sleeper cost one ring, however many send.
//!
//! A running core is never rung: it drains its inbox once a turn.
//!
//! What is not a message - the order to stop - takes the same way: it raises `alert` in place of step 1, and the
//! receiver's step 3 looks at that too.

use super::Message;
use coring_uring::Doorbell;
use crossbeam_queue::ArrayQueue;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The way to one core, shared by all cores and foreign threads.
pub(crate) struct Port {
    inbox: ArrayQueue<Message>,
    sleeping: AtomicBool,
    /// There is something to see that is no message.
    alert: AtomicBool,
    closed: AtomicBool,
    doorbell: OnceLock<Doorbell>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("waiting", &self.inbox.len())
            .field("closed", &self.closed)
            .finish()
    }
}

/// Why a message was not taken; it comes back.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// The inbox is full.
    Full(Message),
    /// The core has stopped.
    Closed(Message),
}

impl Port {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            inbox: ArrayQueue::new(capacity),
            sleeping: AtomicBool::new(false),
            alert: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            doorbell: OnceLock::new(),
        }
    }

    /// Hangs up the bell of the core's ring.
    pub(crate) fn connect(&self, doorbell: Doorbell) {
        assert!(
            self.doorbell.set(doorbell).is_ok(),
            "a core opens its ring once"
        );
    }

    /// Puts a message into the inbox and wakes its core if that sleeps. Never blocks.
    pub(crate) fn try_send(&self, message: Message) -> Result<(), Rejected> {
        // News is still let in: coroutines that clean up may wait for it.
        if matches!(message, Message::Spawn(_)) && self.closed.load(Ordering::Acquire) {
            return Err(Rejected::Closed(message));
        }
        self.inbox.push(message).map_err(Rejected::Full)?;
        self.wake();
        Ok(())
    }

    /// Makes the core look up: its current or next sleep ends at once.
    pub(crate) fn alert(&self) {
        self.alert.store(true, Ordering::Release);
        self.wake();
    }

    /// Rings if the core sleeps, or is about to.
    fn wake(&self) {
        // Pairs with the fence in `publish_sleeping`.
        fence(Ordering::SeqCst);
        let took_the_flag =
            self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed);
        let Some(doorbell) = self.doorbell.get().filter(|_| took_the_flag) else {
            return;
        };
        match crate::per_core::current() {
            // Travels with what this core submits at the end of its turn.
            Some(engine) => engine.ring().borrow_mut().ring_doorbell(doorbell),
            None => doorbell.ring(),
        }
    }

    /// Step 1 and 2 of the receiver.
    pub(crate) fn publish_sleeping(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake`.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn publish_awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether there is a message, or an alert that [`take_alert`](Self::take_alert) has not seen.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        !self.inbox.is_empty() || self.alert.load(Ordering::Relaxed)
    }

    /// Whether there was an alert; lowers it. Pairs with the store in `alert`.
    #[inline]
    pub(crate) fn take_alert(&self) -> bool {
        self.alert.load(Ordering::Relaxed) && self.alert.swap(false, Ordering::Acquire)
    }

    /// Hands out what is in the inbox now; what arrives meanwhile waits for the next time.
    #[inline]
    pub(crate) fn drain(&self, mut deliver: impl FnMut(Message)) {
        if self.inbox.is_empty() {
            return;
        }
        for _ in 0..self.inbox.len() {
            let Some(message) = self.inbox.pop() else {
                break;
            };
            deliver(message);
        }
    }

    /// Takes no more closures.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Drops what nobody will deliver any more; each message's sender learns it from the drop.
    pub(crate) fn discard(&self) {
        while let Some(message) = self.inbox.pop() {
            drop(message);
        }
    }
}
