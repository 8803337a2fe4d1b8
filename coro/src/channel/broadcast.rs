//! Broadcast: every receiver gets every value, unless it lags too far behind.
//!
//! The last `capacity` values are kept in a ring; each value has a number, and each receiver knows the number it
//! wants next. Sending never waits: it overwrites the oldest value, and a receiver that still wanted it is told how
//! many it has missed.
//!
//! ```text
//!   numbers   5 6 7 8 | 9 10 11 12 |     kept: 9..=12, next number: 13
//!             gone      ^      ^
//!                       |      a receiver that gets 11 next
//!                       a receiver that wanted 7: Lagged(2), then 9
//! ```
//!
//! `T::clone` is the user's: it may wait, send or receive. So no borrow is held across it, only a count: a receiver clones
//! from an `Rc` of its own, and a send finds by the count whether it may put its value into the allocation that is there, which
//! is nearly always, or needs a new one.

use super::{RecvError, TryRecvError};
use crate::sync::queue::WaitQueue;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A broadcast channel that keeps the last `capacity` values (one at least).
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # use coro::channel::RecvError;
/// # coro::testing::run(|| {
/// let (sender, slow) = coro::channel::broadcast(2);
/// let quick = slow.clone();
/// sender.send(1);
/// assert_eq!(quick.recv(), Ok(1));
/// sender.send(2);
/// sender.send(3);
/// assert_eq!(quick.recv(), Ok(2));
/// assert_eq!(slow.recv(), Err(RecvError::Lagged(1)));
/// assert_eq!(slow.recv(), Ok(2));
/// # });
/// ```
#[must_use]
pub fn broadcast<T: Clone>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Rc::new(Channel {
        ring: (0..capacity.max(1)).map(|_| RefCell::default()).collect(),
        next: Cell::new(0),
        senders: Cell::new(1),
        receivers: Cell::new(1),
        queue: WaitQueue::new(),
    });
    let sender = Sender {
        channel: Rc::clone(&channel),
    };
    let receiver = Receiver {
        channel,
        next: Cell::new(0),
    };
    (sender, receiver)
}

/// Empty until the first value comes.
type Place<T> = RefCell<Option<Rc<T>>>;

struct Channel<T> {
    ring: Box<[Place<T>]>,
    /// Number of the next value.
    next: Cell<u64>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
    queue: WaitQueue,
}

impl<T> Channel<T> {
    fn place(&self, number: u64) -> &Place<T> {
        let index = number % self.ring.len() as u64;
        &self.ring[usize::try_from(index).expect("below the length of the ring")]
    }

    /// Puts a value in. What was there comes back, unless it is being cloned: then the last who does so drops it.
    fn put(&self, number: u64, value: T) -> Option<T> {
        let mut place = self.place(number).borrow_mut();
        match place.as_mut().and_then(Rc::get_mut) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                // Not the last owner, so no code of `T` runs under the borrow.
                *place = Some(Rc::new(value));
                None
            }
        }
    }
}

/// The sending end. Clones send into the same channel; when the last is gone, the channel ends.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// A receiving end. A clone gets what this one would get from now on.
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
    next: Cell<u64>,
}

impl<T> Sender<T> {
    /// Sends a value to everybody; returns how many receivers there are. Never waits.
    #[inline]
    pub fn send(&self, value: T) -> usize {
        let channel = &*self.channel;
        let number = channel.next.get();
        let overwritten = channel.put(number, value);
        channel.next.set(number + 1);
        channel.queue.grant_all();
        drop(overwritten);
        channel.receivers.get()
    }

    /// A receiver of what is sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        let channel = Rc::clone(&self.channel);
        channel.receivers.set(channel.receivers.get() + 1);
        let next = Cell::new(channel.next.get());
        Receiver { channel, next }
    }
}

impl<T: Clone> Receiver<T> {
    /// Receives the next value: a clone of it. The `clone` may wait, send and receive; one that panics has received it.
    ///
    /// # Parks
    ///
    /// Until there is one.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine gets [`RecvError::Refused`]; nothing is lost.
    ///
    /// # Errors
    ///
    /// [`RecvError`]; [`RecvError::Lagged`] when values were overwritten before they were received.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_within(None)
    }

    /// As [`recv`](Self::recv), waiting for `limit` at the most.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvError> {
        self.recv_within(Some(limit))
    }

    fn recv_within(&self, mut limit: Option<Duration>) -> Result<T, RecvError> {
        loop {
            match self.try_recv() {
                Ok(value) => return Ok(value),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Empty) => {
                    // Another coroutine at this receiver may take what comes.
                    let queue = &self.channel.queue;
                    queue.wait_again("broadcast::recv", &mut limit)?;
                }
            }
        }
    }

    /// Receives the next value if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let channel = &*self.channel;
        let (wanted, next) = (self.next.get(), channel.next.get());
        if wanted == next {
            return Err(if channel.senders.get() == 0 {
                TryRecvError::Closed
            } else {
                TryRecvError::Empty
            });
        }
        let oldest = next.saturating_sub(channel.ring.len() as u64);
        if wanted < oldest {
            self.next.set(oldest);
            return Err(TryRecvError::Lagged(oldest - wanted));
        }
        // Before the clone: another coroutine may receive here meanwhile.
        self.next.set(wanted + 1);
        let shared = channel.place(wanted).borrow().clone();
        // Always there: what was sent is kept.
        let value = shared.map(|shared| T::clone(&shared));
        value.ok_or(TryRecvError::Closed)
    }
}

impl<T> Receiver<T> {
    /// Whether a receive would not wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.next.get() != self.channel.next.get() || self.channel.senders.get() == 0
    }

    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.channel.queue
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        let channel = Rc::clone(&self.channel);
        channel.senders.set(channel.senders.get() + 1);
        Self { channel }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let channel = Rc::clone(&self.channel);
        channel.receivers.set(channel.receivers.get() + 1);
        let next = self.next.clone();
        Self { channel, next }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = self.channel.senders.get() - 1;
        self.channel.senders.set(left);
        if left == 0 {
            self.channel.queue.grant_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.receivers.set(self.channel.receivers.get() - 1);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}
