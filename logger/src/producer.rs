//! The writing end of a ring, as the thread that logs sees it: this file is the hot path.
//!
//! ```text
//!   emit(site, args)
//!     -> CURRENT                one thread-local pointer: the ring of this core, or of this thread
//!     -> context unchanged?     one call through a pointer, one compare
//!     -> fits below the limit?  one compare (ring.rs)
//!     -> counter, arguments, then the first word; publish
//! ```
//!
//! All arguments are snapshots by now (encode.rs), so between the reservation and the first word no user code runs: nothing can
//! panic, log, or switch the coroutine in there. What can come in between is a signal handler that logs; it finds `busy` set
//! and its line is refused and counted.
//!
//! A core publishes once a turn and every [`PUBLISH_BYTES`]: the line that holds `head` travels between two cores at each
//! publication (160 ns one way between two cores of a Xeon guest), so it should not travel per record. Foreign threads have no turns and publish each record.

#![expect(
    unsafe_code,
    reason = "writes records into mapped memory; follows the thread-local pointer to its producer"
)]

mod core_ring;

pub use core_ring::{CoreRing, Entered, dropped_here, register_core};

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex};

use log::Level;

use crate::clock;
use crate::context;
use crate::encode::{Args, Encoded};
use crate::memory::{self, Ring, lock};
use crate::record::{self, HEADER_BYTES, MAX_RECORD_BYTES, first_word, id, lap, level_index};
use crate::ring::{Room, Writer, longest_record};
use crate::state::{self, Full};

/// A core shows its records to the drain at the end of a turn, and within a long turn after so many bytes.
pub(crate) const PUBLISH_BYTES: u64 = 1024;

/// So far ahead of a record the ring is fetched for writing. With it a line costs the same in bursts (10.9 ns, the gate and the loop included), and less
/// when it comes after a pause: 9 ns off the 90th and 11 off the 99th percentile of 20 lines every 2 ms (104 and 136 ns), 10 off the median (112)
/// when the caches were emptied before. AMD EPYC, 2 CPUs, the drain on the other one; samples with and without in turn.
const PREFETCH_BYTES: u64 = 512;

/// No coroutine has this id: forces a context record before the next line.
pub(crate) const UNKNOWN_CONTEXT: u64 = u64::MAX;

/// Ticks of the first loss and a counter per level, each a tag and eight bytes.
const LOSS_BYTES: u64 = (HEADER_BYTES as u64 + 6 * 9).next_multiple_of(8);

/// The writing end of one ring. Used by one thread at a time; signal handlers on that thread may come in between, so all fields are cells.
#[derive(Debug)]
pub(crate) struct Producer {
    writer: Writer,
    data: *mut u8,
    mask: u64,
    busy: Cell<bool>,
    /// The process that made it: in a forked child the ring's memory may still be its parent's.
    process: u32,
    /// Calls that wait for room.
    waiting: Cell<u32>,
    /// Time of this turn, or 0 to read the counter for each line.
    turn_ticks: Cell<u64>,
    /// Each turn sets `turn_ticks`.
    turn_time: bool,
    publish_bytes: u64,
    context_id: fn() -> u64,
    context: Cell<u64>,
    /// Ticks of the first line lost since the last that got through; 0 if none was.
    lost_since: Cell<u64>,
    ring: Arc<Ring>,
}

/// Ends the use of a producer, also when a hook of the user's panics.
struct Free<'a>(&'a Cell<bool>);

impl Drop for Free<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.0.set(false);
    }
}

/// A call that waits for room, and leaves the producer to others meanwhile.
struct Waiting<'a>(&'a Producer);

impl<'a> Waiting<'a> {
    fn begin(producer: &'a Producer) -> Self {
        producer.waiting.set(producer.waiting.get() + 1);
        producer.busy.set(false);
        Self(producer)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.busy.set(true);
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

// SAFETY: `data` points into the ring, which the `Arc` keeps mapped; nothing in here belongs to a thread.
unsafe impl Send for Producer {}

impl Producer {
    fn new(ring: Arc<Ring>, publish_bytes: u64) -> Self {
        let capacity = ring.capacity() as u64;
        Self {
            writer: Writer::new(capacity, ring.shared().end()),
            data: ring.data().as_ptr(),
            mask: capacity - 1,
            busy: Cell::new(false),
            process: state::process(),
            waiting: Cell::new(0),
            turn_ticks: Cell::new(0),
            turn_time: state::turn_time(),
            publish_bytes,
            context_id: state::hooks().context_id,
            // A ring starts outside any coroutine, so 0 needs no record; fields of this thread do.
            context: Cell::new(if context::has_fields() {
                UNKNOWN_CONTEXT
            } else {
                0
            }),
            lost_since: Cell::new(0),
            ring,
        }
    }

    /// Writes one line, or counts it as lost.
    #[inline(always)]
    fn write<M: Args>(&self, site: u32, flags: u8, level: Level, args: M) {
        if self.busy.replace(true) {
            return state::count_refused();
        }
        let _free = Free(&self.busy);
        compiler_fence(Ordering::SeqCst); // A handler that runs from here on sees `busy`; so does a hook that logs.
        let context = (self.context_id)();
        let size = (HEADER_BYTES + args.size()).next_multiple_of(8) as u64;
        let urgent = level <= Level::Warn;
        if (context == self.context.get() && self.writer.fits(size, urgent))
            || self.make_ready(context, size, urgent)
        {
            let ticks = self.time();
            self.announce(ticks);
            // SAFETY: `fits` and `make_room` reserve `size` contiguous bytes at the writer's position, and `size` counts the
            // header and what the arguments will write.
            unsafe { self.put(size, flags, site, ticks, args) };
            if self.writer.unpublished() >= self.publish_bytes {
                self.publish();
            }
        } else {
            self.lose(level);
        }
    }

    /// The time of a record.
    #[inline(always)]
    fn time(&self) -> u64 {
        match self.turn_ticks.get() {
            0 => clock::ticks(),
            turn => turn,
        }
    }

    /// Before the first record of those that stay unpublished for a while: how old it is.
    #[inline(always)]
    fn announce(&self, ticks: u64) {
        if self.publish_bytes > 0 && self.writer.unpublished() == 0 {
            self.writer.announce(self.ring.shared(), ticks);
        }
    }

    /// Writes a record at the writer's position and steps over it.
    ///
    /// # Safety
    /// `size` bytes are reserved there, contiguous, and are enough for the header and `args`.
    #[inline(always)]
    unsafe fn put<M: Args>(&self, size: u64, flags: u8, site: u32, ticks: u64, args: M) {
        let position = self.writer.position();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an offset in a ring that is mapped"
        )]
        let offset = (position & self.mask) as usize;
        // SAFETY: the offset is inside the ring.
        let at = unsafe { self.data.add(offset) };
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
        let values = unsafe { at.add(HEADER_BYTES) };
        // SAFETY: `size` covers `args.size()` more bytes.
        unsafe { args.put(values) };
        let word = first_word(size, lap(position, self.mask + 1), flags, site).to_le();
        // SAFETY: reserved and 8-aligned; only a crash reader looks at it before it is published, with a load of the same width.
        let first = unsafe { AtomicU64::from_ptr(at.cast()) };
        // Release: a complete first word means a complete record, also for a crash reader (see record.rs).
        first.store(word, Ordering::Release);
        self.prefetch(position + size + PREFETCH_BYTES);
        self.writer.advance(size);
    }

    /// Fetches the line at a position for writing: the drain, on another core, was the last to touch it. What is free ahead is written for certain
    /// soon; what is not, is some line of this ring, and fetching it harms nobody but its reader's cache.
    #[inline(always)]
    fn prefetch(&self, position: u64) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an offset in a ring that is mapped"
        )]
        let offset = (position & self.mask) as usize;
        // SAFETY: the offset is inside the ring.
        let at = unsafe { self.data.add(offset) };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which changes neither memory nor flags and never faults. Processors without it take it for a no-op.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("prfm pstl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = at;
    }

    /// Sees to it that the ring is in this context and has room. Whoever waits for room may find that another coroutine
    /// of the core has logged meanwhile, and looks again.
    #[cold]
    #[inline(never)]
    fn make_ready(&self, context: u64, size: u64, urgent: bool) -> bool {
        loop {
            if context != self.context.get() && !self.change_context(context, urgent) {
                return false;
            }
            if !self.writer.fits(size, urgent) && !self.make_room(size, urgent) {
                return false;
            }
            if context == self.context.get() {
                return true;
            }
        }
    }

    /// Makes room for a record, if need be by waiting. After losses it also needs room for the record that tells of them.
    #[cold]
    #[inline(never)]
    fn make_room(&self, size: u64, urgent: bool) -> bool {
        let shared = self.ring.shared();
        if size > MAX_RECORD_BYTES.min(longest_record(self.mask + 1)) - LOSS_BYTES {
            return false;
        }
        let mut patience = 10_000_u32; // naps of 100 us
        loop {
            let losses = self.lost_since.get() != 0;
            let needed = if losses { size + LOSS_BYTES } else { size };
            match self.writer.refill(shared, needed, urgent) {
                Room::Ready if losses => self.write_loss(),
                Room::Ready => {
                    if self.writer.used(shared) > self.ring.capacity() as u64 / 4 {
                        self.publish();
                        state::wake_drain();
                    }
                    return true;
                }
                Room::Wrap(skip) => self.write_skip(skip),
                Room::Full => {
                    self.publish();
                    state::wake_drain();
                    let waited =
                        patience > 0 && state::full_policy() == Full::Wait && self.wait_for_drain();
                    patience = patience.saturating_sub(1);
                    if !waited {
                        return false;
                    }
                }
            }
        }
    }

    /// Meanwhile another coroutine of this core may log.
    fn wait_for_drain(&self) -> bool {
        let _waiting = Waiting::begin(self);
        state::wait_for_drain()
    }

    /// Counts a line as lost.
    #[cold]
    #[inline(never)]
    fn lose(&self, level: Level) {
        self.ring.shared().count_drop(level_index(level));
        if self.lost_since.get() == 0 {
            self.lost_since.set(clock::ticks().max(1));
        }
        self.writer.close_limits(); // The next line, however short, asks for room and reports the loss first.
    }

    fn write_loss(&self) {
        let drops = self.ring.shared().drops();
        let values = [
            self.lost_since.replace(0),
            drops[0],
            drops[1],
            drops[2],
            drops[3],
            drops[4],
        ];
        let [a, b, c, d, e, f] = values;
        let list = (a, (b, (c, (d, (e, (f, ()))))));
        // SAFETY: called when `refill` has found room for LOSS_BYTES and more.
        unsafe { self.put(LOSS_BYTES, 0, id::LOSS, clock::ticks(), list) };
    }

    /// Covers the end of the ring; there may be no room for a second word.
    fn write_skip(&self, size: u64) {
        let position = self.writer.position();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an offset in a ring that is mapped"
        )]
        let offset = (position & self.mask) as usize;
        // SAFETY: inside the ring.
        let at = unsafe { self.data.add(offset) };
        // SAFETY: 8-aligned, and free, as `refill` says.
        let first = unsafe { AtomicU64::from_ptr(at.cast()) };
        let word = first_word(size, lap(position, self.mask + 1), 0, id::SKIP).to_le();
        first.store(word, Ordering::Release);
        self.writer.advance(size);
        self.context.set(UNKNOWN_CONTEXT); // Once a lap, so that what is left after a crash says whose lines it holds.
    }

    /// Writes to whom the following lines belong. Without room the line is lost rather than shown as another coroutine's.
    #[cold]
    #[inline(never)]
    fn change_context(&self, context: u64, urgent: bool) -> bool {
        let mut values = Vec::with_capacity(128);
        context::encode(context, &mut values);
        let args = Encoded(&values);
        let size = (HEADER_BYTES + args.size()).next_multiple_of(8) as u64;
        if !self.writer.fits(size, urgent) && !self.make_room(size, urgent) {
            return false;
        }
        let ticks = self.time();
        self.announce(ticks);
        // SAFETY: `size` bytes are reserved and `args` needs no more.
        unsafe { self.put(size, 0, id::CONTEXT, ticks, args) };
        self.context.set(context);
        true
    }

    /// Takes the time of a turn that begins, where that is wanted.
    #[inline]
    fn begin_turn(&self) {
        if self.turn_time {
            self.set_turn_ticks(clock::ticks());
        }
    }

    /// The lines of this turn are as old as it, from now on, whenever they come.
    fn set_turn_ticks(&self, ticks: u64) {
        self.turn_ticks.set(ticks);
        if self.is_ours() {
            self.writer.announce(self.ring.shared(), ticks);
        }
    }

    /// Shows what was logged in the turn that ends.
    #[inline]
    fn end_turn(&self) {
        let has_time = self.turn_ticks.get() != 0;
        if (has_time || self.writer.unpublished() > 0) && self.is_ours() {
            self.writer.publish(self.ring.shared(), 0);
        }
    }

    /// False in a forked child.
    fn is_ours(&self) -> bool {
        self.process == state::process()
    }

    /// Shows what was logged so far, in the middle of a turn: lines of it that follow are as old as it, if it has a time.
    #[inline(always)]
    fn publish(&self) {
        self.writer
            .publish(self.ring.shared(), self.turn_ticks.get());
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.is_ours() {
            self.writer.publish(self.ring.shared(), 0);
            self.ring.close();
            if !state::is_running() && self.writer.used(self.ring.shared()) == 0 {
                memory::remove(&self.ring); // No drain will come to do it.
            }
        }
    }
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
            .map(|ring| Producer::new(ring, 0));
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
            Ok(ring) => Box::new(Owned(Producer::new(ring, 0))),
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
        unsafe { &*current }.publish();
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
