//! Who waits for something that one at a time may have: it is handed over, first come first served.
//!
//! ```text
//!   who has it, and is done               who wants it
//!   somebody waits?                       free? take it
//!     yes: pick the first, it is theirs   else: in the queue, free? take it and leave
//!     no: free it; fence                        else park until picked: it is ours
//!         somebody waits now? take it again, and from the start
//! ```
//!
//! It is never free while somebody waits, so nobody who comes by can have it before them: who only woke them and went on would
//! have it again at once, each time. The fence is that of the queue (wait_queue.rs): either who enters finds it free, or
//! who frees it finds them waiting. Who is picked and gives up, cancelled or late, hands it on.
//!
//! The state itself, a flag or a count, belongs to the caller.

use super::wait_queue::WaitQueue;
use super::waiter::{self, Stop, Waiter};
use crate::per_core;
use coring_coro::wait;
use std::sync::Arc;
use std::time::Duration;

/// A queue for it. `W` is an [`Arc<Waiter>`] but in the models.
#[derive(Debug)]
pub(crate) struct Turns<W = Arc<Waiter>>(WaitQueue<W>);

impl<W> Default for Turns<W> {
    fn default() -> Self {
        Self(WaitQueue::default())
    }
}

impl<W> Turns<W> {
    /// Hands over what the caller has: to the one that is returned, who is to be woken, or to nobody.
    #[inline]
    fn hand_over(&self, free: impl Fn(), take: impl Fn() -> bool) -> Option<W> {
        loop {
            if !self.0.seems_waited_for() {
                free();
                if !self.0.is_waited_for() || !take() {
                    return None;
                }
            }
            if let Some(next) = self.0.pick_locked() {
                return Some(next);
            }
        }
    }

    /// What somebody does who wants it, at first and after each wake: whether it is theirs. `ticket` is theirs to keep. Where several may have one,
    /// another may be handed over just as one is taken: that goes on to who is returned, if to anybody, who is to be woken.
    fn look(
        &self,
        ticket: &mut Option<u64>,
        waiter: impl FnOnce() -> W,
        free: impl Fn(),
        take: impl Fn() -> bool,
    ) -> Option<Option<W>> {
        match *ticket {
            // Asked once: whoever is picked after this is not to enter anew, and finds out at the next look.
            Some(own) if !self.0.holds(own) => return Some(None),
            Some(_) => {}
            None => self.0.enter(ticket, waiter),
        }
        if !take() {
            return None;
        }
        let is_picked = ticket.take().is_some_and(|own| !self.0.leave(own));
        Some(is_picked.then(|| self.hand_over(free, take)).flatten())
    }
}

impl Turns {
    /// Waits until `take` has taken it, or it was handed over.
    ///
    /// Stopped early - cancelled, past `limit`, unwinding - it leaves no trace: what was handed over goes back by `free`.
    pub(crate) fn take(
        &self,
        what_for: &'static str,
        limit: Option<Duration>,
        take: impl Fn() -> bool,
        free: impl Fn(),
    ) -> Result<(), Stop> {
        // Before it is taken: nobody is to wait for what others do meanwhile.
        wait::give_way();
        if take() {
            return Ok(());
        }
        if let Some(engine) = per_core::current()
            && let Some(()) = engine.glance(0, || true, &mut || take().then_some(()))
        {
            // Whoever finds each time never parks: others, timers and the ring have their turn all the same.
            wait::give_way();
            return Ok(());
        }
        let mut place = Place {
            turns: self,
            ticket: None,
            take: &take,
            free: &free,
        };
        waiter::block(what_for, limit, |waiter| place.look(waiter).then_some(()))?;
        place.ticket = None;
        Ok(())
    }

    /// Some have been made free: who waits gets one each, as long as there are.
    pub(crate) fn offer(&self, free: impl Fn(), take: impl Fn() -> bool) {
        while self.0.is_waited_for() && take() {
            self.give(&free, &take);
        }
    }

    /// Gives back what the caller has. `free` makes it free, `take` takes it again if it still is.
    #[inline]
    pub(crate) fn give(&self, free: impl Fn(), take: impl Fn() -> bool) {
        if let Some(next) = self.hand_over(free, take) {
            next.wake();
        }
    }
}

/// A waiter's place, given up when dropped, also by unwinding.
struct Place<'a, Take: Fn() -> bool, Free: Fn()> {
    turns: &'a Turns,
    ticket: Option<u64>,
    take: &'a Take,
    free: &'a Free,
}

impl<Take: Fn() -> bool, Free: Fn()> Place<'_, Take, Free> {
    /// Whether it is ours.
    fn look(&mut self, waiter: &Arc<Waiter>) -> bool {
        let another = || Arc::clone(waiter);
        let turn = self
            .turns
            .look(&mut self.ticket, another, self.free, self.take);
        if let Some(Some(next)) = &turn {
            next.wake();
        }
        turn.is_some()
    }
}

impl<Take: Fn() -> bool, Free: Fn()> Drop for Place<'_, Take, Free> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        if !self.turns.0.leave(ticket) {
            self.turns.give(self.free, self.take);
        }
    }
}

#[cfg(test)]
mod tests;
