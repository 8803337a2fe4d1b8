//! Scheduling groups: shares of the core's time, so that background work cannot hurt what has to be quick.
//!
//! Every group has a ready queue of its own, and a control block points to the queue of its group, so a wake costs
//! the same with groups as without. A core with the default group only never comes here.
//!
//! With more groups a turn is weighted fair queuing: each group has a virtual time, which moves on by what its
//! coroutines have run divided by its shares, and the group that is furthest behind runs next:
//!
//! ```text
//!   pick least virtual time among the groups with ready coroutines   (a latency group: less a head start)
//!   run a batch of it: a quantum at the most; ends early when a latency group has something to run
//!   virtual time += time run * 1024 / shares, one at least
//!   until the time slice of the turn is over or everything that was ready has run
//! ```
//!
//! A group that was idle starts at the virtual time of the group that ran last: it does not save up what it did
//! not use. A latency group has a head start of [`HEAD_START_NS`]: it goes first as long as it has not had that
//! much more than its share, so a flood in it cannot starve the rest.
//!
//! Nothing here preempts: a coroutine runs until it waits, and background loops call
//! [`checkpoint`](crate::checkpoint), which yields at once when a latency group is ready.
#![expect(
    unsafe_code,
    reason = "groups are reached by pointer from control blocks and live as long as the scheduler"
)]

use super::{ReadyQueue, require_current};
use crate::spawn::SpawnError;
use crate::wait;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// How far a latency group may be ahead of its fair share and still run first, in virtual time: a fifth of a millisecond with 100 shares.
const HEAD_START_NS: u64 = 2_000_000;
/// A virtual time that none may go far beyond: it has an end. The one share of a group comes to it in a hundred days.
const FAR: u64 = u64::MAX / 2;
/// The most groups one scheduler has, the default one included.
pub(crate) const MAX_GROUPS: usize = 64;

/// How to make a group. See [`Group::new`].
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The name in dumps and statistics.
    pub name: Cow<'static, str>,
    /// Weight of the group: one with 200 gets twice the time of one with 100 while both have work. At least 1;
    /// the default group has 100.
    pub shares: u32,
    /// Whether its coroutines run as soon as they are ready, ahead of groups without this, within its share.
    pub latency: bool,
}

/// A scheduling group of one core: coroutines that share its time by weight with those of other groups, whatever their number.
///
/// Given to [`Builder::group`](crate::Builder::group). Who is spawned without one is in the default group, which has 100 shares.
/// While there is no other, groups cost nothing. `!Send`: each core has groups of its own.
///
/// Nobody is interrupted: a coroutine runs until it waits, so background work that computes calls
/// [`checkpoint`](crate::checkpoint()), which yields when its time is over, and at once when a latency group has work.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let compaction = coro::Group::new(coro::GroupConfig {
///     name: "compaction".into(),
///     shares: 20,
///     latency: false,
/// })?;
/// let work = coro::Builder::new().group(compaction).spawn(|| {
///     (0..100_u64).inspect(|_| coro::checkpoint()).sum::<u64>()
/// })?;
/// assert_eq!(work.join().unwrap(), 4950);
/// assert_eq!(coro::group_stats()[1].name, "compaction");
/// # Ok::<(), coro::SpawnError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub(crate) scheduler: u64,
    pub(crate) index: u8,
    pub(crate) on_its_thread: PhantomData<*const ()>,
}

impl Group {
    /// Adds a group to this core. It lasts as long as the core's scheduler; there are at most 64, the default one included.
    ///
    /// # Errors
    ///
    /// [`SpawnError::TooManyGroups`].
    ///
    /// # Panics
    ///
    /// Outside a coroutine.
    pub fn new(config: GroupConfig) -> Result<Self, SpawnError> {
        let block = require_current("coro::Group::new");
        wait::scheduler_of(block).add_group(config)
    }
}

/// The groups of this core, the default one first, and what they have used.
///
/// # Panics
///
/// Outside a coroutine.
#[must_use]
pub fn group_stats() -> Vec<GroupStats> {
    let block = require_current("coro::group_stats");
    let groups = wait::scheduler_of(block).groups.all();
    groups.map(GroupState::stats).collect()
}

/// What a group has used so far. See [`group_stats`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// The name of the group; `default` for the default one.
    pub name: Cow<'static, str>,
    /// Its weight.
    pub shares: u32,
    /// Time its coroutines have run, in nanoseconds. Counted only while the scheduler has several groups.
    pub run_ns: u64,
    /// Switches into its coroutines, counted likewise.
    pub switches: u64,
    /// Its coroutines that are ready now.
    pub ready: usize,
}

#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) ready: ReadyQueue,
    name: Cow<'static, str>,
    shares: u32,
    latency: bool,
    virtual_ns: Cell<u64>,
    run_ns: Cell<u64>,
    switches: Cell<u64>,
    idle: Cell<bool>,
}

impl GroupState {
    fn new(config: GroupConfig) -> Self {
        Self {
            ready: ReadyQueue::new(),
            name: config.name,
            shares: config.shares.max(1),
            latency: config.latency,
            virtual_ns: Cell::new(0),
            run_ns: Cell::new(0),
            switches: Cell::new(0),
            idle: Cell::new(true),
        }
    }

    /// How long a batch of this group may run before another pick.
    pub(crate) fn is_latency(&self) -> bool {
        self.latency
    }

    pub(crate) fn stats(&self) -> GroupStats {
        GroupStats {
            name: self.name.clone(),
            shares: self.shares,
            run_ns: self.run_ns.get(),
            switches: self.switches.get(),
            ready: self.ready.len(),
        }
    }
}

/// All groups of one scheduler, which is at a fixed address. Groups are never removed, so pointers to them stay valid.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) default: GroupState,
    others: RefCell<Vec<NonNull<GroupState>>>,
    /// Virtual time of the group that ran last.
    virtual_ns: Cell<u64>,
}

impl Groups {
    pub(crate) fn new() -> Self {
        let default = GroupConfig {
            name: Cow::Borrowed("default"),
            shares: 100,
            latency: false,
        };
        Self {
            default: GroupState::new(default),
            others: RefCell::new(Vec::new()),
            virtual_ns: Cell::new(0),
        }
    }

    #[inline(always)]
    pub(crate) fn default_group(&self) -> &GroupState {
        &self.default
    }

    /// Whether only the default group exists, as a rule.
    #[inline(always)]
    pub(crate) fn is_single(&self) -> bool {
        self.others.borrow().is_empty()
    }

    pub(crate) fn add(&self, config: GroupConfig) -> Result<u8, SpawnError> {
        let mut others = self.others.borrow_mut();
        if others.len() + 1 >= MAX_GROUPS {
            return Err(SpawnError::TooManyGroups { limit: MAX_GROUPS });
        }
        others.push(NonNull::from(Box::leak(Box::new(GroupState::new(config)))));
        Ok(u8::try_from(others.len()).expect("there are at most 64 groups"))
    }

    pub(crate) fn get(&self, index: u8) -> &GroupState {
        if index == 0 {
            return self.default_group();
        }
        let others = self.others.borrow();
        // SAFETY: made in `add`, freed in `drop`.
        unsafe { others[usize::from(index) - 1].as_ref() }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &GroupState> {
        let count = u8::try_from(self.others.borrow().len()).expect("there are at most 64 groups");
        (0..=count).map(|index| self.get(index))
    }

    pub(crate) fn ready(&self) -> usize {
        if self.is_single() {
            return self.default_group().ready.len();
        }
        self.all().map(|group| group.ready.len()).sum()
    }

    /// Whether a latency group has something to run.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.is_single()
            && self
                .all()
                .any(|group| group.latency && group.ready.len() > 0)
    }

    /// The group to run next.
    pub(crate) fn pick(&self) -> Option<&GroupState> {
        let ready = self.all().filter(|group| group.ready.len() > 0);
        let picked = ready.min_by_key(|group| {
            if group.idle.replace(false) {
                let caught_up = group.virtual_ns.get().max(self.virtual_ns.get());
                group.virtual_ns.set(caught_up);
            }
            let head_start = if group.latency { HEAD_START_NS } else { 0 };
            group.virtual_ns.get().saturating_sub(head_start)
        })?;
        Some(picked)
    }

    /// A batch of `group` is over. A switch counts for a nanosecond at least, so that frozen clocks are fair too.
    pub(crate) fn charge(&self, group: &GroupState, run_ns: u64, switches: usize) {
        let cost = run_ns.max(switches as u64);
        group.run_ns.set(group.run_ns.get() + run_ns);
        group.switches.set(group.switches.get() + switches as u64);
        self.virtual_ns.set(group.virtual_ns.get());
        // Whose time stood still would be picked for ever.
        let weighted = (cost.saturating_mul(1024) / u64::from(group.shares)).max(1);
        let after = group.virtual_ns.get().saturating_add(weighted);
        group.virtual_ns.set(after);
        group.idle.set(group.ready.len() == 0);
        if after > FAR {
            self.begin_anew();
        }
    }

    /// Virtual times count from now on. What matters is how far they are apart.
    #[cold]
    fn begin_anew(&self) {
        let now = self.virtual_ns.replace(0);
        self.all().for_each(|group| {
            let ahead = group.virtual_ns.get().saturating_sub(now);
            group.virtual_ns.set(ahead);
        });
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in self.others.get_mut().drain(..) {
            // SAFETY: leaked in `add`; the coroutines that pointed to it are gone.
            drop(unsafe { Box::from_raw(group.as_ptr()) });
        }
    }
}
