//! The per-core scheduler: which coroutine runs next, and when the world is asked for news.
//!
//! One turn of a core, as a spec:
//!
//! 1. Take the time once; fire the timers that are due (each makes its coroutine ready).
//! 2. Run ready coroutines, first in first out, at least as many as were ready when the turn began and at most a
//!    batch ([`MIN_BATCH`] when fewer were ready), and stop early when the time slice is over. What becomes
//!    ready meanwhile goes to the back of the queue.
//! 3. [`Driver::poll`]: submit what the coroutines queued, reap what has completed, drain messages. This makes
//!    more coroutines ready; they run in the next turn.
//!
//! The thread's loop around it is [`Scheduler::run`]: turn, and when nothing is ready, [`Driver::park`] until the
//! next timer. A simulator calls [`Scheduler::turn`] itself, on as many schedulers as it likes, on one thread: the
//! thread-locals that say who is current are set on entry to a turn and restored on leaving it.
//!
//! No user code runs on the loop's own stack: closures, their results and their panics stay on the stacks of
//! coroutines.
#![expect(
    unsafe_code,
    reason = "control blocks are reached by pointer; the keeper of each is named"
)]

mod batch;
mod current;
mod group;
mod lease;
mod measure;
mod pace;
mod ready;
mod timers;
mod within;

pub use group::{Group, GroupConfig, GroupStats, group_stats};
pub use measure::SchedulerStats;

pub(crate) use current::word as current_word;
pub(crate) use current::{current, current_in_signal, now, require_current, scheduler};
pub(crate) use ready::ReadyQueue;
pub(crate) use timers::TimerAction;

use crate::coroutine::{ControlBlock, State};
use crate::driver::Driver;
use crate::prefetch;
use crate::spawn::SpawnError;
use crate::stack::config::StackConfig;
use crate::stack::slab::{Slab, Walk};
use crate::timer::Wheel;
use current::{Clock, Entered};
use group::{GroupState, Groups};
use lease::Numbers;
use measure::Measures;
use pace::Pace;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Coroutines a turn may run when fewer were ready at its start: keeps the cost of a turn (a clock reading, a
/// look at the ring and the mailboxes) away from two coroutines that only pass a baton.
const MIN_BATCH: usize = 64;
/// Bounds and sizes of one scheduler. Every one has a default.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerConfig {
    /// Stacks: sizes, bounds, guards.
    pub stack: StackConfig,
    /// How long coroutines may run between two polls of the driver, in nanoseconds. Default 200,000.
    pub time_slice_ns: u64,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            stack: StackConfig::default(),
            time_slice_ns: 200_000,
        }
    }
}

/// What a turn found.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// How many times a coroutine was switched to.
    pub ran: usize,
    /// How many coroutines are ready for the next turn.
    pub ready: usize,
}

/// The state behind a [`Scheduler`], on the heap at a fixed address: control blocks and join handles point to it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) groups: Groups,
    pub(crate) slab: Slab,
    pub(crate) timers: RefCell<Wheel<timers::Packed>>,
    pub(crate) live: Cell<usize>,
    /// Unique on this thread, never used again.
    pub(crate) id: u64,
    numbers: Numbers,
    pub(crate) panicked: Cell<u64>,
    measures: Measures,
    time_slice_ns: u64,
    /// How many will have been popped from the ready queue, since its beginning, when the clock is looked at.
    run_until: Cell<usize>,
    /// When the turn began: the time of everything that does not need a better one.
    turn_started_ns: Cell<u64>,
    pace: Pace,
    /// With so many in a ready queue the frames of who runs soon are asked for.
    crowd: Cell<usize>,
    /// Where `select` looks first; moves on with every call, so that no branch is favoured.
    pub(crate) select_turn: Cell<usize>,
    /// State of the generator that shuffles ready coroutines in tests; zero: first in, first out.
    shuffle: Cell<u64>,
    /// Backtraces that inspected coroutines have captured, for the dump that asked.
    pub(crate) inspected: RefCell<Vec<(u64, Backtrace)>>,
    /// The driver's clock while a turn is on.
    clock: Cell<Option<Clock>>,
    /// The owner is gone; the last join handle frees this.
    orphaned: Cell<bool>,
}

impl Shared {
    /// Monotonic nanoseconds. Only inside a turn.
    pub(crate) fn now(&self) -> u64 {
        let clock = self
            .clock
            .get()
            .expect("coroutines run only inside a turn, and a turn sets the clock");
        // SAFETY: the clock is set for the length of the turn that borrows the driver.
        unsafe { (clock.now)(clock.driver) }
    }

    /// Makes a coroutine run again. A hint: see the table in coroutine.rs.
    #[inline(always)]
    pub(crate) fn wake(&self, control: NonNull<ControlBlock>) {
        // SAFETY: control blocks stay mapped as long as `self` lives, and zeroed memory reads as vacant.
        let state = unsafe { &(*control.as_ptr()).state };
        if state.get() == State::Parked {
            state.set(State::Ready);
            // SAFETY: parked, hence initialised.
            unsafe { control.as_ref() }.queue().push(control);
        } else if state.get() == State::Running {
            // SAFETY: running, hence initialised.
            unsafe { control.as_ref() }.notified.set(true);
        }
    }

    /// Takes note of how many the driver has just made ready. The kernel has worked since they ran, and its memory has been through
    /// the caches.
    fn note_woken(&self, woken: usize) {
        self.crowd.set(if woken < prefetch::CROWD_FROM_OUTSIDE {
            prefetch::CROWD
        } else {
            prefetch::CROWD_FROM_OUTSIDE
        });
    }

    /// When the turn that is on began.
    #[inline(always)]
    pub(crate) fn turn_started_ns(&self) -> u64 {
        self.turn_started_ns.get()
    }
}

/// The scheduler of one core: a value with a [`turn`](Self::turn).
///
/// It belongs to the thread that made it. Coroutines are spawned into it with [`spawn`](Self::spawn) from outside
/// a turn and with [`coro::spawn`](crate::spawn) from inside.
#[derive(Debug)]
pub struct Scheduler {
    shared: NonNull<Shared>,
}

impl Scheduler {
    /// A scheduler without coroutines. Maps nothing until the first spawn.
    #[must_use]
    pub fn new(config: SchedulerConfig) -> Self {
        crate::stack::overflow::install_handler();
        let shared = Box::new(Shared {
            groups: Groups::new(),
            slab: Slab::new(config.stack),
            timers: RefCell::new(Wheel::default()),
            live: Cell::new(0),
            id: current::unique(),
            numbers: Numbers::default(),
            panicked: Cell::new(0),
            measures: Measures::default(),
            // A slice of nothing would let nobody run.
            time_slice_ns: config.time_slice_ns.max(1),
            run_until: Cell::new(0),
            turn_started_ns: Cell::new(0),
            pace: Pace::default(),
            crowd: Cell::new(prefetch::CROWD),
            select_turn: Cell::new(0),
            shuffle: Cell::new(0),
            inspected: RefCell::new(Vec::new()),
            clock: Cell::new(None),
            orphaned: Cell::new(false),
        });
        Self {
            shared: NonNull::from(Box::leak(shared)),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: the owner keeps it alive until `drop`.
        unsafe { self.shared.as_ref() }
    }

    pub(crate) fn shared_ptr(&self) -> NonNull<Shared> {
        self.shared
    }

    /// One turn: timers, ready coroutines, the driver. Never blocks.
    ///
    /// # Panics
    ///
    /// Never because of user code; a panic out of here is a broken invariant.
    pub fn turn<D: Driver>(&self, driver: &D) -> Turn {
        let shared = self.shared();
        let entered = Entered::new(self.shared, Clock::of(driver));
        let started_ns = driver.now();
        shared.turn_started_ns.set(started_ns);
        shared.fire_timers(started_ns);
        let ran = if shared.groups.is_single() {
            let queue = &shared.groups.default_group().ready;
            let probed = shared.measures.begin_turn(queue.len(), started_ns);
            let budget = if shared.shuffle.get() == 0 {
                probed.unwrap_or_else(|| queue.len().max(MIN_BATCH))
            } else {
                queue.shuffle(&shared.shuffle)
            };
            let ran = self.run_batch(driver, queue, budget, started_ns, &entered, || false);
            if probed.is_some() {
                // The driver may ask who is current: nobody.
                entered.clear_coroutine();
                shared.measures.ran(ran, || driver.now());
            }
            ran
        } else {
            self.run_groups(driver, started_ns, &entered)
        };
        entered.clear_coroutine();
        let before = self.ready();
        driver.poll(self);
        shared.measures.end_turn(ran);
        let ready = self.ready();
        shared.note_woken(ready - before);
        Turn { ran, ready }
    }

    /// Step 2 of a turn when there are several groups (group.rs).
    #[cold]
    fn run_groups<D: Driver>(&self, driver: &D, started_ns: u64, entered: &Entered) -> usize {
        let shared = self.shared();
        let budget = self.ready().max(MIN_BATCH);
        let mut ran = 0;
        let mut now_ns = started_ns;
        while ran < budget && now_ns.saturating_sub(started_ns) < shared.time_slice_ns {
            let Some(group) = shared.groups.pick() else {
                break;
            };
            let batch = if shared.shuffle.get() == 0 {
                group.ready.len().min(MIN_BATCH)
            } else {
                group.ready.shuffle(&shared.shuffle)
            };
            let batch_ran = if group.is_latency() {
                self.run_batch(driver, &group.ready, batch, started_ns, entered, || false)
            } else {
                let urgent = || shared.groups.is_urgent();
                self.run_batch(driver, &group.ready, batch, started_ns, entered, urgent)
            };
            entered.clear_coroutine();
            let before_ns = std::mem::replace(&mut now_ns, driver.now());
            let run_ns = now_ns.saturating_sub(before_ns);
            shared.groups.charge(group, run_ns, batch_ran);
            ran += batch_ran;
        }
        ran
    }

    /// As [`Group::new`], from outside a turn.
    ///
    /// # Errors
    ///
    /// [`SpawnError::TooManyGroups`].
    pub fn add_group(&self, config: GroupConfig) -> Result<Group, SpawnError> {
        self.shared().add_group(config)
    }

    /// As [`group_stats`], from outside a turn.
    #[must_use]
    pub fn group_stats(&self) -> Vec<GroupStats> {
        self.shared().groups.all().map(GroupState::stats).collect()
    }

    /// From now on ready coroutines run in an order drawn from `seed`, instead of first in first out: for tests
    /// that look for hidden assumptions about order. The same seed gives the same order.
    pub fn shuffle(&self, seed: u64) {
        // Zero would mean no shuffling, and is a fixed point of the generator.
        self.shared()
            .shuffle
            .set(seed.wrapping_mul(2).wrapping_add(1));
    }

    /// Turns until `done` says so, asleep in the driver while nothing is ready.
    ///
    /// `done` is asked once a turn, outside of all coroutines.
    pub fn run<D: Driver>(&self, driver: &D, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            if self.turn(driver).ready == 0 && !done(self) {
                self.park(driver);
            }
        }
    }

    /// Sleeps in the driver until the next timer or any event; gives cold stacks back before, and once there are none, what
    /// was needed to keep books of many.
    pub fn park<D: Driver>(&self, driver: &D) {
        let shared = self.shared();
        let _entered = Entered::new(self.shared, Clock::of(driver));
        if !shared.slab.trim() {
            shared.timers.borrow_mut().shrink();
            let groups = shared.groups.all();
            let needed = shared.slab.at_hand();
            groups.for_each(|group| group.ready.shrink(needed));
        }
        let deadline_ns = shared.timers.borrow_mut().next_deadline();
        driver.park(self, deadline_ns);
        shared.note_woken(self.ready());
    }

    /// Coroutines that have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.shared().live.get()
    }

    /// Coroutines that are ready to run.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared().groups.ready()
    }

    /// Asks every live coroutine to end: each blocking call of theirs is refused from now on.
    ///
    /// Level-triggered and idempotent; coroutines spawned later are not affected.
    pub fn cancel_all(&self) {
        self.shared()
            .live_controls()
            .into_iter()
            .for_each(crate::cancel::request);
    }

    /// The names and spawn sites of the coroutines that have not ended, for a last report.
    #[must_use]
    pub fn survivors(&self) -> Vec<String> {
        let live = self.shared().live_controls().into_iter();
        live.map(|control| {
            // SAFETY: `live_controls` returns live blocks only, and no coroutine has run since.
            let block = unsafe { control.as_ref() };
            format!("{} waiting for {}", block.label(), block.waiting().0)
        })
        .collect()
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> SchedulerStats {
        self.shared().stats()
    }
}

impl Shared {
    /// The coroutines that have not ended.
    pub(crate) fn live_controls(&self) -> Vec<NonNull<ControlBlock>> {
        let mut live = Vec::with_capacity(self.live.get());
        self.walk_live(&mut Walk::default(), usize::MAX, &mut live);
        live
    }

    /// Goes on with a walk over all stacks, `portion` further: adds the coroutines on them that have not ended to `live`.
    /// Whether there are more.
    pub(crate) fn walk_live(
        &self,
        walk: &mut Walk,
        portion: usize,
        live: &mut Vec<NonNull<ControlBlock>>,
    ) -> bool {
        self.slab.walk(walk, portion, |control| {
            // SAFETY: every slot's block is mapped; only the state is looked at, and zeroes read as `Vacant`.
            let state = unsafe { &(*control.as_ptr()).state };
            if !matches!(state.get(), State::Vacant | State::Finished) {
                live.push(control);
            }
        })
    }

    pub(crate) fn add_group(&self, config: GroupConfig) -> Result<Group, SpawnError> {
        let index = self.groups.add(config)?;
        Ok(Group {
            scheduler: self.id,
            index,
            on_its_thread: PhantomData,
        })
    }

    pub(crate) fn stats(&self) -> SchedulerStats {
        let mut timers = self.timers.borrow_mut();
        timers.settle();
        SchedulerStats {
            turns: self.measures.turns.get(),
            switches: self.measures.switches.get(),
            spawned: self.numbers.count(),
            live: self.live.get(),
            stacks: self.slab.in_use(),
            ready: self.groups.ready(),
            timers: timers.len(),
            panicked: self.panicked.get(),
            deepest_stack_bytes: self.slab.deepest_bytes(),
            ready_length: self.measures.ready_length.snapshot(),
            ready_wait_ns: self.measures.ready_wait_ns.snapshot(),
            timer_late_ns: self.measures.timer_late_ns.snapshot(),
        }
    }
}

impl Drop for Scheduler {
    /// Frees the stacks, unless something still needs them: with join handles left the last of them frees
    /// everything; with live coroutines left everything is leaked, since a live stack is never freed.
    fn drop(&mut self) {
        let in_use = self.shared().slab.in_use();
        if in_use > 0 {
            self.shared().orphaned.set(self.live() == 0);
            return;
        }
        // SAFETY: made by `Box::leak` in `new`; no coroutine and no handle is left to point to it.
        drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
    }
}
