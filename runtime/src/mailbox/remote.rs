//! Work on another core: a closure goes there, its result comes back.
//!
//! ```text
//!   caller (core A, or a thread)              core B
//!   spawn_on(B, f) --- Message::Spawn ------> coroutine runs f
//!        |                                        | result into the shared packet
//!   join: waits on the packet <-- Notify ---------+   (a thread is unparked instead)
//! ```
//!
//! The packet is the one allocation both sides share. Whoever waits leaves a [`Waiter`] in it under its lock; who
//! completes it takes the outcome in and then tells the waiter. For a coroutine the telling is a message to *its*
//! core, which looks into the packet again: a waiter that gave up meanwhile has taken its token out, so a stale
//! token is never used.
//!
//! Every way out completes the packet: the closure returns, panics or is cancelled; it could not be spawned; the
//! message was dropped because the core had stopped ([`Completer`]'s drop).
#![expect(
    unsafe_code,
    reason = "a parked coroutine's token, used only on its own core while it waits"
)]

use super::{Cluster, Message, Rejected};
use crate::per_core;
use coring_coro::wait::{self, Refusal};
use coring_coro::{Builder, Scheduler, SpawnError};
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// How long a thread without a core sleeps between two tries to send into a full inbox.
const FULL_RETRY: Duration = Duration::from_micros(100);

/// Why a closure on another core has no result.
#[non_exhaustive]
pub enum RemoteError {
    /// It panicked; this is the payload, for [`std::panic::resume_unwind`].
    Panicked(Box<dyn Any + Send + 'static>),
    /// It was cancelled: the runtime is shutting down.
    Cancelled,
    /// The core could not start it.
    NotSpawned(SpawnError),
    /// The core had stopped before it got there.
    Stopped,
    /// The *caller* could not wait: it was itself cancelled, or is unwinding. The closure runs on.
    Refused(Refusal),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(payload) => {
                let text = payload.downcast_ref::<&str>().copied();
                match text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)) {
                    Some(text) => write!(f, "the coroutine on the other core panicked: {text}"),
                    None => f.write_str("the coroutine on the other core panicked"),
                }
            }
            Self::Cancelled => f.write_str("the coroutine on the other core was cancelled"),
            Self::NotSpawned(error) => {
                write!(f, "the other core could not start the coroutine: {error}")
            }
            Self::Stopped => f.write_str("the other core has stopped"),
            Self::Refused(refusal) => write!(f, "cannot wait for the other core: {refusal}"),
        }
    }
}

impl fmt::Debug for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for RemoteError {}

type Outcome<T> = Result<T, RemoteError>;

/// Who waits for a packet.
enum Waiter {
    Nobody,
    Thread(Thread),
    /// A coroutine parked in [`RemoteHandle::join`] on that core of that runtime, which need not be the one that
    /// the closure runs in. The address of its token.
    Coroutine {
        cluster: Arc<Cluster>,
        core: usize,
        token: NonNull<()>,
    },
}

enum Progress<T> {
    Running,
    Done(Outcome<T>),
    Taken,
}

struct State<T> {
    progress: Progress<T>,
    waiter: Waiter,
}

struct Packet<T> {
    state: Mutex<State<T>>,
}

// SAFETY: `Mutex<State<T>>` would be both but for the token in `Waiter::Coroutine`, which is only a word here: it
// is turned back into a token by `notify`, on the core that it names. The outcome moves between threads: `T: Send`.
unsafe impl<T: Send> Send for Packet<T> {}
// SAFETY: as above; all access is under the lock.
unsafe impl<T: Send> Sync for Packet<T> {}

impl<T> Packet<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A packet without its type, on its way to the core of its waiter.
pub(crate) trait Notify: Send + Sync {
    /// Wakes the waiter, if it still waits. Called on the waiter's core.
    fn notify(&self);
}

impl<T: Send> Notify for Packet<T> {
    fn notify(&self) {
        let state = self.lock();
        if let Waiter::Coroutine { token, .. } = state.waiter {
            // SAFETY: made by `wait::begin` on this thread: the message was sent to the core the waiter named.
            let token = unsafe { wait::Token::from_raw(token) };
            // SAFETY: the waiter removes itself before it leaves its wait, so it is still inside.
            unsafe { token.wake() };
        }
    }
}

/// The duty to complete a packet: done by [`complete`](Self::complete), or by the drop with `Stopped`.
struct Completer<T: Send + 'static> {
    packet: Option<Arc<Packet<T>>>,
}

impl<T: Send + 'static> Completer<T> {
    fn complete(mut self, outcome: Outcome<T>) {
        self.finish(outcome);
    }

    /// Ends the duty without a word: the closure was never sent.
    fn disarm(mut self) {
        self.packet = None;
    }

    fn finish(&mut self, outcome: Outcome<T>) {
        let Some(packet) = self.packet.take() else {
            return;
        };
        let waiting_on = {
            let mut state = packet.lock();
            state.progress = Progress::Done(outcome);
            match &state.waiter {
                Waiter::Nobody => None,
                Waiter::Thread(thread) => {
                    thread.unpark();
                    None
                }
                Waiter::Coroutine { cluster, core, .. } => Some((Arc::clone(cluster), *core)),
            }
        };
        if let Some((cluster, core)) = waiting_on {
            send_for_sure(&cluster, core, Message::Notify(packet));
        }
    }
}

impl<T: Send + 'static> Drop for Completer<T> {
    fn drop(&mut self) {
        self.finish(Err(RemoteError::Stopped));
    }
}

/// Sends news that must arrive. Waits while the inbox is full, which ends, since every core drains its own each
/// turn; a core that has stopped has nobody left who waits.
fn send_for_sure(cluster: &Cluster, core: usize, mut message: Message) {
    loop {
        match cluster.port(core).try_send(message) {
            Ok(()) | Err(Rejected::Closed(_)) => return,
            Err(Rejected::Full(back)) => message = back,
        }
        give_way();
    }
}

/// Lets time pass for a full inbox: other coroutines run, or the thread sleeps.
fn give_way() {
    if per_core::current().is_some() && !thread::panicking() {
        coring_coro::shield(coring_coro::yield_now);
    } else {
        thread::sleep(FULL_RETRY);
    }
}

/// A closure on its way to the core that will run it.
pub(crate) trait Start: Send {
    /// Makes it a coroutine.
    fn start(self: Box<Self>, scheduler: &Scheduler, builder: Builder);

    /// The way back to the closure, when it was not sent.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

struct Task<F, T: Send + 'static> {
    f: F,
    completer: Completer<T>,
}

impl<F, T> Start for Task<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn start(self: Box<Self>, scheduler: &Scheduler, builder: Builder) {
        let Self { f, completer } = *self;
        // Shared with the closure only until we know that it was spawned: a closure that was not takes its
        // captures with it, and the packet is to hear the real reason.
        let duty = Rc::new(Cell::new(Some(completer)));
        let duty_there = Rc::clone(&duty);
        let spawned = scheduler.spawn(builder, move || {
            let completer = duty_there.take().expect("a closure runs once");
            run(f, completer);
        });
        if let Err(error) = spawned
            && let Some(completer) = duty.take()
        {
            completer.complete(Err(RemoteError::NotSpawned(error)));
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The body of the coroutine: whatever happens to `f`, the packet is told.
fn run<F, T>(f: F, completer: Completer<T>)
where
    F: FnOnce() -> T,
    T: Send + 'static,
{
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => completer.complete(Ok(value)),
        Err(payload) if coring_coro::is_cancellation(&*payload) => {
            completer.complete(Err(RemoteError::Cancelled));
            resume_unwind(payload);
        }
        Err(payload) => completer.complete(Err(RemoteError::Panicked(payload))),
    }
}

/// The claim on the result of a closure on another core. Works from any core and any thread.
///
/// Dropping it detaches: the closure runs on and its result is dropped.
pub struct RemoteHandle<T> {
    packet: Arc<Packet<T>>,
}

impl<T> fmt::Debug for RemoteHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle")
            .field("finished", &self.is_finished())
            .finish()
    }
}

impl<T> RemoteHandle<T> {
    /// Whether the outcome is there, so that [`join`](Self::join) will not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(self.packet.lock().progress, Progress::Running)
    }

    /// Waits for the outcome.
    ///
    /// # Parks
    ///
    /// In a coroutine, the coroutine; elsewhere, the thread.
    ///
    /// # Cancellation
    ///
    /// When the caller is cancelled, returns [`RemoteError::Refused`]; the closure runs on.
    ///
    /// # Errors
    ///
    /// [`RemoteError`].
    pub fn join(self) -> Result<T, RemoteError> {
        if let Some(outcome) = self.take() {
            return outcome;
        }
        match per_core::current() {
            Some(engine) => self.join_as_coroutine(engine),
            None => self.join_as_thread(),
        }
    }

    fn take(&self) -> Option<Outcome<T>> {
        let mut state = self.packet.lock();
        match std::mem::replace(&mut state.progress, Progress::Taken) {
            Progress::Done(outcome) => Some(outcome),
            other => {
                state.progress = other;
                None
            }
        }
    }

    fn join_as_thread(&self) -> Outcome<T> {
        self.packet.lock().waiter = Waiter::Thread(thread::current());
        loop {
            if let Some(outcome) = self.take() {
                return outcome;
            }
            thread::park();
        }
    }

    fn join_as_coroutine(&self, engine: &per_core::Engine) -> Outcome<T> {
        let token = wait::begin().map_err(RemoteError::Refused)?.into_raw();
        let (cluster, core) = (Arc::clone(engine.cluster()), engine.index());
        self.packet.lock().waiter = Waiter::Coroutine {
            cluster,
            core,
            token,
        };
        loop {
            if let Some(outcome) = self.take() {
                self.packet.lock().waiter = Waiter::Nobody;
                return outcome;
            }
            if wait::interrupted().is_some() {
                self.packet.lock().waiter = Waiter::Nobody;
                return Err(RemoteError::Refused(Refusal::Interrupted(
                    wait::refuse_current(),
                )));
            }
            wait::park("another core");
        }
    }
}

/// Why a closure was not sent; it comes back.
#[non_exhaustive]
pub enum TrySpawnOnError<F> {
    /// The core's inbox is full.
    Full(F),
    /// The core has stopped.
    Stopped(F),
}

impl<F> fmt::Debug for TrySpawnOnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<F> fmt::Display for TrySpawnOnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the inbox of the core is full: retry later, or raise `inbox_capacity` in the builder",
            Self::Stopped(_) => "the core has stopped",
        })
    }
}

impl<F> std::error::Error for TrySpawnOnError<F> {}

/// Runs a closure as a coroutine on another core of this runtime, or on this one.
///
/// The closure travels once and stays there for life, so what it makes there need not be `Send`. Closures that one
/// caller sends to one core start in the order they were sent.
///
/// # Parks
///
/// While the core's inbox is full.
///
/// # Errors
///
/// None here: what goes wrong on the way is what [`RemoteHandle::join`] returns.
///
/// # Panics
///
/// Outside a runtime, and when there is no such core.
///
/// # Examples
///
/// ```
/// let sum = coring::Runtime::builder().cores(2).build()?.run(|| {
///     let there = coring::spawn_on(1, || 40);
///     there.join().unwrap() + 2
/// });
/// assert_eq!(sum, 42);
/// # Ok::<(), coring::StartError>(())
/// ```
#[track_caller]
pub fn spawn_on<F, T>(core: usize, f: F) -> RemoteHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (cluster, message, handle) = task(core, f);
    let mut message = Message::Spawn(message);
    loop {
        match cluster.port(core).try_send(message) {
            // Dropping the message tells the packet.
            Ok(()) | Err(Rejected::Closed(_)) => return handle,
            Err(Rejected::Full(back)) => message = back,
        }
        give_way();
    }
}

/// As [`spawn_on`], without waiting for room.
///
/// # Errors
///
/// The closure comes back when the inbox is full or the core has stopped.
///
/// # Panics
///
/// As [`spawn_on`].
#[track_caller]
pub fn try_spawn_on<F, T>(core: usize, f: F) -> Result<RemoteHandle<T>, TrySpawnOnError<F>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (cluster, message, handle) = task(core, f);
    match cluster.port(core).try_send(Message::Spawn(message)) {
        Ok(()) => Ok(handle),
        Err(Rejected::Full(back)) => Err(TrySpawnOnError::Full(unpack::<F, T>(back))),
        Err(Rejected::Closed(back)) => Err(TrySpawnOnError::Stopped(unpack::<F, T>(back))),
    }
}

/// The closure out of a message that was not taken.
fn unpack<F, T>(message: Message) -> F
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let Message::Spawn(start) = message else {
        unreachable!("the message that was sent comes back")
    };
    let task = start
        .into_any()
        .downcast::<Task<F, T>>()
        .expect("the message that was sent comes back");
    task.completer.disarm();
    task.f
}

/// Runs a closure once on every core; the handles are in the order of the cores.
///
/// # Panics
///
/// Outside a runtime.
///
/// # Examples
///
/// ```
/// let runtime = coring::Runtime::builder().cores(2).build()?;
/// let cores = runtime.run(|| {
///     let handles = coring::spawn_on_each(|core| core);
///     handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
/// });
/// assert_eq!(cores, [0, 1]);
/// # Ok::<(), coring::StartError>(())
/// ```
#[track_caller]
pub fn spawn_on_each<F, T>(f: F) -> Vec<RemoteHandle<T>>
where
    F: Fn(usize) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    let cores = per_core::require_current("spawn_on_each").cluster().cores();
    let f = Arc::new(f);
    let one = |core| {
        let f = Arc::clone(&f);
        spawn_on(core, move || f(core))
    };
    (0..cores).map(one).collect()
}

#[track_caller]
fn task<F, T>(core: usize, f: F) -> (Arc<Cluster>, Box<dyn Start>, RemoteHandle<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let cluster = Arc::clone(per_core::require_current("spawn_on").cluster());
    assert!(
        core < cluster.cores(),
        "there is no core {core}: this runtime has {}",
        cluster.cores()
    );
    let state = Mutex::new(State {
        progress: Progress::Running,
        waiter: Waiter::Nobody,
    });
    let packet = Arc::new(Packet { state });
    let completer = Completer {
        packet: Some(Arc::clone(&packet)),
    };
    (
        cluster,
        Box::new(Task { f, completer }),
        RemoteHandle { packet },
    )
}
