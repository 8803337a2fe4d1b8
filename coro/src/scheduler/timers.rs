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

/// A [`TimerAction`] in one word, since timers move: the lowest bit of the address says which it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed(NonNull<()>);

/// The bit of [`TimerAction::Elapse`].
const ELAPSE: usize = 1;
const _: () = assert!(align_of::<ControlBlock>() > ELAPSE && align_of::<Deadline>() > ELAPSE);

impl Packed {
    #[inline]
    fn new(action: TimerAction) -> Self {
        match action {
            TimerAction::Wake(control) => Self(control.cast()),
            TimerAction::Elapse(deadline) => {
                Self(deadline.cast().map_addr(|address| address | ELAPSE))
            }
        }
    }

    #[inline]
    fn action(self) -> TimerAction {
        if self.0.addr().get() & ELAPSE == 0 {
            return TimerAction::Wake(self.0.cast());
        }
        let aligned = self.0.as_ptr().map_addr(|address| address & !ELAPSE);
        let deadline = NonNull::new(aligned.cast());
        TimerAction::Elapse(deadline.expect("a record does not lie at address zero"))
    }
}

impl Shared {
    pub(crate) fn add_timer(&self, deadline_ns: u64, action: TimerAction) -> TimerKey {
        self.timers
            .borrow_mut()
            .insert(deadline_ns, Packed::new(action))
    }

    /// Fires what is due, each a few timers late, so that whoever is woken has come into the cache by then.
    pub(super) fn fire_timers(&self, now_ns: u64) {
        let mut due = [None; AHEAD];
        let mut fired = 0;
        self.timers
            .borrow_mut()
            .advance(now_ns, |deadline_ns, action| {
                prefetch::line(action.0.as_ptr());
                self.measures.timer_late_ns.record(now_ns - deadline_ns);
                if let Some(action) = due[fired % AHEAD].replace(action) {
                    self.act(action.action());
                }
                fired += 1;
            });
        for place in 0..fired.min(AHEAD) {
            let place = fired.saturating_sub(AHEAD) + place;
            if let Some(action) = due[place % AHEAD] {
                self.act(action.action());
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
