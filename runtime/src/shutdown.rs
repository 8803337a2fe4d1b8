//! Shutting down: a request that everybody can see, time to drain, then the end; by force when it is asked for once more.
//!
//! ```text
//!   shutdown(drain)        servers see it, stop accepting, finish what they have; main returns: the usual stop
//!      | drain is over, or shutdown was called again
//!      v
//!   main is cancelled      its blocking calls are refused, it unwinds: the usual stop
//!      | stop (runtime/stop.rs): all coroutines are cancelled, operations reaped, cores joined
//!      v
//!   shutdown_grace is over: who is left is named, and abandoned
//!      | core 0 itself does not turn, or main does not end although it was cancelled: two graces after its cancellation
//!      v                                              a second signal, force() --+
//!   force: all cores stop, main is cancelled, every grace is cut to FORCED_GRACE <-+
//!      | main has not ended after FORCED_LIMIT
//!      v
//!   the guard: names what runs, ends the process with code 1
//! ```
//!
//! The request is an event and a point in time, both in what the cores share. Core 0 looks at the time once a turn,
//! and is woken for it. So it works while other cores are busy or stuck. A core 0 that does not turn is what the guard is for
//! (shutdown/guard.rs): a thread that hears the signals, and ends the process when the time is over.
//!
//! Whoever waits for an end asks [`Shutdown::deadline_ns`] again after each wake, and the force wakes all of them: cores by their
//! alert, who joins threads by the condition variable here, the offload pool by its own.

mod guard;

use crate::mailbox::Cluster;
use crate::per_core;
use crate::report;
use crate::sync::SharedEvent;
use coring_coro as coro;
use coring_coro::wait::Refusal;
use coring_uring::monotonic_ns;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guard::Guard;

/// What each step of the end may still take when it is forced: time to unwind, not to wait for anybody.
const FORCED_GRACE_NS: u64 = 100_000_000;
/// When the process is ended although the runtime has not: a few times what the steps of a forced end take together.
const FORCED_LIMIT_NS: u64 = 2_000_000_000;

/// What the cores share about their end.
#[derive(Debug)]
pub(crate) struct Shutdown {
    asked: SharedEvent,
    /// When main is cancelled; `u64::MAX` while nobody has asked.
    cancel_at_ns: AtomicU64,
    /// When the end was forced; `u64::MAX` while it is not.
    forced_at_ns: AtomicU64,
    progress: Mutex<Progress>,
    /// A thread has stopped, or the end is forced.
    progressed: Condvar,
    grace: Duration,
    /// What a signal leaves for draining.
    drain_on_signal_ns: AtomicU64,
    guard: Mutex<Option<Guard>>,
    /// Nothing is left to be guarded.
    ended: AtomicBool,
}

/// How far the end has come.
#[derive(Debug, Default)]
struct Progress {
    /// Cores whose threads have stopped and were not joined yet.
    stopped: Vec<usize>,
    abandoned: Vec<String>,
}

impl Shutdown {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            asked: SharedEvent::default(),
            cancel_at_ns: AtomicU64::new(u64::MAX),
            forced_at_ns: AtomicU64::new(u64::MAX),
            progress: Mutex::default(),
            progressed: Condvar::new(),
            grace,
            drain_on_signal_ns: AtomicU64::new(0),
            guard: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Never less than it takes to unwind.
    pub(crate) fn grace_ns(&self) -> u64 {
        nanoseconds(self.grace).max(FORCED_GRACE_NS)
    }

    fn drain_on_signal(&self) -> Duration {
        Duration::from_nanos(self.drain_on_signal_ns.load(Ordering::Relaxed))
    }

    /// Calls `with` with the guard, which is started if it was not; not when there is nothing to guard any more.
    fn with_guard<R>(
        cluster: &Arc<Cluster>,
        with: impl FnOnce(&mut Guard) -> io::Result<R>,
    ) -> io::Result<Option<R>> {
        let this = cluster.shutdown();
        let mut guard = this.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if this.has_ended() {
            return Ok(None);
        }
        if guard.is_none() {
            *guard = Some(Guard::start(cluster)?);
        }
        guard.as_mut().map(with).transpose()
    }

    /// The runtime has ended: the guard goes.
    pub(crate) fn end(&self) {
        let guard = {
            let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
            self.ended.store(true, Ordering::Release);
            guard.take()
        };
        if let Some(guard) = guard {
            guard.end();
        }
    }

    /// Asks for the end, or when somebody has already, for main's cancellation.
    fn ask(&self, cluster: &Cluster, drain: Duration) {
        let drain_ns = if self.asked.is_set() {
            0
        } else {
            nanoseconds(drain)
        };
        // One less than "never": a time without an end is asked for, too.
        let at_ns = monotonic_ns().saturating_add(drain_ns).min(u64::MAX - 1);
        self.cancel_at_ns.fetch_min(at_ns, Ordering::Relaxed);
        self.asked.set();
        // The alert orders the time before core 0's next look (port.rs).
        cluster.port(0).alert();
    }

    /// Main is cancelled, all cores stop, and nobody is waited for any more.
    fn force(&self, cluster: &Cluster) {
        let now_ns = monotonic_ns();
        self.cancel_at_ns.fetch_min(now_ns, Ordering::Relaxed);
        self.forced_at_ns.fetch_min(now_ns, Ordering::Relaxed);
        self.asked.set();
        // Alerts all cores, which orders the times before their next look.
        cluster.stop();
        // Under the lock: not between somebody's look at the time and its wait.
        drop(self.progress());
        self.progressed.notify_all();
        cluster.pool().hurry();
    }

    fn forced_at_ns(&self) -> Option<u64> {
        some_time(&self.forced_at_ns)
    }

    /// When main is to be cancelled, if anybody has asked.
    #[inline]
    pub(crate) fn cancel_at_ns(&self) -> Option<u64> {
        some_time(&self.cancel_at_ns)
    }

    /// When main, which was cancelled, has had the time of a forced end, if it is forced.
    pub(crate) fn main_is_late_at_ns(&self) -> Option<u64> {
        Some(self.forced_at_ns()?.saturating_add(FORCED_GRACE_NS))
    }

    /// When to give up what has begun at `since_ns` and may take until `deadline_ns`, if the end is not forced.
    pub(crate) fn deadline_ns(&self, since_ns: u64, deadline_ns: u64) -> u64 {
        let forced_ns = self.forced_at_ns().map_or(u64::MAX, |at_ns| {
            at_ns.max(since_ns).saturating_add(FORCED_GRACE_NS)
        });
        deadline_ns.min(forced_ns)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread of a core has nothing more to do.
    pub(crate) fn has_stopped(&self, core: usize) {
        self.progress().stopped.push(core);
        self.progressed.notify_all();
    }

    /// Waits for the next core whose thread has stopped. `None` when the time is over.
    pub(crate) fn next_stopped(&self, deadline_ns: u64) -> Option<usize> {
        // A core that gives up says so after its own grace.
        let since_ns = monotonic_ns().saturating_add(FORCED_GRACE_NS);
        let mut progress = self.progress();
        loop {
            if let Some(core) = progress.stopped.pop() {
                return Some(core);
            }
            let left_ns = self
                .deadline_ns(since_ns, deadline_ns)
                .saturating_sub(monotonic_ns());
            if left_ns == 0 {
                return None;
            }
            let woken = self
                .progressed
                .wait_timeout(progress, Duration::from_nanos(left_ns));
            progress = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says on stderr what is left behind, and keeps it for the report.
    pub(crate) fn abandon(&self, what: String) {
        report::say(format_args!("{what}"));
        self.progress().abandoned.push(what);
    }

    pub(crate) fn take_abandoned(&self) -> Vec<String> {
        std::mem::take(&mut self.progress().abandoned)
    }
}

/// How a runtime has ended. See [`Runtime::run_to_end`](crate::Runtime::run_to_end).
#[derive(Debug)]
#[must_use = "it says whether main has a value"]
#[non_exhaustive]
pub struct Ended<T> {
    /// The value of main, or why there is none: it panicked, or a shutdown has cancelled it.
    pub outcome: Result<T, coro::JoinError>,
    /// What did not end in time and was left behind: coroutines by name, cores, threads of the offload pool.
    pub abandoned: Vec<String>,
}

impl<T> Ended<T> {
    /// 0 when main has returned a value and nothing was abandoned; 101 when it panicked, as std's; else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match &self.outcome {
            Err(coro::JoinError::Panicked(_)) => 101,
            Ok(_) if self.abandoned.is_empty() => 0,
            _ => 1,
        }
    }
}

/// Asks a runtime to end, from any thread. From [`Runtime::shutdown_handle`](crate::Runtime::shutdown_handle).
#[derive(Clone, Debug)]
pub struct ShutdownHandle {
    cluster: Arc<Cluster>,
}

impl ShutdownHandle {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Self {
        let cluster = Arc::clone(cluster);
        Self { cluster }
    }

    /// As [`shutdown`]. Does nothing when the runtime has ended.
    pub fn shutdown(&self, drain: Duration) {
        self.cluster.shutdown().ask(&self.cluster, drain);
        self.guard();
    }

    /// Ends the runtime by force: what a second signal does. Does nothing when the runtime has ended.
    ///
    /// `main` and all coroutines are cancelled at once and get no grace, just a tenth of a second to unwind. Who has not ended then is
    /// named on stderr and abandoned, and [`Runtime::run_to_end`](crate::Runtime::run_to_end) returns. When that has not happened
    /// within two seconds, since `main` itself, which cannot be abandoned, does not end, the process ends with code 1.
    pub fn force(&self) {
        self.cluster.shutdown().force(&self.cluster);
        self.guard();
    }

    /// From now on a guard sees to it that the end comes.
    fn guard(&self) {
        let guarded = Shutdown::with_guard(&self.cluster, |guard| {
            guard.poke();
            Ok(())
        });
        if let Err(error) = guarded {
            report::say(format_args!(
                "the end that was asked for cannot be enforced: no guard could be started: {error}"
            ));
        }
    }
}

/// Asks the caller's runtime to end: [`shutdown_requested`] returns everywhere, and servers have `drain` to finish what
/// they do. When that is over and `main` has not returned, it is cancelled. A second call cancels it at once.
///
/// It ends for sure: when `main` was cancelled and twice the builder's `shutdown_grace` has passed without an end, because a
/// coroutine keeps core 0 or `main` does not give up, the end is [forced](ShutdownHandle::force).
///
/// Returns at once. Whoever has asked is itself cancelled when main has ended.
///
/// # Panics
///
/// Outside a runtime.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let ended = coring::Runtime::builder().cores(2).build()?.run_to_end(|| {
///     let server = coring::spawn_on(1, || {
///         coring::shutdown_requested().unwrap(); // .. then stop accepting
///         "drained"
///     });
///     coring::shutdown(Duration::from_secs(5));
///     server.join().unwrap()
/// });
/// assert_eq!((ended.exit_code(), ended.outcome.unwrap()), (0, "drained"));
/// # Ok::<(), coring::StartError>(())
/// ```
#[track_caller]
pub fn shutdown(drain: Duration) {
    let engine = per_core::require_current("shutdown");
    ShutdownHandle::new(engine.cluster()).shutdown(drain);
}

/// Waits until somebody asks the caller's runtime to end.
///
/// # Parks
///
/// Until then.
///
/// # Errors
///
/// When the caller may not wait: it was cancelled, or is unwinding.
///
/// # Panics
///
/// Outside a runtime.
#[track_caller]
pub fn shutdown_requested() -> Result<(), Refusal> {
    let engine = per_core::require_current("shutdown_requested");
    engine.cluster().shutdown().asked.wait()
}

/// Whether somebody has asked the caller's runtime to end; `false` outside a runtime.
#[must_use]
pub fn is_shutting_down() -> bool {
    per_core::current().is_some_and(|engine| engine.cluster().shutdown().asked.is_set())
}

/// From now on SIGTERM and SIGINT ask the caller's runtime to end, with so much time to drain. A second one
/// [forces](ShutdownHandle::force) the end, which then takes two seconds at most.
///
/// A thread hears them, so they are heard although every core is busy. They are caught until the runtime has ended; after that
/// they are ignored, unless somebody else in the process handles them.
///
/// # Errors
///
/// As pipe(2), and as the start of a thread.
///
/// # Panics
///
/// Outside a runtime.
#[track_caller]
pub fn shutdown_on_signals(drain: Duration) -> io::Result<()> {
    let engine = per_core::require_current("shutdown_on_signals");
    let shutdown = engine.cluster().shutdown();
    shutdown
        .drain_on_signal_ns
        .store(nanoseconds(drain), Ordering::Relaxed);
    let heard = Shutdown::with_guard(engine.cluster(), |guard| {
        guard.hear(libc::SIGTERM)?;
        guard.hear(libc::SIGINT)
    });
    heard.map(drop)
}

fn some_time(ns: &AtomicU64) -> Option<u64> {
    let at_ns = ns.load(Ordering::Relaxed);
    (at_ns != u64::MAX).then_some(at_ns)
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
