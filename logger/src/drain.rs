//! The reading end of all rings: merges them into time order, formats, and writes.
//!
//! ```text
//!   core 0 ring  --\
//!   core 1 ring  ---+-- merge by ticks --> format --> block --> sink
//!   thread ring  --/     up to `now - window`
//! ```
//!
//! One pass, [`Drain::drain`], works through what was published when it began:
//!
//! 1. `cutoff` = the time before which nothing is to come any more: a core says how old the oldest line is that it has not published (ring.rs),
//!    and a line takes [`IN_HAND`] from the clock to there. So order is exact, and lines wait for a turn that logs, not for a period.
//!    A turn that takes longer than the window holds up the others no more; its lines, and those of a thread that was interrupted
//!    in the middle of one, are written late and counted. During a flush there is no cutoff.
//! 2. Take the ring whose next record is oldest, and write records from it until another ring's is older. Comparing rings only
//!    at such a change keeps the merge cheap: with R rings it costs R compares per change, none per record in between.
//! 3. Hand the blocks to the sinks, then give the bytes back to the producers: what a sink has not taken is still in a ring, and so in
//!    the crash ring, should the process be killed in between.
//!
//! The order of lines from one ring is the order in which they were logged, always.

#[cfg(all(test, not(loom)))]
mod tests;

mod copy;
mod output;
mod recorder;
mod source;

use copy::Stretch;
pub use output::SyncPolicy;
pub(crate) use output::{Output, say_on_stderr};
use source::Source;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::Level;

use crate::callsite::{self, Callsite};
use crate::clock::{self, Calibration};
use crate::crash;
use crate::encode::push;
use crate::hangup;
use crate::line::{Line, Origin, Site};
use crate::memory;
use crate::plan::Plan;
use crate::record::{self, Head, id};
use crate::recover::Recovered;
use crate::state;

/// Passes that follow one that somebody asked for: it may have found the line in question too young to be in order, or held back by another core's
/// turn. The first comes when it has settled, the second when the window has passed.
#[derive(Debug, Clone, Copy, Default)]
struct Urgent {
    passes: u8,
}

impl Urgent {
    fn woken() -> Self {
        Self { passes: 2 }
    }

    /// How long to sleep before the next of these passes.
    fn nap(&mut self, window: Duration) -> Option<Duration> {
        self.passes = self.passes.checked_sub(1)?;
        Some(if self.passes == 1 { SHORT_NAP } else { window })
    }
}

/// What a [`Logger`](crate::Logger) and its drain share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) stop: AtomicBool,
    pub(crate) reopen: AtomicBool,
    pub(crate) dump: AtomicBool,
    /// A sink takes nothing at the moment.
    pub(crate) failing: AtomicBool,
    pub(crate) lines: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) lost_in_sinks: AtomicU64,
}

/// A call site and the static it was read from.
struct KnownSite {
    site: Site,
    live: &'static Callsite,
}

/// The outcome of one [`Drain::drain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Progress {
    /// Lines written.
    pub lines: usize,
    /// The budget ended before the records did: call again soon.
    pub more: bool,
}

/// Reads all rings and writes to the sinks. [`Logger`](crate::Logger) normally gives it a thread; a runtime may drive it from a coroutine
/// instead (see [`Builder::build`](crate::Builder::build)).
pub struct Drain {
    control: Arc<Control>,
    outputs: Vec<Output>,
    sources: Vec<Source>,
    rings_version: Option<u32>,
    sites: Vec<Option<Box<KnownSite>>>,
    clock: Calibration,
    window: Duration,
    window_ticks: u64,
    in_hand_ticks: u64,
    poll: Duration,
    /// Wall time and ticks of the last line: output never runs back.
    last_wall_ns: u64,
    last_ticks: u64,
    /// Keep this share of each ring for [`Control::dump`]: the flight recorder is on.
    recorder: bool,
    own: Origin,
    /// Lines given to the outputs in this pass.
    lines: u64,
    reading: Reading,
    /// Lines that took the short way (copy.rs).
    #[cfg(test)]
    copied: usize,
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain")
            .field("rings", &self.sources.len())
            .field("outputs", &self.outputs.len())
            .finish_non_exhaustive()
    }
}

/// Settings of the drain, from the builder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainSettings {
    pub(crate) window: Duration,
    pub(crate) poll: Duration,
    pub(crate) recorder: bool,
}

/// How long a line may take from its time stamp until the drain can know of it: some stores, and an interrupt in between.
const IN_HAND: Duration = Duration::from_micros(20);

/// After a pass of so many lines more have come meanwhile: the next pass follows at once. The one after the last of these comes after a short nap, so
/// that no producer finds its ring full, or has to make the system call that wakes us.
const BUSY_LINES: usize = 1024;
const SHORT_NAP: Duration = Duration::from_micros(50);

/// There is one reader: rings have one, and all of them are read by the same.
static READER: AtomicBool = AtomicBool::new(false);

/// The right to read the rings, in the process that claimed it.
#[derive(Debug)]
pub(crate) struct Reading(u32);

impl Reading {
    /// `None` while another drain exists.
    pub(crate) fn claim() -> Option<Self> {
        // Acquire: pairs with the Release in `drop`; what the last drain released is visible to us.
        READER
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| Self(state::process()))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.0 == state::process() {
            READER.store(false, Ordering::Release);
        }
    }
}

/// In a forked child: the drain stays with the parent.
pub(crate) fn forget_reader() {
    READER.store(false, Ordering::Relaxed);
}

impl Drain {
    pub(crate) fn new(
        control: Arc<Control>,
        outputs: Vec<Output>,
        settings: DrainSettings,
        reading: Reading,
    ) -> Self {
        let clock = Calibration::measure();
        Self {
            control,
            outputs,
            sources: Vec::new(),
            rings_version: None,
            sites: Vec::new(),
            window: settings.window,
            window_ticks: clock.line().ticks_in(settings.window),
            in_hand_ticks: clock.line().ticks_in(IN_HAND.min(settings.window)),
            clock,
            poll: settings.poll,
            last_wall_ns: 0,
            last_ticks: 0,
            recorder: settings.recorder,
            lines: 0,
            reading,
            #[cfg(test)]
            copied: 0,
            own: Origin {
                thread: "logger".to_owned(),
                ..Origin::default()
            },
        }
    }

    pub(crate) fn clock(&self) -> clock::Line {
        self.clock.line()
    }

    /// Drains until the logger is shut down. The body of the drain's thread.
    pub fn run(mut self) {
        let mut busy = false;
        // Set by who wakes us: there is something that should not wait for the next look.
        let mut urgent = Urgent::default();
        while !self.control.stop.load(Ordering::Acquire) {
            let progress = self.drain(1 << 16);
            let was_busy = std::mem::replace(&mut busy, progress.lines >= BUSY_LINES);
            if busy {
                continue;
            }
            let nap = if was_busy {
                SHORT_NAP
            } else {
                urgent.nap(self.window).unwrap_or(self.poll)
            };
            let (control, served) = (self.control.clone(), state::flush_wanted());
            let woken = state::sleep_drain(nap.min(self.poll), || {
                !control.stop.load(Ordering::Acquire) && state::flush_is_done(served)
            });
            if woken {
                urgent = Urgent::woken();
            }
        }
        self.finish();
    }

    /// Writes at most `budget` lines and returns without waiting for more.
    pub fn drain(&mut self, budget: usize) -> Progress {
        if self.reading.0 != state::process() {
            return Progress::default(); // A forked child's copy: the rings are the parent's.
        }
        let ticket = state::flush_wanted();
        let flushing = !state::flush_is_done(ticket);
        let now = clock::ticks();
        self.notice_changes(now);
        let to_come = self.sources.iter_mut().map(Source::look).min();
        let settled = now.saturating_sub(self.in_hand_ticks);
        let cutoff = if flushing {
            u64::MAX
        } else {
            // One tick less: the oldest that is to come may be as old as it was announced.
            to_come.map_or(settled, |ticks| settled.min(ticks.saturating_sub(1)))
        };
        let cutoff = cutoff.max(now.saturating_sub(self.window_ticks));
        let left = self.merge(cutoff, budget);
        self.control
            .lines
            .fetch_add(std::mem::take(&mut self.lines), Ordering::Relaxed);
        if flushing && left > 0 {
            self.report_silent_losses();
        }
        if self.control.dump.swap(false, Ordering::AcqRel) {
            self.dump("dump() was called");
        }
        self.write_out(now);
        self.sources
            .iter_mut()
            .for_each(|source| source.release(self.recorder));
        if flushing && left > 0 {
            state::flush_done(ticket);
        }
        Progress {
            lines: budget - left,
            more: left == 0,
        }
    }

    /// Writes what a process that died has left in its rings.
    pub(crate) fn write_recovered(&mut self, recovered: &Recovered) {
        let now = self.clock.line().wall_ns(clock::ticks());
        let process = recovered.process();
        let text = format!(
            "recovered {} lines of process {process}, which ended without shutting its logger down",
            recovered.len()
        );
        note(&mut self.outputs, &self.own, Level::Warn, &text, now);
        recovered.for_each(|line| {
            self.outputs
                .iter_mut()
                .for_each(|output| output.line(line, &self.control));
        });
        for place in recovered.torn() {
            note(
                &mut self.outputs,
                &self.own,
                Level::Warn,
                &format!("torn record: {place}"),
                now,
            );
        }
        note(
            &mut self.outputs,
            &self.own,
            Level::Warn,
            &format!("end of the lines of process {process}"),
            now,
        );
        self.write_out(clock::ticks());
    }

    /// Writes all that is left, reports losses, and makes it durable. The last call.
    pub fn finish(&mut self) {
        if self.reading.0 != state::process() {
            return;
        }
        let ticket = state::want_flush();
        while !state::flush_is_done(ticket) {
            let _ = self.drain(usize::MAX);
        }
        let now = clock::ticks();
        self.outputs
            .iter_mut()
            .for_each(|output| output.finish(now, &self.control));
        // The next logger is not to find this one's history.
        self.sources
            .iter_mut()
            .for_each(|source| source.release(false));
        crash::remove();
    }

    /// New rings, early lines, clock, requests.
    fn notice_changes(&mut self, now: u64) {
        let version = memory::version();
        if self.rings_version != Some(version) {
            self.rings_version = Some(version);
            for ring in memory::all() {
                if !self.sources.iter().any(|source| source.is(&ring)) {
                    self.sources.push(Source::new(ring));
                }
            }
        }
        self.retire_closed();
        let early = state::take_early();
        if early > 0 {
            self.note(
                Level::Warn,
                &format!("{early} lines were logged before the logger was started, and are lost"),
            );
        }
        let line = self.clock.line();
        let step = self.clock.update(now);
        if self.clock.line() != line {
            crash::set_clock(self.clock.line());
        }
        if let Some(step) = step {
            self.last_wall_ns = 0;
            self.note(
                Level::Warn,
                &format!("the wall clock was stepped by {:.3} s", step as f64 / 1e9),
            );
        }
        if self.control.reopen.swap(false, Ordering::AcqRel) | hangup::take() {
            self.outputs.iter_mut().for_each(Output::reopen);
        }
    }

    /// Forgets rings whose producer is gone and which are empty.
    fn retire_closed(&mut self) {
        let Some(index) = self.sources.iter().position(Source::is_over) else {
            return;
        };
        self.report_silent_losses();
        let source = self.sources.swap_remove(index);
        memory::remove(source.ring());
    }

    /// Writes records in time order up to `cutoff`. Returns what is left of the budget.
    fn merge(&mut self, cutoff: u64, mut budget: usize) -> usize {
        while budget > 0 {
            let (mut best, mut oldest, mut bound) = (None, u64::MAX, cutoff);
            for (index, source) in self.sources.iter().enumerate() {
                let Some(ticks) = source.next_ticks() else {
                    continue;
                };
                if best.is_none() || ticks < oldest {
                    if best.is_some() {
                        bound = bound.min(oldest);
                    }
                    (best, oldest) = (Some(index), ticks);
                } else {
                    bound = bound.min(ticks);
                }
            }
            let Some(index) = best.filter(|_| oldest <= cutoff) else {
                break;
            };
            let mut stretch = Stretch::short();
            while budget > 0
                && self.sources[index]
                    .next_ticks()
                    .is_some_and(|ticks| ticks <= bound)
            {
                let copied = self.copy_lines(index, bound, budget, &mut stretch);
                if copied == 0 {
                    self.write_next(index);
                }
                budget -= copied.max(1);
                if self.sources[index].has_read_much() {
                    self.write_out(clock::ticks());
                    self.sources[index].release(self.recorder);
                }
            }
        }
        budget
    }

    /// Writes the next record of one source.
    #[inline]
    fn write_next(&mut self, index: usize) {
        let line = self.clock.line();
        let Self {
            sources,
            sites,
            outputs,
            control,
            own,
            lines,
            ..
        } = self;
        let source = &mut sources[index];
        let head = source.next().expect("the caller has seen its ticks");
        let wall_ns = line.wall_ns(head.ticks).max(self.last_wall_ns);
        let mut wants_dump = None;
        match head.site {
            id::CONTEXT => source.take_context(),
            id::LOSS => {
                if let Some(text) = source.take_loss(&line) {
                    note(outputs, own, Level::Warn, &text, wall_ns);
                }
            }
            _ => {
                if head.ticks < self.last_ticks {
                    control.late.fetch_add(1, Ordering::Relaxed);
                }
                self.last_ticks = self.last_ticks.max(head.ticks);
                self.last_wall_ns = wall_ns;
                let raw = source.bytes();
                let known = if head.site >= callsite::FIRST_ID {
                    Some(look_up(sites, head.site))
                } else {
                    None
                };
                let parsed = match known {
                    Some(known) => Ok(Line::of_site(
                        head,
                        raw,
                        &known.site,
                        source.origin(),
                        wall_ns,
                    )),
                    None => Line::dynamic(head, raw, source.origin(), wall_ns),
                };
                if let Ok(line) = parsed
                    && is_written(known, &head)
                {
                    outputs
                        .iter_mut()
                        .for_each(|output| output.line(&line, control));
                    *lines += 1;
                    wants_dump = (line.level() == Level::Error && self.recorder).then_some(());
                }
            }
        }
        source.step(head.size);
        if wants_dump.is_some() {
            self.dump("the error above");
        }
    }

    /// Lines lost since the last report by rings that have nothing more to say.
    fn report_silent_losses(&mut self) {
        let now = self
            .last_wall_ns
            .max(self.clock.line().wall_ns(clock::ticks()));
        for source in &mut self.sources {
            if let Some(text) = source.unreported_loss() {
                note(&mut self.outputs, &self.own, Level::Warn, &text, now);
            }
        }
    }

    /// A line of the logger's own.
    fn note(&mut self, level: Level, text: &str) {
        let now = self
            .last_wall_ns
            .max(self.clock.line().wall_ns(clock::ticks()));
        note(&mut self.outputs, &self.own, level, text, now);
    }

    fn write_out(&mut self, now: u64) {
        let mut failing = false;
        for output in &mut self.outputs {
            output.write_out(now, &self.control);
            failing |= output.is_failing();
        }
        self.control.failing.store(failing, Ordering::Relaxed);
    }
}

/// Whether a record is a line for the sinks, or one that only the flight recorder keeps.
fn is_written(known: Option<&KnownSite>, head: &Head) -> bool {
    match known {
        Some(known) => known.live.is_written(),
        None => head.flags & record::RECORDED == 0,
    }
}

/// The site with this id.
#[inline]
fn look_up(sites: &mut Vec<Option<Box<KnownSite>>>, id: u32) -> &KnownSite {
    let index = id as usize;
    if sites.get(index).is_none_or(Option::is_none) {
        meet(sites, id);
    }
    sites[index].as_ref().expect("just filled in")
}

/// Reads a site that is met for the first time from the program's list.
#[cold]
fn meet(sites: &mut Vec<Option<Box<KnownSite>>>, id: u32) {
    let index = id as usize;
    if sites.len() <= index {
        sites.resize_with(index + 1, || None);
    }
    // The thread that gave the site its id links it into the list right after: wait for it, if need be.
    let live = loop {
        match callsite::all().find(|site| site.id() == id) {
            Some(site) => break site,
            None => std::thread::yield_now(),
        }
    };
    let site = describe(live);
    sites[index] = Some(Box::new(KnownSite { site, live }));
}

/// An owned copy of what a call site says of itself.
pub(crate) fn describe(live: &Callsite) -> Site {
    Site {
        id: live.id(),
        level: live.level,
        target: live.target.to_owned(),
        module: live.module.to_owned(),
        file: live.file.to_owned(),
        line: live.line,
        format: live.format.to_owned(),
        keys: live.keys.iter().map(|key| (*key).to_owned()).collect(),
        plan: Plan::parse(live.format),
    }
}

/// Writes a line of the logger's own to all outputs.
fn note(outputs: &mut [Output], own: &Origin, level: Level, text: &str, wall_ns: u64) {
    let bytes = note_record(level, text);
    let head = Head::read(&bytes).expect("just made");
    let line = Line::dynamic(head, &bytes, own, wall_ns).expect("just made");
    outputs.iter_mut().for_each(|output| output.own_line(&line));
}

/// The record of a line without call site.
pub(crate) fn note_record(level: Level, text: &str) -> Vec<u8> {
    let mut values = Vec::new();
    for part in ["coring_logger", "coring_logger", ""] {
        push(&mut values, part);
    }
    push(&mut values, 0_u64);
    push(&mut values, text);
    let mut bytes = Vec::new();
    record::push(
        &mut bytes,
        record::FINISHED,
        record::dynamic_id(level),
        0,
        &values,
    );
    bytes
}
