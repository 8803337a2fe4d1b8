//! What all subjects share that work between two cores: the thread on the other one, and the clocks.
//!
//! Both threads are pinned, so a round trip crosses cores each time. [`Alarm`] measures a wake: the sender notes the
//! time and sends; the receiver takes the difference the moment it runs.
//!
//! ```text
//!   sender: spin for `pause` (the receiver falls asleep), note the time, send, spin until it is there
//!   receiver: wait; there: difference into a cell
//! ```

use std::hint::spin_loop;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::subject::{Job, say};
use crate::sys;

/// Room in every channel.
pub(crate) const CAPACITY: usize = 1024;
/// Messages of a stream that pass in one call, and in one lap.
pub(crate) const BATCH: usize = 64;
pub(crate) const STREAM_LAP: usize = 256 * 1024;
/// Round trips of one lap, where both sides spin and where they sleep.
pub(crate) const SPUN_LAP: usize = 10_000;
pub(crate) const SLEPT_LAP: usize = 200;
/// Says that there will be no more.
pub(crate) const END: u64 = u64::MAX;

/// A message of `8 * WORDS` bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<const WORDS: usize>(pub(crate) [u64; WORDS]);

impl<const WORDS: usize> Message<WORDS> {
    pub(crate) fn numbered(number: u64) -> Self {
        Self([number; WORDS])
    }

    /// Looks at all of it, as somebody would who needs it.
    pub(crate) fn check(&self, number: u64) {
        assert!(
            self.0.iter().all(|word| *word == number),
            "in order and whole"
        );
    }
}

/// Starts a thread on the other core.
pub(crate) fn start<T: Send + 'static>(
    job: &Job,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let cpu = job.peer;
    thread::spawn(move || {
        sys::pin(&[cpu]).expect("the harness was pinned to it");
        body()
    })
}

/// Lets this process use both CPUs, for a subject that places its own threads.
pub(crate) fn use_both(job: &Job) -> io::Result<()> {
    sys::pin(&[job.cpu, job.peer])
}

/// Spins until `attempt` gives something.
#[inline(always)]
pub(crate) fn spin<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        spin_loop();
    }
}

/// Measures wakes. Shared by both sides.
#[derive(Debug)]
pub(crate) struct Alarm {
    begin: Instant,
    sent_ns: AtomicU64,
    latency_ns: AtomicU64,
    heard: AtomicU64,
    over: AtomicBool,
}

impl Alarm {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            begin: Instant::now(),
            sent_ns: AtomicU64::new(0),
            latency_ns: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The receiver has a message. Whether to wait for another.
    pub(crate) fn heard(&self) -> bool {
        let latency_ns = self
            .now_ns()
            .saturating_sub(self.sent_ns.load(Ordering::Relaxed));
        self.latency_ns.store(latency_ns, Ordering::Relaxed);
        self.heard.fetch_add(1, Ordering::Release);
        !self.over.load(Ordering::Relaxed)
    }

    /// The sender's side: sends until the job's time is over, and reports the median and the 99th percentile.
    pub(crate) fn ring(&self, job: &Job, pause: Duration, mut send: impl FnMut()) {
        let (start, mut latencies) = (Instant::now(), Vec::new());
        loop {
            let is_last = start.elapsed() >= job.warm_up + job.measure;
            let latency_ns = self.ring_once(pause, is_last, &mut send);
            if start.elapsed() >= job.warm_up {
                latencies.push(latency_ns);
            }
            if is_last {
                break;
            }
        }
        let [p50, p99] = quantiles_us(latencies);
        say(&format!("sample {p50} {p99}"));
    }

    /// Leaves the receiver asleep for a while, then sends. How long it took, in nanoseconds.
    pub(crate) fn ring_once(&self, pause: Duration, is_last: bool, send: impl FnOnce()) -> u64 {
        let paused = Instant::now();
        while paused.elapsed() < pause {
            spin_loop();
        }
        let heard = self.heard.load(Ordering::Acquire);
        self.over.store(is_last, Ordering::Relaxed);
        self.sent_ns.store(self.now_ns(), Ordering::Relaxed);
        send();
        spin(|| (self.heard.load(Ordering::Acquire) > heard).then_some(()));
        self.latency_ns.load(Ordering::Relaxed)
    }
}

/// Median and 99th percentile, in microseconds.
pub(crate) fn quantiles_us(mut latencies_ns: Vec<u64>) -> [f64; 2] {
    latencies_ns.sort_unstable();
    [50, 99].map(|percent| latencies_ns[(latencies_ns.len() - 1) * percent / 100] as f64 / 1e3)
}

/// A place for one waker and the event it waits for: a future that a thread of the other core wakes.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    waker: Mutex<Option<Waker>>,
    rung: AtomicBool,
    over: AtomicBool,
}

impl Bell {
    /// Waits until the bell is rung, once.
    pub(crate) async fn rung(&self) {
        std::future::poll_fn(|context| {
            if self.rung.swap(false, Ordering::Acquire) {
                return std::task::Poll::Ready(());
            }
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            *waker = Some(context.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }

    /// Rings for everyone who waits, until the end.
    pub(crate) fn ring(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let waker = self
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(waker) = waker {
                self.rung.store(true, Ordering::Release);
                waker.wake();
            }
            spin_loop();
        }
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Measures how long it takes until a future is woken by the other core; `wait` drives one to its end.
pub(crate) fn woken(job: &Job, mut wait: impl FnMut(&Bell)) {
    let bell = Arc::new(Bell::default());
    let there = Arc::clone(&bell);
    let ringer = start(job, move || there.ring());
    let mut meter = job.meter(SLEPT_LAP);
    while meter.lap() {
        (0..SLEPT_LAP).for_each(|_| wait(&bell));
    }
    bell.end();
    ringer.join().expect("it rings and ends");
    meter.finish();
}

/// Measures how long it takes to drive a future that is ready; `wait` does so.
pub(crate) fn ready(job: &Job, mut wait: impl FnMut(std::future::Ready<u64>) -> u64) {
    let mut meter = job.meter(SPUN_LAP);
    while meter.lap() {
        for number in 0..SPUN_LAP as u64 {
            assert_eq!(
                wait(std::future::ready(std::hint::black_box(number))),
                number
            );
        }
    }
    meter.finish();
}
