//! Watch: the latest value, for configuration and state. Receivers see the newest, never every one.

use super::RecvError;
use crate::sync::queue::WaitQueue;
use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A channel that holds one value: the latest.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let (sender, receiver) = coro::channel::watch("starting");
/// let watcher = coro::spawn(move || {
///     receiver.changed().unwrap();
///     *receiver.borrow()
/// });
/// coro::yield_now();
/// sender.send("running").unwrap();
/// assert_eq!(watcher.join().unwrap(), "running");
/// # });
/// ```
#[must_use]
pub fn watch<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let channel = Rc::new(Channel {
        value: RefCell::new(value),
        version: Cell::new(0),
        has_sender: Cell::new(true),
        receivers: Cell::new(1),
        queue: WaitQueue::new(),
    });
    let sender = Sender {
        channel: Rc::clone(&channel),
    };
    let receiver = Receiver {
        channel,
        seen: Cell::new(0),
    };
    (sender, receiver)
}

struct Channel<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    has_sender: Cell<bool>,
    receivers: Cell<usize>,
    queue: WaitQueue,
}

/// The sending end.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// A receiving end. A clone has seen what this one has seen.
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
    seen: Cell<u64>,
}

impl<T> Sender<T> {
    /// Replaces the value and tells all receivers. Never waits.
    ///
    /// # Errors
    ///
    /// Gives the value back when there is no receiver.
    ///
    /// # Panics
    ///
    /// While the value is borrowed: do not hold a [`Receiver::borrow`] across a wait.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), T> {
        if self.channel.receivers.get() == 0 {
            return Err(value);
        }
        let previous = self.channel.value.replace(value);
        self.announce();
        drop(previous);
        Ok(())
    }

    /// Changes the value in place and tells all receivers.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send); with the panic of `change`, after which receivers are told nothing.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.channel.value.borrow_mut());
        self.announce();
    }

    /// The latest value.
    ///
    /// # Panics
    ///
    /// Inside [`send_modify`](Self::send_modify).
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.channel.value.borrow()
    }

    /// A receiver that has seen the present value.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        let channel = Rc::clone(&self.channel);
        channel.receivers.set(channel.receivers.get() + 1);
        let seen = Cell::new(channel.version.get());
        Receiver { channel, seen }
    }

    #[inline]
    fn announce(&self) {
        self.channel.version.set(self.channel.version.get() + 1);
        self.channel.queue.grant_all();
    }
}

impl<T> Receiver<T> {
    /// The latest value, which counts as seen.
    ///
    /// # Panics
    ///
    /// Inside [`Sender::send_modify`].
    #[must_use]
    #[inline]
    pub fn borrow(&self) -> Ref<'_, T> {
        self.seen.set(self.channel.version.get());
        self.channel.value.borrow()
    }

    /// Whether there is a value that was not seen yet.
    #[must_use]
    #[inline]
    pub fn has_changed(&self) -> bool {
        self.seen.get() != self.channel.version.get()
    }

    /// Waits for a value that was not seen yet, and counts it as seen.
    ///
    /// # Parks
    ///
    /// Until there is one.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine gets [`RecvError::Refused`].
    ///
    /// # Errors
    ///
    /// [`RecvError`]; closed means that the sender is gone and its last value was seen.
    pub fn changed(&self) -> Result<(), RecvError> {
        self.changed_within(None)
    }

    /// As [`changed`](Self::changed), waiting for `limit` at the most.
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    pub fn changed_timeout(&self, limit: Duration) -> Result<(), RecvError> {
        self.changed_within(Some(limit))
    }

    fn changed_within(&self, limit: Option<Duration>) -> Result<(), RecvError> {
        let (channel, seen) = (&*self.channel, self.seen.get());
        if !self.is_ready() {
            let nothing = std::ptr::null_mut();
            channel.queue.wait(0, nothing, "watch::changed", limit)?;
        }
        // Another coroutine may have looked through this receiver meanwhile: a change counts for all who waited for it.
        if channel.version.get() == seen {
            return Err(RecvError::Closed);
        }
        self.seen.set(channel.version.get());
        Ok(())
    }

    /// Whether [`changed`](Self::changed) would not wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.has_changed() || !self.channel.has_sender.get()
    }

    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.channel.queue
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let channel = Rc::clone(&self.channel);
        channel.receivers.set(channel.receivers.get() + 1);
        let seen = self.seen.clone();
        Self { channel, seen }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.has_sender.set(false);
        self.channel.queue.grant_all();
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
