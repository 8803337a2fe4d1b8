//! The rest of a producer: whatever a line needs that most lines do not.
//!
//! ```text
//!   write_slowly
//!     -> make_ready     the coroutine's context is in the ring, and there is room: from the reader, behind a skip record, or by waiting
//!     -> begin_batch    publish what is enough, say how old the next is, fetch memory ahead
//!     -> the record, as in the fast path
//!   or lose             counted, and told by the next line that gets through
//! ```
//!
//! Hooks of the user's run in here: they may panic, log, or park. The writer stays busy meanwhile, but for the time in which the call waits.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use log::Level;

use super::{PUBLISH_BYTES, Producer, UNKNOWN_CONTEXT, record_size};
use crate::cache;
use crate::clock;
use crate::context;
use crate::encode::{Args, Encoded};
use crate::record::{HEADER_BYTES, MAX_RECORD_BYTES, first_word, id, level_index};
use crate::ring::{Room, Since, longest_record};
use crate::state::{self, Full};

/// So much of the ring, ahead of what is written next, is fetched for writing: a batch, and the longer part of a usual line.
const PREFETCH_BYTES: u64 = PUBLISH_BYTES + 128;

/// Ticks of the first loss and a counter per level, each a tag and eight bytes.
const LOSS_BYTES: u64 = (HEADER_BYTES as u64 + 6 * 9).next_multiple_of(8);

/// Keeps the producer for a call, also when a hook of the user's panics.
struct Busy<'a>(&'a Cell<bool>);

impl Drop for Busy<'_> {
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

impl Producer {
    /// The same, whatever it takes.
    #[cold]
    #[inline(never)]
    pub(super) fn write_slowly<M: Args>(&self, site: u32, flags: u8, level: Level, args: M) {
        let _busy = Busy(&self.busy);
        let size = record_size(args);
        if !self.make_ready(size, level <= Level::Warn) {
            return self.lose(level);
        }
        let ticks = self.begin_batch(size);
        let put = |at| {
            // SAFETY: the caller of the closure gives the bytes that `size` counts.
            unsafe { args.put(at) }
        };
        let position = self.writer.position();
        // SAFETY: `make_ready` reserves `size` contiguous bytes at the writer's position, and `size` counts the header and what the
        // arguments will write.
        unsafe { self.put(position, size, flags, site, ticks, put) };
        self.writer.advance(size);
        if self.publishes_each || self.writer.unpublished() >= PUBLISH_BYTES {
            self.publish();
        }
    }

    /// Before a record of `size` bytes, whose time it returns: publishes those before if they are many enough. Says of the first that stays
    /// unpublished how old it is, and fetches the memory of all that follow it in its batch, which the drain, on another core, was the last to touch.
    fn begin_batch(&self, size: u64) -> u64 {
        let unpublished = self.writer.unpublished();
        if unpublished > 0 && unpublished + size > PUBLISH_BYTES {
            self.publish();
        }
        let ticks = self.time();
        if !self.publishes_each && self.writer.unpublished() == 0 {
            self.writer
                .announce(self.ring.shared(), Since::Ticks(ticks));
            self.prefetch(self.writer.position());
        }
        self.writer.open();
        ticks
    }

    /// Fetches the lines from a position on for writing. What is free there is written for certain
    /// soon; what is not, is some line of this ring, and fetching it harms nobody but its reader's cache.
    pub(super) fn prefetch(&self, position: u64) {
        for line in (0..PREFETCH_BYTES).step_by(cache::LINE_BYTES) {
            cache::fetch_for_writing(self.data_at(position + line));
        }
    }

    /// Where any position is in memory.
    fn data_at(&self, position: u64) -> *mut u8 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an offset in a ring that is mapped"
        )]
        let offset = (position & self.mask) as usize;
        // SAFETY: the offset is inside the ring.
        unsafe { self.data.add(offset) }
    }

    /// Sees to it that the ring is in this context and has room. Whoever waits for room may find that another coroutine
    /// of the core has logged meanwhile, and looks again.
    fn make_ready(&self, size: u64, urgent: bool) -> bool {
        let context = self.context_id.ask();
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
            let room = self.writer.refill(shared, needed, urgent);
            if room == Room::Ready {
                self.begin_lap(); // The first record of a lap finds no room before it came here.
            }
            match room {
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
        self.writer.close_room(); // The next line, however short, asks for room and reports the loss first.
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
        let ticks = self.begin_batch(LOSS_BYTES);
        // SAFETY: called when `refill` has found room for LOSS_BYTES and more.
        unsafe { self.append(LOSS_BYTES, id::LOSS, ticks, list) };
    }

    /// Covers the end of the ring; there may be no room for a second word.
    fn write_skip(&self, size: u64) {
        let at = self.address(self.writer.position());
        // SAFETY: 8-aligned, and free, as `refill` says.
        let first = unsafe { AtomicU64::from_ptr(at.cast()) };
        let word = first_word(size, self.lap.get(), 0, id::SKIP).to_le();
        first.store(word, Ordering::Release);
        self.writer.advance(size);
        self.context.set(UNKNOWN_CONTEXT); // Once a lap, so that what is left after a crash says whose lines it holds.
    }

    /// Writes to whom the following lines belong. Without room the line is lost rather than shown as another coroutine's.
    #[cold]
    #[inline(never)]
    fn change_context(&self, context: u64, urgent: bool) -> bool {
        let mut values = self.scratch.take();
        values.clear();
        context::encode(context, &mut values);
        let args = Encoded(&values);
        let size = record_size(args);
        let has_room = self.writer.fits(size, urgent) || self.make_room(size, urgent);
        if has_room {
            let ticks = self.begin_batch(size);
            // SAFETY: `size` bytes are reserved and `args` needs no more.
            unsafe { self.append(size, id::CONTEXT, ticks, args) };
            self.context.set(context);
        }
        self.scratch.replace(values);
        has_room
    }

    /// Writes a record that is no line at the writer's position and steps over it.
    ///
    /// # Safety
    /// `size` bytes are reserved there, contiguous, and are enough for the header and `args`.
    unsafe fn append<M: Args>(&self, size: u64, site: u32, ticks: u64, args: M) {
        let put = |at| {
            // SAFETY: the caller of the closure gives the bytes that `size` counts.
            unsafe { args.put(at) }
        };
        // SAFETY: the caller's.
        unsafe { self.put(self.writer.position(), size, 0, site, ticks, put) };
        self.writer.advance(size);
    }
}
