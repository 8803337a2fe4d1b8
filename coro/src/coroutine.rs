//! The control block: what the scheduler knows of one coroutine, at the top of its own stack.
//!
//! | state | who may see it | leaves by |
//! |---|---|---|
//! | `Vacant` | the slab: the stack is free (zeroed memory reads as this) | spawn |
//! | `Ready` | the ready queue holds it exactly once, or it is being switched to | it runs |
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
//!   coroutine is told by `id`, which is never used twice, in every state but `Vacant`.
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
use crate::stack::Slot;
use crate::switch::{Switch, Yielder};
use std::borrow::Cow;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;

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

/// What is true of a coroutine and of most others is not: bits, so that one test finds that there is nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks(u8);

impl Marks {
    pub(crate) const NONE: Self = Self(0);
    /// Cancellation was asked for. Level-triggered: it stays.
    pub(crate) const CANCELLED: Self = Self(1);
    /// No `JoinHandle` exists: neither the result nor the stack wait for one.
    pub(crate) const DETACHED: Self = Self(1 << 1);
    /// Its stack was clean at the start: how deep it went is measured at the end (stack/usage.rs).
    pub(crate) const SAMPLED: Self = Self(1 << 2);
    /// `name` is initialised.
    pub(crate) const NAMED: Self = Self(1 << 3);
    /// It has made coroutine-locals, perhaps dropped since.
    pub(crate) const LOCALS: Self = Self(1 << 4);
    /// The coroutine-locals are being dropped: no new ones may come.
    pub(crate) const LOCALS_CLOSED: Self = Self(1 << 5);
    /// It is a child of a scope (scope.rs).
    pub(crate) const CHILD: Self = Self(1 << 6);
    /// A coroutine is parked in `join` on this one.
    pub(crate) const JOINED: Self = Self(1 << 7);

    /// What the root has to look at when the closure has ended.
    pub(crate) const AT_THE_END: Self = Self(Self::DETACHED.0 | Self::LOCALS.0);
    /// What the run loop has to look at when the root has ended.
    pub(crate) const AFTER_THE_END: Self =
        Self(Self::DETACHED.0 | Self::SAMPLED.0 | Self::CHILD.0 | Self::JOINED.0);

    /// As far as it is not common.
    pub(crate) const UNUSUAL: Self = Self(Self::DETACHED.0 | Self::SAMPLED.0 | Self::CHILD.0);

    #[inline(always)]
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline(always)]
    fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

/// The control block, by what touches it: with thousands of coroutines each cache line is a miss of its own. A switch, a first
/// run, an end and a join of a coroutine that has ended need the first line; a spawn writes the first two.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct ControlBlock {
    pub(crate) switch: UnsafeCell<MaybeUninit<Switch>>,
    /// Where it suspends, once it has started. Where it goes on, while it is suspended and jump.rs does the switch. Once it has ended, who probably ended [`AHEAD`](crate::prefetch::AHEAD) coroutines later: a hint for
    /// `join`, and nothing else.
    pub(crate) yielder: Cell<*const Yielder>,
    pub(crate) state: Cell<State>,
    /// A wake came while the coroutine was running: its next park returns at once.
    pub(crate) notified: Cell<bool>,
    /// What blocking calls are refused for now. Derived from `CANCELLED`, `deadlines` and `shields`.
    pub(crate) pending: Cell<Pending>,
    /// `unpark` came before `park`.
    pub(crate) permit: Cell<bool>,
    /// Whether somebody wants a backtrace: the next resume captures it (dump.rs).
    pub(crate) inspect: Cell<Inspect>,
    marks: Cell<Marks>,
    /// How far below this block its innermost frame lies while it does not run, in cache lines: a hint for the prefetch, and
    /// nothing else.
    pub(crate) depth: Cell<u16>,
    pub(crate) scheduler: NonNull<Shared>,
    /// Depth of `shield` calls.
    pub(crate) shields: Cell<u32>,
    /// How many blocking calls have been refused for the pending reason.
    pub(crate) refusals: Cell<u8>,
    /// Index of the scheduling group.
    pub(crate) group: u8,
    /// Index of the stack's size class in the slab.
    pub(crate) class: u8,
    // ---- second line
    /// The ready queue of its scheduling group.
    queue: NonNull<ReadyQueue>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) id: Cell<u64>,
    /// When its last wait began (the time of the turn), or [`NEVER`].
    waiting_since: Cell<u64>,
    /// The coroutine parked in `join` on this one, while it is marked `JOINED`.
    joiner: Cell<Option<NonNull<ControlBlock>>>,
    /// The scope it is a child of, while it is marked so.
    scope: Cell<Option<NonNull<Family>>>,
    /// The innermost `timeout` or `deadline` around the running code (deadline.rs).
    pub(crate) deadlines: Cell<Option<NonNull<Deadline>>>,
    /// Values of `coro::local!` keys (local.rs).
    pub(crate) locals: Locals,
    // ---- third line: not even initialised by a spawn
    /// What the coroutine waits for, for the dump; initialised by its first wait.
    waiting_for: Cell<MaybeUninit<&'static str>>,
    name: MaybeUninit<Cow<'static, str>>,
    /// Neighbours among the unfinished children of `scope`; initialised while that is `Some`.
    siblings: Cell<MaybeUninit<Siblings>>,
}

/// It has not waited yet.
const NEVER: u64 = u64::MAX;

/// A child's place on its family's list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Siblings {
    pub(crate) older: Option<NonNull<ControlBlock>>,
    pub(crate) younger: Option<NonNull<ControlBlock>>,
}

#[cfg(not(feature = "sanitizer"))]
const _: () = {
    assert!(
        size_of::<ControlBlock>() == 192,
        "three cache lines, of which a spawn writes two and a switch touches one"
    );
    assert!(
        std::mem::offset_of!(ControlBlock, queue) == 64,
        "all that a switch touches is in the first line"
    );
};

/// What a spawn decides.
pub(crate) struct Made {
    pub(crate) switch: Switch,
    pub(crate) scheduler: NonNull<Shared>,
    pub(crate) queue: NonNull<ReadyQueue>,
    pub(crate) group: u8,
    pub(crate) class: u8,
    pub(crate) sampled: bool,
    pub(crate) id: u64,
    pub(crate) depth: u16,
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) site: &'static Location<'static>,
}

impl ControlBlock {
    /// A coroutine that has not run.
    #[inline(always)]
    pub(crate) fn new(made: Made) -> Self {
        let sampled = Marks::SAMPLED.when(made.sampled);
        let named = Marks::NAMED.when(made.name.is_some());
        Self {
            switch: UnsafeCell::new(MaybeUninit::new(made.switch)),
            yielder: Cell::new(std::ptr::null()),
            state: Cell::new(State::Ready),
            notified: Cell::new(false),
            pending: Cell::new(Pending::Nothing),
            permit: Cell::new(false),
            inspect: Cell::new(Inspect::No),
            marks: Cell::new(sampled.or(named)),
            depth: Cell::new(made.depth),
            queue: made.queue,
            shields: Cell::new(0),
            refusals: Cell::new(0),
            group: made.group,
            class: made.class,
            scheduler: made.scheduler,
            site: made.site,
            id: Cell::new(made.id),
            waiting_since: Cell::new(NEVER),
            joiner: Cell::new(None),
            scope: Cell::new(None),
            deadlines: Cell::new(None),
            locals: Locals::new(),
            waiting_for: Cell::new(MaybeUninit::uninit()),
            name: made.name.map_or(MaybeUninit::uninit(), MaybeUninit::new),
            siblings: Cell::new(MaybeUninit::uninit()),
        }
    }

    /// Whether it has any of these marks.
    #[inline(always)]
    pub(crate) fn is(&self, marks: Marks) -> bool {
        self.marks.get().0 & marks.0 != 0
    }

    #[inline(always)]
    pub(crate) fn mark(&self, marks: Marks) {
        self.marks.set(self.marks.get().or(marks));
    }

    #[inline(always)]
    fn unmark(&self, marks: Marks) {
        self.marks.set(Marks(self.marks.get().0 & !marks.0));
    }

    /// Where the running coroutine suspends.
    #[inline(always)]
    pub(crate) fn yielder(&self) -> *const Yielder {
        self.yielder.get()
    }

    #[inline(always)]
    pub(crate) fn set_yielder(&self, yielder: *const Yielder) {
        self.yielder.set(yielder);
    }

    /// Of a coroutine that has ended: who probably ended a little later.
    #[inline(always)]
    pub(crate) fn ends_soon(&self) -> *const u8 {
        self.yielder.get().cast()
    }

    /// It has ended, and suspends no more.
    #[inline(always)]
    pub(crate) fn set_ends_soon(&self, soon: Option<NonNull<ControlBlock>>) {
        let soon = soon.map_or(std::ptr::null(), |soon| soon.as_ptr().cast_const());
        self.yielder.set(soon.cast());
    }

    /// The coroutine parked in `join` on this one.
    #[inline(always)]
    pub(crate) fn joiner(&self) -> Option<NonNull<ControlBlock>> {
        self.joiner.get()
    }

    #[inline(always)]
    pub(crate) fn set_joiner(&self, joiner: Option<NonNull<ControlBlock>>) {
        self.joiner.set(joiner);
        match joiner {
            Some(_) => self.mark(Marks::JOINED),
            None => self.unmark(Marks::JOINED),
        }
    }

    /// The scope it is a child of.
    #[inline(always)]
    pub(crate) fn scope(&self) -> Option<NonNull<Family>> {
        self.scope.get()
    }

    /// It becomes a child, after its siblings are set.
    pub(crate) fn set_scope(&self, family: NonNull<Family>) {
        self.scope.set(Some(family));
        self.mark(Marks::CHILD);
    }

    /// A wait begins.
    #[inline(always)]
    pub(crate) fn set_waiting(&self, what_for: &'static str, since_ns: u64) {
        self.waiting_for.set(MaybeUninit::new(what_for));
        self.waiting_since.set(since_ns);
    }

    /// What it waits for, or waited for last, and since when.
    pub(crate) fn waiting(&self) -> (&'static str, u64) {
        match self.waiting_since.get() {
            NEVER => ("its first turn", 0),
            // SAFETY: only `set_waiting` sets another time, and this before.
            since_ns => (unsafe { self.waiting_for.get().assume_init() }, since_ns),
        }
    }

    /// Where its stack is.
    pub(crate) fn slot(&self) -> Slot {
        // SAFETY: a scheduler outlives its coroutines.
        let shared = unsafe { self.scheduler.as_ref() };
        shared.slab.slot(NonNull::from(self), self.class)
    }

    /// The name given to it.
    pub(crate) fn name(&self) -> Option<&str> {
        // SAFETY: the mark says so; it is fixed at spawn.
        self.is(Marks::NAMED)
            .then(|| &**unsafe { self.name.assume_init_ref() })
    }

    pub(crate) fn name_cow(&self) -> Option<Cow<'static, str>> {
        // SAFETY: as in `name`.
        self.is(Marks::NAMED)
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
        if block.is(Marks::NAMED) {
            // SAFETY: the mark says that it is initialised, and the state that nobody looks at it again.
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
        if self.group == 0 {
            // Found without the second line.
            // SAFETY: a scheduler outlives its coroutines.
            return &unsafe { self.scheduler.as_ref() }.groups.default.ready;
        }
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
