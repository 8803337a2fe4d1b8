//! What the timers of a core do: wake a coroutine, or let a deadline expire. No user code.
#![expect(
    unsafe_code,
    reason = "records of deadlines are reached by pointer, and keep themselves on the wheel"
)]

use super::Shared;
use crate::coroutine::ControlBlock;
use crate::deadline::Deadline;
use crate::prefetch::{self, AHEAD};
use crate::timer::TimerKey;
use std::ptr::NonNull;

/// What a timer does when it fires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TimerAction {
    Wake(NonNull<ControlBlock>),
    Elapse(NonNull<Deadline>),
}

impl TimerAction {
    #[inline]
    fn prefetch(self) {
        match self {
            Self::Wake(control) => prefetch::line(control.as_ptr()),
            Self::Elapse(deadline) => prefetch::line(deadline.as_ptr()),
        }
    }
}

impl Shared {
    pub(crate) fn add_timer(&self, deadline_ns: u64, action: TimerAction) -> TimerKey {
        self.timers.borrow_mut().insert(deadline_ns, action)
    }

    /// Fires what is due, each a few timers late, so that whoever is woken has come into the cache by then.
    pub(super) fn fire_timers(&self, now_ns: u64) {
        let mut due = [None; AHEAD];
        let mut fired = 0;
        self.timers
            .borrow_mut()
            .advance(now_ns, |deadline_ns, action| {
                action.prefetch();
                self.measures.timer_late_ns.record(now_ns - deadline_ns);
                if let Some(action) = due[fired % AHEAD].replace(action) {
                    self.act(action);
                }
                fired += 1;
            });
        for place in 0..fired.min(AHEAD) {
            let place = fired.saturating_sub(AHEAD) + place;
            if let Some(action) = due[place % AHEAD] {
                self.act(action);
            }
        }
    }

    #[inline]
    fn act(&self, action: TimerAction) {
        match action {
            TimerAction::Wake(control) => self.wake(control),
            // SAFETY: a deadline cancels its timer before its record goes.
            TimerAction::Elapse(deadline) => unsafe { Deadline::expire(deadline) },
        }
    }
}
