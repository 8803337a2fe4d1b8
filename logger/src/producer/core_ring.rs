//! A core's ring as its runtime holds it: made once, entered for as long as the core runs or for each of its turns.
//!
//! While a ring is entered, the thread's pointer (`CURRENT` in producer.rs) leads to it; leaving restores what was there before. A guard may be
//! dropped in any order, forgotten, or outlive its ring: each step checks what it finds.

use std::io;
use std::marker::PhantomData;
use std::ptr;

use super::{CORES, CURRENT, ENDED, NOT_YET, PUBLISH_BYTES, Producer, is_alive};
use crate::memory;
use crate::state;

/// The ring of one core, made by [`register_core`]. Lines logged while it is [entered](CoreRing::enter) go there.
///
/// It stays on the thread that made it.
#[derive(Debug)]
pub struct CoreRing {
    /// Taken only by `drop`.
    producer: Option<Box<Producer>>,
    /// `CURRENT` of this thread may point to it, so no other may drop it.
    _thread: PhantomData<*const ()>,
}

/// Makes a ring for core `index` of a runtime.
///
/// The core's thread enters it for as long as it runs; a simulator that drives several cores on one thread enters each for
/// the length of its tick.
///
/// # Errors
/// If its memory cannot be mapped, or the calling thread is ending.
///
/// # Examples
/// ```
/// # fn main() -> std::io::Result<()> {
/// let logger = coring_logger::Logger::builder().memory().0.start()?;
/// let ring = coring_logger::register_core(0)?;
/// {
///     let _here = ring.enter();
///     coring_logger::info!("core {} runs", 0);
///     ring.turn(); // at the end of each turn of the core's loop
/// }
/// # logger.shutdown();
/// # Ok(())
/// # }
/// ```
pub fn register_core(index: u32) -> io::Result<CoreRing> {
    let ring = memory::create(state::ring_bytes(true), Some(index), usize::MAX)?;
    let producer = Box::new(Producer::new(
        ring,
        PUBLISH_BYTES,
        state::hooks().context_id.word(),
    ));
    let known = CORES.try_with(|cores| cores.borrow_mut().push(&raw const *producer));
    // The destructors of the thread's locals run.
    known.map_err(io::Error::other)?;
    Ok(CoreRing {
        producer: Some(producer),
        _thread: PhantomData,
    })
}

impl CoreRing {
    fn producer(&self) -> &Producer {
        self.producer.as_ref().expect("there until it is dropped")
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn ring(&self) -> &crate::memory::Ring {
        &self.producer().ring
    }

    /// Sends what the calling thread logs into this ring, until the returned value is dropped.
    #[must_use = "the ring is left when this value is dropped"]
    pub fn enter(&self) -> Entered<'_> {
        let producer = self.producer();
        producer.begin_turn();
        let current = if producer.is_ours() {
            ptr::from_ref(producer)
        } else {
            NOT_YET
        };
        let previous = CURRENT.replace(current);
        Entered {
            previous,
            ring: self,
            _thread: PhantomData,
        }
    }

    /// Ends a turn: what was logged in it becomes visible to the drain.
    #[inline]
    pub fn turn(&self) {
        let producer = self.producer();
        producer.end_turn();
        producer.begin_turn();
    }

    /// Sets `ticks` (see [`crate::ticks`]) as the time of all lines until it is set anew, as
    /// [`Builder::turn_time`](crate::Builder::turn_time) does at each turn. 0 reads the counter again.
    #[inline]
    pub fn set_turn_ticks(&self, ticks: u64) {
        self.producer().set_turn_ticks(ticks);
    }
}

/// How many lines the ring that the calling core or thread logs into had no room for; 0 where it has logged nothing yet.
#[must_use]
pub fn dropped_here() -> u64 {
    let current = CURRENT.get();
    if current.addr() <= ENDED.addr() {
        return 0;
    }
    // SAFETY: a pointer that is not a sentinel was set by `attach` or `CoreRing::enter`, and is reset before its producer ends.
    let producer = unsafe { &*current };
    producer.ring.shared().drops().iter().sum()
}

/// While this lives, the calling thread logs into the [`CoreRing`] it came from.
#[derive(Debug)]
pub struct Entered<'a> {
    previous: *const Producer,
    ring: &'a CoreRing,
    /// Bound to the thread whose pointer it must restore.
    _thread: PhantomData<*const ()>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.ring.producer().end_turn();
        // Guards may be dropped in any order, or never: what was current before may be gone.
        let sentinel = self.previous.addr() <= ENDED.addr();
        let previous = if sentinel || is_alive(self.previous) {
            self.previous
        } else {
            NOT_YET
        };
        CURRENT.set(previous);
    }
}

impl Drop for CoreRing {
    fn drop(&mut self) {
        let Some(producer) = self.producer.take() else {
            return;
        };
        let address = &raw const *producer;
        let _ = CORES.try_with(|cores| cores.borrow_mut().retain(|core| *core != address));
        if CURRENT.get() == address {
            CURRENT.set(NOT_YET); // Its guard was forgotten.
        }
        if producer.busy.get() || producer.waiting.get() > 0 {
            // A hook, or a coroutine that waits for room, is inside this very producer: it must stay. What it holds ends with the process.
            Box::leak(producer);
        }
    }
}
