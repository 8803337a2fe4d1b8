//! The wait queue: what everything in `sync` and `channel` waits in.
//!
//! A doubly linked list, first in first out, whose nodes lie on the stacks of the waiting coroutines: nothing is
//! allocated, and a waiter that gives up leaves from the middle in O(1).
//!
//! ```text
//!   WaitQueue   first ---> Node <--> Node <--> Node <--- last
//!                          on the stack of the coroutine that waits
//! ```
//!
//! Two kinds of nodes:
//!
//! - A **claim** waits to be *granted* something: a lock, a permit, a value. Who has it to give unlinks
//!   the first claim, writes what it gives through the node's payload pointer, marks the node granted and wakes its
//!   coroutine. From then on it belongs to the waiter: nobody else can take it in between, which makes the hand-over
//!   fair.
//! - A **watch** belongs to `select`: it only wants to be woken when something changes, and looks for itself then.
//!   It is unlinked and woken before the claim behind it is served, so that it takes nothing away.
//!
//! # Why a node on a stack is sound
//!
//! 1. A node is linked only by the `wait` methods of [`WaitQueue`], for the length of that call, and by `select`, for
//!    the length of its own. Neither moves it. The former do not unwind while it is linked: in between they call
//!    `park_block` and read cells, nothing else. `select` unlinks by a guard.
//! 2. Both return only after the node is unlinked: by the granter, or by themselves. So while a node is linked, its
//!    coroutine is inside the call, its stack is not freed (a live stack never is), and its token may be woken.
//! 3. The queue is borrowed by the call, so it outlives the node. Its head is only reached through `&self` on one
//!    thread (`!Send`, `!Sync`), so no two changes overlap; no user code runs inside one.
//!
//! # Why no wake is lost, and none eaten
//!
//! A claim ends in exactly one of two ways: *granted* (by the granter, who unlinked it) or *withdrawn* (by its
//! waiter, who unlinked it). The waiter looks at `granted` first whenever it runs: a claim that was granted at the
//! same time as its waiter was cancelled or timed out succeeds. A withdrawn claim was never given anything, and
//! whoever withdraws the first claim of a queue offers the place to the one behind (the callers do, where a claim can
//! block others: `RwLock`, `Semaphore`).
#![expect(
    unsafe_code,
    reason = "intrusive list; the proof is in the head of this file"
)]

use super::WaitError;
use crate::cancel;
use crate::coroutine::ControlBlock;
use crate::scheduler::require_current;
use crate::timer::TimerKey;
use crate::wait::{self, Refusal, Token};
use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ptr::NonNull;
use std::time::Duration;

/// A place in a queue, on the stack of who waits.
#[derive(Debug)]
pub struct Node {
    previous: Cell<Option<NonNull<Node>>>,
    next: Cell<Option<NonNull<Node>>>,
    linked: Cell<bool>,
    granted: Cell<bool>,
    kind: Kind,
    token: Token,
    /// What the claim is for, in the terms of its queue: a mode, a number of permits.
    want: usize,
    /// Where the granter writes or reads the value that changes hands.
    payload: *mut (),
    /// The timer of a `select` branch.
    pub(crate) timer: Cell<Option<TimerKey>>,
    _pinned: PhantomPinned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Claim,
    Watch,
}

impl Node {
    fn new(kind: Kind, token: Token, want: usize, payload: *mut ()) -> Self {
        Self {
            previous: Cell::new(None),
            next: Cell::new(None),
            linked: Cell::new(false),
            granted: Cell::new(false),
            kind,
            token,
            want,
            payload,
            timer: Cell::new(None),
            _pinned: PhantomPinned,
        }
    }

    /// The node of a `select` branch.
    pub(crate) fn watch(token: Token) -> Self {
        Self::new(Kind::Watch, token, 0, std::ptr::null_mut())
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn want(&self) -> usize {
        self.want
    }

    /// Where the value changes hands. Valid while the node is linked, and until its coroutine runs again.
    pub(crate) fn payload(&self) -> *mut () {
        self.payload
    }
}

/// A queue of waiting coroutines.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    first: Cell<Option<NonNull<Node>>>,
    last: Cell<Option<NonNull<Node>>>,
}

impl WaitQueue {
    pub(crate) const fn new() -> Self {
        Self {
            first: Cell::new(None),
            last: Cell::new(None),
        }
    }

    /// Whether nobody waits.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    /// Waits for a grant.
    ///
    /// # Errors
    ///
    /// When the wait must not begin, is interrupted, or `limit` has passed. The claim is withdrawn then.
    #[inline]
    pub(crate) fn wait(
        &self,
        want: usize,
        payload: *mut (),
        what_for: &'static str,
        limit: Option<Duration>,
    ) -> Result<(), WaitError> {
        match limit {
            None => self.wait_until(want, payload, what_for, || false),
            Some(limit) => {
                if crate::scheduler::current().is_none() {
                    return Err(WaitError::Refused(Refusal::Outside));
                }
                wait::with_alarm(limit, |alarm| {
                    self.wait_until(want, payload, what_for, || alarm.rang())
                })
            }
        }
    }

    /// As [`wait`](Self::wait), for a caller that may find nothing although it was granted, and wait again: takes the time
    /// that passes off its limit.
    pub(crate) fn wait_again(
        &self,
        what_for: &'static str,
        limit: &mut Option<Duration>,
    ) -> Result<(), WaitError> {
        let clock = || crate::scheduler::current().map(|block| wait::scheduler_of(block).now());
        let begun = limit.and_then(|_| clock());
        self.wait(0, std::ptr::null_mut(), what_for, *limit)?;
        if let (Some(limit), Some(begun), Some(now)) = (limit, begun, clock()) {
            *limit = limit.saturating_sub(Duration::from_nanos(now.saturating_sub(begun)));
        }
        Ok(())
    }

    #[inline]
    fn wait_until(
        &self,
        want: usize,
        payload: *mut (),
        what_for: &'static str,
        is_late: impl Fn() -> bool,
    ) -> Result<(), WaitError> {
        let token = wait::begin().map_err(WaitError::Refused)?;
        // SAFETY: `begin` gave us the running coroutine: ourselves.
        let block = unsafe { token.control().as_ref() };
        let node = Node::new(Kind::Claim, token, want, payload);
        self.link(&node);
        loop {
            wait::park_block(block, what_for);
            if node.granted.get() {
                return Ok(());
            }
            if cancel::is_interrupted(block) {
                self.unlink(&node);
                let interrupt = cancel::refuse(block);
                return Err(WaitError::Refused(Refusal::Interrupted(interrupt)));
            }
            if is_late() {
                self.unlink(&node);
                return Err(WaitError::TimedOut);
            }
        }
    }

    /// Waits for a grant, for a caller without an error to return: an interrupted one is unwound.
    ///
    /// `withdrawn` runs after the claim was withdrawn, before the unwinding. Where there is no unwinding
    /// (`panic = "abort"`) the wait goes on.
    ///
    /// # Panics
    ///
    /// Outside a coroutine, and while unwinding.
    #[inline]
    pub(crate) fn wait_or_unwind(
        &self,
        want: usize,
        payload: *mut (),
        what_for: &'static str,
        withdrawn: impl Fn(),
    ) {
        let block = require_current(what_for);
        loop {
            if cancel::is_interrupted(block) && !std::thread::panicking() {
                cancel::unwind(block);
                return self.wait_uninterrupted(want, payload, what_for);
            }
            match self.claim(block, want, payload, what_for) {
                Claimed::Granted => return,
                Claimed::Interrupted => withdrawn(),
            }
        }
    }

    fn claim(
        &self,
        block: &ControlBlock,
        want: usize,
        payload: *mut (),
        what_for: &'static str,
    ) -> Claimed {
        must_not_unwind(what_for);
        let node = Node::new(Kind::Claim, Token::of(block), want, payload);
        self.link(&node);
        loop {
            wait::park_block(block, what_for);
            if node.granted.get() {
                return Claimed::Granted;
            }
            if cancel::is_interrupted(block) {
                self.unlink(&node);
                return Claimed::Interrupted;
            }
        }
    }

    /// Waits for a grant, come what may: for what has to be taken back before going on.
    ///
    /// # Panics
    ///
    /// Outside a coroutine, and while unwinding.
    pub(crate) fn wait_uninterrupted(&self, want: usize, payload: *mut (), what_for: &'static str) {
        let block = require_current(what_for);
        must_not_unwind(what_for);
        let node = Node::new(Kind::Claim, Token::of(block), want, payload);
        self.link(&node);
        while !node.granted.get() {
            wait::park_block(block, what_for);
        }
    }

    /// The first claim, still linked. Watches before it are woken and unlinked.
    #[inline]
    pub(crate) fn first_claim(&self) -> Option<&Node> {
        loop {
            // SAFETY: a linked node is alive (2 in the proof).
            let node = unsafe { self.first.get()?.as_ref() };
            if node.kind == Kind::Claim {
                return Some(node);
            }
            self.unlink(node);
            // SAFETY: it was linked, so its wait is not over (2 in the proof).
            unsafe { node.token.wake() };
        }
    }

    /// Whether a claim waits.
    pub(crate) fn has_claim(&self) -> bool {
        let mut next = self.first.get();
        while let Some(node) = next {
            // SAFETY: a linked node is alive (2 in the proof).
            let node = unsafe { node.as_ref() };
            if node.kind == Kind::Claim {
                return true;
            }
            next = node.next.get();
        }
        false
    }

    /// Grants a claim: the caller has given, or taken, what the payload stands for.
    #[inline]
    pub(crate) fn grant(&self, node: &Node) {
        self.unlink(node);
        node.granted.set(true);
        // SAFETY: it was linked, so its wait is not over until its coroutine runs (2 in the proof).
        unsafe { node.token.wake() };
    }

    /// Grants every claim and wakes every watch that waits now.
    pub(crate) fn grant_all(&self) {
        while let Some(node) = self.first_claim() {
            self.grant(node);
        }
    }

    /// Links a watch. The caller unlinks it before the node moves or goes.
    pub(crate) fn link(&self, node: &Node) {
        debug_assert!(!node.linked.get(), "a node is in one queue at a time");
        let this = NonNull::from(node);
        node.linked.set(true);
        node.next.set(None);
        node.previous.set(self.last.replace(Some(this)));
        match node.previous.get() {
            // SAFETY: a linked node is alive (2 in the proof).
            Some(previous) => unsafe { previous.as_ref() }.next.set(Some(this)),
            None => self.first.set(Some(this)),
        }
    }

    /// Unlinks a node of this queue; does nothing when it is not linked any more.
    pub(crate) fn unlink(&self, node: &Node) {
        if !node.linked.replace(false) {
            return;
        }
        let (previous, next) = (node.previous.take(), node.next.take());
        match previous {
            // SAFETY: a linked node is alive (2 in the proof).
            Some(previous) => unsafe { previous.as_ref() }.next.set(next),
            None => self.first.set(next),
        }
        match next {
            // SAFETY: a linked node is alive (2 in the proof).
            Some(next) => unsafe { next.as_ref() }.previous.set(previous),
            None => self.last.set(previous),
        }
    }
}

enum Claimed {
    Granted,
    Interrupted,
}

#[track_caller]
fn must_not_unwind(what_for: &str) {
    assert!(
        !std::thread::panicking(),
        "{what_for} would have to wait while a panic unwinds, which a coroutine cannot"
    );
}
