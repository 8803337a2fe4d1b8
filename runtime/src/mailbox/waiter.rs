//! The one place where something waits for another core: a coroutine, or a thread, that anybody may wake.
//!
//! A [`Waiter`] belongs to one core (or thread) for life. Everything that waits across cores is built on it: remote
//! handles, mailboxes, the locks in `sync`, the waker of a future.
//!
//! ```text
//!   coroutine of core A                      anywhere
//!   block(): take a waiter, leave the token
//!     attempt? no -> park                    condition = true
//!                                            wake() --> A's wake list, and A's bell if it sleeps
//!   core A drains its list: token there? wake it
//!     attempt? yes -> take the token out
//! ```
//!
//! Invariants:
//! - `errand` is touched on the home core only: by the coroutine that waits, and by the drain, on the same thread. So
//!   it is a plain cell, and no token crosses a core.
//! - A token is in it only while its coroutine is inside [`block`]. A wake that comes late finds nothing: a
//!   stale token cannot be used.
//! - Wakes are hints. A waiter goes back into its core's pool although others may still hold it: at worst they wake
//!   a later wait, which looks and parks again.
//!
//! A wake from the home core itself skips the list.
//!
//! What is polled may wait itself, and all waits of a coroutine (of a thread) are woken in the same way: the inner one takes a wake for
//! a hint of its own. So who wakes a poll leaves word (`told`), which is looked at after it. Both sides change it in one step, so
//! who finds word sees what all who have left it so far did before.
#![expect(
    unsafe_code,
    reason = "a cell that only its home core touches, and the token in it"
)]

use super::wake_list::{Link, Linked};
use super::{Cluster, Port};
use crate::per_core::{self, Engine};
use coring_coro::JoinHandle;
use coring_coro::wait::{self, Refusal};
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Where it is woken.
enum Home {
    Core { cluster: Arc<Cluster>, core: usize },
    Thread(Thread),
}

/// What is to be done on the home core when the waiter is woken.
#[derive(Debug, Default)]
pub(super) enum Errand {
    /// Nobody waits.
    #[default]
    Nothing,
    /// A coroutine waits; the address of its token.
    Wake(NonNull<()>),
    /// A coroutine is to be cancelled.
    Cancel(JoinHandle<()>),
}

/// Somebody who can be woken from anywhere, at any time.
pub(crate) struct Waiter {
    home: Home,
    link: Link<Waiter>,
    errand: Cell<Errand>,
    /// Who is polled is to be polled again.
    told: AtomicBool,
}

// SAFETY: `errand` is touched on the home core's thread only: `block` and `Waiter::set_errand` check it, and `run`
// is called by that core's drain. The rest is Send and Sync. Whoever puts a handle into it takes it out there.
unsafe impl Send for Waiter {}
// SAFETY: as above.
unsafe impl Sync for Waiter {}

impl Linked for Waiter {
    fn link(&self) -> &Link<Self> {
        &self.link
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.home {
            Home::Core { core, .. } => write!(f, "Waiter(core {core})"),
            Home::Thread(thread) => write!(f, "Waiter({:?})", thread.id()),
        }
    }
}

/// Why a wait was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The caller may not wait (any more).
    Refused(Refusal),
    /// The call's own limit has passed.
    TimedOut,
}

impl Waiter {
    fn new(home: Home) -> Arc<Self> {
        Arc::new(Self {
            home,
            link: Link::new(),
            errand: Cell::new(Errand::Nothing),
            told: AtomicBool::new(false),
        })
    }

    pub(crate) fn of_core(cluster: &Arc<Cluster>, core: usize) -> Arc<Self> {
        let cluster = Arc::clone(cluster);
        Self::new(Home::Core { cluster, core })
    }

    /// Wakes who waits, if anyone does. From any thread, at any time, also after the runtime has ended. Never blocks.
    pub(crate) fn wake(self: &Arc<Self>) {
        match &self.home {
            Home::Thread(thread) => thread.unpark(),
            Home::Core { cluster, core } => {
                if self.is_home() {
                    self.run();
                } else {
                    cluster.port(*core).wake_waiter(self);
                }
            }
        }
    }

    /// As [`wake`](Self::wake), for who [polls](Self::poll).
    pub(crate) fn tell(self: &Arc<Self>) {
        // Pairs with the swap and the load in `poll`.
        self.told.swap(true, Ordering::AcqRel);
        self.wake();
    }

    /// An attempt that may itself wait: a wake that comes meanwhile is for the attempt that follows.
    #[inline]
    pub(crate) fn poll<T>(self: &Arc<Self>, attempt: impl FnOnce() -> Option<T>) -> Option<T> {
        // Mostly there is none, and no need to take the line.
        if self.told.load(Ordering::Relaxed) {
            // Pairs with the swap in `tell`.
            self.told.swap(false, Ordering::AcqRel);
        }
        let value = attempt();
        if value.is_none() && self.told.load(Ordering::Acquire) {
            self.wake();
        }
        value
    }

    /// Whether the caller runs on the home core.
    fn is_home(&self) -> bool {
        let (Home::Core { cluster, core }, Some(engine)) = (&self.home, per_core::current()) else {
            return false;
        };
        engine.index() == *core && Arc::ptr_eq(engine.cluster(), cluster)
    }

    /// Does the errand. On the home core.
    pub(super) fn run(&self) {
        match self.errand.take() {
            Errand::Nothing => {}
            Errand::Wake(token) => {
                self.errand.set(Errand::Wake(token));
                // SAFETY: made by `wait::begin` on this thread: errands are left and done on the home core.
                let token = unsafe { wait::Token::from_raw(token) };
                // SAFETY: the coroutine takes the token out before it leaves its wait, so it is still inside.
                unsafe { token.wake() };
            }
            Errand::Cancel(handle) => {
                handle.cancel();
                self.errand.set(Errand::Cancel(handle));
            }
        }
    }

    /// Leaves an errand, and returns the one before.
    pub(super) fn set_errand(&self, errand: Errand) -> Errand {
        assert!(self.is_home(), "an errand is left on the home core");
        self.errand.replace(errand)
    }
}

/// A waiter in use by a coroutine; dropped, it goes back into the core's pool.
struct Armed {
    waiter: Arc<Waiter>,
    engine: &'static Engine,
}

impl Armed {
    fn begin(engine: &'static Engine) -> Result<Self, Refusal> {
        let token = wait::begin()?;
        let waiter = engine.take_waiter();
        waiter.errand.set(Errand::Wake(token.into_raw()));
        Ok(Self { waiter, engine })
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.waiter.errand.set(Errand::Nothing);
        self.engine.give_waiter(&self.waiter);
    }
}

/// Waits until `attempt` gives something. It is called with the waiter to be left where the wake will come from, at
/// once and after each wake.
///
/// In a coroutine the coroutine parks; on a thread without a core, the thread does.
pub(crate) fn block<T>(
    what_for: &'static str,
    limit: Option<Duration>,
    attempt: impl FnMut(&Arc<Waiter>) -> Option<T>,
) -> Result<T, Stop> {
    let Some(engine) = per_core::current() else {
        return block_thread(limit, attempt);
    };
    let armed = Armed::begin(engine).map_err(Stop::Refused)?;
    match limit {
        None => block_coroutine(&armed.waiter, what_for, attempt, || false),
        Some(limit) => wait::with_alarm(limit, |alarm| {
            block_coroutine(&armed.waiter, what_for, attempt, || alarm.rang())
        }),
    }
}

fn block_coroutine<T>(
    waiter: &Arc<Waiter>,
    what_for: &'static str,
    mut attempt: impl FnMut(&Arc<Waiter>) -> Option<T>,
    is_late: impl Fn() -> bool,
) -> Result<T, Stop> {
    loop {
        if let Some(value) = attempt(waiter) {
            return Ok(value);
        }
        if wait::interrupted().is_some() {
            let refusal = Refusal::Interrupted(wait::refuse_current());
            return Err(Stop::Refused(refusal));
        }
        if is_late() {
            return Err(Stop::TimedOut);
        }
        // An attempt may be what wakes us: the poll of a future that only gives way.
        wait::park_fairly(what_for);
    }
}

fn block_thread<T>(
    limit: Option<Duration>,
    mut attempt: impl FnMut(&Arc<Waiter>) -> Option<T>,
) -> Result<T, Stop> {
    let waiter = Waiter::new(Home::Thread(thread::current()));
    // A limit too far away to be a point in time is none.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        if let Some(value) = attempt(&waiter) {
            return Ok(value);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => return Err(Stop::TimedOut),
            Some(left) => thread::park_timeout(left),
        }
    }
}

impl Port {
    /// Puts a waiter of this port's core on its wake list and wakes the core if it sleeps.
    fn wake_waiter(&self, waiter: &Arc<Waiter>) {
        if self.wakes().push(waiter) {
            self.wake();
        }
    }
}
