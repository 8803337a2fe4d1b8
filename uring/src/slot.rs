//! Completion slots: where a result waits between the kernel and the owner of the operation.
//!
//! ```text
//!             insert                complete (terminal CQE)           take
//!    Free ------------> InFlight ---------------------------> Done ----------> Free, generation + 1
//!             insert_detached       complete (terminal CQE)
//!    Free ------------> Detached ------------------------------------------->  Free, generation + 1
//!
//!    state      CQE, same generation           CQE, other generation   take
//!    Free       -                              stale                   None
//!    InFlight   Done, wake the token           stale                   None
//!               F_MORE: result kept, no wake
//!    Detached   Free                           stale                   None
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
//! Zero-copy sends answer twice: the result with `F_MORE`, then a notification with `F_NOTIF` that the buffer is
//! free. The slot keeps the first one's result and is done with the second, so the owner sees one completion.
//!
//! Not here: any system call, any pointer that is followed. The file is plain safe code and a pure state machine.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use crate::Cqe;
use crate::user_data::{MAX_SLOTS, OpId, is_own};

/// More completions of this operation follow: `IORING_CQE_F_MORE`.
pub const CQE_F_MORE: u32 = 1 << 1;
/// The buffer of a zero-copy send is free again: `IORING_CQE_F_NOTIF`.
pub const CQE_F_NOTIF: u32 = 1 << 3;

/// End of the list of free slots.
const NONE: u32 = u32::MAX;

/// A word of the owner's choice, handed back when the operation has completed.
///
/// The ring never looks inside. A scheduler puts the address of the parked coroutine here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Token(NonNull<()>);

impl Token {
    /// A token that carries a pointer, with its provenance.
    #[inline]
    #[must_use]
    pub const fn new(pointer: NonNull<()>) -> Token {
        Token(pointer)
    }

    /// A token that carries a plain number.
    #[inline]
    #[must_use]
    pub const fn from_number(number: NonZeroUsize) -> Token {
        Token(NonNull::without_provenance(number))
    }

    /// The pointer given to [`Token::new`].
    #[inline]
    #[must_use]
    pub const fn pointer(self) -> NonNull<()> {
        self.0
    }

    /// The number given to [`Token::from_number`].
    #[inline]
    #[must_use]
    pub fn number(self) -> NonZeroUsize {
        self.0.addr()
    }
}

/// How an operation ended: the two words of its terminal CQE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the matching system call would have returned, or a negated errno.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Completion {
    /// The result as std would give it.
    ///
    /// # Errors
    /// The errno of the operation, when the result is negative.
    #[inline]
    pub fn into_result(self) -> std::io::Result<u32> {
        u32::try_from(self.result).map_err(|_| std::io::Error::from_raw_os_error(-self.result))
    }
}

/// What [`Slots::complete`] made of a CQE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// The operation is done: wake its owner, who fetches the result with [`Slots::take`].
    Wake(Token),
    /// Nobody is to be woken: a detached operation ended, or a first answer with more to come.
    Quiet,
    /// No live operation has this `user_data`: the CQE came too late, or twice. Counted, not acted upon.
    Stale,
    /// The `user_data` is none of an operation: the ring submitted this for itself.
    Own,
}

/// Every slot is taken: as many operations as the limit allows are in flight or unclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotsFull {
    /// The limit that was reached.
    pub limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    InFlight,
    Detached,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    token: Token,
    generation: u32,
    result: i32,
    /// CQE flags when done; the next free slot when free.
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
pub struct Slots {
    slots: Vec<Slot>,
    /// First free slot, [`NONE`] when all slots made so far are taken.
    free: u32,
    /// Operations that ever took a slot, and those whose terminal CQE came.
    inserted: usize,
    completed: usize,
    limit: u32,
    stale: u64,
    /// Generation of a slot when it is first made. Zero, except in tests of the wrap-around.
    first_generation: u32,
}

impl Slots {
    /// Room for `limit` operations, at most 2^31. Reserves 24 bytes of address space for each; the memory itself
    /// is taken as it is first used.
    #[must_use]
    pub fn with_limit(limit: u32) -> Slots {
        let limit = limit.clamp(1, MAX_SLOTS);
        Slots {
            slots: Vec::with_capacity(limit as usize),
            free: NONE,
            inserted: 0,
            completed: 0,
            limit,
            stale: 0,
            first_generation: 0,
        }
    }

    /// Takes a slot for an operation whose owner waits for it.
    ///
    /// # Errors
    /// [`SlotsFull`] at the limit.
    #[inline]
    pub fn insert(&mut self, token: Token) -> Result<OpId, SlotsFull> {
        self.occupy(token, State::InFlight)
    }

    /// Takes a slot for an operation nobody waits for: it is freed by its terminal CQE.
    ///
    /// # Errors
    /// [`SlotsFull`] at the limit.
    pub fn insert_detached(&mut self) -> Result<OpId, SlotsFull> {
        self.occupy(Token(NonNull::dangling()), State::Detached)
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
    pub fn complete(&mut self, cqe: Cqe) -> Completed {
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
    #[cold]
    fn complete_unusual(&mut self, op: OpId, cqe: Cqe) -> Completed {
        if is_own(cqe.user_data) {
            return Completed::Own;
        }
        let live = self.slots.get_mut(op.index()).filter(|slot| {
            slot.generation == op.generation()
                && matches!(slot.state, State::InFlight | State::Detached)
        });
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
        if slot.state == State::InFlight {
            slot.state = State::Done;
            return Completed::Wake(slot.token);
        }
        slot.release(&mut self.free, op);
        Completed::Quiet
    }

    /// The result of `op`, once. Frees the slot, so that afterwards the same `op` gives `None`.
    ///
    /// `None` also while the operation is in flight, and for an `op` whose slot has moved on.
    #[inline]
    pub fn take(&mut self, op: OpId) -> Option<Completion> {
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

    /// Whether the terminal CQE of `op` is still to come.
    #[inline]
    #[must_use]
    pub fn is_in_flight(&self, op: OpId) -> bool {
        self.slots.get(op.index()).is_some_and(|slot| {
            slot.generation == op.generation()
                && matches!(slot.state, State::InFlight | State::Detached)
        })
    }

    /// Operations whose terminal CQE is still to come.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inserted - self.completed
    }

    /// Operations that ever took a slot.
    #[must_use]
    pub fn inserted(&self) -> u64 {
        self.inserted as u64
    }

    /// CQEs that named no live operation.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// The limit given to [`Slots::with_limit`].
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }
}

#[cfg(test)]
mod tests;
