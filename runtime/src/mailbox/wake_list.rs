//! A core's list of waiters to wake: pushed to from anywhere, never full, emptied by the core once a turn.
//!
//! ```text
//!   push(node)                                  drain(), on the owning core
//!   1 queued.swap(true): was it? then done      1 take the whole list: head.swap(null)
//!   2 head = node -> old head (CAS)             2 each node, oldest first:
//!                                                   queued.swap(false), then hand it out
//! ```
//!
//! The link is inside the node, so a push allocates nothing, and a node is in the list at most once, so the list is
//! bounded by the waiters there are. That is why it cannot be full and no wake has to be tried again: what a wake
//! needs was paid for by whoever began to wait. A bounded queue of wakes would make the waker wait for room on the
//! very core it is to wake, which for a foreign thread or a core in a cycle means polling.
//!
//! Why no wake is lost. A waker first makes its condition true, then pushes.
//! - It found `queued` false: it puts the node in. The CAS (Release) pairs with the swap of the drain (Acquire);
//!   CASes of others in between continue the release sequence. So who is handed the node sees the condition.
//! - It found `queued` true: some other push has put the node in or is about to. The drain that takes that node out
//!   does `queued.swap(false)` (AcqRel), which comes later in the order of that flag than the waker's own swap
//!   (AcqRel), so it sees everything before it, the condition included; and only then hands the node out.
//!
//! That a core which sleeps looks at its list is the business of port.rs.
//!
//! The end: [`close`](WakeList::close) leaves a mark in `head` that pushes recognise in the same CAS, so a node
//! never gets into a list that nobody empties any more: a waker may be used after its runtime has ended.
//!
//! A pusher that is held up between its two steps delays the wake of that one node, and loses nothing.
#![expect(
    unsafe_code,
    reason = "nodes are in the list as raw pointers that own a count"
)]

use super::atomics::{AtomicBool, AtomicPtr, Ordering};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// What a node keeps for the list it is in.
#[derive(Debug)]
pub(crate) struct Link<N> {
    queued: AtomicBool,
    next: AtomicPtr<N>,
}

impl<N> Link<N> {
    pub(crate) fn new() -> Self {
        Self {
            queued: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

/// A node knows its link. It is pushed to one list only, all its life.
pub(crate) trait Linked: Sized {
    fn link(&self) -> &Link<Self>;
}

/// The list. Owns a count of each node in it.
#[derive(Debug)]
pub(crate) struct WakeList<N: Linked> {
    head: AtomicPtr<N>,
}

impl<N: Linked> WakeList<N> {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// What `head` is after the end. No node has this address.
    fn closed() -> *mut N {
        NonNull::dangling().as_ptr()
    }

    /// Puts a node in, unless it is in. Whether this call did: then the core is to be woken.
    pub(crate) fn push(&self, node: &Arc<N>) -> bool {
        let link = node.link();
        // Pairs with the swap in `drain`.
        if link.queued.swap(true, Ordering::AcqRel) {
            return false;
        }
        let raw = Arc::into_raw(Arc::clone(node)).cast_mut();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == Self::closed() {
                // SAFETY: `raw` came from `into_raw` above and did not get into the list.
                drop(unsafe { Arc::from_raw(raw) });
                return false;
            }
            link.next.store(head, Ordering::Relaxed);
            // Release: pairs with the Acquire of `take_all`, which then sees the node's link.
            let pushed =
                self.head
                    .compare_exchange_weak(head, raw, Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        head.is_null() || head == Self::closed()
    }

    /// Takes out what is in, oldest first. Called by one thread at a time.
    pub(crate) fn drain(&self, mut wake: impl FnMut(&Arc<N>)) {
        if !self.is_empty() {
            self.take_all(ptr::null_mut(), &mut wake);
        }
    }

    /// The end: drops what is in, and everything that comes later. Called by one thread at a time.
    pub(crate) fn close(&self) {
        self.take_all(Self::closed(), &mut |_| ());
    }

    fn take_all(&self, leave: *mut N, wake: &mut impl FnMut(&Arc<N>)) {
        // Acquire: pairs with the Release in `push`.
        let newest = self.head.swap(leave, Ordering::Acquire);
        if newest == Self::closed() {
            // Only a second `close` gets here.
            return;
        }
        let mut oldest = ptr::null_mut();
        let mut at = newest;
        while let Some(node) = NonNull::new(at) {
            // SAFETY: the list owns a count of it, so it is alive.
            let link = unsafe { node.as_ref() }.link();
            at = link.next.swap(oldest, Ordering::Relaxed);
            oldest = node.as_ptr();
        }
        while !oldest.is_null() {
            // SAFETY: from `into_raw` in `push`; taken out once, since the list was ours from the swap on.
            let node = unsafe { Arc::from_raw(oldest) };
            let link = node.link();
            oldest = link.next.load(Ordering::Relaxed);
            // From here on it may be pushed again. Pairs with the swap in `push`.
            link.queued.swap(false, Ordering::AcqRel);
            wake(&node);
        }
    }
}

impl<N: Linked> Drop for WakeList<N> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
