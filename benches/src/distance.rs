//! How far apart two CPUs are: what a cache line takes there and back.
//!
//! In a virtual machine the host decides where they run, and moves them about: the same two may share a core now and sit in different
//! sockets a minute later. What passes between them then takes ten times as long, whoever passes it. So where that matters the distance
//! is measured before and after each sample, and only samples of the distance that most of a table were taken at are compared.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::beside::spin;
use crate::machine::Cpus;
use crate::sys;

/// The quickest lap counts: others can only make it longer.
const LAPS: usize = 8;
const ROUND_TRIPS: usize = 500;
/// Farther apart than this they are not the same: the distances of this world differ by factors of three.
const SAME: f64 = 1.5;

/// A line there and back, in nanoseconds, from the harness's CPU, which the caller runs on.
pub(crate) fn measure(cpus: Cpus) -> io::Result<f64> {
    let line = Arc::new(AtomicUsize::new(0));
    let there = Arc::clone(&line);
    let peer = thread::spawn(move || {
        let pinned = sys::pin(&[cpus.subject]);
        for trip in 0..LAPS * ROUND_TRIPS {
            spin(|| (there.load(Ordering::Acquire) == 2 * trip + 1).then_some(()));
            there.store(2 * trip + 2, Ordering::Release);
        }
        pinned
    });
    let mut quickest = Duration::MAX;
    for lap in 0..LAPS {
        let begin = Instant::now();
        for trip in lap * ROUND_TRIPS..(lap + 1) * ROUND_TRIPS {
            line.store(2 * trip + 1, Ordering::Release);
            spin(|| (line.load(Ordering::Acquire) == 2 * trip + 2).then_some(()));
        }
        quickest = quickest.min(begin.elapsed());
    }
    peer.join().expect("it answers and ends")?;
    Ok(quickest.as_nanos() as f64 / ROUND_TRIPS as f64)
}

/// Whether two distances are one.
pub(crate) fn is_same(one: f64, other: f64) -> bool {
    one.max(other) <= SAME * one.min(other)
}

/// The distance that most of these are.
pub(crate) fn usual(distances: &[f64]) -> Option<f64> {
    let like = |it: f64| {
        distances
            .iter()
            .filter(|other| is_same(it, **other))
            .count()
    };
    distances.iter().copied().max_by_key(|it| like(*it))
}

#[cfg(test)]
mod tests {
    use super::{is_same, usual};

    #[test]
    fn most_decide() {
        assert_eq!(usual(&[]), None);
        let usual = usual(&[27.0, 380.0, 98.0, 101.0, 395.0, 95.0]).expect("there are some");
        assert!(is_same(usual, 98.0), "{usual}");
        assert!(!is_same(27.0, 98.0) && !is_same(380.0, 98.0));
    }
}
