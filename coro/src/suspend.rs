//! The plain ways to stop running for a while: yield, checkpoint, park and unpark, sleep.
//!
//! None of them has an error to return, so a cancelled coroutine is unwound from them (cancel.rs). While a panic
//! unwinds, when no switch is allowed, they return at once: a spurious wake, which callers of `park` expect
//! anyhow.

use crate::cancel;
use crate::coroutine::{ControlBlock, State};
use crate::instant::{Instant, nanoseconds};
use crate::scheduler::{Shared, TimerAction, require_current, scheduler};
use crate::wait;
use std::fmt;
use std::ptr::NonNull;
use std::time::Duration;

/// Lets the other ready coroutines of this core run first.
///
/// # Parks
///
/// No: it goes to the back of the ready queue.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound.
///
/// # Panics
///
/// Outside a coroutine.
#[inline(always)]
pub fn yield_now() {
    yield_block(require_current("coro::yield_now"));
}

/// As [`yield_now`]; whether anybody else could run: not while unwinding, nor when cancelled without unwinding.
#[inline(always)]
pub(crate) fn yield_block(block: &ControlBlock) -> bool {
    if !may_switch(block) {
        return false;
    }
    wait::requeue(block);
    if cancel::is_interrupted(block) {
        cancel::unwind(block);
    }
    true
}

/// Waits until [`Coroutine::unpark`] is called on this coroutine; returns at once when it was called before.
///
/// May return for no reason, as [`std::thread::park`] may: use it in a loop that looks at a condition.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound.
///
/// # Panics
///
/// Outside a coroutine.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let parked = coro::spawn(|| coro::park());
/// let waker = coro::spawn({ let me = coro::current(); move || me.unpark() });
/// coro::park();
/// # parked.cancel();
/// # waker.join().unwrap();
/// # });
/// ```
pub fn park() {
    let block = require_current("coro::park");
    if block.permit.replace(false) {
        // Whoever gives itself the permit each time keeps nobody else from running.
        return checkpoint();
    }
    if !may_switch(block) {
        return;
    }
    wait::park_block(block, "unpark");
    block.permit.set(false);
    if cancel::is_interrupted(block) {
        cancel::unwind(block);
    }
}

/// As [`park`], for `limit` at the most. Compare [`std::thread::park_timeout`].
///
/// Does not say why it returned: look at what was waited for, and at the clock.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound.
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
/// let started = coro::Instant::now();
/// coro::park_timeout(Duration::from_millis(5)); // nobody calls `unpark`
/// assert_eq!(started.elapsed(), Duration::from_millis(5));
/// # });
/// ```
pub fn park_timeout(limit: Duration) {
    let block = require_current("coro::park_timeout");
    if block.permit.replace(false) {
        // Whoever gives itself the permit each time keeps nobody else from running.
        return checkpoint();
    }
    if !may_switch(block) {
        return;
    }
    wait::with_alarm(limit, |_| wait::park_block(block, "unpark"));
    block.permit.set(false);
    if cancel::is_interrupted(block) {
        cancel::unwind(block);
    }
}

/// Goes on, unless the time slice of the turn is spent or a latency-class group has work: then as [`yield_now`].
///
/// A handful of nanoseconds as a rule: the clock is read only as often as the pace of the calls makes it
/// necessary. For loops that compute for long.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound.
///
/// # Panics
///
/// Outside a coroutine.
#[inline]
pub fn checkpoint() {
    let block = require_current("coro::checkpoint");
    if cancel::is_interrupted(block) || wait::scheduler_of(block).should_yield(block) {
        yield_now();
    }
}

/// Waits for at least `duration`. Never ends early; late by what the core is busy with. Zero yields once.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound.
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
/// coro::sleep(Duration::from_millis(5));
/// # });
/// ```
pub fn sleep(duration: Duration) {
    let block = require_current("coro::sleep");
    if duration.is_zero() {
        return yield_now();
    }
    sleep_block(
        block,
        wait::scheduler_of(block)
            .now()
            .saturating_add(nanoseconds(duration)),
    );
}

/// Waits until `at`. As [`sleep`]; a time that has passed yields once.
///
/// # Cancellation
///
/// A cancelled coroutine is unwound.
///
/// # Panics
///
/// Outside a coroutine.
pub fn sleep_until(at: Instant) {
    let block = require_current("coro::sleep_until");
    if at.as_ns() <= wait::scheduler_of(block).now() {
        return yield_now();
    }
    sleep_block(block, at.as_ns());
}

fn sleep_block(block: &ControlBlock, deadline_ns: u64) {
    if !may_switch(block) {
        return;
    }
    let shared = wait::scheduler_of(block);
    let key = shared.add_timer(deadline_ns, TimerAction::Wake(NonNull::from(block)));
    while shared.timers.borrow().is_live(key) {
        wait::park_block(block, "sleep");
        if cancel::is_interrupted(block) {
            shared.timers.borrow_mut().discard(key);
            cancel::unwind(block);
            return;
        }
    }
}

/// The coroutine that is running. Compare [`std::thread::current`].
///
/// # Panics
///
/// Outside a coroutine.
#[must_use]
pub fn current() -> Coroutine {
    Coroutine::of(require_current("coro::current"))
}

/// The number of the running coroutine ([`Coroutine::id`]); `None` outside one. Costs a load or two.
#[must_use]
pub fn current_id() -> Option<u64> {
    crate::scheduler::current().map(|block| block.id.get())
}

/// Where the running coroutine's number can be read without a call, for what asks so often that a call is too much (a logger): a word of the
/// calling thread, and an offset. The word is null outside a coroutine; else it is an address, and that many bytes behind it is the `u64` that
/// [`current_id`] returns.
///
/// The pointer is valid for reads by this thread until it ends, the address in it only at the moment it is read.
///
/// # Examples
/// ```
/// let (word, offset) = coring_coro::current_id_word();
/// // SAFETY: read by its own thread; outside a coroutine it is null, and nothing more is read.
/// assert!(unsafe { word.read() }.is_null());
/// # let _ = offset;
/// ```
#[must_use]
pub fn current_id_word() -> (*const *const u8, usize) {
    crate::scheduler::current_word()
}

/// As [`current`], `None` outside a coroutine.
#[must_use]
pub fn try_current() -> Option<Coroutine> {
    crate::scheduler::current().map(Coroutine::of)
}

/// A coroutine of this core, by name: it may have ended. Keeps nothing alive.
#[derive(Clone)]
pub struct Coroutine {
    control: NonNull<ControlBlock>,
    id: u64,
    shared: NonNull<Shared>,
    scheduler: u64,
    name: Option<std::borrow::Cow<'static, str>>,
    site: &'static std::panic::Location<'static>,
}

impl Coroutine {
    fn of(block: &ControlBlock) -> Self {
        Self {
            control: NonNull::from(block),
            id: block.id.get(),
            shared: block.scheduler,
            scheduler: wait::scheduler_of(block).id,
            name: block.name_cow(),
            site: block.site,
        }
    }

    /// Ends its [`park`], or makes its next one return at once. Does nothing when it has ended, and nothing when
    /// called outside a turn of its own scheduler.
    #[expect(
        unsafe_code,
        reason = "reaches a control block by pointer, guarded by two ids"
    )]
    pub fn unpark(&self) {
        if scheduler() != Some(self.shared) {
            return;
        }
        // SAFETY: `shared` is the scheduler whose turn is on, so it is alive.
        let shared = unsafe { self.shared.as_ref() };
        if shared.id != self.scheduler {
            return;
        }
        // SAFETY: it is our own scheduler (ids are never reused on a thread, and handles stay on their thread),
        // and a scheduler keeps its slots mapped; zeroed memory reads as vacant.
        let state = unsafe { &(*self.control.as_ptr()).state };
        if state.get() == State::Vacant {
            return;
        }
        // SAFETY: not vacant, so the block is initialised.
        let block = unsafe { self.control.as_ref() };
        // A slot that was recycled has another id.
        if block.id.get() != self.id {
            return;
        }
        block.permit.set(true);
        if block.state.get() == State::Parked {
            shared.wake(self.control);
        }
    }

    /// The number of this coroutine: unique on its thread, never used again.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name given to [`Builder::name`](crate::Builder::name).
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it was spawned.
    #[must_use]
    pub fn spawn_site(&self) -> &'static std::panic::Location<'static> {
        self.site
    }
}

impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish()
    }
}

/// Before a switch without an error to return: unwinds a cancelled coroutine; `false` while unwinding.
#[inline(always)]
fn may_switch(block: &ControlBlock) -> bool {
    if std::thread::panicking() {
        return false;
    }
    if cancel::is_interrupted(block) {
        cancel::unwind(block);
        return false;
    }
    true
}
