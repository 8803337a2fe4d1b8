//! Work at intervals: `interval` for a loop of one's own, `schedule_*` for a task that is made for it.

use crate::deadline::Elapsed;
use crate::instant::{Instant, nanoseconds};
use crate::join::{JoinError, JoinHandle};
use crate::spawn::{Builder, SpawnError};
use crate::suspend::{checkpoint, sleep_until};
use crate::sync::{Event, WaitError};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// What an [`Interval`] does when its owner comes too late for one or more ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTicks {
    /// The missed ticks come at once, one after the other, until the schedule is caught up.
    #[default]
    Burst,
    /// One tick comes at once; the next ones a full period after it and each other: the schedule shifts.
    Delay,
    /// One tick comes at once; the next ones at the times of the old schedule: missed ticks are left out.
    Skip,
}

/// Ticks at a fixed period. Made by [`interval`].
#[derive(Debug)]
pub struct Interval {
    next: Instant,
    period: Duration,
    missed: MissedTicks,
}

/// Ticks every `period`; the first tick comes at once.
///
/// # Panics
///
/// When `period` is zero. Outside a turn of a scheduler.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # use std::time::Duration;
/// # coro::testing::run(|| {
/// let mut ticks = coro::interval(Duration::from_millis(10));
/// let first = ticks.tick();
/// assert_eq!(ticks.tick() - first, Duration::from_millis(10));
/// # });
/// ```
#[must_use]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    Interval {
        next: Instant::now(),
        period,
        missed: MissedTicks::default(),
    }
}

impl Interval {
    /// What to do about missed ticks. Default: [`MissedTicks::Burst`].
    #[must_use]
    pub fn missed_ticks(mut self, missed: MissedTicks) -> Self {
        self.missed = missed;
        self
    }

    /// Waits for the next tick and returns the time it was due.
    ///
    /// # Parks
    ///
    /// Unless the tick is due already.
    ///
    /// # Cancellation
    ///
    /// A cancelled coroutine is unwound; the tick is not used up.
    ///
    /// # Panics
    ///
    /// Outside a coroutine.
    pub fn tick(&mut self) -> Instant {
        if self.next > Instant::now() {
            sleep_until(self.next);
        } else {
            // Who is always late has others beside it all the same.
            checkpoint();
        }
        let due = self.next;
        let now = Instant::now();
        let following = due + self.period;
        self.next = match self.missed {
            _ if following > now => following,
            MissedTicks::Burst => following,
            MissedTicks::Delay => now + self.period,
            MissedTicks::Skip => {
                let (late, period) = (nanoseconds(now - due), nanoseconds(self.period));
                due + Duration::from_nanos(period.saturating_mul(late / period + 1))
            }
        };
        due
    }
}

/// A task that runs later or again and again. Dropping it detaches the task, which goes on.
pub struct Schedule {
    stop: Rc<Event>,
    task: JoinHandle<()>,
}

impl Schedule {
    /// No further run begins; one that is going on is not disturbed. Returns at once.
    pub fn stop(&self) {
        self.stop.set();
    }

    /// Whether no run is going on and none will come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until the last run has ended. Call [`stop`](Self::stop) first, unless the task ends by itself.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Panics
    ///
    /// When the task joins itself.
    pub fn join(self) -> Result<(), JoinError> {
        self.task.join()
    }

    /// As [`join`](Self::join), for `limit` at the most; then the schedule comes back.
    ///
    /// # Errors
    ///
    /// The schedule itself, when its last run has not ended. What `join` returns is inside the `Ok`.
    ///
    /// # Panics
    ///
    /// When the task joins itself.
    pub fn join_timeout(self, limit: Duration) -> Result<Result<(), JoinError>, Self> {
        let Self { stop, task } = self;
        task.join_timeout(limit).map_err(|task| Self { stop, task })
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("task", &self.task)
            .finish()
    }
}

/// Runs `f` once, `delay` from now, in a coroutine of its own.
///
/// # Errors
///
/// As [`try_spawn`](crate::try_spawn).
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # use std::time::Duration;
/// # coro::testing::run(|| {
/// let late = coro::schedule_after(Duration::from_secs(1), || panic!("stopped before"))?;
/// late.stop();
/// late.join().unwrap();
/// # Ok::<_, coro::SpawnError>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn schedule_after(delay: Duration, f: impl FnOnce() + 'static) -> Result<Schedule, SpawnError> {
    schedule(move |stop| {
        if pause(stop, delay).is_err() {
            f();
        }
    })
}

/// Runs `f` again and again: first after `delay`, then `delay` after the end of each run.
///
/// # Errors
///
/// As [`try_spawn`](crate::try_spawn).
#[track_caller]
pub fn schedule_with_fixed_delay(
    delay: Duration,
    mut f: impl FnMut() + 'static,
) -> Result<Schedule, SpawnError> {
    schedule(move |stop| {
        while pause(stop, delay).is_err() {
            f();
        }
    })
}

/// Runs `f` every `period`, first after one period. Runs never overlap; what a long run has missed is made up by
/// the rules of [`MissedTicks`].
///
/// # Errors
///
/// As [`try_spawn`](crate::try_spawn).
///
/// # Panics
///
/// When `period` is zero. Outside a turn of a scheduler.
#[track_caller]
pub fn schedule_at_fixed_rate(
    period: Duration,
    missed: MissedTicks,
    mut f: impl FnMut() + 'static,
) -> Result<Schedule, SpawnError> {
    let mut ticks = interval(period).missed_ticks(missed);
    ticks.next = ticks.next + period;
    schedule(move |stop| {
        while pause(stop, ticks.next - Instant::now()).is_err() {
            ticks.tick();
            f();
        }
    })
}

#[track_caller]
fn schedule(run: impl FnOnce(&Event) + 'static) -> Result<Schedule, SpawnError> {
    let stop = Rc::new(Event::new());
    let task = Builder::new().name("schedule").spawn({
        let stop = Rc::clone(&stop);
        move || run(&stop)
    })?;
    Ok(Schedule { stop, task })
}

/// Waits for `delay`: `Err` when it has passed, `Ok` when the task is to stop.
fn pause(stop: &Event, delay: Duration) -> Result<(), Elapsed> {
    if stop.is_set() {
        return Ok(());
    }
    // Also no time at all: a task that is always late lets others run, who may stop it.
    match stop.wait_timeout(delay) {
        Err(WaitError::TimedOut) => Err(Elapsed),
        // Stopped, or cancelled as a whole: either way there is no further run.
        Ok(()) | Err(WaitError::Refused(_)) => Ok(()),
    }
}
