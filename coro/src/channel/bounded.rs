//! The bounded channel: a ring of values, and a queue of waiting coroutines at each end.
//!
//! ```text
//!   send --> [ v v v v . . ] --> recv        room and values: nobody waits
//!   send, send wait --> [ v v v v v v ]      full: a receiver takes one and moves in the first sender's value
//!                       [ . . . . . . ] --> recv, recv wait     empty: a sender writes into the first receiver's stack
//! ```
//!
//! A waiting end leaves an `Option<T>` on its stack: full at a sender, empty at a receiver. Whoever grants it takes
//! the value out or puts one in; a grant that leaves it as it was says that the other side is gone.
//!
//! Invariant: claims wait at the sending end only while the ring is full, at the receiving end only while
//! it is empty and no sender waits. So order is first in first out across ring and queues, with any capacity, and
//! with none (a rendezvous).
#![expect(
    unsafe_code,
    reason = "values change hands through the stacks of waiting coroutines; the ring holds what its indices say"
)]

use super::{RecvError, SendError, TryRecvError, TrySendError};
use crate::sync::WaitError;
use crate::sync::queue::{Node, WaitQueue};
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

/// A channel that holds up to `capacity` values. With none, a send waits until its value is received.
///
/// # Panics
///
/// For a capacity that no memory could hold.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let (sender, receiver) = coro::channel::bounded(16);
/// let producer = coro::spawn(move || (0..100).for_each(|n| sender.send(n).unwrap()));
/// let mut sum = 0;
/// while let Ok(n) = receiver.recv() {
///     sum += n;
/// }
/// assert_eq!(sum, 4950);
/// # producer.join().unwrap();
/// # });
/// ```
#[must_use]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Rc::new(Channel {
        ring: Ring::new(capacity),
        sending: WaitQueue::new(),
        receiving: WaitQueue::new(),
        senders: Cell::new(1),
        receivers: Cell::new(1),
    });
    let sender = Sender {
        channel: Rc::clone(&channel),
    };
    (sender, Receiver { channel })
}

/// The sending end. Clones send into the same channel; when the last is gone, the channel ends.
pub struct Sender<T> {
    channel: Rc<Channel<T>>,
}

/// The receiving end. Clones take turns: each value goes to one of them. When the last is gone, sending fails, and
/// values that nobody received are dropped.
pub struct Receiver<T> {
    channel: Rc<Channel<T>>,
}

struct Channel<T> {
    ring: Ring<T>,
    sending: WaitQueue,
    receiving: WaitQueue,
    senders: Cell<usize>,
    receivers: Cell<usize>,
}

impl<T> Sender<T> {
    /// Sends a value, after everyone who came before.
    ///
    /// # Parks
    ///
    /// While there is no room.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine gets its value back.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the value.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(SendError::Closed(value)),
            Err(TrySendError::Full(value)) => self.send_slow(value, None),
        }
    }

    /// As [`send`](Self::send), waiting for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the value.
    pub fn send_timeout(&self, value: T, limit: Duration) -> Result<(), SendError<T>> {
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(SendError::Closed(value)),
            Err(TrySendError::Full(value)) => self.send_slow(value, Some(limit)),
        }
    }

    fn send_slow(&self, value: T, limit: Option<Duration>) -> Result<(), SendError<T>> {
        let mut slot = Some(value);
        let payload = (&raw mut slot).cast();
        let queue = &self.channel.sending;
        let outcome = queue.wait(0, payload, "channel::send", limit);
        match (outcome, slot) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(value)) => Err(SendError::Closed(value)),
            (Err(WaitError::TimedOut), Some(value)) => Err(SendError::TimedOut(value)),
            (Err(WaitError::Refused(why)), Some(value)) => Err(SendError::Refused(value, why)),
            (Err(_), None) => unreachable!("a claim that was withdrawn keeps its value"),
        }
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Errors
    ///
    /// [`TrySendError`], with the value.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let channel = &*self.channel;
        if channel.receivers.get() == 0 {
            return Err(TrySendError::Closed(value));
        }
        if let Some(receiver) = channel.receiving.first_claim() {
            // SAFETY: the claim is linked.
            unsafe { *slot_of(receiver) = Some(value) };
            channel.receiving.grant(receiver);
            return Ok(());
        }
        channel.ring.push(value).map_err(TrySendError::Full)
    }

    /// Whether a send would find room, or nobody to receive.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let channel = &*self.channel;
        !channel.ring.is_full() || channel.receivers.get() == 0 || channel.receiving.has_claim()
    }

    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.channel.sending
    }
}

impl<T> Receiver<T> {
    /// Receives a value, after everyone who came before.
    ///
    /// # Parks
    ///
    /// While there is none.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine gets [`RecvError::Refused`]; a value that was handed to it before is returned instead.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        match self.try_recv() {
            Ok(value) => Ok(value),
            Err(TryRecvError::Closed) => Err(RecvError::Closed),
            Err(_) => self.recv_slow(None),
        }
    }

    /// As [`recv`](Self::recv), waiting for `limit` at the most.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvError> {
        match self.try_recv() {
            Ok(value) => Ok(value),
            Err(TryRecvError::Closed) => Err(RecvError::Closed),
            Err(_) => self.recv_slow(Some(limit)),
        }
    }

    #[inline]
    fn recv_slow(&self, limit: Option<Duration>) -> Result<T, RecvError> {
        let mut slot: Option<T> = None;
        let payload = (&raw mut slot).cast();
        let queue = &self.channel.receiving;
        queue.wait(0, payload, "channel::recv", limit)?;
        slot.ok_or(RecvError::Closed)
    }

    /// Receives a value if that needs no waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let channel = &*self.channel;
        let value = channel.ring.pop();
        if let Some(sender) = channel.sending.first_claim() {
            // SAFETY: the claim is linked.
            let waiting = unsafe { (*slot_of::<T>(sender)).take() };
            channel.sending.grant(sender);
            debug_assert!(waiting.is_some(), "a claim at the sending end has a value");
            let Some(value) = value else {
                return waiting.ok_or(TryRecvError::Empty);
            };
            let moved = waiting.map(|waiting| channel.ring.push(waiting).is_ok());
            debug_assert_eq!(moved, Some(true), "one was taken out just now");
            return Ok(value);
        }
        value.ok_or(if channel.senders.get() == 0 {
            TryRecvError::Closed
        } else {
            TryRecvError::Empty
        })
    }

    /// The values, until the channel ends or the wait is refused.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Values that wait in the channel.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channel.ring.len()
    }

    /// Whether no value waits in the channel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a receive would find a value, or nobody to send one.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let channel = &*self.channel;
        channel.ring.len() > 0 || channel.senders.get() == 0 || channel.sending.has_claim()
    }

    pub(crate) fn queue(&self) -> &WaitQueue {
        &self.channel.receiving
    }
}

/// The `Option<T>` of a waiting end.
fn slot_of<T>(claim: &Node) -> *mut Option<T> {
    claim.payload().cast()
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
        Self { channel }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = self.channel.senders.get() - 1;
        self.channel.senders.set(left);
        if left == 0 {
            self.channel.receiving.grant_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let left = self.channel.receivers.get() - 1;
        self.channel.receivers.set(left);
        if left == 0 {
            self.channel.sending.grant_all();
            // Nobody can push any more; a destructor may still use the channel, which is closed.
            while let Some(value) = self.channel.ring.pop() {
                drop(value);
            }
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A fixed ring of values: places `head..tail` (modulo its size) are initialised.
struct Ring<T> {
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
    capacity: usize,
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl<T> Ring<T> {
    fn new(capacity: usize) -> Self {
        let places = capacity.checked_next_power_of_two();
        let places = places.expect("the values of a channel fit in an address space");
        Self {
            places: (0..places)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
            capacity,
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    #[inline(always)]
    fn place(&self, index: usize) -> *mut MaybeUninit<T> {
        self.places[index & (self.places.len() - 1)].get()
    }

    #[inline(always)]
    fn push(&self, value: T) -> Result<(), T> {
        if self.is_full() {
            return Err(value);
        }
        let tail = self.tail.get();
        // SAFETY: the place is ours, and not initialised: it lies outside head..tail.
        unsafe { self.place(tail).write(MaybeUninit::new(value)) };
        self.tail.set(tail.wrapping_add(1));
        Ok(())
    }

    #[inline(always)]
    fn pop(&self) -> Option<T> {
        let head = self.head.get();
        if head == self.tail.get() {
            return None;
        }
        self.head.set(head.wrapping_add(1));
        // SAFETY: the place was inside head..tail, and is not any more: it is read once.
        let value = unsafe { self.place(head).read() };
        // SAFETY: inside head..tail, hence initialised.
        Some(unsafe { value.assume_init() })
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        while let Some(value) = self.pop() {
            drop(value);
        }
    }
}
