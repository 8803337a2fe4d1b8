//! Topics: what is published reaches every subscriber, on every core.
//!
//! Each subscription is a mailbox. Who publishes sends a copy to each; what happens when one is full is the subscriber's
//! choice ([`Lagging`]): it misses messages and learns how many, or the publisher waits for it.
//!
//! The list of subscribers is copied on change, so publishing takes a lock only to fetch it and holds none while it
//! sends or waits.

use super::channel::{Receiver, Sender, mailbox};
use super::channel_errors::{RecvError, TrySendError};
use coring_coro::wait::{self, Refusal};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to a subscriber that is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lagging {
    /// It misses what does not fit, and [`Subscription::missed`] counts it.
    Misses,
    /// The publisher waits for it.
    HoldsUp,
}

/// Makes a topic.
///
/// # Examples
///
/// ```
/// use coring::mailbox::{Lagging, topic};
///
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let news = topic::<&str>();
///     let mut everything = news.subscribe(16, Lagging::HoldsUp);
///     let publisher = news.clone();
///     coring::call(1, move || publisher.publish("hello").unwrap()).unwrap();
///     assert_eq!(everything.recv().unwrap(), "hello");
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[must_use]
pub fn topic<T: Clone>() -> Topic<T> {
    Topic {
        subscribers: Arc::default(),
    }
}

/// Publishes, and makes subscriptions. Clone it to wherever that is done.
pub struct Topic<T> {
    subscribers: Arc<Mutex<Arc<[Subscriber<T>]>>>,
}

struct Subscriber<T> {
    sender: Sender<T>,
    lagging: Lagging,
    missed: Arc<AtomicU64>,
}

impl<T> Clone for Subscriber<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            lagging: self.lagging,
            missed: Arc::clone(&self.missed),
        }
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        let subscribers = Arc::clone(&self.subscribers);
        Self { subscribers }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("subscribers", &self.subscribers().len())
            .finish()
    }
}

impl<T> Topic<T> {
    fn subscribers(&self) -> Arc<[Subscriber<T>]> {
        Arc::clone(
            &self
                .subscribers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Changes the list; subscribers that have gone leave it.
    fn change(&self, new: Option<Subscriber<T>>) {
        let mut list = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let there = list
            .iter()
            .filter(|one| !one.sender.is_disconnected())
            .cloned();
        let changed = there.chain(new).collect();
        let before = std::mem::replace(&mut *list, changed);
        drop(list);
        // With the mailboxes of those that went, and the messages in them, whose destructors may use the topic.
        drop(before);
    }

    /// How many subscribe now.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        let list = self.subscribers();
        list.iter()
            .filter(|one| !one.sender.is_disconnected())
            .count()
    }
}

impl<T: Clone> Topic<T> {
    /// Subscribes to what is published from now on. `capacity` messages of each publishing core may wait.
    ///
    /// # Panics
    ///
    /// When `capacity` is zero or more than a mailbox can have.
    #[must_use]
    pub fn subscribe(&self, capacity: usize, lagging: Lagging) -> Subscription<T> {
        let (sender, receiver) = mailbox(capacity);
        let missed = Arc::new(AtomicU64::new(0));
        self.change(Some(Subscriber {
            sender,
            lagging,
            missed: Arc::clone(&missed),
        }));
        Subscription { receiver, missed }
    }

    /// Sends a copy to every subscriber. To how many.
    ///
    /// # Parks
    ///
    /// While a subscriber that [holds up](Lagging::HoldsUp) has no room.
    ///
    /// # Cancellation
    ///
    /// Some subscribers may have it and others not.
    ///
    /// # Errors
    ///
    /// When the caller may not wait.
    pub fn publish(&self, message: T) -> Result<usize, Refusal> {
        // Who waits for nobody never parks.
        wait::give_way();
        let subscribers = self.subscribers();
        let (mut reached, mut gone) = (0, false);
        for one in &*subscribers {
            match one.lagging {
                Lagging::Misses => match one.sender.try_send(message.clone()) {
                    Ok(()) => reached += 1,
                    Err(TrySendError::Full(_)) => {
                        one.missed.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(TrySendError::Disconnected(_)) => gone = true,
                },
                Lagging::HoldsUp => match one.sender.send(message.clone()) {
                    Ok(()) => reached += 1,
                    Err(super::SendError::Refused(_, refusal)) => return Err(refusal),
                    Err(_) => gone = true,
                },
            }
        }
        if gone {
            self.change(None);
        }
        Ok(reached)
    }
}

/// What a subscriber receives from. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription<T> {
    receiver: Receiver<T>,
    missed: Arc<AtomicU64>,
}

impl<T> Subscription<T> {
    /// The next message. A publisher's messages come in its order.
    ///
    /// # Errors
    ///
    /// [`RecvError`]; disconnected when the topic is gone and all is received.
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// As [`recv`](Self::recv), for at the most `limit`.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    pub fn recv_timeout(&mut self, limit: Duration) -> Result<T, RecvError> {
        self.receiver.recv_timeout(limit)
    }

    /// How many messages did not fit since the last call.
    pub fn missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}
