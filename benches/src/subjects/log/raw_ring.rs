//! The limit of `call`: `raw-log-read` with all that a writer must do whose reader works at the same time.
//!
//! ```text
//!   writer, each KiB:      show it to the reader, fetch the lines of the next KiB for writing
//!           each quarter:  look at how far the reader is; wake it if it has a quarter to read
//!   reader:                read what there is, let its cache go of that, say how far it is; look again at once after much, else sleep
//! ```
//!
//! No gate, no levels, no context, no order between rings, no losses: what is left is the memory that two CPUs share and the call that wakes.

use std::cell::Cell;
use std::hint;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::record::{self, RECORD, RING};
use super::{Of, coring};
use crate::lines::Logger;
use crate::machine;
use crate::subject::{Role, Skip};
use crate::sys;

pub(super) static SUBJECT: Of<RawRing> = Of {
    name: "raw-log-ring",
    role: Role::Limit,
    version: |_| machine::kernel(),
    serve: coring::serve_silently,
    logger: PhantomData,
};

/// Words of a line of the cache.
const LINE: usize = 8;
/// Words that are shown together.
const BATCH: u64 = 128 / RECORD as u64 * RECORD as u64;
/// Lines that are fetched ahead: a batch, and the next record.
const AHEAD: usize = 18;
const QUARTER: u64 = RING as u64 / 4;
/// After so many words more have come meanwhile.
const MUCH: u64 = 1024 * RECORD as u64;

/// Lines of the cache that one side writes and the other reads.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    ring: Box<[AtomicU64]>,
    /// Words written, as far as the reader is to know.
    written: Apart<AtomicU64>,
    /// Words read.
    read: Apart<AtomicU64>,
    sleeps: Apart<AtomicBool>,
    over: AtomicBool,
}

pub(super) struct RawRing {
    shared: Arc<Shared>,
    reader: thread::Thread,
    /// Where the next record goes, words written, and how many may be before the batch ends.
    at: Cell<usize>,
    written: Cell<u64>,
    limit: Cell<u64>,
    /// When the reader is to be looked at.
    visit: Cell<u64>,
}

impl Logger for RawRing {
    const ALWAYS_WRITES: bool = false;
    const HAS_OFF: bool = false;

    fn start(_: &Path, lossless: bool) -> Result<Self, Skip> {
        if lossless {
            return Err(Skip::because("writes no file"));
        }
        let shared = Arc::new(Shared {
            ring: (0..RING as u64).map(AtomicU64::new).collect(),
            written: Apart(AtomicU64::new(0)),
            read: Apart(AtomicU64::new(0)),
            sleeps: Apart(AtomicBool::new(false)),
            over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let reader = thread::spawn(move || read(&theirs)).thread().clone();
        Ok(RawRing {
            shared,
            reader,
            at: Cell::new(0),
            written: Cell::new(0),
            limit: Cell::new(0),
            visit: Cell::new(QUARTER),
        })
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        if self.written.get() >= self.limit.get() {
            self.begin_batch();
        }
        let at = self.at.get();
        record::write(&self.shared.ring, at, id, price, symbol);
        self.at.set((at + RECORD) % RING);
        self.written.set(self.written.get() + RECORD as u64);
    }

    fn off(&self, _: u64, _: f64, _: &'static str) {}

    fn settle(&self) -> bool {
        self.show();
        self.reader.unpark();
        thread::sleep(Duration::from_millis(2));
        true
    }

    fn pause(&self, time: Duration) {
        self.show();
        thread::sleep(time);
    }

    fn end(self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl RawRing {
    fn show(&self) {
        let written = self.written.get();
        self.shared.written.0.store(written, Ordering::Release);
    }

    /// What the reader has not read.
    fn waiting(&self) -> u64 {
        self.written.get() - self.shared.read.0.load(Ordering::Acquire)
    }

    #[cold]
    #[inline(never)]
    fn begin_batch(&self) {
        self.show();
        let written = self.written.get();
        if written >= self.visit.get() {
            if self.waiting() > QUARTER && self.shared.sleeps.0.swap(false, Ordering::SeqCst) {
                self.reader.unpark();
            }
            // A reader that is kept from its CPU is waited for: the time shows, and nothing is lost.
            while self.waiting() + QUARTER > RING as u64 {
                hint::spin_loop();
            }
            self.visit.set(written + QUARTER);
        }
        self.limit.set(written + BATCH);
        for line in 0..AHEAD {
            let place = (self.at.get() + line * LINE) % RING;
            sys::fetch_for_writing(&self.shared.ring[place]);
        }
    }
}

fn read(shared: &Shared) {
    let can_let_go = sys::can_let_go();
    let (mut done, mut was_much) = (0, false);
    while !shared.over.load(Ordering::Relaxed) {
        let written = shared.written.0.load(Ordering::Acquire);
        record::read(&shared.ring, done, written);
        if can_let_go {
            let lines = (done..written).step_by(LINE).map(record::place);
            lines.for_each(|word| sys::let_go(&shared.ring[word]));
        }
        let is_much = written - done >= MUCH;
        done = written;
        shared.read.0.store(done, Ordering::Release);
        if !is_much {
            shared.sleeps.0.store(true, Ordering::SeqCst);
            let nap = if was_much { 50 } else { 1000 };
            thread::park_timeout(Duration::from_micros(nap));
            shared.sleeps.0.store(false, Ordering::SeqCst);
        }
        was_much = is_much;
    }
}
