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
//! The resume is inlined into one flat loop, and the suspend into the waits: every call between the two costs a
//! mispredicted return, which is more than the switch itself.
//!
//! No user code runs on the loop's own stack: closures, their results and their panics stay on the stacks of
//! coroutines.
#![expect(
    unsafe_code,
    reason = "control blocks are reached by pointer; the keeper of each is named"
)]

mod current;
mod ready;

pub(crate) use current::{current, current_in_signal, require_current, scheduler};

use crate::coroutine::{ControlBlock, State};
use crate::driver::Driver;
use crate::stack::slab::{Slab, StackConfig};
use crate::timer::{TimerKey, Wheel};
use current::Entered;
use ready::ReadyQueue;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

/// Coroutines a turn may run when fewer were ready at its start: keeps the cost of a turn (a clock reading, a
/// look at the ring and the mailboxes) away from two coroutines that only pass a baton.
const MIN_BATCH: usize = 64;
/// The clock is read once in this many switches.
const SLICE_CHECK_MASK: usize = 15;

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

/// Counters of one scheduler since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerStats {
    /// Turns taken.
    pub turns: u64,
    /// Switches into a coroutine.
    pub switches: u64,
    /// Coroutines spawned.
    pub spawned: u64,
    /// Coroutines that exist and have not ended.
    pub live: usize,
    /// Stacks in use: live coroutines and ended ones whose handle was neither joined nor dropped.
    pub stacks: usize,
    /// Coroutines ready to run now.
    pub ready: usize,
    /// Live timers.
    pub timers: usize,
    /// Coroutines that ended by a panic.
    pub panicked: u64,
}

/// What a turn found.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// How many times a coroutine was switched to.
    pub ran: usize,
    /// How many coroutines are ready for the next turn.
    pub ready: usize,
}

/// What a timer does when it fires. No user code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimerAction {
    Wake(NonNull<ControlBlock>),
}

/// The state behind a [`Scheduler`], on the heap at a fixed address: control blocks and join handles point to it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ready: ReadyQueue,
    pub(crate) slab: RefCell<Slab>,
    pub(crate) timers: RefCell<Wheel<TimerAction>>,
    pub(crate) live: Cell<usize>,
    /// Unique on this thread, never used again.
    pub(crate) id: u64,
    spawned: Cell<u64>,
    pub(crate) panicked: Cell<u64>,
    turns: Cell<u64>,
    switches: Cell<u64>,
    time_slice_ns: u64,
    /// The driver's clock while a turn is on.
    clock: Cell<Option<Clock>>,
    /// The owner is gone; the last join handle frees this.
    orphaned: Cell<bool>,
}

/// A driver's `now`, with the driver's type erased: `sleep` reads the clock from inside a coroutine.
#[derive(Clone, Copy, Debug)]
struct Clock {
    driver: *const (),
    now: unsafe fn(*const ()) -> u64,
}

impl Clock {
    fn of<D: Driver>(driver: &D) -> Self {
        unsafe fn now<D: Driver>(driver: *const ()) -> u64 {
            // SAFETY: `driver` is the `&D` of the turn that is on (see `Clock::of` and `Entered`).
            let driver = unsafe { &*driver.cast::<D>() };
            driver.now()
        }
        Self {
            driver: std::ptr::from_ref(driver).cast(),
            now: now::<D>,
        }
    }
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
        // SAFETY: control blocks stay mapped as long as `self` lives.
        let block = unsafe { control.as_ref() };
        match block.state.get() {
            State::Parked => {
                block.state.set(State::Ready);
                self.ready.push(control);
            }
            State::Running => block.notified.set(true),
            State::Ready | State::Finished | State::Vacant => {}
        }
    }

    /// Counts a spawn and numbers the coroutine: unique on this thread, never zero.
    #[inline]
    pub(crate) fn next_id(&self) -> u64 {
        self.spawned.set(self.spawned.get() + 1);
        current::unique()
    }

    pub(crate) fn add_timer(&self, deadline_ns: u64, action: TimerAction) -> TimerKey {
        self.timers.borrow_mut().insert(deadline_ns, action)
    }

    /// Gives back the stack of a finished coroutine, and `self` with it when that was the last thing holding it.
    ///
    /// # Safety
    ///
    /// `control` has finished, its result has been taken or dropped, and no handle to it is left. `self` was
    /// obtained from a pointer that may be used to free it; it is not used after the call.
    pub(crate) unsafe fn release(shared: NonNull<Self>, control: NonNull<ControlBlock>) {
        // SAFETY: `shared` is alive: it is freed only here and in `Scheduler::drop`, when no stack is in use.
        let this = unsafe { shared.as_ref() };
        // SAFETY: the caller says that this coroutine has finished: we are the only one to look at its block.
        let block = unsafe { control.as_ref() };
        debug_assert_eq!(block.state.get(), State::Finished);
        let slot = block.slot;
        block.state.set(State::Vacant);
        block.id.set(0);
        let name = control.as_ptr();
        // SAFETY: the field is initialised, and nobody else holds a reference to the block.
        unsafe { (*name).name = None };
        let mut slab = this.slab.borrow_mut();
        slab.release(slot);
        let last = this.orphaned.get() && slab.in_use() == 0;
        drop(slab);
        if last {
            // SAFETY: the owner left it to us (`orphaned`), and no coroutine or handle is left.
            drop(unsafe { Box::from_raw(shared.as_ptr()) });
        }
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
            ready: ReadyQueue::new(),
            slab: RefCell::new(Slab::new(config.stack)),
            timers: RefCell::new(Wheel::default()),
            live: Cell::new(0),
            id: current::unique(),
            spawned: Cell::new(0),
            panicked: Cell::new(0),
            turns: Cell::new(0),
            switches: Cell::new(0),
            time_slice_ns: config.time_slice_ns,
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
        shared.fire_timers(started_ns);
        let ran = self.run_batch(driver, started_ns, &entered);
        driver.poll(self);
        shared.turns.set(shared.turns.get() + 1);
        Turn {
            ran,
            ready: shared.ready.len(),
        }
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

    /// Sleeps in the driver until the next timer or any event; gives cold stacks back before.
    pub fn park<D: Driver>(&self, driver: &D) {
        let shared = self.shared();
        let _entered = Entered::new(self.shared, Clock::of(driver));
        shared.slab.borrow_mut().trim();
        let deadline_ns = shared.timers.borrow().next_deadline();
        driver.park(self, deadline_ns);
    }

    #[inline(always)]
    fn run_batch<D: Driver>(&self, driver: &D, started_ns: u64, entered: &Entered) -> usize {
        let shared = self.shared();
        let budget = shared.ready.len().max(MIN_BATCH);
        let mut ran = 0;
        while ran < budget {
            let Some(control) = shared.ready.pop() else {
                break;
            };
            // SAFETY: a coroutine in the ready queue is live, so its block is initialised and mapped.
            let block = unsafe { control.as_ref() };
            debug_assert_eq!(block.state.get(), State::Ready);
            block.state.set(State::Running);
            entered.set_coroutine(control);
            let switch = block.switch.get();
            // SAFETY: `switch` is initialised from spawn to end, and only this loop touches it. It stays borrowed
            // while the coroutine runs; the coroutine itself only uses the other fields of its block.
            let switch = unsafe { (*switch).assume_init_mut() };
            let outcome = switch.resume(());
            ran += 1;
            if let corosensei::CoroutineResult::Return(()) = outcome {
                self.finish(control);
            }
            if ran & SLICE_CHECK_MASK == 0
                && driver.now().saturating_sub(started_ns) >= shared.time_slice_ns
            {
                break;
            }
        }
        entered.clear_coroutine();
        shared.switches.set(shared.switches.get() + ran as u64);
        ran
    }

    /// A coroutine has returned from its root: tell who waits, and free what nobody waits for.
    #[inline]
    fn finish(&self, control: NonNull<ControlBlock>) {
        let shared = self.shared();
        // SAFETY: the coroutine has just run, so its block is initialised and mapped.
        let block = unsafe { control.as_ref() };
        let switch = block.switch.get();
        // SAFETY: initialised at spawn, dropped exactly once, here: the state is `Finished` from now on.
        unsafe { (*switch).assume_init_drop() };
        block.state.set(State::Finished);
        shared.live.set(shared.live.get() - 1);
        if let Some(joiner) = block.joiner.take() {
            shared.wake(joiner);
        }
        if !block.handle.get() {
            // SAFETY: finished, its root has dropped the result (spawn.rs), and there is no handle.
            unsafe { Shared::release(self.shared, control) };
        }
    }

    /// Coroutines that have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.shared().live.get()
    }

    /// Coroutines that are ready to run.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.shared().ready.len()
    }

    /// Asks every live coroutine to end: each blocking call of theirs is refused from now on.
    ///
    /// Level-triggered and idempotent; coroutines spawned later are not affected.
    pub fn cancel_all(&self) {
        self.for_each_live(|control| crate::cancel::request(self.shared(), control));
    }

    /// The names and spawn sites of the coroutines that have not ended, for a last report.
    #[must_use]
    pub fn survivors(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.for_each_live(|control| {
            // SAFETY: `for_each_live` hands out live blocks only.
            let block = unsafe { control.as_ref() };
            names.push(format!(
                "{} waiting for {}",
                block.label(),
                block.waiting_for.get()
            ));
        });
        names
    }

    fn for_each_live(&self, mut visit: impl FnMut(NonNull<ControlBlock>)) {
        let mut live = Vec::with_capacity(self.live());
        self.shared().slab.borrow().for_each_control(|control| {
            // SAFETY: every slot's block is mapped, and zeroed memory reads as `Vacant`.
            let state = unsafe { control.as_ref() }.state.get();
            if !matches!(state, State::Vacant | State::Finished) {
                live.push(control);
            }
        });
        live.into_iter().for_each(&mut visit);
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> SchedulerStats {
        self.shared().stats()
    }
}

impl Shared {
    fn fire_timers(&self, now_ns: u64) {
        self.timers
            .borrow_mut()
            .advance(now_ns, |action| match action {
                TimerAction::Wake(control) => self.wake(control),
            });
    }

    pub(crate) fn stats(&self) -> SchedulerStats {
        SchedulerStats {
            turns: self.turns.get(),
            switches: self.switches.get(),
            spawned: self.spawned.get(),
            live: self.live.get(),
            stacks: self.slab.borrow().in_use(),
            ready: self.ready.len(),
            timers: self.timers.borrow().len(),
            panicked: self.panicked.get(),
        }
    }
}

impl Drop for Scheduler {
    /// Frees the stacks, unless something still needs them: with join handles left the last of them frees
    /// everything; with live coroutines left everything is leaked, since a live stack is never freed.
    fn drop(&mut self) {
        let in_use = self.shared().slab.borrow().in_use();
        if in_use > 0 {
            self.shared().orphaned.set(self.live() == 0);
            return;
        }
        // SAFETY: made by `Box::leak` in `new`; no coroutine and no handle is left to point to it.
        drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
    }
}
