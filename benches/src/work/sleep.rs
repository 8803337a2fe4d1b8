//! How late a sleep of a millisecond ends. A sleep that ends early is an error, not a good result.

use std::time::{Duration, Instant};

use crate::subject::{Job, Skip};
use crate::work::report;

/// How long to sleep.
pub(crate) const NAP: Duration = Duration::from_millis(1);

/// Measures a sleep, again and again.
pub(crate) fn sleep(job: &Job, sleep: impl Fn(Duration)) -> Result<(), Skip> {
    let mut naps = Naps::new(job);
    while naps.more() {
        let start = Instant::now();
        sleep(NAP);
        naps.record(start.elapsed())?;
    }
    naps.finish();
    Ok(())
}

/// As [`sleep`], for futures.
pub(crate) async fn sleep_async(job: &Job, sleep: impl AsyncFn(Duration)) -> Result<(), Skip> {
    let mut naps = Naps::new(job);
    while naps.more() {
        let start = Instant::now();
        sleep(NAP).await;
        naps.record(start.elapsed())?;
    }
    naps.finish();
    Ok(())
}

struct Naps {
    begin: Instant,
    job: Job,
    late_us: Vec<f64>,
}

impl Naps {
    fn new(job: &Job) -> Naps {
        Naps {
            begin: Instant::now(),
            job: *job,
            late_us: Vec::new(),
        }
    }

    fn more(&self) -> bool {
        self.begin.elapsed() < self.job.warm_up + self.job.measure || self.late_us.is_empty()
    }

    fn record(&mut self, slept: Duration) -> Result<(), Skip> {
        let late = slept.checked_sub(NAP);
        let late = late.ok_or_else(|| Skip(format!("a sleep of {NAP:?} ended after {slept:?}")))?;
        if self.begin.elapsed() > self.job.warm_up {
            self.late_us.push(late.as_secs_f64() * 1e6);
        }
        Ok(())
    }

    fn finish(mut self) {
        self.late_us.sort_by(f64::total_cmp);
        let at = |percent: usize| self.late_us[(self.late_us.len() - 1) * percent / 100];
        report(&[at(50), at(99)]);
    }
}
