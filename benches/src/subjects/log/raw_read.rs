//! The limit of `cold`: `raw-log` with somebody who reads what was written, as any logger must have.
//!
//! A thread on the other CPU looks every millisecond and reads all of it, no more. So the ring's lines are in that CPU's cache when the ring
//! comes round to them, and to write them again takes them from there: what that costs no logger with a ring can avoid, and `raw-log`
//! alone does not pay.
//!
//! What is written becomes known to the reader at the end of a burst.

use std::cell::Cell;
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

pub(super) static SUBJECT: Of<RawRead> = Of {
    name: "raw-log-read",
    role: Role::Limit,
    version: |_| machine::kernel(),
    serve: coring::serve_silently,
    logger: PhantomData,
};

struct Shared {
    ring: Box<[AtomicU64]>,
    /// Words written so far.
    written: AtomicU64,
    over: AtomicBool,
}

pub(super) struct RawRead {
    shared: Arc<Shared>,
    /// Where the next record goes, and words written.
    at: Cell<usize>,
    written: Cell<u64>,
}

impl Logger for RawRead {
    const ALWAYS_WRITES: bool = false;
    const HAS_OFF: bool = false;

    fn start(_: &Path, lossless: bool) -> Result<Self, Skip> {
        if lossless {
            return Err(Skip::because("writes no file"));
        }
        let shared = Arc::new(Shared {
            ring: (0..RING as u64).map(AtomicU64::new).collect(),
            written: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || read(&theirs));
        Ok(RawRead {
            shared,
            at: Cell::new(0),
            written: Cell::new(0),
        })
    }

    #[inline(never)]
    fn line(&self, id: u64, price: f64, symbol: &'static str) {
        let at = self.at.get();
        record::write(&self.shared.ring, at, id, price, symbol);
        self.at.set((at + RECORD) % RING);
        self.written.set(self.written.get() + RECORD as u64);
    }

    fn off(&self, _: u64, _: f64, _: &'static str) {}

    fn settle(&self) -> bool {
        self.show();
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

impl RawRead {
    fn show(&self) {
        self.shared
            .written
            .store(self.written.get(), Ordering::Release);
    }
}

fn read(shared: &Shared) {
    let mut done = 0;
    while !shared.over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
        let written = shared.written.load(Ordering::Acquire);
        record::read(&shared.ring, done, written);
        done = written;
    }
}
