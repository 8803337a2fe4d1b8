//! Completion slots: where a result waits between the kernel and the owner of the operation.
//!
//! ```text
//!             insert                complete (terminal CQE)           take
//!    Free ------------> InFlight ---------------------------> Done ----------> Free, generation + 1
//!
//!    state      CQE, same generation           CQE, other generation   take
//!    Free       -                              stale                   None
//!    InFlight   Done, wake the token           stale                   None
//!               F_MORE: result kept, no wake
//!    Done       stale (a duplicate)            stale                   result; Free
//! ```
//!
//! A slot is 24 bytes in one array; an operation allocates nothing. The array's address range is reserved once,
//! for the limit, and touched only as far as operations were ever in flight at the same time, so it never moves
//! and never stalls a core by growing. Freed slots form a LIFO list, so that a busy core works on few cache lines.
//!
//! Invariants: a generation changes exactly when its slot is freed, so an [`OpId`] is live for one operation only
//! (until 2^32 operations later in the same slot); `inserted - completed` counts the slots whose terminal CQE is outstanding.
//!
//! An operation with many completions has a slot, too, which is `Multishot` until the terminal CQE and then `Ended` until
//! the last completion is taken; `multishot.rs` has what happens in between, and the slot only the way there.
//!
//! Zero-copy sends answer twice: the result with `F_MORE`, then a notification with `F_NOTIF` that the buffer is
//! free. The slot keeps the first one's result and is done with the second, so the owner sees one completion.
//!
//! Operations that nobody waits for have no slot: the ring counts them (`ring/own.rs`).
//!
//! Not here: any system call, any pointer that is followed. The file is plain safe code and a pure state machine.

use std::any::Any;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::rc::Rc;

use crate::completion::{CQE_F_MORE, CQE_F_NOTIF};
use crate::multishot::{Carries, Event, Filed, Multishots};
use crate::user_data::{MAX_SLOTS, OpId, is_own};
use crate::{Completion, Cqe, Token};

/// What a slot has for a token when nobody waits for it.
const NOBODY: Token = Token::new(NonNull::dangling());
/// End of the list of free slots.
const NONE: u32 = u32::MAX;

/// What [`Slots::complete`] made of a CQE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    /// The operation is done: wake its owner, who fetches the result with [`Slots::take`]. Or a multishot operation
    /// has something for [`Slots::next`], and this watcher asked to be told.
    Wake(Token),
    /// Nobody is to be woken: a first answer with more to come, or one for nobody.
    Quiet,
    /// So much of this multishot operation waits for its owner that the kernel should end it.
    Crowded(OpId),
    /// The owner of the operation is gone, and this descriptor, which came for it, is nobody's: close it.
    Close(RawFd),
    /// No live operation has this `user_data`: the CQE came too late, or twice. Counted, not acted upon.
    Stale,
    /// The `user_data` is none of an operation: the ring submitted this for itself.
    Own,
}

/// Every slot is taken: as many operations as the limit allows are in flight or unclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotsFull {
    /// The limit that was reached.
    pub(crate) limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    InFlight,
    Done,
    Multishot,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    token: Token,
    generation: u32,
    result: i32,
    /// CQE flags when done; the next free slot when free; the index of its stream when multishot.
    flags: u32,
    state: State,
}

impl Slot {
    /// Puts the slot of `op` at the head of the list of free slots. From here on `op` is stale.
    #[inline]
    fn release(&mut self, free: &mut u32, op: OpId) {
        self.state = State::Free;
        self.generation = self.generation.wrapping_add(1);
        self.flags = std::mem::replace(free, op.slot());
    }
}

const _: () = assert!(size_of::<Slot>() == 24, "a slot is three words");

/// The slots of one ring. The head of `slot.rs` has states and costs.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// First free slot, [`NONE`] when all slots made so far are taken.
    free: u32,
    /// Operations that ever took a slot, and those whose terminal CQE came.
    inserted: usize,
    completed: usize,
    limit: u32,
    stale: u64,
    multishots: Multishots,
    /// Generation of a slot when it is first made. Zero, except in tests of the wrap-around.
    first_generation: u32,
}

impl Slots {
    /// Room for `limit` operations, at most 2^31. Reserves 24 bytes of address space for each; the memory itself
    /// is taken as it is first used. Where so much is not to be had it grows with their number. Of a multishot operation about
    /// `window` completions may wait, at least 2.
    #[must_use]
    pub(crate) fn with_limits(limit: u32, window: u32) -> Slots {
        let limit = limit.clamp(1, MAX_SLOTS);
        let mut slots = Vec::new();
        let _ = slots.try_reserve_exact(limit as usize);
        Slots {
            slots,
            free: NONE,
            inserted: 0,
            completed: 0,
            limit,
            stale: 0,
            multishots: Multishots::with_window(window),
            first_generation: 0,
        }
    }

    /// Takes a slot for an operation whose owner waits for it.
    ///
    /// # Errors
    /// [`SlotsFull`] at the limit.
    #[inline]
    pub(crate) fn insert(&mut self, token: Token) -> Result<OpId, SlotsFull> {
        self.occupy(token, State::InFlight)
    }

    /// Takes a slot for an operation with many completions, each to be fetched with [`Slots::next`].
    ///
    /// # Errors
    /// [`SlotsFull`] at the limit.
    pub(crate) fn insert_multishot(&mut self, carries: Carries) -> Result<OpId, SlotsFull> {
        let op = self.occupy(NOBODY, State::Multishot)?;
        self.slots[op.index()].flags = self.multishots.open(carries);
        Ok(op)
    }

    #[inline]
    fn occupy(&mut self, token: Token, state: State) -> Result<OpId, SlotsFull> {
        let index = self.free;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return self.append(token, state);
        };
        self.free = slot.flags;
        self.inserted += 1;
        slot.token = token;
        slot.state = state;
        // A first answer with more to come adds to these.
        slot.result = 0;
        slot.flags = 0;
        Ok(OpId::new(index, slot.generation))
    }

    #[cold]
    fn append(&mut self, token: Token, state: State) -> Result<OpId, SlotsFull> {
        let index = u32::try_from(self.slots.len()).expect("the limit is below 2^32");
        if index >= self.limit {
            return Err(SlotsFull { limit: self.limit });
        }
        self.slots.push(Slot {
            token,
            generation: self.first_generation,
            result: 0,
            flags: 0,
            state,
        });
        self.inserted += 1;
        Ok(OpId::new(index, self.first_generation))
    }

    /// Files a CQE. The slot decides by state and generation what it means.
    #[inline]
    pub(crate) fn complete(&mut self, cqe: Cqe) -> Completed {
        let op = OpId::from_user_data(cqe.user_data);
        if let Some(slot) = self.slots.get_mut(op.index())
            && slot.generation == op.generation()
            && slot.state == State::InFlight
            && cqe.flags & (CQE_F_MORE | CQE_F_NOTIF) == 0
        {
            slot.result = cqe.result;
            slot.flags = cqe.flags;
            slot.state = State::Done;
            self.completed += 1;
            return Completed::Wake(slot.token);
        }
        self.complete_unusual(op, cqe)
    }

    /// Everything but the one answer of a one-shot operation.
    #[inline(never)]
    fn complete_unusual(&mut self, op: OpId, cqe: Cqe) -> Completed {
        if is_own(cqe.user_data) {
            return Completed::Own;
        }
        if let Some(slot) = self.slots.get_mut(op.index())
            && slot.generation == op.generation()
            && slot.state == State::Multishot
        {
            return self.complete_multishot(op, cqe);
        }
        let live = self
            .slots
            .get_mut(op.index())
            .filter(|slot| slot.generation == op.generation() && slot.state == State::InFlight);
        let Some(slot) = live else {
            self.stale += 1;
            return Completed::Stale;
        };
        if cqe.flags & CQE_F_NOTIF == 0 {
            slot.result = cqe.result;
        }
        slot.flags |= cqe.flags & !CQE_F_MORE;
        if cqe.flags & CQE_F_MORE != 0 {
            return Completed::Quiet;
        }
        self.completed += 1;
        slot.state = State::Done;
        Completed::Wake(slot.token)
    }

    fn complete_multishot(&mut self, op: OpId, cqe: Cqe) -> Completed {
        let completion = Completion {
            result: cqe.result,
            flags: cqe.flags,
        };
        let slot = &mut self.slots[op.index()];
        let stream = slot.flags;
        let filed = self.multishots.file(stream, completion);
        if !completion.more() {
            self.completed += 1;
            slot.state = State::Ended;
            if self.multishots.is_empty(stream) {
                // Abandoned: nobody will come for it.
                self.multishots.close(stream);
                slot.release(&mut self.free, op);
            }
        }
        match filed {
            Filed::Wake(token) => Completed::Wake(token),
            Filed::Quiet => Completed::Quiet,
            Filed::Crowded => Completed::Crowded(op),
            Filed::Close(fd) => Completed::Close(fd),
        }
    }

    /// The stream of a multishot operation that is not over, or of which something waits.
    #[inline]
    fn stream(&self, op: OpId) -> Option<(u32, State)> {
        let slot = self.slots.get(op.index())?;
        let multishot = matches!(slot.state, State::Multishot | State::Ended);
        (multishot && slot.generation == op.generation()).then_some((slot.flags, slot.state))
    }

    /// The first completion of a multishot operation that was not taken yet. Frees the slot with the last one, so
    /// that afterwards the same `op` gives `None`.
    #[inline]
    pub(crate) fn next(&mut self, op: OpId) -> Option<Event> {
        let (stream, state) = self.stream(op)?;
        let event = self.multishots.next(stream)?;
        if state == State::Ended && self.multishots.is_empty(stream) {
            self.multishots.close(stream);
            self.slots[op.index()].release(&mut self.free, op);
        }
        Some(event)
    }

    /// The next completion of `op`, of which nothing waits, wakes `watcher`; of `None`, nobody. Does nothing for an
    /// operation that is over.
    #[inline]
    pub(crate) fn watch(&mut self, op: OpId, watcher: Option<Token>) {
        if let Some((stream, _)) = self.stream(op) {
            self.multishots.watch(stream, watcher);
        }
    }

    /// Gives back what the completions of a multishot operation carry that nobody took, and whatever still comes.
    /// Descriptors go to `close`.
    pub(crate) fn abandon(&mut self, op: OpId, mut close: impl FnMut(RawFd)) {
        let Some((stream, state)) = self.stream(op) else {
            return;
        };
        self.multishots.abandon(stream, &mut close);
        if state == State::Ended {
            self.multishots.close(stream);
            self.slots[op.index()].release(&mut self.free, op);
        }
    }

    /// The memory of operations that are over, which nobody else has.
    #[inline]
    pub(crate) fn take_unlent(&mut self) -> Vec<Rc<dyn Any>> {
        self.multishots.take_unlent()
    }

    /// The operations with many completions that are not over.
    pub(crate) fn multishots(&self) -> Vec<OpId> {
        let slots = (0..).zip(&self.slots);
        let live = slots.filter(|(_, slot)| slot.state == State::Multishot);
        live.map(|(index, slot)| OpId::new(index, slot.generation))
            .collect()
    }

    /// Streams and list nodes ever made.
    #[cfg(test)]
    pub(crate) fn multishot_sizes(&self) -> (usize, usize) {
        self.multishots.sizes()
    }

    /// Gives back what all multishot operations still carry: the end of the ring.
    pub(crate) fn abandon_all(&mut self, mut close: impl FnMut(RawFd)) {
        for stream in self.multishots.indices() {
            self.multishots.abandon(stream, &mut close);
        }
    }

    /// The result of `op`, once. Frees the slot, so that afterwards the same `op` gives `None`.
    ///
    /// `None` also while the operation is in flight, and for an `op` whose slot has moved on.
    #[inline]
    pub(crate) fn take(&mut self, op: OpId) -> Option<Completion> {
        let slot = self.slots.get_mut(op.index())?;
        if slot.generation != op.generation() || slot.state != State::Done {
            return None;
        }
        let completion = Completion {
            result: slot.result,
            flags: slot.flags,
        };
        slot.release(&mut self.free, op);
        Some(completion)
    }

    /// What [`take`](Slots::take) would give.
    #[inline]
    pub(crate) fn look(&self, op: OpId) -> Option<Completion> {
        let slot = self.slots.get(op.index())?;
        let done = slot.generation == op.generation() && slot.state == State::Done;
        done.then_some(Completion {
            result: slot.result,
            flags: slot.flags,
        })
    }

    /// Whether the terminal CQE of `op` is still to come.
    #[inline]
    #[must_use]
    pub(crate) fn is_in_flight(&self, op: OpId) -> bool {
        self.slots.get(op.index()).is_some_and(|slot| {
            slot.generation == op.generation()
                && matches!(slot.state, State::InFlight | State::Multishot)
        })
    }

    /// Operations whose terminal CQE is still to come.
    #[inline]
    #[must_use]
    pub(crate) fn in_flight(&self) -> usize {
        self.inserted - self.completed
    }

    /// Operations that ever took a slot.
    #[must_use]
    pub(crate) fn inserted(&self) -> u64 {
        self.inserted as u64
    }

    /// CQEs that named no live operation.
    #[must_use]
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }

    /// The limit given to [`Slots::with_limits`].
    #[must_use]
    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }
}

#[cfg(test)]
mod tests;
