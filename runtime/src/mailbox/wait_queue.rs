//! Who waits for one thing that another core or thread will do: a first-in first-out queue with a flag before it.
//!
//! ```text
//!   waiter                                     notifier
//!   1 in the queue, waiting = true (locked)    1 make the condition true
//!   2 fence                                    2 fence
//!   3 look at the condition once more, park    3 waiting? then lock, pick, wake
//! ```
//!
//! Why no wake is lost. Each side writes one place, fences (`SeqCst`), and reads the other's: the store-buffer
//! pattern. The fences are ordered; the side whose fence comes second sees the other's write. So either the waiter
//! finds the condition true, or the notifier finds `waiting` true and picks. While nobody waits a notifier pays one
//! fence and one load.
//!
//! A notifier that comes by very often has a cheaper way to do its step 2: bias.rs. And who is about to wait first
//! takes a glance, without a place in the queue: the other core may be about to make the condition true
//! (per_core/glance.rs).
//!
//! A pick is a baton. Who was picked and then gives up - cancelled, timed out - or is picked while the attempt succeeds that it makes
//! from its place, has taken a wake that another waiter may need, so it passes it on ([`WaitQueue::wait`]). Picked waiters race with newcomers for the condition;
//! one that loses goes to the back. Where that is not fair enough, see turns.rs.
//!
//! `waiting` changes only under the lock and is true exactly while the queue is not empty. The lock is held for a
//! few instructions, never across a switch or user code.

use super::atomics::{AtomicBool, Mutex, Ordering, fence};
use super::bias::{Bias, OpenTurn};
use super::waiter::{self, Stop, Waiter};
use crate::per_core;
use coring_coro::wait;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The queue. `W` is an [`Arc<Waiter>`] but in the models.
#[derive(Debug)]
pub(crate) struct WaitQueue<W = Arc<Waiter>> {
    waiting: AtomicBool,
    queue: Mutex<Queue<W>>,
}

#[derive(Debug)]
struct Queue<W> {
    /// Tickets ascend, so an entry is found by bisection.
    entries: VecDeque<(u64, W)>,
    next_ticket: u64,
}

impl<W> Queue<W> {
    fn position(&self, ticket: u64) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&ticket, |entry| entry.0)
    }
}

impl<W> Default for WaitQueue<W> {
    fn default() -> Self {
        Self {
            waiting: AtomicBool::new(false),
            queue: Mutex::new(Queue {
                entries: VecDeque::new(),
                next_ticket: 0,
            }),
        }
    }
}

impl<W> WaitQueue<W> {
    fn locked<R>(&self, change: impl FnOnce(&mut Queue<W>) -> R) -> R {
        // Nothing panics while it is held.
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut queue);
        self.waiting
            .store(!queue.entries.is_empty(), Ordering::Relaxed);
        result
    }

    /// Step 1 and 2 of a waiter. `ticket` is kept by the waiter; who is in the queue stays where it is.
    pub(super) fn enter(&self, ticket: &mut Option<u64>, waiter: impl FnOnce() -> W) {
        self.locked(|queue| {
            if ticket.is_some_and(|ticket| queue.position(ticket).is_ok()) {
                return;
            }
            let new = queue.next_ticket;
            queue.next_ticket += 1;
            queue.entries.push_back((new, waiter()));
            *ticket = Some(new);
        });
        // Pairs with the fence in `is_waited_for`.
        fence(Ordering::SeqCst);
    }

    /// Leaves the queue. `false` when it was picked before.
    pub(super) fn leave(&self, ticket: u64) -> bool {
        self.locked(|queue| {
            let position = queue.position(ticket);
            position.is_ok_and(|position| queue.entries.remove(position).is_some())
        })
    }

    /// Whether who has this ticket is in the queue.
    pub(super) fn holds(&self, ticket: u64) -> bool {
        self.locked(|queue| queue.position(ticket).is_ok())
    }

    /// As of some time ago: for a notifier that does step 1 only if nobody waits.
    #[inline]
    pub(super) fn seems_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Steps 2 and 3 of a notifier.
    #[inline]
    pub(super) fn is_waited_for(&self) -> bool {
        // Pairs with the fence in `enter`.
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes out the one that has waited longest.
    fn pick(&self) -> Option<W> {
        if !self.is_waited_for() {
            return None;
        }
        self.pick_locked()
    }

    /// As [`pick`](Self::pick), where step 2 was done in another way.
    #[inline]
    pub(super) fn pick_settled(&self) -> Option<W> {
        if !self.waiting.load(Ordering::Relaxed) {
            return None;
        }
        self.pick_locked()
    }

    #[cold]
    pub(super) fn pick_locked(&self) -> Option<W> {
        self.locked(|queue| queue.entries.pop_front())
            .map(|(_, waiter)| waiter)
    }

    /// Takes out all.
    fn pick_all(&self) -> VecDeque<(u64, W)> {
        if !self.is_waited_for() {
            return VecDeque::new();
        }
        self.locked(|queue| std::mem::take(&mut queue.entries))
    }
}

impl WaitQueue {
    /// Wakes the one that has waited longest, after the condition was made true. Whether there was one.
    #[inline]
    pub(crate) fn notify_one(&self) -> bool {
        let picked = self.pick();
        if let Some(waiter) = &picked {
            waiter.wake();
        }
        picked.is_some()
    }

    /// As [`notify_one`](Self::notify_one), by a notifier that may leave the fence out.
    #[inline(always)]
    pub(super) fn notify_one_biased(&self, bias: &Bias, turn: Option<(usize, &OpenTurn)>) -> bool {
        bias.settle(turn);
        self.notify_one_settled(bias)
    }

    /// As [`notify_one`](Self::notify_one), behind [`Bias::settle`].
    #[inline(always)]
    pub(super) fn notify_one_settled(&self, bias: &Bias) -> bool {
        self.waiting.load(Ordering::Relaxed) && self.wake_one(bias)
    }

    #[cold]
    fn wake_one(&self, bias: &Bias) -> bool {
        let picked = self.pick_settled();
        if let Some(waiter) = &picked {
            bias.found_waiter();
            waiter.wake();
        }
        picked.is_some()
    }

    /// Wakes all who wait, after the condition was made true.
    #[inline]
    pub(crate) fn notify_all(&self) {
        for (_, waiter) in self.pick_all() {
            waiter.wake();
        }
    }

    /// Waits until `attempt` gives something: the coroutine parks, a thread blocks.
    ///
    /// Stopped early - cancelled, past `limit`, unwinding - it leaves no trace, and a wake that it got is passed on.
    pub(crate) fn wait<T>(
        &self,
        what_for: &'static str,
        limit: Option<Duration>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Stop> {
        if let Some(value) = attempt() {
            wait::give_way();
            return Ok(value);
        }
        self.wait_for_biased(what_for, limit, attempt, 0, || true, || ())
    }

    /// As [`wait`](Self::wait), for notifiers that may leave the fence out: `reach_all` comes between entering the
    /// queue and the last look, and issues a barrier if one of them does (bias.rs). A glance
    /// begins after so many spins and tries only what is `promising`.
    #[inline]
    pub(super) fn wait_for_biased<T>(
        &self,
        what_for: &'static str,
        limit: Option<Duration>,
        mut attempt: impl FnMut() -> Option<T>,
        first_after: usize,
        promising: impl Fn() -> bool,
        reach_all: impl Fn(),
    ) -> Result<T, Stop> {
        let found =
            attempt().or_else(|| per_core::current()?.glance(first_after, promising, &mut attempt));
        if let Some(value) = found {
            // Whoever finds each time never parks: others, timers and the ring have their turn all the same.
            wait::give_way();
            return Ok(value);
        }
        self.wait_in_queue(what_for, limit, attempt, reach_all)
    }

    #[cold]
    fn wait_in_queue<T>(
        &self,
        what_for: &'static str,
        limit: Option<Duration>,
        mut attempt: impl FnMut() -> Option<T>,
        reach_all: impl Fn(),
    ) -> Result<T, Stop> {
        let mut place = Place {
            queue: self,
            ticket: None,
        };
        waiter::block(what_for, limit, |waiter| {
            self.enter(&mut place.ticket, || Arc::clone(waiter));
            reach_all();
            attempt()
        })
    }
}

/// A waiter's place, given up when dropped, also by unwinding.
struct Place<'a> {
    queue: &'a WaitQueue,
    ticket: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        // Each attempt is made from a place in the queue. So who was picked since has had the value without that, or has given up.
        if !self.queue.leave(ticket) {
            self.queue.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
