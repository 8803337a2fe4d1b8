//! The control block: what the scheduler knows of one coroutine, at the top of its own stack.
//!
//! | state | who may see it | leaves by |
//! |---|---|---|
//! | `Vacant` | the slab: the stack is free (zeroed memory reads as this) | spawn |
//! | `Ready` | the ready queue holds it exactly once, or the run loop switches to it | it runs |
//! | `Running` | it is the current coroutine, on its own stack and in no switch | yield -> `Ready`, park -> `Parked`, end -> `Finished` |
//! | `Parked` | whoever holds its [`Token`](crate::wait::Token) | a wake -> `Ready` |
//! | `Finished` | its `JoinHandle`, until joined or dropped | release -> `Vacant` |
//!
//! A wake is a hint, never a result: it moves a parked coroutine to the ready queue, sets `notified` on a running
//! one, and does nothing to a ready one. Every wait looks at its own condition when it runs again, so a wake can
//! come twice or for a reason that has gone, and none can be lost.
//!
//! Invariants:
//! - A block is only touched by the thread of its scheduler. There are no atomics here.
//! - The memory of a block is mapped until the scheduler's slab is dropped. Whether it still is *the same*
//!   coroutine is told by `id`, which is never used twice.
//! - Blocks that may be vacant are read field by field through a pointer: zeroed memory is no valid block.
//! - `switch` is initialised in every state but `Vacant` and `Finished`.
#![expect(
    unsafe_code,
    reason = "parts of the block are initialised late or never"
)]

use crate::deadline::Deadline;
use crate::local::Locals;
use crate::scheduler::{ReadyQueue, Shared};
use crate::scope::Family;
use crate::stack::{Frames, Lease, Slot};
use std::borrow::Cow;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;

/// corosensei's coroutine: no values travel by the switch, they travel by memory.
pub(crate) type Switch = corosensei::Coroutine<(), (), (), Frames>;
pub(crate) type Yielder = corosensei::Yielder<(), ()>;

/// Where a coroutine is. See the table of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Zero, so that a trimmed stack reads as vacant.
    Vacant = 0,
    Ready,
    Running,
    Parked,
    Finished,
}

/// What a coroutine's blocking calls are refused for, as seen through its shields. Computed in cancel.rs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Pending {
    Nothing,
    Cancelled,
    Elapsed,
}

/// What became of the last wish for a backtrace (dump.rs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Inspect {
    /// There was none, or it was granted. Zero, so that a trimmed stack reads as this.
    No = 0,
    Asked,
    /// Too little of the stack is left to take it.
    Refused,
}

/// The control block, by what touches it: with thousands of coroutines each cache line is a miss of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct ControlBlock {
    pub(crate) switch: UnsafeCell<MaybeUninit<Switch>>,
    pub(crate) yielder: Cell<*const Yielder>,
    pub(crate) state: Cell<State>,
    /// A wake came while the coroutine was running: its next park returns at once.
    pub(crate) notified: Cell<bool>,
    /// What blocking calls are refused for now. Derived from `cancelled`, `deadlines` and `shields`.
    pub(crate) pending: Cell<Pending>,
    /// `unpark` came before `park`.
    pub(crate) permit: Cell<bool>,
    /// How far below this block its innermost frame lies while it does not run: a hint for the prefetch, and nothing else.
    pub(crate) depth: Cell<u32>,
    /// The ready queue of its scheduling group.
    pub(crate) queue: NonNull<ReadyQueue>,
    // ---- second line: start, end and join
    pub(crate) scheduler: NonNull<Shared>,
    pub(crate) id: Cell<u64>,
    /// The coroutine parked in `join` on this one.
    pub(crate) joiner: Cell<Option<NonNull<ControlBlock>>>,
    /// The scope it is a child of (scope.rs).
    pub(crate) scope: Cell<Option<NonNull<Family>>>,
    /// The innermost `timeout` or `deadline` around the running code (deadline.rs).
    pub(crate) deadlines: Cell<Option<NonNull<Deadline>>>,
    /// Values of `coro::local!` keys (local.rs).
    pub(crate) locals: Locals,
    /// Cancellation was asked for. Level-triggered: it stays.
    pub(crate) cancelled: Cell<bool>,
    /// A `JoinHandle` exists: the result and the stack wait for it.
    pub(crate) handle: Cell<bool>,
    /// The coroutine-locals are being dropped: no new ones may come.
    pub(crate) locals_closed: Cell<bool>,
    /// How many blocking calls have been refused for the pending reason.
    pub(crate) refusals: Cell<u8>,
    /// Its stack was clean at the start: how deep it went is measured at the end (stack/usage.rs).
    pub(crate) sampled: bool,
    /// Index of the scheduling group.
    pub(crate) group: u8,
    /// Index of the stack's size class in the slab.
    pub(crate) class: u8,
    /// `name` is initialised.
    pub(crate) named: bool,
    /// Who probably ended [`AHEAD`](crate::prefetch::AHEAD) coroutines later: a hint for `join`, and nothing else.
    pub(crate) ends_soon: Cell<Option<NonNull<ControlBlock>>>,
    // ---- third line: waits
    /// What the coroutine waits for, for the dump, and since when (the time of the turn).
    pub(crate) waiting_for: Cell<&'static str>,
    pub(crate) waiting_since: Cell<u64>,
    pub(crate) slot: Slot,
    pub(crate) site: &'static Location<'static>,
    /// Whether somebody wants a backtrace: the next resume captures it (dump.rs).
    pub(crate) inspect: Cell<Inspect>,
    /// Depth of `shield` calls.
    pub(crate) shields: Cell<u32>,
    // ---- fourth line: untouched by most coroutines, hence not even initialised
    name: MaybeUninit<Cow<'static, str>>,
    /// Neighbours among the unfinished children of `scope`; initialised while that is `Some`.
    siblings: Cell<MaybeUninit<Siblings>>,
}

/// A child's place on its family's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Siblings {
    pub(crate) older: Option<NonNull<ControlBlock>>,
    pub(crate) younger: Option<NonNull<ControlBlock>>,
}

const _: () = assert!(
    size_of::<ControlBlock>() == 256,
    "four cache lines, of which a switch touches one"
);

impl ControlBlock {
    /// A coroutine that has not run. Its `switch` is still to be written.
    #[inline(always)]
    pub(crate) fn new(
        scheduler: NonNull<Shared>,
        (queue, group): (NonNull<ReadyQueue>, u8),
        lease: Lease,
        id: u64,
        name: Option<Cow<'static, str>>,
        site: &'static Location<'static>,
    ) -> Self {
        Self {
            switch: UnsafeCell::new(MaybeUninit::uninit()),
            yielder: Cell::new(std::ptr::null()),
            state: Cell::new(State::Ready),
            notified: Cell::new(false),
            pending: Cell::new(Pending::Nothing),
            permit: Cell::new(false),
            depth: Cell::new(0),
            queue,
            scheduler,
            id: Cell::new(id),
            joiner: Cell::new(None),
            scope: Cell::new(None),
            deadlines: Cell::new(None),
            locals: Locals::new(),
            cancelled: Cell::new(false),
            handle: Cell::new(true),
            locals_closed: Cell::new(false),
            refusals: Cell::new(0),
            sampled: lease.sampled,
            group,
            class: lease.class,
            named: name.is_some(),
            ends_soon: Cell::new(None),
            waiting_for: Cell::new("its first turn"),
            waiting_since: Cell::new(0),
            slot: lease.slot,
            site,
            inspect: Cell::new(Inspect::No),
            shields: Cell::new(0),
            name: name.map_or(MaybeUninit::uninit(), MaybeUninit::new),
            siblings: Cell::new(MaybeUninit::uninit()),
        }
    }

    /// The name given to it.
    pub(crate) fn name(&self) -> Option<&str> {
        // SAFETY: `named` says so; it is fixed at spawn.
        self.named
            .then(|| &**unsafe { self.name.assume_init_ref() })
    }

    pub(crate) fn name_cow(&self) -> Option<Cow<'static, str>> {
        // SAFETY: as in `name`.
        self.named
            .then(|| unsafe { self.name.assume_init_ref() }.clone())
    }

    /// The end of the block's life, but for its memory.
    ///
    /// # Safety
    ///
    /// The coroutine has finished, nobody else refers to the block, and this is called once.
    #[inline(always)]
    pub(crate) unsafe fn retire(this: NonNull<Self>) {
        // SAFETY: the caller says that the block is initialised and ours alone.
        let block = unsafe { &mut *this.as_ptr() };
        block.state.set(State::Vacant);
        block.id.set(0);
        if block.named {
            // SAFETY: `named` says that it is initialised, and the id says that nobody looks at it again.
            unsafe { block.name.assume_init_drop() };
        }
    }

    /// Its place on its family's list. Only while `scope` is `Some`.
    pub(crate) fn siblings(&self) -> Siblings {
        assert!(self.scope.get().is_some(), "only a child has siblings");
        // SAFETY: `scope` is set after the siblings (scope.rs).
        unsafe { self.siblings.get().assume_init() }
    }

    pub(crate) fn set_siblings(&self, siblings: Siblings) {
        self.siblings.set(MaybeUninit::new(siblings));
    }

    #[inline(always)]
    pub(crate) fn queue(&self) -> &ReadyQueue {
        // SAFETY: groups live as long as their scheduler, which outlives its coroutines.
        unsafe { self.queue.as_ref() }
    }

    /// The running coroutine's name for messages: its own, or where it was spawned.
    pub(crate) fn label(&self) -> Label<'_> {
        Label {
            name: self.name(),
            site: self.site,
        }
    }
}

/// How a coroutine is named in messages: `'accept' (spawned at src/main.rs:12:5)`.
#[derive(Debug)]
pub(crate) struct Label<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) site: &'static Location<'static>,
}

impl std::fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name {
            Some(name) => write!(f, "'{name}' (spawned at {})", self.site),
            None => write!(f, "spawned at {}", self.site),
        }
    }
}
