//! The part of the append-only log that one core writes.
//!
//! Commands leave their records in the store's journal. A coroutine takes all that is there, writes it as one frame, and
//! syncs; meanwhile the next frame gathers. So commands of many connections share a write and a sync (group commit),
//! and nobody waits for more than the sync under way and the next one.
//!
//! ```text
//!   connection: run commands -> journal -> wait_for(end of my records) ........ -> send the answers
//!   writer:              take journal -> write frame, synced by the same call -> wake who waits
//! ```
//!
//! A frame is a header and records, each a request as a client would send it:
//!
//! ```text
//!   | length of the records, u64 | CRC-32 of the length | CRC-32 of the records | *3 $3 SET $1 k $1 v ... |
//! ```
//!
//! The length has a check of its own, so that it can be trusted: a file that ends before its last frame does was cut off
//! in the middle of a write, and that frame was never acknowledged; anything else that does not fit is damage
//! (recovery.rs).
//!
//! | policy | an answer is sent | lost with the process | lost with the machine |
//! |---|---|---|---|
//! | always | when its records are synced | nothing that was answered | nothing that was answered |
//! | everysec | at once | what the last turns wrote | a second, about |
//! | no | at once | what the last turns wrote | what the kernel had not written by itself |
//!
//! "always" holds back *every* answer until all that came before is synced, answers to reads included: nobody is told
//! of a value that may be gone tomorrow.

use crate::store::Store;
use coring::coro;
use coring::coro::sync::Notify;
use coring::fs::{File, OpenOptions};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Before the records: their length, and two checks.
pub(crate) const HEADER_BYTES: usize = 16;
/// With the lazy policies so much may wait to be written; who adds more waits.
const MOST_BEHIND: u64 = 64 << 20;
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// open(2): each write returns when its bytes are durable, as if fdatasync(2) followed, in one operation instead of two.
const O_DSYNC: i32 = 0o10000;

/// When the log is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Always,
    EverySecond,
    No,
}

impl FromStr for Policy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => Ok(Self::Always),
            "everysec" => Ok(Self::EverySecond),
            "no" => Ok(Self::No),
            _ => Err("it is one of always, everysec, no"),
        }
    }
}

impl Policy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }
}

/// The log of one core. Places in it are counted in bytes of records, as the journal does.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    policy: Policy,
    /// Where the next frame goes.
    end: Cell<u64>,
    written: Cell<u64>,
    synced: Cell<u64>,
    broken: Cell<bool>,
    news: Notify,
    progress: Notify,
}

impl Log {
    /// Goes on with a file that is so long.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path, end: u64, policy: Policy) -> io::Result<Self> {
        let synced = match policy {
            Policy::Always => O_DSYNC,
            Policy::EverySecond | Policy::No => 0,
        };
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(synced).open(path)?;
        Ok(Self {
            file,
            policy,
            end: Cell::new(end),
            written: Cell::new(0),
            synced: Cell::new(0),
            broken: Cell::new(false),
            news: Notify::new(),
            progress: Notify::new(),
        })
    }

    /// Lets the writer see that there are records.
    pub(crate) fn wake(&self) {
        self.news.notify_one();
    }

    /// Waits until the records up to this place are as safe as the policy promises.
    ///
    /// # Errors
    ///
    /// When the log cannot be written: they may be lost.
    #[inline]
    pub(crate) fn wait_for(&self, place: u64) -> io::Result<()> {
        if place > self.written.get() {
            self.wake();
        }
        match self.policy {
            // The file was opened so that what is written is synced.
            Policy::Always => self.wait(place),
            Policy::EverySecond | Policy::No => self.wait(place.saturating_sub(MOST_BEHIND)),
        }
    }

    /// Waits until it is written up to this place.
    fn wait(&self, place: u64) -> io::Result<()> {
        while self.written.get() < place && !self.broken.get() {
            self.progress.notified();
        }
        match self.broken.get() {
            false => Ok(()),
            true => Err(io::Error::other("the log cannot be written")),
        }
    }

    /// Waits until the records up to this place are synced, whatever the policy.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](Self::wait_for).
    pub(crate) fn close(&self, place: u64) -> io::Result<()> {
        self.wake();
        self.wait(place)?;
        self.file.sync_data()
    }

    /// The writer. Ends when the file cannot be written, and then nothing that waits is answered any more.
    pub(crate) fn write_behind(&self, store: &RefCell<Store>) -> io::Error {
        let Err(error) = self.write_for_ever(store);
        self.break_off();
        error
    }

    fn write_for_ever(&self, store: &RefCell<Store>) -> io::Result<Infallible> {
        let mut frame = Vec::new();
        loop {
            frame.clear();
            frame.resize(HEADER_BYTES, 0);
            let place = {
                let journal = &mut store.borrow_mut().journal;
                frame.append(&mut journal.pending);
                journal.appended
            };
            if frame.len() == HEADER_BYTES {
                self.news.notified();
                continue;
            }
            seal(&mut frame);
            self.file.write_all_at(&frame, self.end.get())?;
            self.end.set(self.end.get() + frame.len() as u64);
            self.written.set(place);
            self.progress.notify_waiters();
            frame.shrink_to(1 << 20);
        }
    }

    /// For the policy "everysec", beside the writer.
    pub(crate) fn sync_behind(&self) -> io::Error {
        let mut ticks = coro::interval(SYNC_EVERY);
        loop {
            ticks.tick();
            let place = self.written.get();
            if place > self.synced.get() {
                if let Err(error) = self.file.sync_data() {
                    self.break_off();
                    return error;
                }
                self.synced.set(place);
            }
        }
    }

    fn break_off(&self) {
        self.broken.set(true);
        self.progress.notify_waiters();
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }
}

/// Fills in the header of a frame: the place for it, then the records.
pub(crate) fn seal(frame: &mut [u8]) {
    let (header, records) = frame.split_at_mut(HEADER_BYTES);
    let length = (records.len() as u64).to_le_bytes();
    header[..8].copy_from_slice(&length);
    header[8..12].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    header[12..].copy_from_slice(&crc32fast::hash(records).to_le_bytes());
}

/// Whether these are the records that belong to a header.
pub(crate) fn is_sealed(header: &[u8; HEADER_BYTES], records: &[u8]) -> bool {
    header[12..] == crc32fast::hash(records).to_le_bytes()
}

/// The length of a frame's records; `None` when this is no header.
pub(crate) fn length_of(header: &[u8; HEADER_BYTES]) -> Option<u64> {
    let (length, checks) = header.split_first_chunk()?;
    (checks[..4] == crc32fast::hash(length).to_le_bytes()).then_some(u64::from_le_bytes(*length))
}
