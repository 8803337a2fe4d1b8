//! A turn begins a limited number of receives. The others wait here, in the order of their calls, for the next turns.
//!
//! ```text
//!    all at once    | receive 1 to 2,000 | answer 1 to 2,000
//!    in turns       | receive 1 to 128 | answer 1 to 128, receive 129 to 256 | answer 129 to 256, receive ...
//! ```
//!
//! Who receives mostly answers, and what the answer needs is at hand just then: the message, the connection in the kernel, the
//! coroutine's frames. Where thousands receive before the first of them answers, all of that comes from memory once more. So
//! whatever else is asked for goes at once, and receives take turns.
//!
//! They are begun in the order of their calls, and the ring does not sleep while any wait. What may be about one of them, a cancel, a
//! close or a receive with many results, comes behind all of them.

use std::collections::VecDeque;

use super::Ring;
use crate::setup::SETUP_SQPOLL;
use crate::{Backend, Capabilities, Sqe, SubmitError};

/// Receives of a turn.
const AT_ONCE: u32 = 128;
/// Place for so many is kept when none wait any more.
const KEPT: usize = 1024;

/// The receives that wait for a turn.
#[derive(Debug)]
pub(super) struct Receives {
    waiting: VecDeque<Sqe>,
    /// So many may be queued before the next turn; 0 from when one had to wait until a turn leaves none over.
    room: u32,
    /// Some have waited since before the last turn.
    left_over: bool,
    at_once: u32,
}

impl Receives {
    /// A kernel thread that takes submissions takes them at once, whatever a turn is: with it none wait.
    pub(super) fn new(capabilities: &Capabilities) -> Self {
        let polled = capabilities.setup_flags() & SETUP_SQPOLL != 0;
        let at_once = if polled { u32::MAX } else { AT_ONCE };
        Self {
            waiting: VecDeque::new(),
            room: at_once,
            left_over: false,
            at_once,
        }
    }

    /// Whether the next receive may be queued; else it is to be kept.
    #[inline(always)]
    pub(super) fn has_room(&mut self) -> bool {
        let has_room = self.room > 0;
        self.room -= u32::from(has_room);
        has_room
    }

    #[inline(never)]
    pub(super) fn keep(&mut self, receive: Sqe) {
        self.waiting.push_back(receive);
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl<B: Backend> Ring<B> {
    #[cfg(test)]
    pub(crate) fn set_receives_at_once(&mut self, at_once: u32) {
        self.receives.at_once = at_once;
        self.receives.room = at_once;
    }

    /// Queues those of the turn that begins. Whether none are left; if the queue has no room for them now, some are.
    #[inline]
    pub(super) fn queue_receives(&mut self) -> bool {
        self.receives.room = self.receives.at_once;
        if self.receives.waiting.is_empty() {
            self.receives.left_over = false;
            return true;
        }
        self.queue_some_that_wait()
    }

    #[inline(never)]
    fn queue_some_that_wait(&mut self) -> bool {
        // Else this turn has its receives: they were queued at once, or none would wait.
        if self.receives.left_over {
            let most = self.receives.at_once as usize;
            // What finds no room is left over.
            let _ = self.queue_some_receives(most);
        }
        let left_over = !self.receives.waiting.is_empty();
        self.receives.left_over = left_over;
        if left_over {
            self.receives.room = 0;
        }
        !left_over
    }

    /// Queues all that wait: what comes now may be about one of them. On an error some still do.
    #[inline]
    pub(super) fn queue_all_receives(&mut self) -> Result<(), SubmitError> {
        self.queue_some_receives(self.receives.len())
    }

    fn queue_some_receives(&mut self, most: usize) -> Result<(), SubmitError> {
        for _ in 0..most.min(self.receives.len()) {
            self.ensure_room()?;
            let receive = self.receives.waiting.pop_front();
            // SAFETY: promised by who submitted it, until its token has come back.
            unsafe { self.push(&receive.expect("no more than there are")) };
        }
        let waiting = &mut self.receives.waiting;
        if waiting.is_empty() && waiting.capacity() > KEPT {
            waiting.shrink_to(KEPT);
        }
        Ok(())
    }
}
