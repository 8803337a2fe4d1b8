//! The offload pool: threads for calls that would block a core.
//!
//! A core that waits inside a system call or a library holds up all its coroutines. What cannot be asked of the ring -
//! name look-up, reading a directory, a C library - goes to a thread of this pool, and only its coroutine waits.
//!
//! ```text
//!   blocking(f): job into the queue --+--> idle thread, or a new one up to `blocking_threads`
//!       parks                         |       runs f, result into the packet, wakes the core
//!       <----------- result ----------+    nothing to do for `blocking_keep_alive`: ends
//! ```
//!
//! Everything is bounded: threads and queue by the builder. A full queue makes [`blocking`] wait and
//! [`try_spawn_blocking`] give the closure back. One pool serves all cores of a runtime; it has no thread before the
//! first job. A thread may use all CPUs of the process, not only the one its core is pinned to.
//!
//! A panic of a job stops at the job and goes to who waits for it. A job cannot be interrupted: when its waiter is
//! cancelled it runs on and its result is dropped.
//!
//! At the stop of the runtime queued jobs are dropped (their waiters are told), idle threads end, and busy ones
//! get the grace period; a job that takes longer is named on stderr by the place of its call, and its thread abandoned.
//!
//! The lock is held for a few instructions, never while a job runs.

use crate::mailbox::{Completer, RemoteError, RemoteHandle, Stop, WaitQueue, packet};
use crate::per_core;
use crate::per_core::affinity;
use crate::report;
use crate::shutdown::Shutdown;
use coring_coro::shield;
use coring_coro::wait::{self, Refusal};
use coring_uring::monotonic_ns;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The limits of a pool, from the builder.
#[derive(Clone, Debug)]
pub(crate) struct PoolConfig {
    pub(crate) threads: usize,
    pub(crate) queue: usize,
    pub(crate) keep_alive: Duration,
    /// Where its threads may run.
    pub(crate) cpus: Vec<usize>,
}

/// What the offload pool has done and is doing. See [`blocking_stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockingStats {
    /// Threads now.
    pub threads: usize,
    /// Those of them that have nothing to do.
    pub idle: usize,
    /// Jobs that wait for a thread now.
    pub queued: usize,
    /// The most that have waited at once.
    pub most_queued: usize,
    /// Jobs that a thread has begun with.
    pub started: u64,
    /// Jobs that are through.
    pub finished: u64,
    /// Those of them that panicked.
    pub panicked: u64,
    /// Times that a job was not taken because the queue was full.
    pub refused: u64,
    /// How long jobs have waited for a thread, together.
    pub waited: Duration,
    /// The longest that one has waited.
    pub longest_wait: Duration,
}

/// Why a blocking call has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum BlockingError {
    /// The caller may not wait: it is no coroutine, was cancelled, or is unwinding. The job may run on.
    Refused(Refusal),
    /// There is no thread for it and none can be started.
    NoThread(io::Error),
    /// The runtime is stopping.
    Stopped,
}

impl fmt::Display for BlockingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "cannot wait for a blocking call: {refusal}"),
            Self::NoThread(error) => write!(
                f,
                "no thread for a blocking call could be started: {error}; raise the limit on processes (ulimit -u), or \
                 lower `blocking_threads`"
            ),
            Self::Stopped => {
                f.write_str("the runtime is stopping: no more blocking calls are made")
            }
        }
    }
}

impl std::error::Error for BlockingError {}

impl From<BlockingError> for io::Error {
    /// A cancelled caller gets the error that [`is_cancelled`](crate::io::is_cancelled) knows.
    fn from(error: BlockingError) -> Self {
        match error {
            BlockingError::Refused(refusal) => crate::io::refused(refusal),
            BlockingError::NoThread(source) => source,
            BlockingError::Stopped => Self::other(error),
        }
    }
}

/// Why a closure was not given to the pool; it comes back.
#[non_exhaustive]
pub enum TrySpawnBlockingError<F> {
    /// The queue is full: shed load, or raise `blocking_queue` or `blocking_threads` in the builder.
    Full(F),
    /// No thread can be started.
    NoThread(F, io::Error),
    /// The runtime is stopping, or there is none.
    Stopped(F),
}

impl<F> fmt::Debug for TrySpawnBlockingError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<F> fmt::Display for TrySpawnBlockingError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str(
                "the queue of the offload pool is full: shed load, or raise `blocking_queue` or `blocking_threads`",
            ),
            Self::NoThread(_, error) => write!(f, "no thread could be started: {error}"),
            Self::Stopped(_) => f.write_str("no runtime, or it is stopping"),
        }
    }
}

impl<F> std::error::Error for TrySpawnBlockingError<F> {}

/// Runs a closure that blocks on a thread of the offload pool, and waits for its result. The core goes on.
///
/// # Parks
///
/// Until the closure has returned; before that, while the pool's queue is full.
///
/// # Cancellation
///
/// When the caller is cancelled the call returns an error; a closure that has been queued runs on, and what it returns
/// is dropped. Who is cancelled already does not queue it.
///
/// # Errors
///
/// [`BlockingError`].
///
/// # Panics
///
/// With the panic of the closure.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let entries = coring::blocking(|| std::fs::read_dir("/proc/self/fd").map(Iterator::count))?;
///     assert!(entries? > 0);
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn blocking<F, T>(f: F) -> Result<T, BlockingError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (handle, _) = queue(f)?;
    value(handle.wait(None).map_err(refusal)?)
}

/// As [`blocking`], and what has begun is waited for: whatever the closure changes has been changed when this returns, also for a
/// caller that is cancelled meanwhile. One that still waits for room or for a thread then is dropped, and never run.
#[track_caller]
pub(crate) fn blocking_to_the_end<F, T>(f: F) -> Result<T, BlockingError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (handle, queued) = queue(f)?;
    let outcome = match handle.wait(None) {
        Err(Stop::Refused(refusal)) => {
            if queued.take_back() {
                return Err(BlockingError::Refused(refusal));
            }
            if let Refusal::Interrupted(_) = refusal {
                wait::forgive();
            }
            shield(|| handle.wait(None))
        }
        outcome => outcome,
    };
    value(outcome.map_err(refusal)?)
}

/// Waits for room in the queue.
#[track_caller]
fn queue<F, T>(f: F) -> Result<(RemoteHandle<T>, Queued), BlockingError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let engine = per_core::current().ok_or(BlockingError::Refused(Refusal::Outside))?;
    // Nobody would wait for the job of who is cancelled already.
    wait::begin().map_err(BlockingError::Refused)?;
    let pool = Arc::clone(engine.cluster().pool());
    let (job, handle) = job(f);
    let mut job = Some(job);
    let queued = pool.room.wait("room in the offload pool", None, || {
        let own = job.take().expect("it comes back until it is queued");
        match Pool::push(&pool, own) {
            Ok(number) => Some(Ok(number)),
            Err((_, Refused::Stopped)) => Some(Err(BlockingError::Stopped)),
            Err((_, Refused::NoThread(error))) => Some(Err(BlockingError::NoThread(error))),
            Err((back, Refused::Full)) => {
                job = Some(back);
                None
            }
        }
    });
    let number = queued.map_err(refusal)??;
    Ok((handle, Queued { pool, number }))
}

/// A job that was queued.
struct Queued {
    pool: Arc<Pool>,
    number: u64,
}

impl Queued {
    /// Drops it, if no thread has begun with it. Whether it was so.
    fn take_back(self) -> bool {
        let mut state = self.pool.lock();
        let place = state
            .queue
            .binary_search_by_key(&self.number, |job| job.number);
        let job = place.ok().and_then(|place| state.queue.remove(place));
        drop(state);
        let is_taken = job.is_some();
        if is_taken {
            self.pool.room.notify_one();
        }
        // Any code, so at the end and outside of the lock.
        drop(job);
        is_taken
    }
}

fn value<T>(outcome: Result<T, RemoteError>) -> Result<T, BlockingError> {
    match outcome {
        Ok(value) => Ok(value),
        Err(RemoteError::Panicked(payload)) => resume_unwind(payload.into_inner()),
        // The job was dropped unrun.
        Err(_) => Err(BlockingError::Stopped),
    }
}

fn refusal(stop: Stop) -> BlockingError {
    match stop {
        Stop::Refused(refusal) => BlockingError::Refused(refusal),
        Stop::TimedOut => unreachable!("there is no limit"),
    }
}

/// Gives a closure that blocks to the offload pool, without waiting for anything. Compare [`blocking`].
///
/// # Errors
///
/// The closure comes back when the queue is full, no thread can be had, or no runtime runs here.
///
/// # Examples
///
/// ```
/// # coring::Runtime::builder().cores(1).build()?.run(|| {
/// let slow = coring::try_spawn_blocking(|| 6 * 7).unwrap();
/// assert_eq!(slow.join().unwrap(), 42);
/// # });
/// # Ok::<(), coring::StartError>(())
/// ```
#[track_caller]
pub fn try_spawn_blocking<F, T>(f: F) -> Result<RemoteHandle<T>, TrySpawnBlockingError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let Some(engine) = per_core::current() else {
        return Err(TrySpawnBlockingError::Stopped(f));
    };
    // Shared with the job until the pool has taken it, so that the closure can come back.
    let f = Arc::new(Mutex::new(Some(f)));
    let there = Arc::clone(&f);
    let (job, handle) = job(move || take(&there)());
    match Pool::push(engine.cluster().pool(), job) {
        Ok(_) => Ok(handle),
        Err((_job, Refused::Full)) => Err(TrySpawnBlockingError::Full(take(&f))),
        Err((_job, Refused::NoThread(error))) => {
            Err(TrySpawnBlockingError::NoThread(take(&f), error))
        }
        Err((_job, Refused::Stopped)) => Err(TrySpawnBlockingError::Stopped(take(&f))),
    }
}

/// The closure out of the place it shares with its job.
fn take<F>(place: &Mutex<Option<F>>) -> F {
    let f = place.lock().unwrap_or_else(PoisonError::into_inner).take();
    f.expect("it is taken once: by its job, or back")
}

/// What the offload pool of the caller's runtime has done; `None` outside a runtime.
#[must_use]
pub fn blocking_stats() -> Option<BlockingStats> {
    per_core::current().map(|engine| engine.cluster().pool().stats())
}

/// A closure with its packet. Returns whether it panicked.
type Run = Box<dyn FnOnce() -> bool + Send>;

struct Job {
    run: Run,
    /// By which it is found in the queue, where numbers ascend.
    number: u64,
    /// Who called.
    site: &'static Location<'static>,
    queued_at: Instant,
}

#[track_caller]
fn job<F, T>(f: F) -> (Job, RemoteHandle<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (completer, handle) = packet(None);
    let run = Box::new(move || run(f, completer));
    let job = Job {
        run,
        number: 0,
        site: Location::caller(),
        queued_at: Instant::now(),
    };
    (job, handle)
}

fn run<T>(f: impl FnOnce() -> T, completer: Completer<T>) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(f));
    let panicked = outcome.is_err();
    // A result that nobody waits for is dropped here, and its drop may panic too.
    let told = report::contain(|| {
        completer.complete(outcome.map_err(|payload| RemoteError::Panicked(payload.into())))
    });
    panicked | !told
}

/// Why a job was not queued.
enum Refused {
    Full,
    NoThread(io::Error),
    Stopped,
}

/// The pool of one runtime.
pub(crate) struct Pool {
    config: PoolConfig,
    state: Mutex<State>,
    /// A job, or the end.
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
    /// Who waits for room in the queue.
    room: WaitQueue,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    stats: BlockingStats,
    /// Threads that were ever started.
    named: u64,
    /// Jobs that were ever queued.
    pushed: u64,
    /// The threads that run a job, by number, and who called it.
    busy: Vec<(u64, &'static Location<'static>)>,
    stopping: bool,
}

impl Pool {
    pub(crate) fn new(config: PoolConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            room: WaitQueue::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> BlockingStats {
        let state = self.lock();
        BlockingStats {
            queued: state.queue.len(),
            ..state.stats
        }
    }

    /// Queues a job and sees to it that a thread takes it. The job's number.
    fn push(pool: &Arc<Self>, mut job: Job) -> Result<u64, (Job, Refused)> {
        let mut state = pool.lock();
        if state.stopping {
            return Err((job, Refused::Stopped));
        }
        if state.queue.len() >= pool.config.queue {
            state.stats.refused += 1;
            return Err((job, Refused::Full));
        }
        // Idle threads that were called and have not come yet each take one of the queue.
        let wanted = state.queue.len() + 1 > state.stats.idle;
        if wanted && state.stats.threads < pool.config.threads {
            match Self::start_thread(pool, state.named) {
                Ok(()) => {
                    state.named += 1;
                    state.stats.threads += 1;
                }
                // The threads there are will come to it.
                Err(_) if state.stats.threads > 0 => {}
                Err(error) => return Err((job, Refused::NoThread(error))),
            }
        }
        state.pushed += 1;
        let number = state.pushed;
        job.number = number;
        state.queue.push_back(job);
        state.stats.most_queued = state.stats.most_queued.max(state.queue.len());
        drop(state);
        pool.work.notify_one();
        Ok(number)
    }

    fn start_thread(pool: &Arc<Self>, number: u64) -> io::Result<()> {
        let pool = Arc::clone(pool);
        let body = move || {
            affinity::allow(&pool.config.cpus);
            pool.work(number);
        };
        let name = thread_name(number);
        thread::Builder::new().name(name).spawn(body).map(drop)
    }

    /// The life of a thread.
    fn work(&self, number: u64) {
        let mut state = self.lock();
        loop {
            let (now, job) = self.next(state);
            state = now;
            let Some(job) = job else { break };
            let waited = job.queued_at.elapsed();
            state.stats.started += 1;
            state.stats.waited += waited;
            state.stats.longest_wait = state.stats.longest_wait.max(waited);
            state.busy.push((number, job.site));
            drop(state);
            self.room.notify_one();
            let panicked = (job.run)();
            state = self.lock();
            state.busy.retain(|(busy, _)| *busy != number);
            state.stats.finished += 1;
            state.stats.panicked += u64::from(panicked);
        }
        state.stats.threads -= 1;
        drop(state);
        self.ended.notify_all();
    }

    /// Waits for a job. `None` when the thread is to end.
    fn next<'a>(&self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, Option<Job>) {
        let since = Instant::now();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return (state, Some(job));
            }
            let left = self.config.keep_alive.saturating_sub(since.elapsed());
            if state.stopping || left.is_zero() {
                return (state, None);
            }
            state.stats.idle += 1;
            let woken = self.work.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.stats.idle -= 1;
        }
    }

    /// Takes no more jobs, drops those that wait, and lets the threads end; waits for them up to `deadline_ns`. Names those it has to
    /// leave.
    pub(crate) fn stop(&self, shutdown: &Shutdown, deadline_ns: u64) -> Vec<String> {
        let since_ns = monotonic_ns();
        let mut state = self.lock();
        state.stopping = true;
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        // Tells who waits for them. Their captures may panic, each for itself.
        for job in dropped {
            report::contain(|| drop(job));
        }
        let mut state = self.lock();
        while state.stats.threads > 0 {
            let deadline_ns = shutdown.deadline_ns(since_ns, deadline_ns);
            let left_ns = deadline_ns.saturating_sub(monotonic_ns());
            if left_ns == 0 {
                break;
            }
            let left = Duration::from_nanos(left_ns);
            let woken = self.ended.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let busy = state.busy.iter().map(|(number, site)| {
            let name = thread_name(*number);
            format!("the blocking call from {site} did not return in time; its thread {name} is abandoned")
        });
        busy.collect()
    }

    /// Who waits in [`stop`](Self::stop) is to look at its deadline again.
    pub(crate) fn hurry(&self) {
        // Under the lock: not between its look and its wait.
        drop(self.lock());
        self.ended.notify_all();
    }
}

fn thread_name(number: u64) -> String {
    format!("coring-block-{number}")
}
