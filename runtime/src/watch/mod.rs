//! Watching cores from outside: whether they turn, and if not, what holds them up.
//!
//! ```text
//!   core: Pulse::beat once a turn  ------>  watchdog thread (stall.rs): the same beat for too long, and not asleep?
//!                                              | a signal to that thread only (capture.rs)
//!   handler, on the stuck core's thread  <-----+
//!      name and spawn site of who runs, return addresses of its stack  ------>  the watchdog names them, on stderr,
//!                                                                               and what they wait for (cause.rs)
//! ```
//!
//! A core that is stuck answers no message, so nothing here asks it to do anything but to take a signal. A turn pays one
//! store to memory that only the watchdog reads.

pub(crate) mod capture;
mod cause;
mod dump;
pub(crate) mod stall;

pub use dump::dump_on_signal;

use capture::AlternateStack;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A core's sign of life.
#[derive(Debug, Default)]
#[repr(align(128))] // Written once a turn: in lines of its own.
pub(crate) struct Pulse {
    /// Counts turns in steps of two; odd while the core sleeps.
    beats: AtomicU64,
    stalls: AtomicU64,
    longest_ns: AtomicU64,
    /// The thread that turns the core, while there is one.
    thread: Mutex<Option<libc::pid_t>>,
}

impl Pulse {
    /// A turn begins.
    #[inline]
    pub(crate) fn beat(&self) {
        // The core alone writes, so this needs no read-modify-write. Relaxed: it orders nothing.
        let beats = self.beats.load(Ordering::Relaxed) | 1;
        self.beats.store(beats.wrapping_add(1), Ordering::Relaxed);
    }

    /// The core goes to sleep; the next beat says that it is back.
    #[inline]
    pub(crate) fn sleep(&self) {
        let beats = self.beats.load(Ordering::Relaxed) | 1;
        self.beats.store(beats, Ordering::Relaxed);
    }

    /// Whether somebody turns the core, and it is not asleep.
    pub(crate) fn is_beating(&self) -> bool {
        let beats = self.beats.load(Ordering::Relaxed);
        beats > 0 && beats.is_multiple_of(2)
    }

    /// How often the core has stalled, and the longest of it.
    pub(crate) fn stalls(&self) -> (u64, Duration) {
        let longest_ns = self.longest_ns.load(Ordering::Relaxed);
        let stalls = self.stalls.load(Ordering::Relaxed);
        (stalls, Duration::from_nanos(longest_ns))
    }

    /// The calling thread turns the core until the returned value is dropped.
    pub(crate) fn turned_here(&self) -> TurnedHere<'_> {
        let stack = AlternateStack::install();
        self.set_thread(Some(capture::thread_id()));
        TurnedHere {
            pulse: self,
            _stack: stack,
            _on_its_thread: PhantomData,
        }
    }

    fn set_thread(&self, thread: Option<libc::pid_t>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }
}

/// While it lives, its thread may be asked what it does.
#[derive(Debug)]
pub(crate) struct TurnedHere<'a> {
    pulse: &'a Pulse,
    _stack: Option<AlternateStack>,
    _on_its_thread: PhantomData<Cell<()>>,
}

impl Drop for TurnedHere<'_> {
    fn drop(&mut self) {
        // Waits for a capture that is under way: afterwards nobody sends this thread a signal.
        self.pulse.set_thread(None);
        self.pulse.sleep();
    }
}
