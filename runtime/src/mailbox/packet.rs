//! The result of work done elsewhere, and the claim on it.
//!
//! ```text
//!   who asked                             who does it (another core, a thread of the offload pool)
//!   packet() ---- Completer -----------> complete(outcome), once
//!      |                                    | outcome in, waiters woken
//!   RemoteHandle::join <--------------------+
//! ```
//!
//! The packet is the one allocation both share. Every way out completes it: the closure returned, panicked or was
//! cancelled; it could not be started; or the [`Completer`] was dropped with the message that carried it.

use super::wait_queue::WaitQueue;
use super::waiter::{Errand, Stop, Waiter};
use crate::report;
use coring_coro::wait::Refusal;
use coring_coro::{PanicPayload, SpawnError};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why work done elsewhere has no result.
#[non_exhaustive]
pub enum RemoteError {
    /// It panicked; its payload is for [`std::panic::resume_unwind`].
    Panicked(PanicPayload),
    /// It was cancelled: by [`RemoteHandle::cancel`], or because the runtime is shutting down.
    Cancelled,
    /// The core could not start it.
    NotSpawned(SpawnError),
    /// The core had stopped before it got there.
    Stopped,
    /// The *caller* could not wait: it was itself cancelled, or is unwinding. The work goes on.
    Refused(Refusal),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(payload) => match payload.message() {
                Some(text) => write!(f, "the coroutine on the other core panicked: {text}"),
                None => f.write_str("the coroutine on the other core panicked"),
            },
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

pub(crate) type Outcome<T> = Result<T, RemoteError>;

#[derive(Debug)]
enum Progress<T> {
    Running,
    Done(Outcome<T>),
    Taken,
}

#[derive(Debug)]
pub(crate) struct Packet<T> {
    progress: Mutex<Progress<T>>,
    joiner: WaitQueue,
    cancel: Canceller,
}

impl<T> Packet<T> {
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        // Nothing panics while it is held.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Packet<T> {
    /// An outcome that nobody claimed, wherever the last of the two sides happens to be: a destructor's panic is nobody's business there.
    fn drop(&mut self) {
        let progress = self.progress.get_mut();
        let progress = progress.unwrap_or_else(PoisonError::into_inner);
        if let Progress::Done(outcome) = std::mem::replace(progress, Progress::Taken) {
            report::contain(|| drop(outcome));
        }
    }
}

/// A packet: the duty and the claim. `there` is a waiter of the core where the work will run, if it can be cancelled.
pub(crate) fn packet<T>(there: Option<Arc<Waiter>>) -> (Completer<T>, RemoteHandle<T>) {
    let packet = Arc::new(Packet {
        progress: Mutex::new(Progress::Running),
        joiner: WaitQueue::default(),
        cancel: Canceller {
            asked: AtomicBool::new(false),
            there,
        },
    });
    let completer = Completer {
        packet: Some(Arc::clone(&packet)),
    };
    (completer, RemoteHandle { packet })
}

/// How a coroutine is cancelled from another core: the errand to do so waits in a waiter of its own core.
#[derive(Debug)]
struct Canceller {
    asked: AtomicBool,
    there: Option<Arc<Waiter>>,
}

/// The duty to complete a packet: done by [`complete`](Self::complete), or by the drop with `Stopped`.
#[derive(Debug)]
pub(crate) struct Completer<T> {
    packet: Option<Arc<Packet<T>>>,
}

impl<T> Completer<T> {
    pub(crate) fn complete(mut self, outcome: Outcome<T>) {
        self.finish(outcome);
    }

    /// Ends the duty without a word: the work was never sent.
    pub(crate) fn disarm(mut self) {
        self.packet = None;
    }

    fn finish(&mut self, outcome: Outcome<T>) {
        if let Some(packet) = self.packet.take() {
            *packet.lock() = Progress::Done(outcome);
            packet.joiner.notify_all();
        }
    }

    /// On the core of the work, when it became a coroutine: from now on it can be cancelled from elsewhere.
    /// A request that came before is carried out.
    pub(crate) fn cancel_through(&self, handle: coring_coro::JoinHandle<()>) -> Cancellable {
        let cancel = self.packet.as_ref().map(|packet| &packet.cancel);
        let Some(Canceller {
            asked,
            there: Some(there),
        }) = cancel
        else {
            return Cancellable(None);
        };
        // The request is raised before the errand is asked for (`RemoteHandle::cancel`), and the errand is done on
        // this core: either it comes later and finds the handle, or the request is visible here.
        if asked.load(Ordering::Acquire) {
            handle.cancel();
        }
        there.set_errand(Errand::Cancel(handle));
        Cancellable(Some(Arc::clone(there)))
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        self.finish(Err(RemoteError::Stopped));
    }
}

/// While it lives, the coroutine can be cancelled from elsewhere. Lives and is dropped on the coroutine's core.
#[derive(Debug)]
pub(crate) struct Cancellable(Option<Arc<Waiter>>);

impl Drop for Cancellable {
    fn drop(&mut self) {
        if let Some(waiter) = &self.0 {
            drop(waiter.set_errand(Errand::Nothing));
        }
    }
}

/// The claim on the result of work done elsewhere: a closure on another core, or in the offload pool. It may be used
/// on any core and any thread.
///
/// Dropping it detaches: the work goes on and its result is dropped. A panic of that result's destructor goes no further.
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
        !matches!(*self.packet.lock(), Progress::Running)
    }

    /// Waits for the outcome.
    ///
    /// # Parks
    ///
    /// In a coroutine, the coroutine; elsewhere, the thread. For as long as that core does not turn, since only there can the work
    /// end: who cannot wait for a core in a loop of its own has [`join_timeout`](Self::join_timeout).
    ///
    /// # Cancellation
    ///
    /// When the caller is cancelled, returns [`RemoteError::Refused`]; the work goes on.
    ///
    /// # Errors
    ///
    /// [`RemoteError`].
    pub fn join(self) -> Result<T, RemoteError> {
        self.wait(None).unwrap_or_else(|stop| match stop {
            Stop::Refused(refusal) => Err(RemoteError::Refused(refusal)),
            Stop::TimedOut => unreachable!("there is no limit"),
        })
    }

    /// As [`join`](Self::join), for at the most `limit`; then the handle comes back.
    ///
    /// # Errors
    ///
    /// The handle itself, when there is no outcome yet. What `join` returns is inside the `Ok`.
    pub fn join_timeout(self, limit: Duration) -> Result<Result<T, RemoteError>, Self> {
        match self.wait(Some(limit)) {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Refused(refusal)) => Ok(Err(RemoteError::Refused(refusal))),
            Err(Stop::TimedOut) => Err(self),
        }
    }

    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<Outcome<T>, Stop> {
        self.packet
            .joiner
            .wait("another core", limit, || self.take())
    }

    fn take(&self) -> Option<Outcome<T>> {
        let mut progress = self.packet.lock();
        match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Done(outcome) => Some(outcome),
            other => {
                *progress = other;
                None
            }
        }
    }

    /// Asks the coroutine on the other core to end: the blocking call it is in, and each later one, is refused.
    ///
    /// Returns at once; [`join`](Self::join) tells when it has ended. One that has not started does not start. Work
    /// in the offload pool cannot be interrupted and goes on.
    pub fn cancel(&self) {
        let Canceller { asked, there } = &self.packet.cancel;
        if let Some(there) = there {
            // Pairs with the load in `cancel_through`.
            asked.store(true, Ordering::Release);
            there.wake();
        }
    }
}
