//! The measuring parts that all subjects share, so that a subject's file holds only its own idiom.
//!
//! - [`Meter`] repeats a piece of work until its time is over and reports the median over the laps. A
//!   lap is some milliseconds long: an interruption spoils one lap and the median drops it.
//! - [`Turns`] measures a yield. The clock runs inside the first task, from one of its turns to a later
//!   one, so that spawning, starting and joining the tasks are outside. In between every other task
//!   must have had as many turns; a scheduler that polls the same task again is found out, since
//!   the last task publishes its lap.
//! - [`Local`] names the rest of what tasks of one core are asked for; its parts are in `work/`, once for futures,
//!   which is the code all those runtimes share, and once for calls that block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::stats::Summary;
use crate::subject::{Job, Skip, say};

pub(crate) mod channel;
pub(crate) mod park;
pub(crate) mod sleep;
pub(crate) mod timers;

/// What tasks of one core do with each other, with time, and in large numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Local {
    /// Two tasks pass a number to and fro over a channel each way.
    PingPong,
    /// One task sends numbers to another through a channel that holds some of them.
    Stream,
    /// Lock and unlock; nobody else wants the lock.
    Lock,
    /// Take a permit and give it back; there is one.
    Semaphore,
    /// Make a channel for one value, send, receive.
    Oneshot,
    /// Replace a watched value and look at it.
    Watch,
    /// Send to one receiver of a broadcast and receive it.
    Broadcast,
    /// Add, remove and fire timers.
    Timers {
        /// How many are live all the while.
        live: usize,
    },
    /// Sleep for a millisecond, again and again.
    Sleep,
    /// Start tasks that wait, wake them all, and join them.
    Park {
        /// How many wait at once.
        tasks: usize,
    },
}

impl Local {
    /// What a subject that does not do this lacks.
    pub(crate) fn needs(self) -> &'static str {
        match self {
            Local::PingPong | Local::Stream => "channel between its tasks",
            Local::Lock => "lock for its tasks",
            Local::Semaphore => "semaphore for its tasks",
            Local::Oneshot => "channel for one value",
            Local::Watch => "watched value",
            Local::Broadcast => "broadcast",
            Local::Timers { .. } => "timer apart from a sleeping task",
            Local::Sleep => "sleep",
            Local::Park { .. } => "tasks",
        }
    }
}

/// The clock of a job that measures itself.
#[derive(Debug)]
pub(crate) struct Meter {
    begin: Instant,
    warm_up: Duration,
    measure: Duration,
    operations: usize,
    lap: Option<Instant>,
    nanoseconds: Vec<f64>,
}

impl Meter {
    pub(crate) fn start(warm_up: Duration, measure: Duration, operations: usize) -> Meter {
        Meter {
            begin: Instant::now(),
            warm_up,
            measure,
            operations,
            lap: None,
            nanoseconds: Vec::new(),
        }
    }

    /// Ends the lap under way and says whether to run another; `while meter.lap() { ... }`.
    pub(crate) fn lap(&mut self) -> bool {
        let now = Instant::now();
        if let Some(start) = self.lap {
            self.record(nanoseconds_each(now - start, self.operations));
        }
        self.lap = Some(Instant::now());
        self.more()
    }

    /// Whether there is time for another lap; for work that times itself and calls [`Meter::record`].
    pub(crate) fn more(&self) -> bool {
        // However slow the subject is, one lap counts.
        self.nanoseconds.is_empty() || self.begin.elapsed() < self.warm_up + self.measure
    }

    /// Takes the nanoseconds an operation took in one lap, unless that lap was still warm-up.
    pub(crate) fn record(&mut self, nanoseconds: f64) {
        if self.begin.elapsed() > self.warm_up {
            self.nanoseconds.push(nanoseconds);
        }
    }

    /// Reports the median lap.
    pub(crate) fn finish(self) {
        report(&[median(self.nanoseconds)]);
    }
}

/// Reports a sample: a value for each metric of the bench.
pub(crate) fn report(values: &[f64]) {
    let values: Vec<String> = values.iter().map(f64::to_string).collect();
    say(&format!("sample {}", values.join(" ")));
}

pub(crate) fn median(values: Vec<f64>) -> f64 {
    let summary = Summary::of(values).expect("one lap counts at least");
    summary.median
}

/// Operations a lap of what waits for nobody.
const REPEATS_A_LAP: usize = 100_000;

/// Measures a call that waits for nobody. It gets a number that is another one each time.
pub(crate) fn repeat(job: &Job, mut call: impl FnMut(u64)) {
    let mut meter = job.meter(REPEATS_A_LAP);
    let mut numbers = 0..;
    while meter.lap() {
        numbers.by_ref().take(REPEATS_A_LAP).for_each(&mut call);
    }
    meter.finish();
}

/// As [`repeat`], for futures.
pub(crate) async fn repeat_async(job: &Job, mut call: impl AsyncFnMut(u64)) {
    let mut meter = job.meter(REPEATS_A_LAP);
    let mut number = 0;
    while meter.lap() {
        for _ in 0..REPEATS_A_LAP {
            call(number).await;
            number += 1;
        }
    }
    meter.finish();
}

/// Operations a lap: enough for some milliseconds, so that reading the clock costs nothing.
const SPAWNS_A_LAP: usize = 20_000;
const YIELDS_A_LAP: usize = 200_000;

/// How often to spawn and join a batch in one lap.
pub(crate) fn batches_a_lap(batch: usize) -> usize {
    (SPAWNS_A_LAP / batch).max(1)
}

/// Turns each task takes before the clock starts, so that all have begun and are in the queue.
const LEAD: u64 = 2;
/// Turns each task takes after the clock has stopped, so that none leaves while it still runs.
const TRAIL: u64 = 2;

/// One lap of `tasks` tasks that take turns.
#[derive(Debug)]
pub(crate) struct Turns {
    tasks: usize,
    laps: u64,
    begin: Instant,
    last_task: AtomicU64,
    started: Mark,
    stopped: Mark,
}

/// What the first task notes when it starts and when it stops the clock.
#[derive(Debug, Default)]
struct Mark {
    nanoseconds: AtomicU64,
    last_task: AtomicU64,
}

impl Turns {
    pub(crate) fn new(tasks: usize) -> Arc<Turns> {
        Arc::new(Turns {
            tasks,
            laps: (YIELDS_A_LAP / tasks).max(50) as u64,
            begin: Instant::now(),
            last_task: AtomicU64::new(0),
            started: Mark::default(),
            stopped: Mark::default(),
        })
    }

    /// The laps of task number `task`: `for _ in turns.laps(task) { yield_now() }`.
    pub(crate) fn laps(self: &Arc<Turns>, task: usize) -> Laps {
        Laps {
            turns: Arc::clone(self),
            lap: 0,
            end: LEAD + self.laps + TRAIL,
            first: task == 0,
            last: task + 1 == self.tasks,
        }
    }

    /// Nanoseconds a yield took, once all tasks have been joined.
    pub(crate) fn per_yield(&self) -> Result<f64, Skip> {
        let delta = |get: fn(&Mark) -> &AtomicU64| {
            let read = |mark| get(mark).load(Ordering::Relaxed);
            read(&self.stopped).wrapping_sub(read(&self.started))
        };
        let turns_of_last = delta(|mark| &mark.last_task);
        // A queue that is reversed now and then is fair enough: it shifts the count by a few.
        if turns_of_last.abs_diff(self.laps) > (self.laps / 50).max(1) {
            let first = self.laps;
            return Err(Skip(match turns_of_last {
                0 => "a task that yields is run again before all others".to_owned(),
                last => format!("tasks take turns unevenly: one had {last}, another {first}"),
            }));
        }
        let elapsed = Duration::from_nanos(delta(|mark| &mark.nanoseconds));
        let laps = usize::try_from(self.laps).expect("laps were a usize");
        Ok(nanoseconds_each(elapsed, laps * self.tasks))
    }

    fn note(&self, mark: &Mark) {
        let nanoseconds = u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        mark.nanoseconds.store(nanoseconds, Ordering::Relaxed);
        let last = self.last_task.load(Ordering::Relaxed);
        mark.last_task.store(last, Ordering::Relaxed);
    }
}

/// The turns of one task: an iterator so that a loop over it fits a coroutine, a future and a thread.
#[derive(Debug)]
pub(crate) struct Laps {
    turns: Arc<Turns>,
    lap: u64,
    end: u64,
    first: bool,
    last: bool,
}

impl Iterator for Laps {
    type Item = ();

    #[inline]
    fn next(&mut self) -> Option<()> {
        self.lap += 1;
        if self.last {
            self.turns.last_task.store(self.lap, Ordering::Relaxed);
        }
        if self.first && self.lap == LEAD {
            self.turns.note(&self.turns.started);
        }
        if self.first && self.lap == LEAD + self.turns.laps {
            self.turns.note(&self.turns.stopped);
        }
        (self.lap <= self.end).then_some(())
    }
}

fn nanoseconds_each(elapsed: Duration, operations: usize) -> f64 {
    elapsed.as_secs_f64() * 1e9 / operations as f64
}

#[cfg(test)]
mod tests {
    use super::Turns;

    /// Goal: turns taken one after the other count, in any order of first and last.
    #[test]
    fn round_robin_is_accepted() {
        let turns = Turns::new(3);
        let mut laps: Vec<_> = (0..3).map(|task| turns.laps(task)).collect();
        while laps.iter_mut().map(Iterator::next).all(|lap| lap.is_some()) {}
        assert!(turns.per_yield().expect("all took turns") > 0.0);
    }

    /// Goal: a scheduler that runs one task to its end, then the next, is refused.
    #[test]
    fn running_one_task_at_a_time_is_refused() {
        let turns = Turns::new(2);
        turns.laps(0).for_each(drop);
        turns.laps(1).for_each(drop);
        assert!(turns.per_yield().is_err());
    }
}
