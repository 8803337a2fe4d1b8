//! One fence a turn, instead of one a message, for a side that sends and sends and is never waited for.
//!
//! Who notifies makes the condition true, fences, and looks whether anyone waits (wait_queue.rs). Behind a store to a
//! line that the other core has, that fence takes as long as the line does: eighty of the ninety nanoseconds of a
//! message in a stream. So a notifier that has found nobody a thousand times in a row becomes *biased*: it leaves the
//! fence out, and who wants to wait pays instead, with membarrier(2), which makes all other threads of the process fence.
//!
//! ```text
//!   notifier, on core C                           who wants to wait
//!   biased = C; open = true; fence                1 waiting = true
//!   . condition true; waiting?   no fence         2 fence
//!   . condition true; waiting?   no fence         3 biased = C, and C's turn open? then membarrier
//!   turn of C ends: open = false (Release)        4 look at the condition once more, park
//! ```
//!
//! `biased` is a word of each notifier, `open` one of each core: set by its first notice without a fence in a turn, and
//! lowered at the end of the turn, so that nobody needs the barrier against a core that has gone on to something else.
//!
//! Why no wake is lost. Take a notice without a fence whose condition the waiter does not see in step 4.
//! - Step 3 read `biased` as it was before this time of being biased, or `open` as it was before this turn. Then the
//!   fence that followed that store comes after the waiter's fence in the order of all fences, and the notice, which
//!   comes after it, sees `waiting`.
//! - Step 3 read either of them as it was stored after the notice. Those stores release and step 3 acquires, so step 4
//!   sees the condition after all.
//! - Step 3 read both as they were during the notice: there is a barrier. The notifier's thread fences at some point
//!   while it lasts. A notice before that point is seen in step 4; one after it sees `waiting`.
//!
//! The notice that finds a waiter ends the bias: its fence comes back for a thousand messages. So a barrier, which costs
//! some microseconds, and in a virtual machine tens of them, is paid for by a thousand fences before it.
//!
//! A notifier may move to another core: there it says so first, with a fence. Threads without a core have no turn that
//! ends, and are never biased.

use super::atomics::{AtomicUsize, Ordering, fence};
use std::ptr;
use std::sync::atomic::compiler_fence;

/// Notices in a row that found nobody, before the fence is left out.
#[cfg(not(loom))]
const STREAK: usize = 1024;
#[cfg(loom)]
const STREAK: usize = 1;

/// Whether a core is in a turn in which it has notified without a fence: its own address then, so that one comparison tells a notifier
/// that it is on its core, in its runtime, and may leave out the fence.
#[derive(Debug)]
#[repr(align(128))] // Written by its core about once a turn: in lines of its own.
pub(crate) struct OpenTurn(AtomicUsize);

/// What a turn says that is not open.
const NOT_OPEN: usize = 0;
/// What a notifier without a bias compares that with.
const NO_BIAS: usize = 1;

impl OpenTurn {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(NOT_OPEN))
    }

    /// What it says while it is open.
    fn open(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Followed by a fence.
    fn begin(&self) {
        self.0.store(self.open(), Ordering::Relaxed);
    }

    /// The core's turn ends.
    #[inline]
    pub(crate) fn end(&self) {
        // Relaxed: only its own core writes it.
        if self.0.load(Ordering::Relaxed) != NOT_OPEN {
            // Pairs with the load in `needs_barrier`.
            self.0.store(NOT_OPEN, Ordering::Release);
        }
    }
}

/// One notifier of one queue. Used by one thread at a time, each after the one before it; looked at by those who wait.
#[derive(Debug)]
#[repr(align(128))] // Written once a message while there is no bias.
pub(crate) struct Bias {
    /// The core that leaves the fence out, plus one; zero for none.
    on: AtomicUsize,
    /// The same as what its turn says while it is open, for the notifier alone.
    turn: AtomicUsize,
    /// Notices in a row that found nobody.
    streak: AtomicUsize,
}

impl Bias {
    pub(crate) fn new() -> Self {
        Self {
            on: AtomicUsize::new(0),
            turn: AtomicUsize::new(NO_BIAS),
            streak: AtomicUsize::new(0),
        }
    }

    /// Comes between making the condition true and looking for waiters. `turn` is that of the core this runs on, with
    /// its number; `None` on other threads.
    #[inline(always)]
    pub(crate) fn settle(&self, turn: Option<(usize, &OpenTurn)>) {
        if !turn.is_some_and(|(_, turn)| self.is_settled(turn)) {
            self.settle_by_fence(turn);
        }
    }

    /// As [`settle`](Self::settle), if the fence is left out; the core may be any of any runtime.
    #[inline(always)]
    pub(crate) fn is_settled(&self, turn: &OpenTurn) -> bool {
        let left_out = self.turn.load(Ordering::Relaxed) == turn.0.load(Ordering::Relaxed);
        // What the processor swaps, the barrier of who waits undoes; what the compiler swaps, nobody could.
        compiler_fence(Ordering::SeqCst);
        left_out
    }

    #[cold]
    fn settle_by_fence(&self, turn: Option<(usize, &OpenTurn)>) {
        // Relaxed: ours alone.
        let streak = self.streak.load(Ordering::Relaxed) + 1;
        self.streak.store(streak, Ordering::Relaxed);
        match turn {
            Some((core, turn)) if streak >= STREAK && barrier::is_there() => {
                // Release: pairs with the load in `needs_barrier`, which may read it instead of an older one.
                self.on.store(core + 1, Ordering::Release);
                self.turn.store(turn.open(), Ordering::Relaxed);
                turn.begin();
            }
            _ => self.drop_bias(),
        }
        // Pairs with the fence of who enters the queue. Serves this notice, and those that follow without one.
        fence(Ordering::SeqCst);
    }

    /// Somebody waited: fences are back.
    #[cold]
    pub(crate) fn found_waiter(&self) {
        self.streak.store(0, Ordering::Relaxed);
        self.drop_bias();
    }

    fn drop_bias(&self) {
        if self.on.load(Ordering::Relaxed) != 0 {
            // Pairs with the load in `needs_barrier`.
            self.on.store(0, Ordering::Release);
            self.turn.store(NO_BIAS, Ordering::Relaxed);
        }
    }

    /// Step 3 of who wants to wait: whether this notifier can only be reached with a barrier.
    pub(crate) fn needs_barrier<'a>(&self, turn_of: impl FnOnce(usize) -> &'a OpenTurn) -> bool {
        // Both acquire: pair with the stores in `drop_bias`, `settle_by_fence` and `end`.
        match self.on.load(Ordering::Acquire) {
            0 => false,
            core => turn_of(core - 1).0.load(Ordering::Acquire) != NOT_OPEN,
        }
    }
}

pub(crate) use barrier::all_threads;

/// membarrier(2): a fence in all threads of this process.
#[cfg(not(loom))]
#[expect(unsafe_code, reason = "membarrier has no wrapper")]
mod barrier {
    use std::sync::OnceLock;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: it reads no memory and writes none.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    /// Whether the kernel has it and a sandbox lets us use it. Registers the process with the first call.
    pub(super) fn is_there() -> bool {
        static THERE: OnceLock<bool> = OnceLock::new();
        *THERE.get_or_init(|| membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
    }

    /// Every other thread of the process fences at some point before this returns.
    #[cold]
    pub(crate) fn all_threads() {
        // A notifier is biased only after `is_there`, and a registered process is not refused.
        let done = membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        assert!(
            done,
            "membarrier was there before: {}",
            std::io::Error::last_os_error()
        );
    }
}

#[cfg(loom)]
mod barrier {
    pub(super) fn is_there() -> bool {
        true
    }

    pub(crate) fn all_threads() {
        unreachable!("the models have a barrier of their own");
    }
}

#[cfg(all(test, loom))]
mod tests;
