//! Operations with many completions, and the coroutine that takes them one by one.
//!
//! ```text
//!   submit ----> next ----> next ----> ... ----> the last one: over
//!    |            |  nothing there: watch, park, look again
//!    refused      `- interrupted: Leave  take the watch back; the operation goes on, what comes is kept for the next call
//!                                 End    ask the kernel to end it, and wait on for what it says
//!   drop: what waits and what still comes is given back by the ring
//! ```
//!
//! Unlike `perform` it outlives the call that began it, so it borrows nothing from a frame: what the kernel uses belongs
//! to the ring, is owned by the operation, or is a descriptor that the owner of this value borrows.
//!
//! A descriptor is a number until the kernel has seen the operation. So who may not wait for an operation does not begin it, and who
//! leaves one tells the kernel of it first: afterwards the descriptor may be closed, and its number mean something else.
//!
//! It belongs to one ring. A value that turns up elsewhere, in another runtime of the thread, is recognised: an
//! operation is only a number, which there would mean another one.
#![expect(
    unsafe_code,
    reason = "submits operations that outlive the call, under a contract"
)]

use super::{Limit, interrupted, may_wait, park_to_ask_again, refused};
use crate::mailbox::Cluster;
use crate::per_core::{self, Engine};
use coring_coro::wait::{self, Refusal};
use coring_uring::{Carries, Event, OpId, Sqe, Token};
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

/// What becomes of an operation when the wait for its next completion is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// It goes on without a watcher.
    Leave,
    /// It is asked to end. The wait goes on for the completion that tells how it did.
    End,
}

/// An operation with many completions. See the head of the file.
#[derive(Debug)]
pub(crate) struct Multishot {
    op: OpId,
    /// With the index it tells the core: the address is not used again while this holds on to it.
    cluster: Arc<Cluster>,
    core: usize,
    /// The last completion was taken: the number may mean another operation now.
    over: bool,
    _stays_on_its_core: PhantomData<*mut ()>,
}

impl Multishot {
    /// Queues it on the ring of the current core, for a coroutine that may wait for it.
    ///
    /// # Safety
    ///
    /// As [`Ring::submit_multishot`](coring_uring::Ring::submit_multishot). What `carries` does not keep alive the
    /// caller does, until a completion says that no more follow or this value is dropped and the ring has ended it.
    pub(crate) unsafe fn submit(sqe: Sqe, carries: Carries) -> io::Result<Self> {
        let Some(engine) = per_core::current() else {
            return Err(refused(Refusal::Outside));
        };
        may_wait()?;
        // SAFETY: passed on to the caller.
        let op = unsafe { engine.ring().borrow_mut().submit_multishot(sqe, carries) }?;
        Ok(Self {
            op,
            cluster: Arc::clone(engine.cluster()),
            core: engine.index(),
            over: false,
            _stays_on_its_core: PhantomData,
        })
    }

    /// The core it runs on, if that is the current one.
    fn engine(&self) -> Option<&'static Engine> {
        per_core::current().filter(|engine| {
            engine.index() == self.core && Arc::ptr_eq(engine.cluster(), &self.cluster)
        })
    }

    /// Whether its last completion was taken.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// The next completion, if it is there.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        let engine = self.engine().filter(|_| !self.over)?;
        let event = engine.ring().borrow_mut().next(self.op);
        self.over = event.as_ref().is_some_and(|event| !event.more());
        event
    }

    /// Asks the kernel to end it. What has come until then is still to be had with `next`.
    pub(crate) fn end(&self) {
        if let Some(engine) = self.engine().filter(|_| !self.over) {
            engine.ring().borrow_mut().cancel(self.op);
        }
    }

    /// Ends it for an owner whose descriptor may be closed afterwards: when this returns the kernel needs it no more, and
    /// has let go of what it names, unless it takes longer than usual for that.
    pub(crate) fn end_now(self) {
        let (engine, op) = (self.engine(), self.op);
        drop(self);
        if let Some(engine) = engine {
            engine.end_now(op);
        }
    }

    /// The next completion, and whether it was asked to end. Parks until there is one.
    ///
    /// A completion that is there when the wait is interrupted is returned all the same: nothing that happened is lost.
    pub(crate) fn next(
        &mut self,
        what_for: &'static str,
        limit: Limit<'_>,
        when: Interrupted,
    ) -> io::Result<(Event, bool)> {
        let Some(engine) = self.engine().filter(|_| !self.over) else {
            let text = "it belongs to another core, or is over: use it on the core and in the runtime that began it";
            return Err(io::Error::other(text));
        };
        let token = wait::begin().map_err(refused)?;
        let token = Token::new(token.into_raw());
        let mut ending = false;
        loop {
            let mut ring = engine.ring().borrow_mut();
            if let Some(event) = ring.next_or_watch(self.op, token) {
                self.over = !event.more();
                return Ok((event, ending));
            }
            let told = wait::interrupted().is_some();
            if told || limit.passed() {
                match when {
                    Interrupted::Leave => {
                        ring.unwatch(self.op);
                        drop(ring);
                        engine.hand_over();
                        return Err(match told {
                            true => interrupted(wait::refuse_current()),
                            false => io::Error::from_raw_os_error(libc::EAGAIN),
                        });
                    }
                    // Asked again at each wake, see `park_to_ask_again`.
                    Interrupted::End => {
                        ending = true;
                        ring.cancel(self.op);
                    }
                }
            }
            drop(ring);
            if ending {
                park_to_ask_again(what_for);
            } else {
                wait::park(what_for);
            }
        }
    }
}

impl Drop for Multishot {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Elsewhere there is nothing to do: its own runtime gives everything back when it stops.
        if let Some(engine) = self.engine() {
            engine.abandon(self.op);
        }
    }
}
