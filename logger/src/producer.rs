//! The writing end of a ring, as the thread that logs sees it: this file is the hot path.
//!
//! ```text
//!   emit(site, args)
//!     -> CURRENT                one thread-local pointer: the ring of this core, or of this thread
//!     -> busy?                  one load
//!     -> arguments brief?       decided at compile time, but for texts (encode.rs)
//!     -> context unchanged?     two loads, one compare (context.rs)
//!     -> fits below the limit?  one compare (ring.rs)
//!     -> counter, arguments, then the first word
//! ```
//!
//! This much stands at each call site, a hundred instructions without a call, and touches one line of the producer. Whatever needs more, a
//! longer text, another coroutine than that of the last line, the first line of a batch, goes to `write_slowly` (producer/slow.rs) with all it has.
//!
//! All arguments are snapshots by now (encode.rs), so between the reservation and the first word no user code runs: nothing can
//! panic, log, or switch the coroutine in there. What can come in between is a signal handler that logs; it finds the writer busy
//! and its line is refused and counted.
//!
//! A core publishes once a turn and every [`PUBLISH_BYTES`]: the line that holds `head` travels between two cores at each
//! publication (160 ns one way between two cores of a Xeon guest), so it should not travel per record. Foreign threads have no turns and publish each record.

#![expect(
    unsafe_code,
    reason = "writes records into mapped memory; follows the thread-local pointer to its producer"
)]

mod core_ring;
mod slow;

pub use core_ring::{CoreRing, Entered, dropped_here, register_core};

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex};

use log::Level;

use crate::clock;
use crate::context::{self, ContextId, ContextWord};
use crate::encode::{Args, Encoded};
use crate::memory::{self, Ring, lock};
use crate::record::{self, HEADER_BYTES, first_word, lap};
use crate::ring::{Since, Writer};
use crate::state;

/// A core shows its records to the drain at the end of a turn, and within a long turn after so many bytes.
pub(crate) const PUBLISH_BYTES: u64 = 1024;

/// After a turn that logged, so many more are expected to: a coroutine that logs when it is woken often has a turn or two without lines behind it.
const EXPECTING_TURNS: u32 = 16;

/// No coroutine has this id: forces a context record before the next line.
pub(crate) const UNKNOWN_CONTEXT: u64 = u64::MAX;

/// The writing end of one ring. Used by one thread at a time; signal handlers on that thread may come in between, so all fields are cells.
///
/// What a line touches stands first, in one cache line: up to the position and the limits of `writer`.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Producer {
    /// Where position 0 of this lap would be: a record's address is this and its position.
    lap_base: Cell<*mut u8>,
    /// Where the running coroutine's id is: a [`ContextWord`] in two parts.
    context_word: *const *const u8,
    context_offset: u32,
    lap: Cell<u8>,
    /// Each record is published by itself, and no batch of them.
    publishes_each: bool,
    /// A record is being written: set before anything else is read, so that a signal handler that logs finds it whole.
    busy: Cell<bool>,
    /// The id that lines in the ring belong to by now.
    context: Cell<u64>,
    /// Time of this turn, or 0 to read the counter for each line.
    turn_ticks: Cell<u64>,
    writer: Writer,
    data: *mut u8,
    mask: u64,
    /// The process that made it: in a forked child the ring's memory may still be its parent's.
    process: u32,
    /// Calls that wait for room.
    waiting: Cell<u32>,
    /// In so many turns lines are expected.
    expects: Cell<u32>,
    /// Each turn sets `turn_ticks`.
    turn_time: bool,
    context_id: ContextId,
    /// Ticks of the first line lost since the last that got through; 0 if none was.
    lost_since: Cell<u64>,
    /// Where a context is encoded: kept, so that a change of the coroutine allocates nothing.
    scratch: RefCell<Vec<u8>>,
    ring: Arc<Ring>,
}

const _: () = assert!(std::mem::offset_of!(Producer, writer) + Writer::HOT_BYTES == 64);

// SAFETY: `data` points into the ring, which the `Arc` keeps mapped. The word of a context may belong to a thread: then the producer is used by that
// thread alone, which its owners, a thread-local and a `CoreRing` that is not `Send`, see to; `COMMON`'s belongs to none.
unsafe impl Send for Producer {}

impl Producer {
    /// A producer that publishes batches of so many bytes, 0 for each record by itself. `word` belongs to the thread that will use it.
    fn new(ring: Arc<Ring>, publish_bytes: u64, word: ContextWord) -> Self {
        let capacity = ring.capacity() as u64;
        let batch = if publish_bytes == 0 {
            capacity
        } else {
            publish_bytes
        };
        let producer = Self {
            lap_base: Cell::new(ptr::null_mut()),
            context_word: word.word,
            context_offset: word.offset,
            lap: Cell::new(0),
            publishes_each: publish_bytes == 0,
            busy: Cell::new(false),
            // A ring starts outside any coroutine, so 0 needs no record; fields of this thread do.
            context: Cell::new(if context::has_fields() {
                UNKNOWN_CONTEXT
            } else {
                0
            }),
            turn_ticks: Cell::new(0),
            writer: Writer::new(capacity, ring.shared().end(), batch),
            data: ring.data().as_ptr(),
            mask: capacity - 1,
            process: state::process(),
            waiting: Cell::new(0),
            expects: Cell::new(0),
            turn_time: state::turn_time(),
            context_id: state::hooks().context_id,
            lost_since: Cell::new(0),
            scratch: RefCell::default(),
            ring,
        };
        producer.begin_lap();
        producer
    }

    /// Finds the addresses of the lap that the writer is in.
    fn begin_lap(&self) {
        let position = self.writer.position();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "pointers are as wide as positions here, and what is cut off cancels out when a position is added"
        )]
        let before = (position & !self.mask) as usize;
        self.lap_base.set(self.data.wrapping_sub(before));
        self.lap.set(lap(position, self.mask + 1));
    }

    /// Where a position of this lap is in memory.
    #[inline(always)]
    fn address(&self, position: u64) -> *mut u8 {
        #[expect(clippy::cast_possible_truncation, reason = "see `begin_lap`")]
        self.lap_base.get().wrapping_add(position as usize)
    }

    /// Writes one line, or counts it as lost.
    #[inline(always)]
    fn write<M: Args>(&self, site: u32, flags: u8, level: Level, args: M) {
        let word = ContextWord::new(self.context_word, self.context_offset);
        let size = record_size(args);
        if self.busy.replace(true) {
            return state::count_refused(); // In a signal handler, or in a hook that logs.
        }
        // A handler that runs from here on finds the writer busy, whatever has been read.
        compiler_fence(Ordering::SeqCst);
        if !args.is_brief() || word.read() != self.context.get() {
            return self.write_slowly(site, flags, level, args);
        }
        let Some(position) = self.writer.begin(size, level <= Level::Warn) else {
            return self.write_slowly(site, flags, level, args);
        };
        let put = |at| {
            // SAFETY: the caller of the closure gives the bytes that `size` counts, and the arguments are brief.
            unsafe { args.put_brief(at) }
        };
        // SAFETY: `begin` reserves `size` contiguous bytes, and `size` counts the header and what the arguments write.
        unsafe { self.put(position, size, flags, site, self.time(), put) };
        self.writer.finish(position + size);
        if self.publishes_each {
            self.writer.publish(self.ring.shared(), Since::Nothing);
        }
        compiler_fence(Ordering::SeqCst);
        self.busy.set(false);
    }

    /// The time of a record.
    #[inline(always)]
    fn time(&self) -> u64 {
        match self.turn_ticks.get() {
            0 => clock::ticks(),
            turn => turn,
        }
    }

    /// Writes a record of this lap, of which `values` writes what follows the header.
    ///
    /// # Safety
    /// `size` bytes are reserved at `position`, contiguous, and are enough for the header and what `values` writes.
    #[inline(always)]
    unsafe fn put(
        &self,
        position: u64,
        size: u64,
        flags: u8,
        site: u32,
        ticks: u64,
        values: impl FnOnce(*mut u8) -> *mut u8,
    ) {
        let at = self.address(position);
        #[expect(clippy::cast_possible_truncation, reason = "a record's size")]
        let last = (size - 8) as usize;
        // SAFETY: the last word of the record: padding must be zero, which is no tag. What follows may write over it.
        let last = unsafe { at.add(last) };
        // SAFETY: reserved and 8-aligned.
        unsafe { last.cast::<u64>().write(0) };
        // SAFETY: the second word of the header, reserved.
        let second = unsafe { at.add(8) };
        // SAFETY: reserved; records are 8-aligned because positions and sizes are multiples of 8.
        unsafe { second.cast::<u64>().write(ticks.to_le()) };
        // SAFETY: the values start behind the header, reserved.
        values(unsafe { at.add(HEADER_BYTES) });
        let word = first_word(size, self.lap.get(), flags, site).to_le();
        // SAFETY: reserved and 8-aligned; only a crash reader looks at it before it is published, with a load of the same width.
        let first = unsafe { AtomicU64::from_ptr(at.cast()) };
        // Release: a complete first word means a complete record, also for a crash reader (see record.rs).
        first.store(word, Ordering::Release);
    }

    /// Begins a turn. Where that is wanted it takes its time; and where lines are to be expected it begins their batch, so that the first of them
    /// finds everything open: the code and the memory that this takes are cold by then, and a line would wait for them.
    #[inline]
    fn begin_turn(&self) {
        if self.turn_time {
            self.set_turn_ticks(clock::ticks());
        } else if self.expects.get() > 0 && self.is_ours() {
            let since = Since::Perhaps(clock::ticks());
            self.writer.announce(self.ring.shared(), since);
            self.writer.open();
        }
        if self.expects.get() > 0 {
            self.prefetch(self.writer.position());
        }
    }

    /// The lines of this turn are as old as it, from now on, whenever they come.
    fn set_turn_ticks(&self, ticks: u64) {
        self.turn_ticks.set(ticks);
        if self.is_ours() {
            self.writer.announce(self.ring.shared(), since(ticks));
            if ticks != 0 {
                self.writer.open();
            }
        }
    }

    /// Shows what was logged in the turn that ends.
    #[inline]
    fn end_turn(&self) {
        let has_lines = self.writer.unpublished() > 0;
        let expected = self.expects.get();
        if !(has_lines || expected > 0 || self.turn_ticks.get() != 0) || !self.is_ours() {
            return;
        }
        self.show(Since::Nothing);
        if has_lines {
            self.expects.set(EXPECTING_TURNS);
        } else {
            self.expects.set(expected.saturating_sub(1));
        }
    }

    /// False in a forked child.
    fn is_ours(&self) -> bool {
        self.process == state::process()
    }

    /// Shows what was logged so far, in the middle of a turn: lines of it that follow are as old as it, if it has a time.
    #[inline(always)]
    fn publish(&self) {
        self.show(since(self.turn_ticks.get()));
    }

    /// Publishes. `since` as for [`Writer::announce`]; the next record begins a batch, and announces itself.
    #[inline(always)]
    fn show(&self, since: Since) {
        // A handler that logged in here would publish more than this is about to.
        let before = self.busy.replace(true);
        compiler_fence(Ordering::SeqCst);
        self.writer.publish(self.ring.shared(), since);
        if !self.publishes_each {
            self.writer.close();
        }
        compiler_fence(Ordering::SeqCst);
        self.busy.set(before);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.is_ours() {
            self.show(Since::Nothing);
            self.ring.close();
            if !state::is_running() && self.writer.used(self.ring.shared()) == 0 {
                memory::remove(&self.ring); // No drain will come to do it.
            }
        }
    }
}

/// What follows in a turn that has this time: 0 if it has none.
#[inline(always)]
fn since(turn_ticks: u64) -> Since {
    match turn_ticks {
        0 => Since::Nothing,
        ticks => Since::Ticks(ticks),
    }
}

/// How long a record with these values is.
#[inline(always)]
fn record_size<M: Args>(args: M) -> u64 {
    ((HEADER_BYTES + args.size() + 7) & !7) as u64
}

/// Values of [`CURRENT`] that are not a producer.
const NOT_YET: *const Producer = ptr::null();
const ENDED: *const Producer = ptr::without_provenance(1);

thread_local! {
    /// No destructor, so it can be read at any time, also from destructors of other thread-locals.
    static CURRENT: Cell<*const Producer> = const { Cell::new(NOT_YET) };
    /// Owns this thread's ring and ends it with the thread.
    static OWNED: Cell<Option<Box<Owned>>> = const { Cell::new(None) };
}

thread_local! {
    /// The producers of all [`CoreRing`]s of this thread.
    static CORES: RefCell<Vec<*const Producer>> = const { RefCell::new(Vec::new()) };
}

struct Owned(Producer);

impl Drop for Owned {
    fn drop(&mut self) {
        CURRENT.set(ENDED);
    }
}

/// For threads that have no ring: ended, or beyond `max_rings`.
static COMMON: Mutex<Option<Producer>> = Mutex::new(None);

/// Writes one line into the ring of the calling core or thread.
#[inline(always)]
pub(crate) fn emit<M: Args>(site: u32, flags: u8, level: Level, args: M) {
    let current = CURRENT.get();
    if current.addr() > ENDED.addr() {
        // SAFETY: a pointer that is not a sentinel was set by `attach` or `CoreRing::enter`, and is reset before its producer ends.
        let producer = unsafe { &*current };
        producer.write(site, flags, level, args);
    } else {
        emit_slowly(site, flags, level, args);
    }
    if level == Level::Error {
        error_written();
    }
}

#[cold]
#[inline(never)]
fn emit_slowly<M: Args>(site: u32, flags: u8, level: Level, args: M) {
    if !state::is_running() {
        return state::count_refused();
    }
    if CURRENT.get() == NOT_YET && attach() {
        return emit(site, flags, level, args);
    }
    let mut common = lock(&COMMON);
    if common.is_none() {
        *common = memory::create(state::ring_bytes(false), None, usize::MAX)
            .ok()
            .map(|ring| Producer::new(ring, 0, ContextWord::ASK));
    }
    match &*common {
        Some(producer) => producer.write(site, flags, level, args),
        None => state::count_refused(),
    }
}

/// Gives the calling thread a ring of its own. Says whether it could.
pub(crate) fn attach() -> bool {
    if CURRENT.get() != NOT_YET {
        return CURRENT.get() != ENDED;
    }
    // A ring that this thread has already, and forgot while it was on a core that is gone.
    let owned = OWNED.try_with(Cell::take).ok().flatten();
    let owned = match owned {
        Some(owned) => owned,
        None => match memory::create(state::ring_bytes(false), None, state::max_rings()) {
            Ok(ring) => {
                let word = state::hooks().context_id.word();
                Box::new(Owned(Producer::new(ring, 0, word)))
            }
            Err(_) => return false,
        },
    };
    let producer = ptr::from_ref(&owned.0);
    // The thread-local takes ownership first: where it is gone already, so is the thread's right to a ring.
    let stored = OWNED.try_with(|slot| slot.set(Some(owned)));
    if stored.is_ok() {
        CURRENT.set(producer);
    }
    stored.is_ok()
}

/// Whether a former value of [`CURRENT`] still points to a producer of this thread.
fn is_alive(producer: *const Producer) -> bool {
    let core = CORES.try_with(|cores| cores.borrow().contains(&producer));
    let own = OWNED.try_with(|slot| {
        let owned = slot.take();
        let same = owned
            .as_ref()
            .is_some_and(|owned| ptr::eq(&owned.0, producer));
        slot.set(owned);
        same
    });
    core.unwrap_or(false) || own.unwrap_or(false)
}

/// An error should be on disk soon: show it to the drain and wake it.
#[cold]
fn error_written() {
    publish_current();
    state::wake_drain();
}

/// Shows the drain everything the calling thread has logged.
pub(crate) fn publish_current() {
    let current = CURRENT.get();
    if current.addr() > ENDED.addr() {
        // SAFETY: as in `emit`.
        let producer = unsafe { &*current };
        // In the middle of a record, in a signal handler, that call publishes; the record is as old as has been said.
        if !producer.busy.get() {
            producer.publish();
        }
    }
}

/// Whether the calling thread logs into this ring.
pub(crate) fn is_current(ring: &Arc<Ring>) -> bool {
    let current = CURRENT.get();
    // SAFETY: as in `emit`.
    current.addr() > ENDED.addr() && Arc::ptr_eq(unsafe { &(*current).ring }, ring)
}

/// Makes the next line of this thread say its context anew.
pub(crate) fn context_changed() {
    let current = CURRENT.get();
    if current.addr() > ENDED.addr() {
        // SAFETY: as in `emit`.
        unsafe { &*current }.context.set(UNKNOWN_CONTEXT);
    }
}

/// A forked child starts a logger of its own. The parent's producers are leaked: to drop them would publish into the parent's rings.
pub(crate) fn begin_after_fork() {
    let _ = OWNED.try_with(|slot| slot.take().map(Box::leak));
    lock(&COMMON)
        .take()
        .map(|producer| Box::leak(Box::new(producer)));
    CURRENT.set(NOT_YET);
}

/// In a forked child: its copy of the parent's rings is not to be touched.
pub(crate) fn forget_after_fork() {
    CURRENT.set(ENDED);
}

/// A finished text as the only value of a line.
pub(crate) fn emit_text(site: u32, level: Level, text: &str, fields: impl Args) {
    emit(site, record::FINISHED, level, (text, fields));
}

/// A line without call site.
pub(crate) fn emit_dynamic(level: Level, flags: u8, values: &[u8]) {
    emit(
        record::dynamic_id(level),
        record::FINISHED | flags,
        level,
        Encoded(values),
    );
}

/// Whether the calling thread is driving a core.
pub(crate) fn on_core() -> bool {
    let current = CURRENT.get();
    // SAFETY: as in `emit`.
    current.addr() > ENDED.addr() && unsafe { &*current }.ring.label.core.is_some()
}
