//! Who is current: the two thread-locals of the crate, and the clock of the turn that is on.
//!
//! They are set by [`Entered`] on entry to a turn and put back on leaving it, so that several schedulers can take
//! turns on one thread. A coroutine never changes its thread, so it may hold what it read here across a switch.
#![expect(
    unsafe_code,
    reason = "the thread-locals hold pointers that `Entered` keeps valid"
)]

use super::Shared;
use crate::coroutine::ControlBlock;
use crate::driver::Driver;
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::ptr::NonNull;

struct Current {
    scheduler: Cell<Option<NonNull<Shared>>>,
    coroutine: Cell<Option<NonNull<ControlBlock>>>,
    last_unique: Cell<u64>,
}

thread_local! {
    // `const` and without a destructor: one load relative to the thread pointer, valid until the thread's end.
    static CURRENT: Current =
        const { Current { scheduler: Cell::new(None), coroutine: Cell::new(None), last_unique: Cell::new(0) } };
}

/// A driver's `now`, with the driver's type erased: `sleep` reads the clock from inside a coroutine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) driver: *const (),
    pub(super) now: unsafe fn(*const ()) -> u64,
}

impl Clock {
    pub(super) fn of<D: Driver>(driver: &D) -> Self {
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

/// A turn is on, on this thread. Dropping it restores what was current before.
pub(super) struct Entered {
    shared: NonNull<Shared>,
    previous: Option<NonNull<Shared>>,
    previous_clock: Option<Clock>,
}

impl Entered {
    pub(super) fn new(shared: NonNull<Shared>, clock: Clock) -> Self {
        // SAFETY: the caller is a method of the `Scheduler` that owns it.
        let this = unsafe { shared.as_ref() };
        let previous = CURRENT.with(|current| {
            // First of all: a panic from here must find nothing changed.
            assert!(
                current.coroutine.get().is_none(),
                "a scheduler cannot be driven from inside a coroutine"
            );
            current.scheduler.replace(Some(shared))
        });
        let previous_clock = this.clock.replace(Some(clock));
        Self {
            shared,
            previous,
            previous_clock,
        }
    }

    #[inline(always)]
    pub(super) fn set_coroutine(&self, control: NonNull<ControlBlock>) {
        set_coroutine(control);
    }

    #[inline(always)]
    pub(super) fn clear_coroutine(&self) {
        clear_coroutine();
    }
}

/// Inside a turn: this one is about to run.
#[inline(always)]
pub(super) fn set_coroutine(control: NonNull<ControlBlock>) {
    CURRENT.with(|current| current.coroutine.set(Some(control)));
}

/// Nobody runs any more, on the loop's own stack.
#[inline(always)]
pub(super) fn clear_coroutine() {
    CURRENT.with(|current| current.coroutine.set(None));
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.scheduler.set(self.previous);
            current.coroutine.set(None);
        });
        // SAFETY: still inside the method that made us, so the owner is alive.
        unsafe { self.shared.as_ref() }
            .clock
            .set(self.previous_clock);
    }
}

/// The running coroutine, if the caller is one.
#[inline(always)]
pub(crate) fn current() -> Option<&'static ControlBlock> {
    let control = CURRENT.with(|current| current.coroutine.get())?;
    // SAFETY: set only while that coroutine runs. The lifetime is a lie that callers keep: they use the block only
    // during their own call, on the coroutine's own stack, which cannot outlive its block.
    Some(unsafe { control.as_ref() })
}

/// The word of this thread that is null or leads to the running coroutine's block, and how far into the block its id is.
pub(crate) fn word() -> (*const *const u8, usize) {
    // A `Cell<Option<NonNull<_>>>` is a pointer that may be null.
    let word = CURRENT.with(|current| current.coroutine.as_ptr());
    (
        word.cast_const().cast(),
        std::mem::offset_of!(ControlBlock, id),
    )
}

/// The running coroutine, for a caller that has no error to return.
///
/// # Panics
///
/// Outside a coroutine, naming what was called.
#[inline(always)]
#[track_caller]
pub(crate) fn require_current(what: &str) -> &'static ControlBlock {
    match current() {
        Some(control) => control,
        None => outside(what),
    }
}

#[cold]
#[track_caller]
fn outside(what: &str) -> ! {
    panic!(
        "{what} was called outside a coroutine: call it inside `Runtime::run(|| ..)` or `coro::spawn(|| ..)`"
    )
}

/// The scheduler whose turn is on.
#[inline(always)]
pub(crate) fn scheduler() -> Option<NonNull<Shared>> {
    CURRENT.with(|current| current.scheduler.get())
}

/// As [`current`], for a signal handler: no assertions, no initialisation, plain loads.
pub(crate) fn current_in_signal() -> Option<NonNull<ControlBlock>> {
    CURRENT
        .try_with(|current| current.coroutine.get())
        .ok()
        .flatten()
}

/// A number never handed out before on this thread. Handles stay on their thread, so that is unique enough.
pub(super) fn unique() -> u64 {
    *uniques(1).start()
}

/// So many of them at once.
pub(super) fn uniques(count: u64) -> RangeInclusive<u64> {
    CURRENT.with(|current| {
        let last = current.last_unique.get();
        current.last_unique.set(last + count);
        last + 1..=last + count
    })
}

/// The time of the turn that is on.
///
/// # Panics
///
/// Outside a turn, naming what was called.
#[track_caller]
pub(crate) fn now(what: &str) -> u64 {
    match scheduler() {
        // SAFETY: the scheduler whose turn is on is alive.
        Some(shared) => unsafe { shared.as_ref() }.now(),
        None => outside(what),
    }
}
