//! Scopes: coroutines that borrow from the stack of the coroutine that made them.
//!
//! ```text
//!   scope(|s| {                    Family, on the parent's stack:
//!       s.spawn(|| ..);              unfinished -> child <-> child <-> child      (links in the control blocks)
//!       s.spawn(|| ..);              panic: the first one nobody joined
//!   })  <- returns, or unwinds, when the last child has ended
//! ```
//!
//! Why it is sound to borrow: the borrowed data lives longer than `'scope`, which ends when `scope` returns; `scope`
//! returns only after every child has ended, its closure and its result dropped or handed over; a panic of the
//! body is caught first, and a cancellation of the parent does not end the wait but is handed on to the children.
//! The stack that holds the family cannot be freed meanwhile, since its coroutine has not ended. Results
//! wait in the children's stacks, behind handles that cannot leave the scope.
//!
//! Invariants:
//! - A child is on the family's list from its spawn until the run loop has seen its end (`child_ended`): after
//!   its closure, its coroutine-locals and its unclaimed result have been dropped.
//! - The wait at the end cannot be refused: a scope is not entered where its coroutine must not switch.
#![expect(
    unsafe_code,
    reason = "children reach their family by pointer; the scope outlives them"
)]

use crate::cancel;
use crate::coroutine::{ControlBlock, Siblings};
use crate::join::{JoinError, JoinHandle};
use crate::scheduler::require_current;
use crate::spawn::{Builder, Outcome, SpawnError, spawn_in};
use crate::wait;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::time::Duration;

type Payload = Box<dyn Any + Send + 'static>;

/// The children of one scope, as the run loop sees them.
pub(crate) struct Family {
    parent: NonNull<ControlBlock>,
    youngest: Cell<Option<NonNull<ControlBlock>>>,
    cancelled: Cell<bool>,
    fail_fast: Cell<bool>,
    /// The first panic of a child that nobody joined.
    panic: Cell<Option<Payload>>,
}

impl Family {
    fn adopt(&self, child: NonNull<ControlBlock>) {
        // SAFETY: just spawned and not yet run.
        let block = unsafe { child.as_ref() };
        let older = self.youngest.replace(Some(child));
        block.set_siblings(Siblings {
            older,
            younger: None,
        });
        if let Some(older) = older {
            // SAFETY: on the list, hence not ended.
            let older = unsafe { older.as_ref() };
            older.set_siblings(Siblings {
                younger: Some(child),
                ..older.siblings()
            });
        }
        block.set_scope(NonNull::from(self));
    }

    /// A child has ended, and everything it borrowed has been let go.
    ///
    /// # Safety
    ///
    /// `this` is the family of `child`, which is on its list; called by the run loop.
    pub(crate) unsafe fn child_ended(this: NonNull<Self>, child: NonNull<ControlBlock>) {
        // SAFETY: a scope ends only when its list is empty.
        let family = unsafe { this.as_ref() };
        // SAFETY: on the list, hence not released.
        let block = unsafe { child.as_ref() };
        let Siblings { older, younger } = block.siblings();
        if let Some(older) = older {
            // SAFETY: on the list, hence not ended.
            let older = unsafe { older.as_ref() };
            older.set_siblings(Siblings {
                younger,
                ..older.siblings()
            });
        }
        if let Some(younger) = younger {
            // SAFETY: on the list, hence not ended.
            let younger = unsafe { younger.as_ref() };
            younger.set_siblings(Siblings {
                older,
                ..younger.siblings()
            });
        } else {
            family.youngest.set(older);
        }
        if family.youngest.get().is_none() {
            // SAFETY: the parent is inside its scope, hence has not ended.
            let parent = unsafe { family.parent.as_ref() };
            wait::scheduler_of(parent).wake(family.parent);
        }
    }

    fn cancel_children(&self) {
        self.cancelled.set(true);
        let mut next = self.youngest.get();
        while let Some(child) = next {
            cancel::request(child);
            // SAFETY: on the list, hence not ended; `request` runs no code of the child.
            next = unsafe { child.as_ref() }.siblings().older;
        }
    }

    /// A child panicked.
    pub(crate) fn failed(&self) {
        if self.fail_fast.get() {
            self.cancel_children();
        }
    }

    /// The outcome of a child that nobody joins. A destructor of the value that panics is a panic of the child.
    pub(crate) fn discard<T>(&self, outcome: Outcome<T>) {
        match catch_unwind(AssertUnwindSafe(|| match outcome {
            Err(JoinError::Panicked(payload)) => Some(payload.into_inner()),
            outcome => {
                drop(outcome);
                None
            }
        })) {
            Ok(None) => {}
            Ok(Some(payload)) | Err(payload) => self.keep(payload),
        }
    }

    fn keep(&self, payload: Payload) {
        match self.panic.take() {
            None => self.panic.set(Some(payload)),
            Some(first) => {
                self.panic.set(Some(first));
                // Reported by the panic hook already; dropping it might panic once more.
                let _ = ManuallyDrop::new(payload);
            }
        }
    }

    /// Waits for the last child. What interrupts the parent is handed on to the children, and goes on pending.
    fn wait_for_all(&self) {
        // SAFETY: the parent is the running coroutine.
        let parent = unsafe { self.parent.as_ref() };
        while self.youngest.get().is_some() {
            if !self.cancelled.get() && cancel::is_interrupted(parent) {
                cancel::refused_by_scope(parent);
                self.cancel_children();
            }
            wait::park_block(parent, "children of a scope");
        }
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("empty", &self.youngest.get().is_none())
            .field("cancelled", &self.cancelled.get())
            .finish()
    }
}

/// A scope in which coroutines may borrow. Made by [`scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    family: Family,
    // Invariant in both, as in std: nobody may shorten `'scope` and so borrow for less than the children live.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Runs `f`, which may spawn coroutines that borrow what lives outside; returns when all of them have ended.
///
/// Compare [`std::thread::scope`]. Children that are merely blocked are waited for, never cancelled.
///
/// # Parks
///
/// Until the last child has ended.
///
/// # Cancellation
///
/// A cancelled parent, or one past a [`deadline`](crate::deadline()), cancels its children, waits for them and then
/// returns; its next blocking call is refused.
///
/// # Panics
///
/// With the panic of `f`; else with that of the first child which panicked and was not joined. Always
/// after all children have ended. Outside a coroutine, and while unwinding (which aborts): the wait at the end
/// could not be kept.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let words = vec!["a", "bc", "def"];
/// let lengths: Vec<usize> = coro::scope(|s| {
///     let children: Vec<_> = words.iter().map(|word| s.spawn(|| word.len())).collect();
///     children.into_iter().map(|child| child.join().unwrap()).collect()
/// });
/// assert_eq!(lengths, [1, 2, 3]);
/// # });
/// ```
///
/// What a child borrows must live outside of the scope:
///
/// ```compile_fail,E0373
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// coro::scope(|s| {
///     let inside = String::new();
///     s.spawn(|| inside.len());
/// });
/// # });
/// ```
///
/// A handle cannot leave it:
///
/// ```compile_fail
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let handle = coro::scope(|s| s.spawn(|| 1));
/// # });
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let parent = require_current("coro::scope");
    assert!(
        !std::thread::panicking(),
        "coro::scope was called while a panic unwinds, where it could not wait for its children"
    );
    let scope = Scope {
        family: Family {
            parent: NonNull::from(parent),
            youngest: Cell::new(None),
            cancelled: Cell::new(false),
            fail_fast: Cell::new(false),
            panic: Cell::new(None),
        },
        scope: PhantomData,
        env: PhantomData,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.family.wait_for_all();
    match (outcome, scope.family.panic.take()) {
        (Ok(value), None) => value,
        (Ok(_), Some(payload)) | (Err(payload), None) => resume_unwind(payload),
        (Err(payload), Some(second)) => {
            // Reported by the panic hook already; dropping it might panic once more.
            let _ = ManuallyDrop::new(second);
            resume_unwind(payload)
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a child of this scope. As [`coro::spawn`](crate::spawn), but the closure may borrow.
    ///
    /// # Panics
    ///
    /// Where [`spawn_with`](Self::spawn_with) returns an error.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        match self.spawn_with(Builder::new(), f) {
            Ok(handle) => handle,
            Err(error) => panic!("cannot spawn a coroutine: {error}"),
        }
    }

    /// As [`spawn`](Self::spawn), with a name, a stack size or a group.
    ///
    /// # Errors
    ///
    /// As [`try_spawn`](crate::try_spawn).
    #[track_caller]
    pub fn spawn_with<F, T>(
        &'scope self,
        builder: Builder,
        f: F,
    ) -> Result<ScopedJoinHandle<'scope, T>, SpawnError>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        // SAFETY: the parent is inside its scope, hence has not ended.
        let scheduler = unsafe { self.family.parent.as_ref() }.scheduler;
        // SAFETY: the child is on the family's list before anything else can happen, so `scope` does not return
        // before it has ended; `'scope` outlives that. The handle is bound to `'scope`.
        let handle = unsafe { spawn_in(scheduler, builder, f, Location::caller()) }?;
        self.family.adopt(handle.control());
        if self.family.cancelled.get() {
            cancel::request(handle.control());
        }
        Ok(ScopedJoinHandle {
            handle: ManuallyDrop::new(handle),
            family: &self.family,
        })
    }

    /// Asks all children to end, those spawned later included.
    pub fn cancel(&self) {
        self.family.cancel_children();
    }

    /// From now on a child that panics cancels its siblings.
    pub fn fail_fast(&self) {
        self.family.fail_fast.set(true);
    }
}

/// The right to the result of a child of a [`scope`]. Dropping it detaches the child, but not from the scope.
pub struct ScopedJoinHandle<'scope, T> {
    handle: ManuallyDrop<JoinHandle<T>>,
    family: &'scope Family,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// As [`JoinHandle::join`]. A panic of the child that is joined does not make the scope panic.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Panics
    ///
    /// When a child joins itself.
    pub fn join(self) -> Result<T, JoinError> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, nor dropped.
        unsafe { ManuallyDrop::take(&mut this.handle) }.join()
    }

    /// As [`JoinHandle::join_timeout`].
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::join_timeout`].
    ///
    /// # Panics
    ///
    /// When a child joins itself.
    pub fn join_timeout(self, limit: Duration) -> Result<Result<T, JoinError>, Self> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again but for the family, nor dropped.
        let handle = unsafe { ManuallyDrop::take(&mut this.handle) };
        handle.join_timeout(limit).map_err(|handle| Self {
            handle: ManuallyDrop::new(handle),
            family: this.family,
        })
    }

    /// As [`JoinHandle::is_finished`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::cancel`].
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// As [`JoinHandle::name`].
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.handle.name()
    }

    pub(crate) fn inner(&self) -> &JoinHandle<T> {
        &self.handle
    }
}

impl<T> Drop for ScopedJoinHandle<'_, T> {
    fn drop(&mut self) {
        // SAFETY: taken once: `join` does not drop us.
        let handle = unsafe { ManuallyDrop::take(&mut self.handle) };
        if let Some(outcome) = handle.take_or_detach() {
            self.family.discard(outcome);
        }
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
