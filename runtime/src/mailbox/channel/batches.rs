//! Calls that send and receive many: from a vector and into one, and in place.
//!
//! In place a message is made in the slot it crosses in, by an iterator, and given to a closure from there. Both are any code: they
//! run outside of every wait and every lock, and what they have done when they panic is done.
#![expect(unsafe_code, reason = "the receiver has the right to receive")]

use super::{Receiver, RecvError, SendError, Sender, Shared};
use crate::mailbox::Stop;
use crate::mailbox::lanes::{self, Lane};
use crate::mailbox::ring::Filled;
use crate::per_core::Engine;
use coring_coro::wait;

impl<T> Sender<T> {
    /// Sends all of these, in this order, and waits for room. What could not be sent is left in `messages`.
    ///
    /// Cheaper than one by one: as many as there is room for are shown to the receiver at once.
    ///
    /// # Parks
    ///
    /// While the caller's lane is full.
    ///
    /// # Cancellation
    ///
    /// Those that are left were not sent.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    ///
    /// # Examples
    ///
    /// ```
    /// coring::Runtime::builder().cores(2).build()?.run(|| {
    ///     let (sender, mut receiver) = coring::mailbox(16);
    ///     coring::spawn_on(1, move || sender.send_many(&mut (0..100).collect()).unwrap());
    ///     assert_eq!(receiver.iter().sum::<i32>(), 4950);
    /// });
    /// # Ok::<(), coring::StartError>(())
    /// ```
    pub fn send_many(&self, messages: &mut Vec<T>) -> Result<(), SendError<()>> {
        let (lane, sender) = self.shared.lanes.own(self.shared.cluster.as_ref());
        let cluster = self.shared.cluster.as_ref();
        let sent = lane.wait_for_room("room in a mailbox", None, cluster, || {
            if self.is_disconnected() {
                return Some(Err(SendError::Disconnected(())));
            }
            if lane.push_many(sender, messages) > 0 {
                self.shared.announce(lane, sender);
            }
            messages.is_empty().then_some(Ok(()))
        });
        sent.unwrap_or_else(|stop| match stop {
            Stop::Refused(refusal) => Err(SendError::Refused((), refusal)),
            Stop::TimedOut => unreachable!("there is no limit"),
        })
    }

    /// Sends each message that an iterator gives, in this order, and waits for room. Each is made in the slot it crosses in.
    ///
    /// Cheaper than one by one: messages are shown to the receiver some at a time. What has been given but not shown when the
    /// iterator takes long over the next one, or waits, is shown after that: an iterator that waits for the answer to a message
    /// before it gives the next one wants a loop over [`send`](Self::send).
    ///
    /// When the iterator panics, what it gave before is sent.
    ///
    /// # Parks
    ///
    /// While the caller's lane is full.
    ///
    /// # Cancellation
    ///
    /// The message comes back for which there was no room; the iterator was not asked for more. Given as `by_ref()` it still has
    /// them.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the first message that was not sent.
    ///
    /// # Examples
    ///
    /// ```
    /// coring::Runtime::builder().cores(2).build()?.run(|| {
    ///     let (sender, mut receiver) = coring::mailbox(16);
    ///     coring::spawn_on(1, move || sender.send_all((0..100).map(|n| n * n)).unwrap());
    ///     let mut sum = 0;
    ///     while receiver.recv_each(64, |square| sum += square).is_ok() {}
    ///     assert_eq!(sum, 328_350);
    /// });
    /// # Ok::<(), coring::StartError>(())
    /// ```
    pub fn send_all(&self, messages: impl IntoIterator<Item = T>) -> Result<(), SendError<T>> {
        let shared = &*self.shared;
        let (lane, sender) = shared.lanes.own(shared.cluster.as_ref());
        let lanes::Sender::Core(engine) = sender else {
            // Threads share a lane, under a lock in which no iterator can run.
            return messages.into_iter().try_for_each(|one| self.send(one));
        };
        let group = Group {
            shared,
            lane,
            engine,
        };
        let mut messages = messages.into_iter();
        loop {
            let filled = match self.is_disconnected() {
                // Whoever it is for, the next one comes back.
                true => Filled::NoRoom,
                false => lane.fill(engine, &mut messages),
            };
            group.show();
            let message = match filled {
                Filled::Full => {
                    // As in `send`.
                    wait::give_way();
                    if messages.size_hint().1 == Some(0) {
                        return Ok(());
                    }
                    continue;
                }
                Filled::Over => None,
                Filled::Interrupted(message) => Some(message),
                Filled::NoRoom => messages.next(),
            };
            match message {
                Some(message) => self.send(message)?,
                None => return Ok(()),
            }
        }
    }
}

impl<T> Receiver<T> {
    /// Takes what waits, up to `most` messages, and appends it; waits for the first. How many it took.
    ///
    /// Cheaper than one by one: senders are told about room once a batch.
    ///
    /// # Parks
    ///
    /// While there is none.
    ///
    /// # Cancellation
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// [`RecvError`]; nothing was appended then.
    pub fn recv_many(&mut self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.recv_each(most, |message| into.push(message))
    }

    /// Takes what waits, up to `most` messages, and gives each to `each` from where it lies; waits for the first. How many it
    /// took.
    ///
    /// As [`recv_many`](Self::recv_many) without a place in between: each message is received when it is given, and when `each`
    /// panics the rest waits for the next call. Senders are told about room once a batch, so `each` must not wait for one that
    /// waits for room.
    ///
    /// # Parks
    ///
    /// While there is none.
    ///
    /// # Cancellation
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// [`RecvError`]; nothing was taken then.
    ///
    /// # Examples
    ///
    /// See [`Sender::send_all`].
    pub fn recv_each(&mut self, most: usize, mut each: impl FnMut(T)) -> Result<usize, RecvError> {
        let Self { shared, round } = self;
        loop {
            // SAFETY: there is one receiver, and it is borrowed uniquely.
            let taken = unsafe {
                shared
                    .lanes
                    .pop_each(round, shared.cluster.as_ref(), most, &mut each)
            };
            if taken > 0 || most == 0 {
                // As in `recv`.
                wait::give_way();
                return Ok(taken);
            }
            // Apart, since who waits runs no code of others.
            let pause = round.end_burst();
            let news = shared.wait_for_news("messages", None, pause, || {
                shared.lanes.has_messages().then_some(())
            });
            news?.ok_or(RecvError::Disconnected)?;
        }
    }
}

/// Messages that are put into a lane before they are shown; dropped, also by unwinding, it shows them.
struct Group<'a, T> {
    shared: &'a Shared<T>,
    lane: &'a Lane<T>,
    engine: &'static Engine,
}

impl<T> Group<'_, T> {
    fn show(&self) {
        self.lane.show_group(self.engine);
        // Also when others have shown it meanwhile: they may have found no room, and told nobody.
        let sender = lanes::Sender::Core(self.engine);
        self.shared.announce(self.lane, sender);
    }
}

impl<T> Drop for Group<'_, T> {
    fn drop(&mut self) {
        self.show();
    }
}
