//! Counts operations, and notes time and CPU time when it begins to count and when it ends.
//!
//! ```text
//! begin ---- warm-up ----> mark ---- measured ----> mark: over
//! ```
//!
//! Reading the clock costs as much as a few per cent of a short read, so it is read once in 64 operations.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::subject::{Job, Skip, say};
use crate::sys::CpuClock;

const OPERATIONS_PER_CLOCK: u64 = 64;

/// The count of one sample, shared by its tasks.
#[derive(Debug)]
pub(super) struct Tally {
    begin: Instant,
    /// When the marks are due, from the beginning.
    due: [Duration; 2],
    operations: AtomicU64,
    over: AtomicBool,
    marks: Mutex<Vec<Mark>>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Duration,
    cpu: Duration,
    operations: u64,
}

impl Tally {
    pub(super) fn begin(job: &Job) -> Tally {
        Tally {
            begin: Instant::now(),
            due: [job.warm_up, job.warm_up + job.measure],
            operations: AtomicU64::new(0),
            over: AtomicBool::new(false),
            marks: Mutex::default(),
        }
    }

    /// Counts operations, and says whether to go on.
    #[inline]
    pub(super) fn count(&self, operations: u64) -> bool {
        // A count of its own each: tasks may be threads.
        let before = self.operations.fetch_add(operations, Ordering::Relaxed);
        let after = before + operations;
        if before / OPERATIONS_PER_CLOCK != after / OPERATIONS_PER_CLOCK {
            self.look(after);
        }
        !self.over.load(Ordering::Relaxed)
    }

    #[cold]
    fn look(&self, operations: u64) {
        let at = self.begin.elapsed();
        let mut marks = self.marks.lock().expect("nothing in here panics");
        if self.due.get(marks.len()).is_none_or(|due| at < *due) {
            return;
        }
        let cpu = CpuClock::of_this_process().read();
        marks.push(Mark {
            at,
            cpu: cpu.expect("a process may read its own clock"),
            operations,
        });
        if marks.len() == self.due.len() {
            self.over.store(true, Ordering::Relaxed);
        }
    }

    /// Tells the harness how many operations a second there were, times `unit`, and the CPU microseconds of each.
    pub(super) fn finish(&self, unit: f64) -> Result<(), Skip> {
        let marks = self.marks.lock().expect("nothing in here panics");
        let [from, to] = marks[..] else {
            return Err(io::Error::other("it ended before its time was over").into());
        };
        let operations = (to.operations - from.operations) as f64;
        let speed = operations * unit / (to.at - from.at).as_secs_f64();
        let cpu_us = (to.cpu - from.cpu).as_secs_f64() * 1e6 / operations;
        say(&format!("sample {speed} {cpu_us}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::subject::{Job, Work};
    use std::time::Duration;

    /// Goal: a sample goes on until its time is over, and what was before is not counted.
    #[test]
    fn it_ends_when_its_time_is_over() {
        let job = Job {
            work: Work::WriteSync,
            warm_up: Duration::from_millis(2),
            measure: Duration::from_millis(2),
            cpu: 0,
            peer: 0,
        };
        let tally = Tally::begin(&job);
        assert!(tally.finish(1.0).is_err());
        while tally.count(1) {}
        assert!(tally.begin.elapsed() >= Duration::from_millis(4));
        let marks = tally.marks.lock().expect("nobody panicked");
        assert!(marks[0].operations > 0 && marks[0].operations < marks[1].operations);
    }
}
