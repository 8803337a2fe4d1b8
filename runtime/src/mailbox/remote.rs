//! Work on another core: a closure goes there, its result comes back.
//!
//! ```text
//!   caller (core A)                           core B
//!   spawn_on(B, f) ---- Task in A's lane ---> coroutine runs f
//!        |                                        | outcome into the packet
//!   join: waits on the packet <-- wake list of A -+
//! ```
//!
//! The packet (packet.rs) is told whatever happens to the closure: it returns, panics or is cancelled; it could not be
//! spawned; or the message was dropped because the core had stopped.
//!
//! A full lane makes the sending coroutine wait, never its core, which goes on draining its own inbox: cores that
//! flood each other in a cycle slow down and do not lock.

use super::Cluster;
use super::packet::{Completer, RemoteError, RemoteHandle, packet};
use super::port::{Message, Port};
use super::waiter::{Stop, Waiter};
use crate::per_core;
use coring_coro::{Builder, Scheduler};
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

/// A closure on its way to the core that will run it.
pub(crate) trait Start: Send {
    /// Makes it a coroutine.
    fn start(self: Box<Self>, scheduler: &Scheduler);

    /// The way back to the closure, when it was not sent.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl fmt::Debug for dyn Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

struct Task<F, T: Send + 'static> {
    f: F,
    /// Who sent it.
    site: &'static Location<'static>,
    completer: Completer<T>,
}

/// What the coroutine and its starter share until it is known that it was spawned: a closure that was not takes its
/// captures with it, and the packet is to hear the real reason.
struct Duty<T> {
    completer: Cell<Option<Completer<T>>>,
    cancellable: Cell<Option<super::packet::Cancellable>>,
}

impl<F, T> Start for Task<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn start(self: Box<Self>, scheduler: &Scheduler) {
        let Self { f, site, completer } = *self;
        let duty = Rc::new(Duty {
            completer: Cell::new(Some(completer)),
            cancellable: Cell::new(None),
        });
        // Dropped when the closure was run, or was dropped because it had been cancelled.
        let duty_there = Ended(Rc::clone(&duty));
        let builder = Builder::new().spawn_site(site);
        let spawned = scheduler.spawn(builder, move || {
            let duty = duty_there;
            let completer = duty.0.completer.take().expect("a closure runs once");
            run(f, completer, &duty);
        });
        // It has not run yet: we are between two batches of coroutines.
        let Some(completer) = duty.completer.take() else {
            return;
        };
        match spawned {
            Ok(handle) => {
                duty.cancellable.set(Some(completer.cancel_through(handle)));
                duty.completer.set(Some(completer));
            }
            Err(error) => completer.complete(Err(RemoteError::NotSpawned(error))),
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The coroutine's half of the duty: its end.
struct Ended<T>(Rc<Duty<T>>);

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        drop(self.0.cancellable.take());
        // Still there only if the closure never ran, which a cancellation before its first turn does - or if it
        // could not be spawned, and then `start` completes it.
        if let Some(completer) = self.0.completer.take() {
            if Rc::strong_count(&self.0) == 1 {
                completer.complete(Err(RemoteError::Cancelled));
            } else {
                self.0.completer.set(Some(completer));
            }
        }
    }
}

/// The body of the coroutine: whatever happens to `f`, the packet is told.
fn run<F, T>(f: F, completer: Completer<T>, duty: &Ended<T>)
where
    F: FnOnce() -> T,
    T: Send + 'static,
{
    let outcome = catch_unwind(AssertUnwindSafe(f));
    drop(duty.0.cancellable.take());
    match outcome {
        Ok(value) => completer.complete(Ok(value)),
        Err(payload) if coring_coro::is_cancellation(&*payload) => {
            completer.complete(Err(RemoteError::Cancelled));
            resume_unwind(payload);
        }
        Err(payload) => completer.complete(Err(RemoteError::Panicked(payload.into()))),
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
/// # Cancellation
///
/// A cancelled caller does not wait for room: the closure is dropped, and the handle says [`RemoteError::Refused`].
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
    send(core, f, Location::caller())
}

#[track_caller]
fn send<F, T>(core: usize, f: F, site: &'static Location<'static>) -> RemoteHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (cluster, message, handle) = task(core, f, site);
    let port = cluster.port(core);
    let mut message = Some(message);
    let (lane, _) = port.inbox().own(Some(&cluster));
    let sent = lane.wait_for_room("room in a core's inbox", None, Some(&cluster), || {
        match port.send(
            &cluster,
            message.take().expect("it comes back until it is sent"),
        ) {
            Ok(()) => Some(()),
            // Dropping the message tells the packet.
            Err(Rejected::Closed(_)) => Some(()),
            Err(Rejected::Full(back)) => {
                message = Some(back);
                None
            }
        }
    });
    if let (Err(Stop::Refused(refusal)), Some(message)) = (sent, message) {
        refuse_to_send::<F, T>(message, refusal);
    }
    handle
}

/// The caller may not wait for room: the packet says so instead of the core.
fn refuse_to_send<F, T>(message: Message, refusal: coring_coro::wait::Refusal)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let task = message.into_any().downcast::<Task<F, T>>();
    let task = task.expect("the message that was not sent is ours");
    task.completer.complete(Err(RemoteError::Refused(refusal)));
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
    let (cluster, message, handle) = task(core, f, Location::caller());
    match cluster.port(core).send(&cluster, message) {
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
    let task = message
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
    let (f, site) = (Arc::new(f), Location::caller());
    let one = |core| {
        let f = Arc::clone(&f);
        send(core, move || f(core), site)
    };
    (0..cores).map(one).collect()
}

#[track_caller]
fn task<F, T>(
    core: usize,
    f: F,
    site: &'static Location<'static>,
) -> (Arc<Cluster>, Box<dyn Start>, RemoteHandle<T>)
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
    let there = Waiter::of_core(&cluster, core);
    let (completer, handle) = packet(Some(there));
    (cluster, Box::new(Task { f, site, completer }), handle)
}

/// Why a message was not taken; it comes back.
enum Rejected {
    /// The sender's lane is full.
    Full(Message),
    /// The core has stopped.
    Closed(Message),
}

impl Port {
    /// Puts a message into the caller's lane and wakes the core if it sleeps. Never waits.
    fn send(&self, cluster: &Arc<Cluster>, message: Message) -> Result<(), Rejected> {
        if self.is_closed() {
            return Err(Rejected::Closed(message));
        }
        let (lane, sender) = self.inbox().own(Some(cluster));
        lane.push(sender, message).map_err(Rejected::Full)?;
        self.wake();
        Ok(())
    }
}
