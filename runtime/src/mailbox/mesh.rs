//! A mesh: a mailbox for every core, and a way from every core to every other.
//!
//! [`mesh`] makes the mailboxes, which cost nothing but their places; each core takes its [`Node`] with one call. A lane is
//! allocated when one core first sends to another, so a mesh over many cores that do not talk stays small.

use super::channel::{Receiver, Sender, mailbox};
use super::channel_errors::{RecvError, SendError, TrySendError};
use crate::per_core;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Makes a mesh over all cores of the caller's runtime, with room for `capacity` messages from each core to each other.
///
/// # Panics
///
/// Outside a runtime, and when `capacity` is zero or more than a mailbox can have.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let mesh = coring::mailbox::mesh::<usize>(8);
///     let sums = coring::call_all(move |core| {
///         let mut node = mesh.node();
///         node.broadcast(core + 1).unwrap();
///         (0..coring::cores()).map(|_| node.recv().unwrap()).sum::<usize>()
///     });
///     assert_eq!(sums.unwrap(), [3, 3]);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[must_use]
#[track_caller]
pub fn mesh<T>(capacity: usize) -> Mesh<T> {
    let cores = per_core::require_current("mesh").cluster().cores();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..cores).map(|_| mailbox(capacity)).unzip();
    let parts = Parts {
        senders,
        receivers: receivers.into_iter().map(Some).collect(),
    };
    Mesh {
        parts: Arc::new(Mutex::new(parts)),
    }
}

/// A mesh whose nodes are still to be taken. Clone it to every core.
pub struct Mesh<T> {
    parts: Arc<Mutex<Parts<T>>>,
}

struct Parts<T> {
    senders: Vec<Sender<T>>,
    receivers: Vec<Option<Receiver<T>>>,
}

impl<T> Clone for Mesh<T> {
    fn clone(&self) -> Self {
        let parts = Arc::clone(&self.parts);
        Self { parts }
    }
}

impl<T> fmt::Debug for Mesh<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mesh")
    }
}

impl<T> Mesh<T> {
    /// Takes the node of the core that the caller runs on.
    ///
    /// # Panics
    ///
    /// When it was taken before, and outside the mesh's runtime.
    #[must_use]
    #[track_caller]
    pub fn node(&self) -> Node<T> {
        let core = per_core::require_current("Mesh::node").index();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = parts.receivers.get_mut(core).and_then(Option::take);
        let receiver = receiver.expect("each core takes its node of a mesh once");
        let senders = parts.senders.iter().enumerate();
        let senders = senders
            .map(|(to, sender)| (to != core).then(|| sender.clone()))
            .collect();
        if parts.receivers.iter().all(Option::is_none) {
            // From now on the nodes alone hold the mesh: when the others have gone, a node learns it.
            parts.senders.clear();
        }
        Node { senders, receiver }
    }
}

/// One core's place in a mesh.
#[derive(Debug)]
pub struct Node<T> {
    /// `None` at this core's own index.
    senders: Vec<Option<Sender<T>>>,
    receiver: Receiver<T>,
}

impl<T> Node<T> {
    /// Sends to a core, this one included, and waits for room.
    ///
    /// # Parks
    ///
    /// While the lane from this core to that one is full. Two nodes that only send to each other, and never receive,
    /// wait for ever, as any two bounded queues do: receive in one coroutine and send in another.
    ///
    /// # Errors
    ///
    /// [`SendError`]; the message comes back.
    ///
    /// # Panics
    ///
    /// When there is no such core.
    pub fn send(&self, core: usize, message: T) -> Result<(), SendError<T>> {
        match &self.senders[core] {
            Some(sender) => sender.send(message),
            None => self.receiver.shared().send(message, None),
        }
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    ///
    /// [`TrySendError`]; the message comes back.
    ///
    /// # Panics
    ///
    /// When there is no such core.
    pub fn try_send(&self, core: usize, message: T) -> Result<(), TrySendError<T>> {
        match &self.senders[core] {
            Some(sender) => sender.try_send(message),
            None => self.receiver.shared().try_send(message),
        }
    }

    /// Sends a copy to every core, this one included, and waits for room at each.
    ///
    /// # Parks
    ///
    /// As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// The first [`SendError`] other than a core that has gone; those are passed over.
    pub fn broadcast(&self, message: T) -> Result<(), SendError<T>>
    where
        T: Clone,
    {
        for core in 0..self.senders.len() {
            match self.send(core, message.clone()) {
                Ok(()) | Err(SendError::Disconnected(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a message that any core has sent here, and waits for one.
    ///
    /// # Errors
    ///
    /// [`RecvError`]; disconnected when all other nodes have gone.
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

    /// The receiving half, for a coroutine of its own.
    pub fn receiver(&mut self) -> &mut Receiver<T> {
        &mut self.receiver
    }
}
