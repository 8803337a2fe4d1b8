//! One value, once: for replies.

use super::{RecvError, TryRecvError};
use crate::sync::queue::WaitQueue;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A channel for one value.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let (reply, answer) = coro::channel::oneshot();
/// drop(coro::spawn(move || reply.send(42)));
/// assert_eq!(answer.recv(), Ok(42));
/// # });
/// ```
#[must_use]
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let channel = Rc::new(Channel {
        value: Cell::new(None),
        has_sender: Cell::new(true),
        has_receiver: Cell::new(true),
        has_value: Cell::new(false),
        queue: WaitQueue::new(),
    });
    let sender = Sender {
        channel: Rc::clone(&channel),
    };
    (sender, Receiver { channel })
}

struct Channel<T> {
    value: Cell<Option<T>>,
    has_value: Cell<bool>,
    has_sender: Cell<bool>,
    has_receiver: Cell<bool>,
    queue: WaitQueue,
}

/// The sending end.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// The receiving end.
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends the value. Never waits.
    ///
    /// # Errors
    ///
    /// Gives the value back when the receiver is gone.
    #[inline]
    pub fn send(self, value: T) -> Result<(), T> {
        if !self.channel.has_receiver.get() {
            return Err(value);
        }
        self.channel.value.set(Some(value));
        self.channel.has_value.set(true);
        Ok(()) // Dropping `self` wakes the receiver.
    }

    /// Whether the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.channel.has_receiver.get()
    }
}

impl<T> Receiver<T> {
    /// Receives the value. Once it has been received, the channel counts as closed.
    ///
    /// # Parks
    ///
    /// Until the value is there, or the sender is gone.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine gets [`RecvError::Refused`]; the value can still be received.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_within(None)
    }

    /// As [`recv`](Self::recv), waiting for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvError> {
        self.recv_within(Some(limit))
    }

    #[inline]
    fn recv_within(&self, limit: Option<Duration>) -> Result<T, RecvError> {
        if !self.is_ready() {
            let nothing = std::ptr::null_mut();
            self.channel
                .queue
                .wait(0, nothing, "oneshot::recv", limit)?;
        }
        self.try_recv().map_err(|_| RecvError::Closed)
    }

    /// Receives the value if it is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.channel.has_value.replace(false) {
            return self.channel.value.take().ok_or(TryRecvError::Closed);
        }
        Err(if self.channel.has_sender.get() {
            TryRecvError::Empty
        } else {
            TryRecvError::Closed
        })
    }

    /// Whether a receive would not wait.
    #[must_use]
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.channel.has_value.get() || !self.channel.has_sender.get()
    }

    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.channel.queue
    }
}

impl<T> Drop for Sender<T> {
    #[inline]
    fn drop(&mut self) {
        self.channel.has_sender.set(false);
        self.channel.queue.grant_all();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.has_receiver.set(false);
        self.channel.has_value.set(false);
        drop(self.channel.value.take());
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
