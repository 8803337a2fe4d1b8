//! Starting, running and stopping: the life of all cores together.
//!
//! **Start** ([`Builder::build`](crate::Builder::build)):
//! 1. Check the limits (builder.rs).
//! 2. Open core 0's ring on the calling thread, so that a refusal of io_uring is known before any thread exists.
//! 3. Start a thread for each other core; each pins itself and opens its own ring (a ring belongs to its thread).
//! 4. Wait until all have said that they are open. If one could not, stop the others and report; if it was for the limit on
//!    locked memory, start again with rings that share it.
//!
//! **Run** ([`Runtime::run`]): the main closure becomes a coroutine on core 0, which is the calling thread; the
//! core turns until it has ended.
//!
//! **Stop** (runtime/stop.rs), when main has ended, by return or panic, or was dropped without a run: all cores retire.

mod stop;

use crate::Builder;
use crate::blocking::PoolConfig;
use crate::mailbox::{Cluster, RemoteError, call_all};
use crate::per_core::affinity::Pinned;
use crate::per_core::{Core, CoreConfig, CoreStats, require_current};
use crate::report;
use crate::shutdown::{Ended, ShutdownHandle};
use crate::watch::stall::Detector;
use coring_coro as coro;
use coring_uring::{SetupError, UnknownFeature};
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// Why a runtime could not be started. The text names cause and cure; `Debug` prints the same text, since that is
/// what a `main` that returns an error shows.
#[non_exhaustive]
pub enum StartError {
    /// A limit that cannot be.
    Invalid {
        /// The name of the builder's method.
        what: &'static str,
        /// What it may be.
        why: &'static str,
    },
    /// `CORING_FEATURES` names a feature that does not exist.
    Features(UnknownFeature),
    /// A ring could not be set up.
    Ring {
        /// The core.
        core: usize,
        /// Who refused, and how to allow it.
        source: SetupError,
    },
    /// A core's thread could not be started.
    Thread {
        /// The core.
        core: usize,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { what, why } => write!(
                f,
                "the runtime's builder was given a wrong {what}: it is {why}"
            ),
            Self::Features(error) => write!(f, "CORING_FEATURES: {error}"),
            Self::Ring { core, source } => write!(f, "core {core} cannot use io_uring: {source}"),
            Self::Thread { core, source } => write!(
                f,
                "the thread of core {core} could not be started: {source}; ask for fewer `cores`, or raise the limit \
                 on processes (ulimit -u)"
            ),
        }
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Invalid { .. } => None,
            Self::Features(source) => Some(source),
            Self::Ring { source, .. } => Some(source),
            Self::Thread { source, .. } => Some(source),
        }
    }
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> Self {
        Self::other(error)
    }
}

/// What was settled before anything starts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cores: usize,
    /// The CPU of each core; empty when cores are not pinned.
    pub(crate) pins: Vec<usize>,
    pub(crate) inbox_capacity: usize,
    pub(crate) grace: Duration,
    /// After how long without a turn a core has stalled, if anybody wants to know.
    pub(crate) stall_limit: Option<Duration>,
    pub(crate) pool: PoolConfig,
    pub(crate) core: CoreConfig,
}

impl Plan {
    fn cpu(&self, core: usize) -> Option<usize> {
        self.pins.get(core).copied()
    }
}

/// A core's thread tells: it is open, or could not open.
type Opened = Result<(), (usize, SetupError)>;

/// The cores, started and idle. [`run`](Self::run) gives them something to do.
///
/// It stays on the thread that built it: that thread is core 0.
#[derive(Debug)]
pub struct Runtime {
    plan: Plan,
    cluster: Arc<Cluster>,
    _detector: Option<Detector>,
    /// `Some` until the runtime has stopped.
    core: Option<Core>,
    /// The threads of the cores but 0. Each says in the shared [`Shutdown`](crate::shutdown::Shutdown) when it has stopped.
    threads: Vec<(usize, thread::JoinHandle<()>)>,
}

impl Runtime {
    /// A runtime with other limits than the default ones.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A runtime with one core for each CPU this process may use.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new() -> Result<Self, StartError> {
        Builder::new().build()
    }

    /// How many cores it has.
    #[must_use]
    pub fn cores(&self) -> usize {
        self.plan.cores
    }

    /// What every core of the caller's runtime has counted, in the order of the cores. [`stats`](crate::stats) is this
    /// core's alone.
    ///
    /// Each core is asked with a [`call`](crate::call), so that counting costs the cores nothing but plain additions of their own.
    ///
    /// # Parks
    ///
    /// Until all have answered. A core that does not turn does not answer: bound the wait with
    /// [`coro::timeout`].
    ///
    /// # Errors
    ///
    /// As [`call_all`](crate::call_all).
    ///
    /// # Panics
    ///
    /// Outside a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// coring::Runtime::builder().cores(2).build()?.run(|| {
    ///     let stats = coring::Runtime::stats().unwrap();
    ///     assert_eq!(stats.len(), 2);
    ///     assert!(stats.iter().all(|core| core.scheduler.live > 0));
    /// });
    /// # Ok::<(), coring::StartError>(())
    /// ```
    #[track_caller]
    pub fn stats() -> Result<Vec<CoreStats>, RemoteError> {
        call_all(|_| require_current("Runtime::stats").stats())
    }

    pub(crate) fn start(plan: Plan) -> Result<Self, StartError> {
        report::install_panic_hook();
        let mut smaller = plan.clone();
        match Self::open(plan) {
            Err(StartError::Ring {
                source: SetupError::LockedMemory { .. } | SetupError::OutOfMemory,
                ..
            }) => {
                smaller.core.ring = smaller.core.ring.within_share();
                Self::open(smaller)
            }
            opened => opened,
        }
    }

    fn open(plan: Plan) -> Result<Self, StartError> {
        let cluster = Cluster::new(
            plan.cores,
            plan.inbox_capacity,
            plan.pool.clone(),
            plan.grace,
        );
        let core = Core::open(0, plan.cpu(0), &cluster, &plan.core)
            .map_err(|source| StartError::Ring { core: 0, source })?;
        let detector = plan
            .stall_limit
            .map(|limit| Detector::start(&cluster, limit));
        let mut runtime = Self {
            plan,
            cluster,
            _detector: detector,
            core: Some(core),
            threads: Vec::new(),
        };
        let (opened_tx, opened) = mpsc::channel();
        for index in 1..runtime.plan.cores {
            // An error drops the runtime, which stops the cores that have started.
            runtime.start_thread(index, opened_tx.clone())?;
        }
        drop(opened_tx);
        for _ in 1..runtime.plan.cores {
            let outcome = opened
                .recv()
                .expect("a thread that cannot open its core says why");
            outcome.map_err(|(core, source)| StartError::Ring { core, source })?;
        }
        Ok(runtime)
    }

    fn start_thread(&mut self, index: usize, opened: Sender<Opened>) -> Result<(), StartError> {
        let cluster = Arc::clone(&self.cluster);
        let (config, cpu) = (self.plan.core.clone(), self.plan.cpu(index));
        let body = move || {
            let _stopped = TellStopped(&cluster, index);
            let _pinned = Pinned::to(cpu);
            let _watched = cluster.port(index).pulse().turned_here();
            match Core::open(index, cpu, &cluster, &config) {
                Ok(core) => {
                    // The starter waits for every report; if it has gone, there is nothing to report to.
                    let _ = opened.send(Ok(()));
                    let abort = AbortOnUnwind(index);
                    core.run(|_| cluster.is_stopping());
                    stop::retire(core);
                    abort.disarm();
                }
                Err(source) => {
                    let _ = opened.send(Err((index, source)));
                }
            }
        };
        let thread = thread::Builder::new()
            .name(format!("coring-{index}"))
            .spawn(body);
        let thread = thread.map_err(|source| StartError::Thread {
            core: index,
            source,
        })?;
        self.threads.push((index, thread));
        Ok(())
    }

    /// Runs `main` as a coroutine on core 0, the calling thread, and returns its value. Then stops all cores.
    ///
    /// `main` may borrow from the caller, since `run` returns only after it has ended. Coroutines that still live
    /// then are cancelled and waited for, up to the builder's `shutdown_grace`. The thread's CPU mask is put back.
    ///
    /// # Panics
    ///
    /// With the panic of `main`, after everything has stopped; when `main` was cancelled by a
    /// [`shutdown`](crate::shutdown()), which [`run_to_end`](Self::run_to_end) returns instead. When called inside a coroutine, or from a destructor
    /// while a panic unwinds.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut greeting = String::from("hello");
    /// coring::Runtime::new()?.run(|| greeting.push_str(", world"));
    /// assert_eq!(greeting, "hello, world");
    /// # Ok::<(), coring::StartError>(())
    /// ```
    #[track_caller]
    pub fn run<F, T>(self, main: F) -> T
    where
        F: FnOnce() -> T,
    {
        match self.run_to_end(main).outcome {
            Ok(value) => value,
            Err(coro::JoinError::Panicked(payload)) => resume_unwind(payload.into_inner()),
            Err(error) => panic!(
                "the main coroutine has no value: {error}; `run_to_end` returns where `run` panics"
            ),
        }
    }

    /// As [`run`](Self::run), and tells how it ended: also by a [`shutdown`](crate::shutdown()), which may cancel
    /// `main`, and with what was abandoned.
    ///
    /// # Panics
    ///
    /// When called inside a coroutine, or from a destructor while a panic unwinds.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    /// use std::time::Duration;
    ///
    /// fn main() -> ExitCode {
    ///     let runtime = coring::Runtime::new().expect("it starts");
    ///     let ended = runtime.run_to_end(|| {
    ///         coring::shutdown_on_signals(Duration::from_secs(30)).expect("signals can be caught");
    ///         // .. serve until `shutdown_requested`
    ///     });
    ///     ExitCode::from(ended.exit_code())
    /// }
    /// ```
    #[track_caller]
    #[expect(unsafe_code, reason = "main may borrow from the caller's frame")]
    pub fn run_to_end<F, T>(mut self, main: F) -> Ended<T>
    where
        F: FnOnce() -> T,
    {
        assert!(
            coro::try_current().is_none(),
            "`Runtime::run` was called inside a coroutine, where it would block the core for ever: spawn instead"
        );
        assert!(
            !thread::panicking(),
            "`Runtime::run` was called from a destructor while a panic unwinds, where no coroutine can wait"
        );
        let _pinned = Pinned::to(self.plan.cpu(0));
        let cluster = Arc::clone(&self.cluster);
        let _watched = cluster.port(0).pulse().turned_here();
        let core = self
            .core
            .as_ref()
            .expect("it is taken only by `stop`, which `run` ends with");
        let builder = coro::Builder::new().name("main");
        // SAFETY: the loop below returns only when the coroutine has ended, and does not unwind: a panic in a
        // coroutine stops at its root, and a broken invariant of the loop aborts. The handle is joined below.
        let spawned = unsafe { core.scheduler().spawn_borrowing(builder, main) };
        let main =
            spawned.unwrap_or_else(|error| panic!("the main coroutine cannot be started: {error}"));
        let abort = AbortOnUnwind(0);
        let mut requests = stop::Requests::default();
        core.run(|core| {
            requests.obey(core, &main);
            main.is_finished()
        });
        abort.disarm();
        let outcome = main.join();
        self.stop();
        Ended {
            outcome,
            abandoned: self.cluster.shutdown().take_abandoned(),
        }
    }

    /// What asks this runtime to end, from any thread, core or other runtime.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(&self.cluster)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Says that a core's thread has stopped, whatever stopped it.
struct TellStopped<'a>(&'a Cluster, usize);

impl Drop for TellStopped<'_> {
    fn drop(&mut self) {
        self.0.shutdown().has_stopped(self.1);
    }
}

/// Ends the process when a core's loop unwinds, which is a bug: who waits for the core would wait for ever, and the
/// main closure may borrow from a frame that would go away.
struct AbortOnUnwind(usize);

impl AbortOnUnwind {
    fn disarm(self) {
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        report::fatal(format_args!(
            "the loop of core {} panicked: this is a bug in coring",
            self.0
        ));
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
