//! A format, a sink, and what is between them: the block being filled, and what happens when the sink fails.
//!
//! A sink that fails (disk full, directory gone, reader of a pipe asleep) must not hold up the other sinks, the drain, or a core. Its
//! block is kept and offered again; beyond [`PENDING_BYTES`] new lines are counted as lost in this sink. Standard error hears of
//! it once; when the sink works again, its own output says how many lines are missing. A place that has gone meanwhile, as a file that somebody
//! removes since the disk is full, is given up: what is kept goes to the next one, but for a line that was cut. A panic in a sink is a failure
//! like any other;
//! a line at which the format panics is lost, and counted.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::Level;

use super::{Control, note_record};
use crate::clock;
use crate::filter::Filter;
use crate::format::{Binary, Format, timestamp};
use crate::line::{Line, Origin};
use crate::record::{self, Head};
use crate::sink::Sink;

/// A block goes to the sink at this size at the latest.
const BLOCK_BYTES: usize = 256 * 1024;

/// What is kept for a sink that takes nothing.
const PENDING_BYTES: usize = 4 * 1024 * 1024;

/// A failing sink is tried again after so long.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// When written lines are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// The kernel decides. Survives a crash of the program, not of the machine.
    #[default]
    Never,
    /// At most so long after they were written, and at shutdown.
    Every(Duration),
    /// Right after each block that holds a line of level error, and at shutdown.
    OnError,
}

#[derive(Debug)]
struct Failure {
    since_ns: u64,
    error: String,
    retry_at: u64,
    lost: u64,
}

pub(crate) struct Output {
    format: Box<dyn Format>,
    sink: Box<dyn Sink>,
    filter: Option<Filter>,
    sync: SyncPolicy,
    block: Vec<u8>,
    /// Ends of lines in `block`, for sinks that take line by line.
    ends: Vec<usize>,
    line_by_line: bool,
    /// Its lines are the records themselves, and it takes all of them, in blocks.
    as_records: bool,
    /// A block has been begun (see [`Sink::begin_block`]) and not been written out.
    begun: bool,
    /// Bytes at the front of `block` that end what the sink has taken the beginning of, and whether that is a line.
    cut: (usize, bool),
    unsynced: bool,
    error_in_block: bool,
    synced_at: u64,
    last_ns: u64,
    failure: Option<Failure>,
}

impl Output {
    pub(crate) fn new(
        format: Box<dyn Format>,
        sink: Box<dyn Sink>,
        filter: Option<Filter>,
        sync: SyncPolicy,
    ) -> Self {
        Self {
            line_by_line: sink.line_by_line(),
            as_records: format.as_binary().is_some() && filter.is_none() && !sink.line_by_line(),
            format,
            sink,
            filter,
            sync,
            block: Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4),
            ends: Vec::new(),
            begun: false,
            cut: (0, false),
            unsynced: false,
            error_in_block: false,
            synced_at: clock::ticks(),
            last_ns: 0,
            failure: None,
        }
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn reopen(&mut self) {
        let _ = caught(|| self.sink.reopen());
    }

    /// Adds a line to the block.
    #[inline]
    pub(super) fn line(&mut self, line: &Line<'_>, control: &Control) {
        if self
            .filter
            .as_ref()
            .is_some_and(|filter| !filter.allows(line.target(), line.level()))
        {
            return;
        }
        self.last_ns = line.time_ns();
        if self.has_room(control) {
            let before = self.block.len();
            if let Err(error) = caught(|| self.append(line)) {
                self.block.truncate(before);
                self.lose_line(&error, control);
            }
        }
    }

    /// A line of the logger's own. These are few: they may go beyond the bound.
    pub(super) fn own_line(&mut self, line: &Line<'_>) {
        if self.begin() {
            let before = self.block.len();
            if caught(|| self.append(line)).is_err() {
                self.block.truncate(before);
            }
        }
    }

    #[inline]
    fn append(&mut self, line: &Line<'_>) {
        self.format.line(line, &mut self.block);
        self.error_in_block |= line.level() == Level::Error;
        if self.line_by_line {
            self.ends.push(self.block.len());
        }
    }

    /// The format and the block, if lines of `origin` may be appended to it as records, without asking for each.
    #[inline]
    pub(super) fn takes_records(&mut self, origin: &Origin) -> Option<(&Binary, &mut Vec<u8>)> {
        let ready = self.as_records && self.begun && self.block.len() < BLOCK_BYTES;
        if !ready {
            return None; // Without asking the format: this is on the way of every line of text.
        }
        let binary = self.format.as_binary()?;
        binary.is_at(origin).then_some((binary, &mut self.block))
    }

    /// Records have been appended, the last with this time.
    #[inline]
    pub(super) fn took_records(&mut self, wall_ns: u64) {
        self.last_ns = wall_ns;
    }

    /// Makes room for a line, or counts it as lost.
    #[inline]
    fn has_room(&mut self, control: &Control) -> bool {
        if self.block.len() >= BLOCK_BYTES {
            self.write_out(clock::ticks(), control);
        }
        let room = (self.begun || self.begin()) && self.block.len() < PENDING_BYTES;
        if !room {
            if let Some(failure) = &mut self.failure {
                failure.lost += 1;
            }
            control.lost_in_sinks.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    /// Begins a block. False if the sink has no place to write to.
    fn begin(&mut self) -> bool {
        if !self.begun && self.may_try(clock::ticks()) {
            match caught(|| self.begin_block()).flatten() {
                Ok(()) => {
                    self.begun = true;
                    self.recover();
                }
                Err(error) => self.fail(&error),
            }
        }
        self.begun
    }

    fn begin_block(&mut self) -> io::Result<()> {
        if self.sink.begin_block()? {
            let kept = self.block.len();
            self.format.begin(&mut self.block);
            // Before what was kept of a block whose place has gone.
            self.block.rotate_left(kept);
            self.ends.clear();
        }
        Ok(())
    }

    /// Gives a block up whose place has gone. Of texts what is whole is kept; records are lost, since what describes them is not where
    /// they would go.
    fn give_up(&mut self, control: &Control) {
        let (cut, is_line) = std::mem::take(&mut self.cut);
        let mut lost = usize::from(is_line);
        self.block.drain(..cut);
        if self.format.as_binary().is_some() {
            lost += record::ends(&self.block).filter(|(line, _)| *line).count();
            self.block.clear();
        }
        self.begun = false;
        for _ in 0..lost {
            self.lose_line(&io::ErrorKind::NotFound.into(), control);
        }
    }

    /// What `cut` is when the sink has taken `done` bytes.
    fn cut_at(&self, done: usize) -> (usize, bool) {
        let (cut, is_line) = self.cut;
        if done <= cut {
            return (cut - done, done < cut && is_line);
        }
        let (end, is_line) = if self.format.as_binary().is_some() {
            let mut ends = record::ends(&self.block[cut..]);
            let reached = ends.find(|(_, end)| cut + end >= done);
            reached.map_or((done, false), |(is_line, end)| (cut + end, is_line))
        } else {
            let mut rest = self.block[done - 1..].iter();
            let end = rest.position(|byte| *byte == b'\n');
            (end.map_or(done, |at| done + at), true)
        };
        (end - done, end > done && is_line)
    }

    fn may_try(&self, now: u64) -> bool {
        self.failure
            .as_ref()
            .is_none_or(|failure| now >= failure.retry_at)
    }

    /// Gives the block to the sink. What it does not take stays.
    pub(super) fn write_out(&mut self, now: u64, control: &Control) {
        if self.failure.is_some() && self.may_try(now) {
            let asked = self.begun && !self.line_by_line;
            let has_moved = asked && caught(|| self.sink.has_moved()).is_ok_and(|moved| moved);
            if has_moved {
                self.give_up(control);
            }
            if has_moved || !self.block.is_empty() {
                self.begin();
            }
        }
        if !self.block.is_empty() && self.begun && self.may_try(now) {
            let mut done = 0;
            let result = self.offer(&mut done, control);
            self.cut = match &result {
                Ok(()) => (0, false),
                Err(_) => self.cut_at(done),
            };
            self.block.drain(..done);
            control.bytes.fetch_add(done as u64, Ordering::Relaxed);
            self.unsynced |= done > 0;
            match result {
                Ok(()) => {
                    self.begun = false;
                    self.recover();
                }
                Err(error) => self.fail(&error),
            }
        }
        self.sync_if_due(now);
    }

    fn offer(&mut self, done: &mut usize, control: &Control) -> io::Result<()> {
        if self.line_by_line {
            let ends = std::mem::take(&mut self.ends);
            let mut ends = ends.into_iter();
            while let Some(end) = ends.next() {
                let result = caught(|| self.sink.write(&self.block[*done..end])).flatten();
                if let Err(error) = result {
                    if error.raw_os_error() == Some(libc::EMSGSIZE) {
                        // It will not be shorter the next time, and others wait behind it.
                        self.lose_line(&error, control);
                        *done = end;
                        continue;
                    }
                    self.ends = std::iter::once(end)
                        .chain(ends)
                        .map(|end| end - *done)
                        .collect();
                    return Err(error);
                }
                *done = end;
            }
            return Ok(());
        }
        while *done < self.block.len() {
            match caught(|| self.sink.write(&self.block[*done..])).flatten() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => *done = self.block.len().min(done.saturating_add(taken)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts a line that the sink cannot take; when the sink takes the next, it is told.
    fn lose_line(&mut self, error: &io::Error, control: &Control) {
        control.lost_in_sinks.fetch_add(1, Ordering::Relaxed);
        let failure = self.failure.get_or_insert_with(|| Failure {
            since_ns: self.last_ns,
            error: error.to_string(),
            retry_at: 0,
            lost: 0,
        });
        failure.lost += 1;
    }

    fn fail(&mut self, error: &io::Error) {
        let retry_at = clock::ticks().saturating_add(clock::rough_ticks_in(RETRY_AFTER));
        match &mut self.failure {
            Some(failure) => failure.retry_at = retry_at,
            None => {
                // Only "later": no failure to speak of until lines are lost.
                if error.kind() != io::ErrorKind::WouldBlock {
                    say_on_stderr(&format!(
                        "coring-logger: cannot write the log: {error}; lines are kept and tried again\n"
                    ));
                }
                self.failure = Some(Failure {
                    since_ns: self.last_ns,
                    error: error.to_string(),
                    retry_at,
                    lost: 0,
                });
            }
        }
    }

    /// The sink works again: its own output says what is missing.
    fn recover(&mut self) {
        let Some(failure) = self.failure.take() else {
            return;
        };
        if failure.lost == 0 {
            return;
        }
        let text = format!(
            "{} lines lost since {}: cannot write the log: {}",
            failure.lost,
            timestamp(failure.since_ns),
            failure.error
        );
        let bytes = note_record(Level::Error, &text);
        let origin = Origin {
            thread: "logger".to_owned(),
            ..Origin::default()
        };
        let head = Head::read(&bytes).expect("just made");
        let line = Line::dynamic(head, &bytes, &origin, self.last_ns).expect("just made");
        self.own_line(&line);
    }

    fn sync_if_due(&mut self, now: u64) {
        let due = match self.sync {
            SyncPolicy::Never => false,
            SyncPolicy::Every(interval) => {
                now.saturating_sub(self.synced_at) >= clock::rough_ticks_in(interval)
            }
            SyncPolicy::OnError => self.error_in_block,
        };
        if self.unsynced && due {
            self.sync_now(now);
        }
    }

    fn sync_now(&mut self, now: u64) {
        self.unsynced = false;
        self.error_in_block = false;
        self.synced_at = now;
        if let Err(error) = caught(|| self.sink.sync()).flatten() {
            self.fail(&error);
        }
    }

    /// The last call: one more attempt, whatever the time.
    pub(super) fn finish(&mut self, now: u64, control: &Control) {
        if let Some(failure) = &mut self.failure {
            failure.retry_at = 0;
        }
        self.write_out(now, control);
        if self.sync != SyncPolicy::Never && self.unsynced {
            self.sync_now(now);
        }
        if let Some(failure) = &self.failure {
            let (lost, kept, error) = (failure.lost, self.block.len(), &failure.error);
            say_on_stderr(&format!(
                "coring-logger: {lost} lines and the last {kept} bytes are not in the log: {error}\n"
            ));
        }
    }
}

/// Calls a sink or a format, which may be the user's: the drain writes for all of them, and outlives their panics.
#[inline]
fn caught<T>(call: impl FnOnce() -> T) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        // Its destructor might panic, too.
        let _ = Box::leak(payload);
        io::Error::other("a panic in the sink or its format")
    })
}

/// Says something on standard error if that does not block.
pub(crate) fn say_on_stderr(text: &str) {
    let _ = crate::sink::write_without_blocking(libc::STDERR_FILENO, text.as_bytes());
}
