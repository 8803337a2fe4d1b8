//! Starting, steering and ending a logger.
//!
//! ```text
//!   Logger::builder() ... .start()    gates open, drain thread runs
//!   logger.flush()                    everything logged so far is with the sinks
//!   logger.shutdown()                 gates close, the drain empties the rings, sinks are made durable, thread joined
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::LevelFilter;

use crate::context::Hooks;
use crate::crash::{self, Slots};
use crate::drain::{Control, Drain, DrainSettings, Output, Reading, SyncPolicy, say_on_stderr};
use crate::filter::Filter;
use crate::format::{Format, Text};
use crate::memory::{self, Ring};
use crate::recover::Recovered;
use crate::sink::{File, FileOptions, Memory, MemoryLines, Sink, Stderr};
use crate::state::{self, Full, Settings};
use crate::{clock, facade, fatal, hangup, producer};

/// A running logger. There is one per process at a time. Dropping it shuts it down.
#[derive(Debug)]
pub struct Logger {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
    /// The process that started it.
    process: u32,
    ended: bool,
}

/// Every setting of a logger, with its default.
#[must_use]
pub struct Builder {
    outputs: Vec<Output>,
    format: Option<Box<dyn Format>>,
    output_filter: Option<Filter>,
    sync: SyncPolicy,
    settings: Settings,
    drain: DrainSettings,
    cpu: Option<usize>,
    log_facade: bool,
    crash_ring: Option<PathBuf>,
    crash_threads: usize,
    handle_crashes: bool,
    reopen_on_hangup: bool,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("outputs", &self.outputs.len())
            .field("settings", &self.settings)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            outputs: Vec::new(),
            format: None,
            output_filter: None,
            sync: SyncPolicy::Never,
            settings: Settings {
                core_ring_bytes: 1 << 20,
                thread_ring_bytes: 64 << 10,
                max_rings: 1024,
                full: Full::Drop,
                turn_time: false,
                hooks: Hooks::default(),
                written: Filter::new(LevelFilter::Info),
                recorded: Filter::new(LevelFilter::Off),
            },
            drain: DrainSettings {
                window: Duration::from_millis(1),
                poll: Duration::from_millis(1),
                recorder: false,
            },
            cpu: None,
            log_facade: true,
            crash_ring: None,
            crash_threads: 32,
            handle_crashes: false,
            reopen_on_hangup: false,
        }
    }
}

impl Builder {
    /// Which lines are written. Default: `info`.
    pub fn filter(mut self, filter: impl Into<Filter>) -> Self {
        self.settings.written = filter.into();
        self
    }

    /// Turns the flight recorder on: lines that `filter` allows are put into the rings, and those that are not to be written stay there, up to
    /// half of each ring. They are written when an error is logged, or by [`Logger::dump`]. Default: off.
    pub fn flight_recorder(mut self, filter: impl Into<Filter>) -> Self {
        self.settings.recorded = filter.into();
        self.drain.recorder = true;
        self
    }

    /// The format of the next sink. Default: [`Text::default`].
    pub fn format(mut self, format: impl Format + 'static) -> Self {
        self.format = Some(Box::new(format));
        self
    }

    /// Text by a pattern for the next sink (see [`Text`]).
    ///
    /// # Panics
    /// If the pattern has an unknown word. Parse a [`Text`] yourself if it comes from outside.
    pub fn pattern(self, pattern: &str) -> Self {
        let text: Text = pattern.parse().unwrap_or_else(|error| panic!("{error}"));
        self.format(text)
    }

    /// Restricts the next sink to what `filter` allows, below [`Builder::filter`]. Default: no restriction.
    pub fn sink_filter(mut self, filter: impl Into<Filter>) -> Self {
        self.output_filter = Some(filter.into());
        self
    }

    /// When the next sink makes lines durable. Default: [`SyncPolicy::Never`].
    pub fn sync(mut self, sync: SyncPolicy) -> Self {
        self.sync = sync;
        self
    }

    /// Adds a sink.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        let format = self
            .format
            .take()
            .unwrap_or_else(|| Box::new(Text::default()));
        let (filter, sync) = (self.output_filter.take(), std::mem::take(&mut self.sync));
        self.outputs
            .push(Output::new(format, Box::new(sink), filter, sync));
        self
    }

    /// Adds a file.
    pub fn file(self, options: impl Into<FileOptions>) -> Self {
        self.sink(File::new(options))
    }

    /// Adds standard error; its default format is coloured if that is a terminal. A builder without any sink gets this one.
    pub fn stderr(mut self) -> Self {
        if self.format.is_none() {
            self.format = Some(Box::new(Text::default().colors(Stderr::wants_colors())));
        }
        self.sink(Stderr::new())
    }

    /// Adds a sink that keeps everything, and returns the handle to read it by.
    pub fn memory(self) -> (Self, MemoryLines) {
        let (sink, lines) = Memory::new();
        (self.sink(sink), lines)
    }

    /// Size of a core's ring: it must hold the longest burst. Rounded up to a power of two of at least 4 KiB. Default: 1 MiB.
    pub fn core_ring_bytes(mut self, bytes: usize) -> Self {
        self.settings.core_ring_bytes = bytes.next_power_of_two().max(4096);
        self
    }

    /// Size of the ring of a thread that is no core, as above. Default: 64 KiB.
    pub fn thread_ring_bytes(mut self, bytes: usize) -> Self {
        self.settings.thread_ring_bytes = bytes.next_power_of_two().max(4096);
        self
    }

    /// How many threads get a ring of their own; those beyond share one behind a lock. Default: 1024.
    pub fn max_rings(mut self, count: usize) -> Self {
        self.settings.max_rings = count;
        self
    }

    /// What happens when a ring is full. Default: [`Full::Drop`].
    pub fn full(mut self, policy: Full) -> Self {
        self.settings.full = policy;
        self
    }

    /// Whether a core's lines carry the time at which their turn began, instead of reading the counter for each: a line then costs about half.
    /// Lines of one turn keep their order, and those of different cores are in order within the length of a turn. Holds for cores that are
    /// [registered](crate::register_core) later. Default: no.
    pub fn turn_time(mut self, on: bool) -> Self {
        self.settings.turn_time = on;
        self
    }

    /// What the logger asks the runtime. Default: threads only.
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.settings.hooks = hooks;
        self
    }

    /// How long lines wait for older ones of another core whose turn has not ended. Lines of a longer turn may stand behind younger ones of other
    /// cores ([`Stats::late`] counts them). Default: 1 ms.
    pub fn window(mut self, window: Duration) -> Self {
        self.drain.window = window;
        self
    }

    /// How often the drain looks when nobody wakes it. Errors, flushes, and rings a quarter full wake it. Default: 1 ms.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.drain.poll = interval;
        self
    }

    /// Binds the drain's thread to a CPU. Default: it runs where the kernel puts it, within the process's affinity.
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Whether to become the target of the `log` crate's macros. Default: yes.
    pub fn log_facade(mut self, on: bool) -> Self {
        self.log_facade = on;
        self
    }

    /// Keeps the rings in a file in memory, which must be on a tmpfs (`/dev/shm/server.ring`): after SIGKILL, an abort or a fault the lines that
    /// were not yet written are there. The next logger that is started with the same path writes them first, marked as recovered (and perhaps
    /// repeating the last block); `coring-log recover` shows them at any time. Removed at an orderly shutdown. Default: none.
    ///
    /// The file has room for one ring per CPU and for 32 threads; rings beyond live in anonymous memory.
    pub fn crash_ring(mut self, path: impl Into<PathBuf>) -> Self {
        self.crash_ring = Some(path.into());
        self
    }

    /// How many threads outside the runtime get a ring in the crash ring's file. Default: 32.
    pub fn crash_ring_threads(mut self, count: usize) -> Self {
        self.crash_threads = count;
        self
    }

    /// Logs panics as errors, and lets the drain write what is left when a fatal signal comes (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT); previous
    /// handlers run afterwards. Stays in force for the process. Default: no.
    pub fn handle_crashes(mut self, on: bool) -> Self {
        self.handle_crashes = on;
        self
    }

    /// Opens log files anew when SIGHUP comes, as [`Logger::reopen`] does; the handler that was there before is called too. Stays in force for
    /// the process, which that signal no longer ends. Default: no.
    pub fn reopen_on_hangup(mut self, on: bool) -> Self {
        self.reopen_on_hangup = on;
        self
    }

    /// Starts the logger with a drain thread of its own.
    ///
    /// # Errors
    /// If a logger is running already, the thread cannot be started, or the `log` facade belongs to another logger.
    pub fn start(self) -> io::Result<Logger> {
        let cpu = self.cpu;
        let (mut logger, drain) = self.build()?;
        let body = move || {
            if let Some(cpu) = cpu {
                bind_to_cpu(cpu);
            }
            drain.run();
        };
        logger.thread = Some(
            std::thread::Builder::new()
                .name("coring-logger".to_owned())
                .spawn(body)?,
        );
        Ok(logger)
    }

    /// Starts the logger without a thread: the caller runs the [`Drain`], either [`Drain::run`] on a thread with a ring of its own, or
    /// [`Drain::drain`] again and again from a coroutine and [`Drain::finish`] at the end.
    ///
    /// # Errors
    /// As [`Builder::start`].
    ///
    /// # Examples
    /// ```
    /// use coring_logger::{Logger, info};
    ///
    /// let (builder, lines) = Logger::builder().pattern("{message}").memory();
    /// let (logger, mut drain) = builder.build()?;
    /// info!("one");
    /// drain.finish();
    /// assert_eq!(lines.text(), "one\n");
    /// logger.shutdown();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn build(mut self) -> io::Result<(Logger, Drain)> {
        if self.outputs.is_empty() {
            self = self.stderr();
        }
        if self.log_facade {
            facade::install()?;
        }
        if state::is_running() {
            return Err(already_running());
        }
        let control = Arc::new(Control::default());
        let reading = Reading::claim().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the drain of the last logger still exists: finish and drop it before starting another",
            )
        })?;
        let mut drain = Drain::new(control.clone(), self.outputs, self.drain, reading);
        if let Some(path) = &self.crash_ring {
            if let Some(recovered) = crash::take_over(path)?.and_then(Recovered::read) {
                drain.write_recovered(&recovered);
            }
            let slots = Slots {
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                core_bytes: self.settings.core_ring_bytes,
                threads: self.crash_threads,
                thread_bytes: self.settings.thread_ring_bytes,
            };
            crash::create(path, slots, drain.clock())?;
        }
        if self.handle_crashes {
            fatal::install();
        }
        if self.reopen_on_hangup {
            hangup::install();
        }
        if !state::begin(self.settings) {
            return Err(already_running());
        }
        Ok((
            Logger {
                control,
                thread: None,
                process: state::process(),
                ended: false,
            },
            drain,
        ))
    }
}

fn already_running() -> io::Error {
    io::Error::new(
        io::ErrorKind::AlreadyExists,
        "a logger is running in this process: shut it down before starting another",
    )
}

fn bind_to_cpu(cpu: usize) {
    if let Err(error) = crate::system::bind_to_cpu(cpu) {
        crate::drain::say_on_stderr(&format!(
            "coring-logger: cannot bind the drain to CPU {cpu}: {error}\n"
        ));
    }
}

/// Numbers about a logger, since its start unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Lines given to the sinks.
    pub lines: u64,
    /// Bytes that sinks have taken.
    pub bytes: u64,
    /// Lines that found their ring full, by level (error first); since the process began.
    pub dropped: [u64; 5],
    /// Lines refused: logged by a signal handler within a line, by a `Display` that logs itself without end, or after a fork; since the
    /// process began.
    pub refused: u64,
    /// Lines lost because a sink failed for too long.
    pub lost_in_sinks: u64,
    /// Lines written out of time order, because their ring published them later than the window.
    pub late: u64,
    /// Rings in use.
    pub rings: usize,
    /// Memory mapped for them.
    pub ring_bytes: usize,
}

impl Logger {
    /// Settings for a logger.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Waits until everything that has been logged is with the sinks: by the calling thread, and by all others before the call. What a
    /// core logs in a turn that goes on for more than 200 ms may be missing. Inside a coroutine this parks; elsewhere it blocks.
    ///
    /// # Parks
    /// By [`Hooks::pause`].
    ///
    /// # Errors
    /// `NotConnected` in a forked child; `TimedOut` after five seconds, which means that nobody runs the drain; `Other` if a sink is failing.
    pub fn flush(&self) -> io::Result<()> {
        flush(Duration::from_secs(5))?;
        if self.control.failing.load(Ordering::Relaxed) {
            return Err(io::Error::other(
                "a sink of the logger is failing: what it said is on standard error",
            ));
        }
        Ok(())
    }

    /// Replaces the filter of written lines, for all call sites at once.
    pub fn set_filter(&self, filter: impl Into<Filter>) {
        state::set_filters(Some(filter.into()), None);
    }

    /// Opens log files anew at the next line. See also [`Builder::reopen_on_hangup`].
    pub fn reopen(&self) {
        self.control.reopen.store(true, Ordering::Release);
        state::wake_drain();
    }

    /// Writes what the flight recorder holds.
    pub fn dump(&self) {
        producer::publish_current();
        self.control.dump.store(true, Ordering::Release);
        state::wake_drain();
    }

    /// Numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let control = &self.control;
        let (rings, dropped) = memory::all_and_drops();
        Stats {
            lines: control.lines.load(Ordering::Relaxed),
            bytes: control.bytes.load(Ordering::Relaxed),
            dropped,
            refused: state::refused(),
            lost_in_sinks: control.lost_in_sinks.load(Ordering::Relaxed),
            late: control.late.load(Ordering::Relaxed),
            rings: rings.len(),
            ring_bytes: rings.iter().map(|ring| ring.mapped_bytes()).sum(),
        }
    }

    /// Ends the logger in order: closes all gates, writes what is in the rings, makes it durable, joins the drain's thread. Lines logged
    /// from then on are ignored.
    ///
    /// A sink that takes its time is waited for; one that does not come back for five seconds is left behind, with a word on standard
    /// error and what it should have had. Until it comes back no other logger can be started.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if self.process != state::process() {
            // A forked child has no drain's thread to join, and perhaps a logger of its own, which is not ours to end.
            self.thread.take().map(|thread| Box::leak(Box::new(thread)));
            return;
        }
        producer::publish_current();
        state::end();
        self.control.stop.store(true, Ordering::Release);
        state::wake_drain();
        if let Some(thread) = self.thread.take() {
            self.join(thread);
        }
    }

    /// Waits for the drain's thread as long as it gets on.
    fn join(&self, thread: JoinHandle<()>) {
        let control = &self.control;
        let progress = || {
            [&control.lines, &control.bytes, &control.lost_in_sinks]
                .map(|count| count.load(Ordering::Relaxed))
        };
        let (mut seen, mut since) = (progress(), Instant::now());
        while !thread.is_finished() {
            if since.elapsed() >= STUCK_AFTER {
                say_on_stderr(STUCK_TEXT);
                return;
            }
            std::thread::sleep(NAP);
            let now = progress();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        let _ = thread.join();
    }
}

/// How long the end waits for a drain that does not get on.
const STUCK_AFTER: Duration = Duration::from_secs(5);
const STUCK_TEXT: &str = "coring-logger: a sink does not come back: the logger ends without it, and what it should have had is lost\n";

impl Drop for Logger {
    fn drop(&mut self) {
        self.end();
    }
}

/// Between two looks of who waits for others.
const NAP: Duration = Duration::from_micros(200);
/// How long a flush waits for other cores to end their turns.
const TURN: Duration = Duration::from_millis(200);

/// Waits for the cores to publish what they have logged in a turn that had begun before: who heard from one of them that something was done
/// finds the lines of it in the log.
fn others_publish() {
    let (now, begun) = (clock::ticks(), Instant::now());
    let is_behind = |ring: &Arc<Ring>| ring.owes_lines(now) && !producer::is_current(ring);
    while memory::all().iter().any(is_behind) && begun.elapsed() < TURN {
        if !(state::hooks().pause)(NAP) {
            std::thread::sleep(NAP);
        }
    }
}

/// Waits for the drain to have written everything logged by now.
pub(crate) fn flush(timeout: Duration) -> io::Result<()> {
    if !state::is_running() {
        return Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "no logger runs in this process: it was shut down, or the process was forked",
        ));
    }
    producer::publish_current();
    others_publish();
    let ticket = state::want_flush();
    let begun = Instant::now();
    let pause = state::hooks().pause;
    while !state::flush_is_done(ticket) {
        if begun.elapsed() > timeout {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the log was not flushed: does anybody run the drain?",
            ));
        }
        if !pause(NAP) {
            state::wait_for_flush(ticket, NAP);
        }
    }
    Ok(())
}
