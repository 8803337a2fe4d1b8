//! Shutting down: a request that everybody can see, time to drain, then the end.
//!
//! ```text
//!   shutdown(drain)        servers see it, stop accepting, finish what they have; main returns: the usual stop
//!      | drain is over, or shutdown was called again
//!      v
//!   main is cancelled      its blocking calls are refused, it unwinds: the usual stop
//!      | stop (runtime.rs): all coroutines are cancelled, operations reaped, cores joined
//!      v
//!   shutdown_grace is over: who is left is named, and abandoned
//! ```
//!
//! The request is an event and a point in time, both in what the cores share. Core 0 looks at the time once a turn,
//! and is woken for it. So it works while other cores are busy or stuck; what it cannot do is to take core 0 from a
//! coroutine that never waits.

use crate::mailbox::Cluster;
use crate::per_core;
use crate::report;
use crate::signal::Signals;
use crate::sync::SharedEvent;
use coring_coro as coro;
use coring_coro::wait::Refusal;
use coring_uring::monotonic_ns;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the cores share about their end.
#[derive(Debug)]
pub(crate) struct Shutdown {
    asked: SharedEvent,
    /// When main is cancelled; `u64::MAX` while nobody has asked.
    force_at_ns: AtomicU64,
    abandoned: Mutex<Vec<String>>,
}

impl Shutdown {
    pub(crate) fn new() -> Self {
        Self {
            asked: SharedEvent::default(),
            force_at_ns: AtomicU64::new(u64::MAX),
            abandoned: Mutex::default(),
        }
    }

    /// When main is to be cancelled.
    #[inline]
    pub(crate) fn force_at_ns(&self) -> Option<u64> {
        let at_ns = self.force_at_ns.load(Ordering::Relaxed);
        (at_ns != u64::MAX).then_some(at_ns)
    }

    /// Says on stderr what is left behind, and keeps it for the report.
    pub(crate) fn abandon(&self, what: String) {
        report::say(format_args!("{what}"));
        let mut abandoned = self
            .abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        abandoned.push(what);
    }

    pub(crate) fn take_abandoned(&self) -> Vec<String> {
        std::mem::take(
            &mut self
                .abandoned
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
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
        let shutdown = self.cluster.shutdown();
        let now_ns = monotonic_ns();
        if shutdown.asked.is_set() {
            shutdown.force_at_ns.store(now_ns, Ordering::Relaxed);
        } else {
            let drain_ns = u64::try_from(drain.as_nanos()).unwrap_or(u64::MAX);
            // One less than "never": a time without an end is asked for, too.
            let at_ns = now_ns.saturating_add(drain_ns).min(u64::MAX - 1);
            shutdown.force_at_ns.store(at_ns, Ordering::Relaxed);
            shutdown.asked.set();
        }
        // The alert orders the store before core 0's next look (port.rs).
        self.cluster.port(0).alert();
    }
}

/// Asks the caller's runtime to end: [`shutdown_requested`] returns everywhere, and servers have `drain` to finish what
/// they do. When that is over and `main` has not returned, it is cancelled. A second call cancels it at once.
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

/// From now on SIGTERM and SIGINT ask the caller's runtime to end, with so much time to drain. A second one forces.
///
/// A coroutine of this core waits for them; it ends with the runtime.
///
/// # Errors
///
/// As [`Signals::new`].
///
/// # Panics
///
/// Outside a runtime.
#[track_caller]
pub fn shutdown_on_signals(drain: Duration) -> io::Result<()> {
    let mut signals = Signals::new([libc::SIGTERM, libc::SIGINT])?;
    let watcher = coro::Builder::new().name("shutdown on signals");
    let watching = watcher.spawn(move || {
        while signals.recv().is_ok() {
            shutdown(drain);
        }
    });
    watching.map(drop).map_err(io::Error::other)
}
