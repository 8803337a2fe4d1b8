//! Waiting, for those who build something to wait for: drivers, channels, locks.
//!
//! A wait has four steps, all in the waiting coroutine, on its own stack:
//!
//! ```text
//!   let token = wait::begin("recv")?;         1  may this coroutine block at all? who is to be woken?
//!   queue.push(token) / submit(op, token)     2  leave the token where the event will find it
//!   while !condition() {                      3  a wake is a hint: look again
//!       wait::park("recv");
//!       if wait::interrupted().is_some() {..} 4  cancelled meanwhile: take the token back, then return the error
//!   }
//! ```
//!
//! The token is one word, and whoever holds it may wake the coroutine as often as it likes, as long as the wait
//! lasts. A wait must not end before its token can no longer be used: an operation in flight is cancelled and
//! reaped first, a queue entry is unlinked first.
#![expect(
    unsafe_code,
    reason = "a token is a pointer to a control block; `wake` trusts the wait protocol"
)]

use crate::cancel;
use crate::coroutine::{ControlBlock, Inspect, State};
use crate::instant::nanoseconds;
use crate::prefetch;
use crate::scheduler::{Shared, TimerAction, current, require_current};
use crate::switch;
use crate::timer::TimerKey;
use std::fmt;
use std::ptr::NonNull;
use std::time::Duration;

/// Why a blocking call must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupt {
    /// The coroutine was cancelled.
    Cancelled,
    /// A [`deadline`](crate::deadline()) around the call has passed.
    Elapsed,
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the coroutine was cancelled"),
            Self::Elapsed => f.write_str("the deadline around the call has passed"),
        }
    }
}

impl std::error::Error for Interrupt {}

/// Why a blocking call could not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The caller is not a coroutine.
    Outside,
    /// The caller is unwinding: std counts panics per thread, so a switch now would make other coroutines look
    /// as if they were panicking too.
    Unwinding,
    /// Cancelled, or past a deadline.
    Interrupted(Interrupt),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str(
                "called outside a coroutine: blocking calls work inside `Runtime::run(|| ..)` and \
                 `coro::spawn(|| ..)` only",
            ),
            Self::Unwinding => f.write_str(
                "called from a destructor while a panic unwinds, where a coroutine cannot wait: do blocking \
                 clean-up before, or catch the panic first",
            ),
            Self::Interrupted(interrupt) => interrupt.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

/// Names a waiting coroutine in one word. `!Send`: a coroutine is woken on its own core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(NonNull<ControlBlock>);

impl Token {
    /// The word itself, to be kept by something that knows no coroutine.
    #[must_use]
    #[inline(always)]
    pub fn into_raw(self) -> NonNull<()> {
        self.0.cast()
    }

    #[inline(always)]
    pub(crate) fn of(block: &ControlBlock) -> Self {
        Self(NonNull::from(block))
    }

    pub(crate) fn control(self) -> NonNull<ControlBlock> {
        self.0
    }

    /// The inverse of [`into_raw`](Self::into_raw).
    ///
    /// # Safety
    ///
    /// `raw` came from `into_raw` of a token of this thread.
    #[must_use]
    #[inline(always)]
    pub unsafe fn from_raw(raw: NonNull<()>) -> Self {
        Self(raw.cast())
    }

    /// Makes the coroutine run again. Wakes are hints: it may be ready, or running, already.
    ///
    /// # Safety
    ///
    /// Called on the thread the token was made on, and the wait it was made for is not over.
    #[inline(always)]
    pub unsafe fn wake(self) {
        // SAFETY: the coroutine is inside its wait, so its block is initialised and mapped.
        let block = unsafe { self.0.as_ref() };
        // SAFETY: a scheduler outlives the coroutines on it.
        let shared = unsafe { block.scheduler.as_ref() };
        shared.wake(self.0);
    }
}

/// Step 1: the current coroutine is about to wait.
///
/// # Errors
///
/// When it must not: outside a coroutine, while unwinding, or interrupted. A coroutine that goes on calling after
/// a few interruptions is unwound from here instead (see [`JoinHandle::cancel`](crate::JoinHandle::cancel)).
#[inline(always)]
pub fn begin() -> Result<Token, Refusal> {
    begin_block().map(Token::of)
}

/// As [`begin`].
#[inline(always)]
pub(crate) fn begin_block() -> Result<&'static ControlBlock, Refusal> {
    let Some(block) = current() else {
        return Err(Refusal::Outside);
    };
    if std::thread::panicking() {
        return Err(Refusal::Unwinding);
    }
    if cancel::is_interrupted(block) {
        return Err(Refusal::Interrupted(cancel::refuse(block)));
    }
    Ok(block)
}

/// Step 3: switches to the scheduler until a wake. May return for no reason.
///
/// Call [`begin`] first: it is what keeps a coroutine from switching where it must not.
///
/// # Panics
///
/// Outside a coroutine, and while the caller is unwinding.
#[inline(always)]
pub fn park(what_for: &'static str) {
    let block = require_current("wait::park");
    assert!(
        !std::thread::panicking(),
        "a coroutine cannot park while it unwinds"
    );
    park_block(block, what_for);
}

/// As [`park`], but where the wake came first others run before this returns: for loops of which one round may wake the
/// next, and which would keep the core for ever.
///
/// # Panics
///
/// As [`park`].
pub fn park_fairly(what_for: &'static str) {
    let block = require_current("wait::park_fairly");
    if block.notified.get() && !std::thread::panicking() {
        block.notified.set(false);
        requeue(block);
    } else {
        park(what_for);
    }
}

/// Step 4: whether the wait should be given up. Two loads where it need not.
///
/// # Panics
///
/// Outside a coroutine.
#[inline(always)]
#[must_use]
pub fn interrupted() -> Option<Interrupt> {
    cancel::interrupt(require_current("wait::interrupted"))
}

/// Lets others run first if the current coroutine has had its time: for calls that end without waiting. Never unwinds.
#[inline]
pub fn give_way() {
    if let Some(block) = current()
        && !scheduler_of(block).lets_through(block)
    {
        give_way_in_time(block);
    }
}

/// As [`give_way`] for who must not be interrupted here: `false` if it has to be called instead. Counted as a call of it.
#[inline]
#[must_use]
pub fn may_go_on() -> bool {
    current().is_none_or(|block| scheduler_of(block).lets_through(block))
}

#[cold]
#[inline(never)]
fn give_way_in_time(block: &ControlBlock) {
    if !std::thread::panicking() && scheduler_of(block).should_yield(block) {
        // Not `yield_block`, which would unwind a cancelled caller together with what its call has in hand.
        requeue(block);
    }
}

/// Counts a refusal of the current coroutine's call: what a wait returns when it gives up in the middle.
pub fn refuse_current() -> Interrupt {
    cancel::refuse(require_current("wait::refuse_current"))
}

/// Takes back the refusal that the current coroutine's call was just given: what had been done before is returned in its place, so the
/// work is complete as far as is told.
///
/// # Panics
///
/// Outside a coroutine.
pub fn forgive() {
    cancel::forgive(require_current("wait::forgive"));
}

#[inline(always)]
pub(crate) fn park_block(block: &ControlBlock, what_for: &'static str) {
    if announce(block, what_for) {
        leave(block);
    }
}

/// The first half of [`park_block`]: from now on a wake makes the coroutine ready. Not if one came before.
#[inline(always)]
pub(crate) fn announce(block: &ControlBlock, what_for: &'static str) -> bool {
    if block.notified.get() {
        block.notified.set(false);
        return false;
    }
    block.set_waiting(what_for, scheduler_of(block).turn_started_ns());
    block.state.set(State::Parked);
    true
}

/// The second half: switches to the scheduler until a wake.
#[inline(always)]
pub(crate) fn leave(block: &ControlBlock) {
    switch_out(block);
    if block.inspect.get() == Inspect::Asked {
        crate::dump::capture(block);
    }
}

/// Lets everyone who is ready run first.
#[inline(always)]
pub(crate) fn requeue(block: &ControlBlock) {
    block.state.set(State::Ready);
    block.queue().push(NonNull::from(block));
    switch_out(block);
}

/// Hands the core back to the run loop, which resumes us when our block leaves the ready queue. The state says `Running` neither
/// before nor after the switch but on this side of it only: a signal handler looks at it (running.rs).
#[inline(always)]
pub(crate) fn switch_out(block: &ControlBlock) {
    prefetch::note_depth(block);
    debug_assert_ne!(block.state.get(), State::Running);
    // SAFETY: it is the running coroutine that leaves.
    unsafe { switch::suspend(block) };
    block.state.set(State::Running);
}

/// A wake-up at a deadline, for the waits of one closure. See [`with_alarm`].
#[derive(Debug)]
pub struct Alarm<'a> {
    timer: TimerKey,
    shared: &'a Shared,
}

impl Alarm<'_> {
    /// Whether the time has come.
    #[must_use]
    pub fn rang(&self) -> bool {
        !self.shared.timers.borrow().is_live(self.timer)
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.shared.timers.borrow_mut().discard(self.timer);
    }
}

/// Runs `f` with an alarm that wakes the current coroutine once, `duration` from now: for waits with a limit of
/// their own.
///
/// The alarm is a wake like any other, so the wait's loop asks [`Alarm::rang`]. No unwinding, no allocation.
///
/// # Panics
///
/// Outside a coroutine.
pub fn with_alarm<T>(duration: Duration, f: impl FnOnce(&Alarm<'_>) -> T) -> T {
    let block = require_current("wait::with_alarm");
    let shared = scheduler_of(block);
    let deadline_ns = shared.now().saturating_add(nanoseconds(duration));
    let timer = shared.add_timer(deadline_ns, TimerAction::Wake(NonNull::from(block)));
    f(&Alarm { timer, shared })
}

#[inline(always)]
pub(crate) fn scheduler_of(block: &ControlBlock) -> &Shared {
    // SAFETY: a scheduler outlives the coroutines on it.
    unsafe { block.scheduler.as_ref() }
}
