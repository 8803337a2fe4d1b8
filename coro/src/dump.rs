//! `dump`: what every coroutine of a core is doing.
//!
//! A control block says what its coroutine waits for and since when, so a dump is a walk over the slab's blocks. The
//! walk is done in portions with a [`checkpoint`](crate::checkpoint) between them, so that it holds up nobody for
//! longer than a time slice; each entry is true at the moment it was made.
//!
//! The backtrace of a parked coroutine is taken by the coroutine itself: it is woken with `inspect` set, captures
//! its own stack where it was parked, and returns from the park as if woken for no reason, which every wait allows:
//!
//! ```text
//!   dump: inspect = Asked, wake ---> park returns from its switch, captures, inspect = No
//!   dump: yield, collect     <------ the wait looks at its condition and parks again
//! ```
//!
//! A capture takes stack where it happens. A coroutine that has less than [`CAPTURE_BYTES`] left says `Refused` instead:
//! to be looked at must not make it overflow.
//!
//! A coroutine that waits inside a call which must not return early, such as I/O, goes on waiting there: those loop
//! by the rules of [`wait`](crate::wait).
#![expect(
    unsafe_code,
    reason = "looks at control blocks of coroutines that may have ended"
)]

use crate::coroutine::{ControlBlock, Inspect, Marks, State};
use crate::scheduler::{Scheduler, Shared, require_current};
use crate::stack::pointer::stack_pointer;
use crate::stack::slab::Walk;
use crate::stack::usage::SiteUsage;
use crate::suspend;
use crate::wait;
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::time::Duration;

/// Stacks looked at between two checkpoints, whether there are coroutines on them or not.
const PORTION: usize = 64;
/// Backtraces taken in one go: unwinding costs tens of microseconds a stack.
const TRACE_PORTION: usize = 4;
/// Stack that has to be left where a backtrace is captured. libgcc's unwinder was measured to take 5 KiB; the
/// rest is for the allocator, which may be anyone's, and for signal handlers.
const CAPTURE_BYTES: usize = 16 * 1024;

/// What one coroutine is doing. See [`dump`].
#[derive(Debug)]
#[non_exhaustive]
pub struct CoroutineInfo {
    /// Its number, as [`Coroutine::id`](crate::Coroutine::id).
    pub id: u64,
    /// The name given to it.
    pub name: Option<String>,
    /// Where it was spawned.
    pub spawn_site: &'static Location<'static>,
    /// What it is doing.
    pub activity: Activity,
    /// Index of its scheduling group, in the order of [`Scheduler::group_stats`].
    pub group: usize,
    /// Cancellation was asked for.
    pub cancelled: bool,
    /// Usable bytes of its stack.
    pub stack_bytes: usize,
    /// Bytes of its stack that hold memory now: an upper bound of what it has used, since stacks are reused warm.
    /// [`stack_usage`](crate::stack_usage) has exact samples.
    pub stack_resident_bytes: usize,
    /// Its stack, where it was asked for and the coroutine was parked. Formatting it reads debug information and
    /// is slow.
    pub backtrace: Option<Backtrace>,
    /// A backtrace was asked for and not taken: it is taken on the coroutine's own stack, of which too little is
    /// left.
    pub stack_too_full_to_trace: bool,
}

/// What a coroutine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activity {
    /// In the ready queue.
    Ready,
    /// Taking the dump.
    Running,
    /// Parked.
    Waiting {
        /// What for: the name of the call.
        what_for: &'static str,
        /// How long, in whole turns of the core.
        since: Duration,
    },
}

impl fmt::Display for CoroutineInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("-");
        write!(f, "#{} {name} (spawned at {}): ", self.id, self.spawn_site)?;
        match self.activity {
            Activity::Ready => f.write_str("ready")?,
            Activity::Running => f.write_str("running")?,
            Activity::Waiting { what_for, since } => {
                write!(f, "waiting for {what_for} since {since:?}")?;
            }
        }
        let (resident, bytes) = (self.stack_resident_bytes / 1024, self.stack_bytes / 1024);
        write!(f, ", stack {resident} of {bytes} KiB")?;
        if let Some(backtrace) = &self.backtrace {
            write!(f, "\n{backtrace}")?;
        }
        if self.stack_too_full_to_trace {
            f.write_str(", no backtrace: too little of the stack is left to take it")?;
        }
        Ok(())
    }
}

/// All coroutines of this core that have not ended, in no particular order.
///
/// # Parks
///
/// Yields when its time slice is spent, so coroutines may come and go while it works.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound from its checkpoints.
///
/// # Panics
///
/// Outside a coroutine.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # use std::time::Duration;
/// # coro::testing::run(|| {
/// let sleeper = coro::spawn(|| coro::sleep(Duration::from_secs(1)));
/// coro::yield_now();
/// let waits_for: Vec<_> = coro::dump().iter().map(|info| info.activity).collect();
/// assert!(waits_for.iter().any(|activity| matches!(
///     activity,
///     coro::Activity::Waiting { what_for: "sleep", .. }
/// )));
/// # });
/// ```
#[must_use]
pub fn dump() -> Vec<CoroutineInfo> {
    collect(false)
}

/// As [`dump`], with the backtrace of every coroutine that is parked.
///
/// The parked coroutines are run for it, a few at a time, and wait on. One that has less than 16 KiB of its stack left
/// is left alone ([`CoroutineInfo::stack_too_full_to_trace`]). While the caller unwinds nobody else can run, so there
/// are no backtraces then: this may be called from a panic hook.
///
/// # Parks
///
/// Yields, so coroutines may come and go while it works.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound from its yields; where it cannot be, backtraces are missing.
///
/// # Panics
///
/// Outside a coroutine.
#[must_use]
pub fn dump_with_backtraces() -> Vec<CoroutineInfo> {
    collect(true)
}

/// How deep stacks went, per spawn site: samples of one coroutine in some hundreds, exact to the word.
///
/// # Panics
///
/// Outside a coroutine.
#[must_use]
pub fn stack_usage() -> Vec<SiteUsage> {
    let block = require_current("coro::stack_usage");
    wait::scheduler_of(block).slab.usage()
}

impl Scheduler {
    /// As [`dump`], from outside a turn, in one go.
    #[must_use]
    pub fn dump(&self) -> Vec<CoroutineInfo> {
        let shared = self.shared();
        let controls = shared.live_controls().into_iter();
        controls
            .filter_map(|control| describe(shared, control))
            .collect()
    }

    /// As [`stack_usage`], from outside a turn.
    #[must_use]
    pub fn stack_usage(&self) -> Vec<SiteUsage> {
        self.shared().slab.usage()
    }
}

fn collect(mut with_backtraces: bool) -> Vec<CoroutineInfo> {
    let block = require_current("coro::dump");
    let shared = wait::scheduler_of(block);
    let mut infos = Vec::with_capacity(shared.live.get());
    // Those who are asked have to run to answer.
    with_backtraces &= !std::thread::panicking();
    let portion = if with_backtraces {
        TRACE_PORTION
    } else {
        PORTION
    };
    let (mut walk, mut controls) = (Walk::default(), Vec::with_capacity(portion));
    let mut more = true;
    while more {
        controls.clear();
        more = shared.walk_live(&mut walk, portion, &mut controls);
        if with_backtraces {
            controls
                .iter()
                .for_each(|control| ask_for_backtrace(*control));
            // One round as a rule; more when they are in another group, or when the order is shuffled.
            while controls.iter().any(|control| is_asked(*control)) {
                // Cancelled, and `panic = "abort"`: nobody will run, neither for this portion nor for the next.
                if !suspend::yield_block(block) {
                    controls.iter().for_each(|control| withdraw(*control));
                    with_backtraces = false;
                }
            }
        }
        let mut traces = std::mem::take(&mut *shared.inspected.borrow_mut());
        for control in &controls {
            let Some(mut info) = describe(shared, *control) else {
                continue;
            };
            let trace = traces.iter().position(|(id, _)| *id == info.id);
            info.backtrace = trace.map(|index| traces.swap_remove(index).1);
            info.stack_too_full_to_trace = with_backtraces && is_refused(*control);
            infos.push(info);
        }
        suspend::checkpoint();
    }
    infos
}

fn ask_for_backtrace(control: NonNull<ControlBlock>) {
    // SAFETY: slots stay mapped as long as the scheduler; only the state is looked at, and zeroes read as vacant.
    let state = unsafe { &(*control.as_ptr()).state };
    if state.get() != State::Parked {
        return withdraw(control);
    }
    // SAFETY: parked, hence initialised.
    let block = unsafe { control.as_ref() };
    block.inspect.set(Inspect::Asked);
    wait::scheduler_of(block).wake(control);
}

/// Whether a backtrace was asked for and is not there yet.
fn is_asked(control: NonNull<ControlBlock>) -> bool {
    inspect(control).get() == Inspect::Asked
}

/// Whether the coroutine had too little stack left for the backtrace that it was asked for.
fn is_refused(control: NonNull<ControlBlock>) -> bool {
    inspect(control).get() == Inspect::Refused
}

/// No backtrace is wanted, and none was.
fn withdraw(control: NonNull<ControlBlock>) {
    inspect(control).set(Inspect::No);
}

fn inspect<'a>(control: NonNull<ControlBlock>) -> &'a Cell<Inspect> {
    // SAFETY: slots stay mapped as long as the scheduler of the caller; zeroes are a valid `No`.
    unsafe { &(*control.as_ptr()).inspect }
}

/// The running coroutine was woken to show its stack. No more than a comparison, unless there is room for more.
#[cold]
#[inline(never)]
pub(crate) fn capture(block: &ControlBlock) {
    let left = stack_pointer().saturating_sub(block.slot().limit);
    if left < CAPTURE_BYTES {
        return block.inspect.set(Inspect::Refused);
    }
    block.inspect.set(Inspect::No);
    take_trace(block);
}

#[inline(never)]
fn take_trace(block: &ControlBlock) {
    let trace = Backtrace::force_capture();
    let mut inspected = wait::scheduler_of(block).inspected.borrow_mut();
    inspected.push((block.id.get(), trace));
}

fn describe(shared: &Shared, control: NonNull<ControlBlock>) -> Option<CoroutineInfo> {
    // SAFETY: slots stay mapped as long as the scheduler; only the state is looked at, and zeroes read as vacant.
    let state = unsafe { &(*control.as_ptr()).state }.get();
    let activity = |block: &ControlBlock| match state {
        State::Running => Activity::Running,
        State::Parked => {
            let (what_for, since_ns) = block.waiting();
            let since_ns = shared.turn_started_ns().saturating_sub(since_ns);
            Activity::Waiting {
                what_for,
                since: Duration::from_nanos(since_ns),
            }
        }
        State::Ready | State::Finished | State::Vacant => Activity::Ready,
    };
    if matches!(state, State::Vacant | State::Finished) {
        return None;
    }
    // SAFETY: neither vacant nor finished, hence initialised.
    let block = unsafe { control.as_ref() };
    let slot = block.slot();
    Some(CoroutineInfo {
        id: block.id.get(),
        name: block.name().map(str::to_owned),
        spawn_site: block.site,
        activity: activity(block),
        group: usize::from(block.group),
        cancelled: block.is(Marks::CANCELLED),
        stack_bytes: slot.top - slot.limit,
        stack_resident_bytes: shared.slab.resident_bytes(slot),
        backtrace: None,
        stack_too_full_to_trace: false,
    })
}
