//! A gate: lets work in until it is closed, and lets the closer wait until all of it has left.

use super::WaitError;
use super::waitgroup::WaitGroup;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// Enter, leave, close and drain: how a service is shut down.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let gate = coro::sync::Gate::new();
/// coro::scope(|s| {
///     s.spawn(|| {
///         let _inside = gate.enter().unwrap();
///         coro::yield_now(); // a request
///     });
///     coro::yield_now();
///     gate.close(); // waits for the request
///     assert!(gate.enter().is_err());
/// });
/// # });
/// ```
#[derive(Debug, Default)]
pub struct Gate {
    closed: Cell<bool>,
    inside: WaitGroup,
}

/// The gate has been closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateClosed;

impl fmt::Display for GateClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the gate is closed")
    }
}

impl std::error::Error for GateClosed {}

/// Being inside a [`Gate`]. Dropping it leaves.
#[derive(Debug)]
#[must_use = "dropping it leaves the gate"]
pub struct GateGuard<'a>(&'a Gate);

impl Gate {
    /// An open gate.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            closed: Cell::new(false),
            inside: WaitGroup::new(),
        }
    }

    /// Goes in.
    ///
    /// # Errors
    ///
    /// [`GateClosed`].
    pub fn enter(&self) -> Result<GateGuard<'_>, GateClosed> {
        if self.closed.get() {
            return Err(GateClosed);
        }
        self.inside.add(1);
        Ok(GateGuard(self))
    }

    /// How many are inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside.count()
    }

    /// Whether it has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Lets nobody in any more and waits until all have left. May be called more than once.
    ///
    /// # Parks
    ///
    /// Unless nobody is inside.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound; the gate stays closed.
    ///
    /// # Panics
    ///
    /// When it would have to wait outside a coroutine or while unwinding.
    pub fn close(&self) {
        self.closed.set(true);
        self.inside.wait();
    }

    /// As [`close`](Self::close), waiting for `limit` at the most; the gate stays closed in any case.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    pub fn close_timeout(&self, limit: Duration) -> Result<(), WaitError> {
        self.closed.set(true);
        self.inside.wait_timeout(limit)
    }
}

impl Drop for GateGuard<'_> {
    fn drop(&mut self) {
        self.0.inside.done();
    }
}
