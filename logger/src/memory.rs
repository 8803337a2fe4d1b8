//! Where rings live, and the list of all of them.
//!
//! ```text
//!   one ring:  | shared header, 4096 bytes | data, a power of two |
//! ```
//!
//! A ring is owned by one thread's producer and read by the drain; both hold it through an `Arc`. The list keeps a ring until its
//! producer is gone *and* the drain has emptied it. The list is locked when a thread logs for the first time, when it ends,
//! and when the drain sees that its copy is out of date; never per line.

#![expect(unsafe_code, reason = "hands out pointers into a mapping")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::cache;
use crate::record::{self, lap};
use crate::ring::{Line, Shared, Since};

/// The shared header has pages of its own: in a crash file it can be found without knowing this program.
pub(crate) const HEADER_BYTES: usize = 4096;
const PAGE_BYTES: usize = 4096;
/// Pages of a ring are there for an eighth of it ahead of its writer at least, and for so many bytes.
const AHEAD_SHARE: usize = 8;
const AHEAD_LEAST: usize = 32 << 10;

#[cfg(not(loom))]
const _: () = assert!(size_of::<Shared>() <= HEADER_BYTES);

/// Who writes into a ring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Label {
    /// Unique in this process.
    pub(crate) id: u32,
    pub(crate) core: Option<u32>,
    pub(crate) thread: String,
}

/// A ring's memory.
#[derive(Debug)]
pub(crate) struct Ring {
    base: NonNull<u8>,
    capacity: usize,
    pub(crate) label: Label,
    /// The producer is gone; nothing more will be published.
    closed: AtomicBool,
    /// Keeps `base` mapped.
    map: Arc<MmapRaw>,
    /// In a line of its own: the writer looks at `base` once a batch, and would wait for the line that its reader has written to.
    reading: Line<Reading>,
}

/// What the reader of a ring writes to, each time it looks.
#[derive(Debug)]
struct Reading {
    /// Losses that some drain has told of, by level; kept here because a ring may outlive its drain.
    reported: [AtomicU64; 5],
    /// Locked while bytes are released, and by who reads what lies ahead of the writer.
    held: Mutex<()>,
    /// Bytes of data, from the start, whose pages are there.
    present: AtomicUsize,
}

// SAFETY: `base` points into a mapping that `map` keeps alive. Bytes behind it are shared by the protocol of `ring.rs`.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// A ring in anonymous memory. Its first pages are there from the start, the others before the writer comes to them
    /// ([`bring_in`](Ring::bring_in)): who logs little takes little.
    fn anonymous(capacity: usize, label: Label) -> io::Result<Self> {
        let map = MmapOptions::new().len(HEADER_BYTES + capacity).map_anon()?;
        let mut ring = Self::at(Arc::new(MmapRaw::from(map)), 0, capacity, label);
        ring.reading.0.present = AtomicUsize::new(0);
        ring.bring_in(0);
        Ok(ring)
    }

    /// Brings in the pages that a writer at `position` comes to next. A first touch costs microseconds, and would come in the middle
    /// of a line for as long as the ring has not gone round. Called by its reader each time it looks; a writer that is
    /// faster than that touches them itself.
    #[inline]
    pub(crate) fn bring_in(&self, position: u64) {
        let present = self.reading.0.present.load(Ordering::Relaxed);
        if present < self.capacity && position + self.ahead() as u64 > present as u64 {
            self.bring_in_from(present, position);
        }
    }

    /// How far ahead of its writer: more than comes between two looks of a drain that is not busy.
    fn ahead(&self) -> usize {
        (self.capacity / AHEAD_SHARE).max(AHEAD_LEAST)
    }

    #[cold]
    fn bring_in_from(&self, present: usize, position: u64) {
        // Twice as far, so that not every look comes here.
        let until = usize::try_from(position).map_or(self.capacity, |position| {
            (position + 2 * self.ahead()).next_multiple_of(PAGE_BYTES)
        });
        let until = until.min(self.capacity);
        self.reading.0.present.store(until, Ordering::Relaxed);
        // The header with the first bytes. A kernel that cannot leaves it to the writer's first touch.
        let from = if present == 0 {
            0
        } else {
            HEADER_BYTES + present
        };
        let _ = self
            .map
            .advise_range(Advice::PopulateWrite, from, HEADER_BYTES + until - from);
    }

    /// A ring at `offset` of a mapping whose pages are there. The header there must be zero.
    pub(crate) fn at(map: Arc<MmapRaw>, offset: usize, capacity: usize, label: Label) -> Self {
        assert!(
            capacity.is_power_of_two(),
            "ring capacity {capacity} is not a power of two"
        );
        assert!(
            offset.is_multiple_of(HEADER_BYTES) && offset + HEADER_BYTES + capacity <= map.len()
        );
        // SAFETY: inside the mapping, as just asserted.
        let base = unsafe { map.as_mut_ptr().add(offset) };
        let base = NonNull::new(base).expect("mappings are not at address 0");
        Self {
            base,
            capacity,
            label,
            closed: AtomicBool::new(false),
            map,
            reading: Line(Reading {
                reported: Default::default(),
                held: Mutex::new(()),
                present: AtomicUsize::new(capacity),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: page-aligned, mapped as long as `self`, zero or written only through `Shared`, which is all atomics.
        unsafe { self.base.cast::<Shared>().as_ref() }
    }

    pub(crate) fn data(&self) -> NonNull<u8> {
        // SAFETY: the data follows the header in the same mapping.
        unsafe { self.base.add(HEADER_BYTES) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The bytes from position `from` up to `to`, which must not cross the end of the ring.
    ///
    /// # Safety
    /// The caller is the ring's only reader, `released <= from <= to <= published`, and nothing in the range is released while
    /// the slice lives.
    pub(crate) unsafe fn bytes(&self, from: u64, to: u64) -> &[u8] {
        let offset = usize::try_from(from).expect("64 bit") & (self.capacity - 1);
        let length = usize::try_from(to - from).expect("64 bit");
        assert!(
            offset + length <= self.capacity,
            "slice crosses the end of the ring"
        );
        // SAFETY: `offset` is inside the data.
        let start = unsafe { self.data().add(offset) };
        // SAFETY: inside the mapping; published and not released, so the writer leaves it alone (caller).
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Lets this CPU's cache go of the lines that end between two positions.
    pub(crate) fn let_go(&self, from: u64, to: u64) {
        let line = cache::LINE_BYTES as u64;
        let lines = cache::can_let_go().then(|| from / line..to / line);
        for number in lines.into_iter().flatten() {
            cache::let_go(self.address(number * line));
        }
    }

    /// Where a position is in memory.
    fn address(&self, position: u64) -> *mut u8 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an offset in a ring that is mapped"
        )]
        let offset = (position % self.capacity as u64) as usize;
        // SAFETY: inside the ring.
        unsafe { self.data().add(offset) }.as_ptr()
    }

    /// Losses that have been told of, by level.
    pub(crate) fn reported(&self) -> &[AtomicU64; 5] {
        &self.reading.0.reported
    }

    /// Keeps the reader from releasing anything for as long as the guard lives. The writer never asks for it.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        lock(&self.reading.0.held)
    }

    /// Whether it holds lines from before `now` that its writer has not published. A writer that has begun a turn, and logged nothing in it,
    /// has announced itself all the same; so the memory is asked, as after a crash.
    pub(crate) fn owes_lines(&self, now: u64) -> bool {
        match self.shared().unpublished_since() {
            Since::Ticks(since) | Since::Perhaps(since) if since <= now => {}
            _ => return false,
        }
        let _held = self.hold();
        // SAFETY: held.
        unsafe { self.has_record_at(self.shared().end()) }
    }

    /// Whether a record of this lap begins at `position`, where the writer was or is. What lies there from laps before may look like
    /// one; a record that is there is always seen.
    ///
    /// # Safety
    /// `position` was published, and since before it was read the reader has released nothing: the caller is the reader, or
    /// [holds](Ring::hold) it. So the writer cannot have gone round and past it: what it may be doing there is storing this very word, at once.
    pub(crate) unsafe fn has_record_at(&self, position: u64) -> bool {
        // SAFETY: mapped and 8-aligned; a first word is stored whole (`Producer::put`), and nothing else here (caller).
        let first = unsafe { AtomicU64::from_ptr(self.address(position).cast()) };
        // Acquire: who was told of a line by another core finds it here.
        let first = u64::from_le(first.load(Ordering::Acquire));
        record::is_of_lap(first, lap(position, self.capacity as u64))
    }

    pub(crate) fn close(&self) {
        // Release: pairs with the Acquire in `is_closed`; what the producer published last is visible to who sees it closed.
        self.closed.store(true, Ordering::Release);
        VERSION.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Bytes mapped for this ring alone.
    pub(crate) fn mapped_bytes(&self) -> usize {
        HEADER_BYTES + self.capacity
    }
}

/// All rings, and the lines lost in those that are gone, by level.
#[derive(Debug)]
struct Registry {
    rings: Vec<Arc<Ring>>,
    dropped_before: [u64; 5],
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    rings: Vec::new(),
    dropped_before: [0; 5],
});
static VERSION: AtomicU32 = AtomicU32::new(0);
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// A panic while holding one of our locks leaves nothing half done, so poison is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a ring and lists it. `limit` bounds the number of rings; cores pass `usize::MAX`.
pub(crate) fn create(capacity: usize, core: Option<u32>, limit: usize) -> io::Result<Arc<Ring>> {
    let thread = std::thread::current().name().unwrap_or("").to_owned();
    let label = Label {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        core,
        thread,
    };
    let rings = &mut lock(&REGISTRY).rings;
    if rings.len() >= limit {
        return Err(io::Error::other(format!(
            "{limit} threads log already: raise max_rings in the logger's builder"
        )));
    }
    let ring = match crate::crash::allot(capacity, &label) {
        Some(ring) => ring,
        None => Arc::new(Ring::anonymous(capacity, label)?),
    };
    rings.push(ring.clone());
    // Release: pairs with the Acquire in `version`.
    VERSION.fetch_add(1, Ordering::Release);
    Ok(ring)
}

/// Changes whenever a ring is added, closed or removed.
pub(crate) fn version() -> u32 {
    VERSION.load(Ordering::Acquire)
}

/// All rings.
pub(crate) fn all() -> Vec<Arc<Ring>> {
    lock(&REGISTRY).rings.clone()
}

/// All rings, and the lines that these and all before them have lost, by level.
pub(crate) fn all_and_drops() -> (Vec<Arc<Ring>>, [u64; 5]) {
    let registry = lock(&REGISTRY);
    let mut dropped = registry.dropped_before;
    for ring in &registry.rings {
        add(&mut dropped, ring.shared().drops());
    }
    (registry.rings.clone(), dropped)
}

fn add(totals: &mut [u64; 5], counts: [u64; 5]) {
    for (total, count) in totals.iter_mut().zip(counts) {
        *total += count;
    }
}

/// In a forked child: the parent's rings are not ours.
pub(crate) fn forget_all() {
    *lock(&REGISTRY) = Registry {
        rings: Vec::new(),
        dropped_before: [0; 5],
    };
}

/// Forgets a closed ring that the drain has emptied, but not what it lost.
pub(crate) fn remove(ring: &Arc<Ring>) {
    let registry = &mut *lock(&REGISTRY);
    let Some(index) = registry
        .rings
        .iter()
        .position(|listed| Arc::ptr_eq(listed, ring))
    else {
        return;
    };
    // Before its memory may be another ring's, and in one step with leaving the list: who adds up counts it once.
    add(&mut registry.dropped_before, ring.shared().drops());
    registry.rings.remove(index);
    crate::crash::give_back(ring);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{HEADER_BYTES, Label, PAGE_BYTES, Ring};
    use crate::clock::ticks;
    use crate::producer::emit_dynamic;
    use crate::{Level, register_core};

    /// The bytes of a ring, header included, from its start to the first page that is not there. There is nothing behind that.
    fn resident(ring: &Ring) -> usize {
        let mut pages = vec![0; ring.mapped_bytes() / PAGE_BYTES];
        // SAFETY: the ring's own mapping, and a byte for each of its pages.
        let asked = unsafe {
            libc::mincore(
                ring.base.as_ptr().cast(),
                ring.mapped_bytes(),
                pages.as_mut_ptr(),
            )
        };
        assert_eq!(asked, 0);
        let there = pages.iter().take_while(|&&page| page & 1 == 1).count();
        assert!(pages[there..].iter().all(|&page| page & 1 == 0));
        there * PAGE_BYTES
    }

    /// Goal: a ring takes memory as its writer goes on, and the writer comes to no page that is not there, as long as an eighth of the
    /// ring is written at most between two looks. Method: mincore(2) over the first lap; a small ring is there at once.
    #[test]
    fn pages_are_there_before_the_writer_is() {
        const CAPACITY: usize = 1 << 20;
        let ring = Ring::anonymous(CAPACITY, Label::default()).expect("a ring");
        assert_eq!(resident(&ring), HEADER_BYTES + CAPACITY / 4);
        for look in 0..=10 {
            let position = look * CAPACITY / 8 + 100;
            assert!(resident(&ring) >= HEADER_BYTES + position.min(CAPACITY));
            ring.bring_in(position as u64);
            let most = (position + CAPACITY / 4).next_multiple_of(PAGE_BYTES);
            assert!(resident(&ring) <= HEADER_BYTES + most.min(CAPACITY));
        }
        assert_eq!(resident(&ring), ring.mapped_bytes());
        let small = Ring::anonymous(64 << 10, Label::default()).expect("a ring");
        assert_eq!(resident(&small), small.mapped_bytes());
    }

    /// Goal: a flush waits for a core that has logged in a turn that has not ended, and for no other: not for one that sleeps inside its
    /// turn, with a turn's time or with lines expected of it.
    #[test]
    fn only_who_has_logged_owes_lines() {
        let core = register_core(0).expect("a ring");
        let ring = core.ring();
        let _here = core.enter();
        for with_time in [false, true, false] {
            core.set_turn_ticks(if with_time { ticks() } else { 0 });
            assert!(!ring.owes_lines(ticks()), "nothing was logged");
            emit_dynamic(Level::Info, 0, &[]);
            assert!(ring.owes_lines(ticks()), "it was not published");
            core.turn();
            assert!(!ring.owes_lines(ticks()), "published, and a turn has begun");
            core.turn();
            assert!(!ring.owes_lines(ticks()), "an empty turn later");
        }
    }
}
