//! The stall detector: a thread that looks at every core's pulse now and then.
//!
//! A core stalls when a coroutine computes, or makes a call that blocks, for longer than the limit: nothing else on that
//! core runs meanwhile. Each stall is counted once. The first of a core is reported with what it does, the next ones at most
//! every [`REPORT_EVERY`], with how many were passed over.
//!
//! The detector looks four times in the length of the limit, so a stall is noticed after that and a quarter of it. When it was itself
//! held up - a machine that was suspended, a process that was stopped - nobody else could run either, and it starts afresh.

use super::Pulse;
use super::capture::Captured;
use crate::mailbox::Cluster;
use crate::report;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two reports about one core.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// How often the detector looks, whatever the limit.
const LOOKS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// The detector at work; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Detector {
    /// Dropped to end it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Detector {
    /// Watches all cores. Without a thread for it nobody does, which is said on stderr.
    pub(crate) fn start(cluster: &Arc<Cluster>, limit: Duration) -> Self {
        let cluster = Arc::clone(cluster);
        let (stop, stopped) = mpsc::channel::<()>();
        let body = move || {
            super::capture::install();
            let every = (limit / 4).clamp(*LOOKS.start(), *LOOKS.end());
            let mut watches = Watches::new(&cluster, limit);
            let mut looked = Instant::now();
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                if now - looked > every + limit / 2 {
                    watches.start_afresh();
                }
                watches.look(now);
                // Without the time that a report took.
                looked = Instant::now();
            }
        };
        let thread = thread::Builder::new()
            .name("coring-stalls".into())
            .spawn(body);
        if let Err(error) = &thread {
            report::say(format_args!(
                "the stall detector could not be started: {error}"
            ));
        }
        Self {
            stop: Some(stop),
            thread: thread.ok(),
        }
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, it has been reported.
            let _ = thread.join();
        }
    }
}

/// What the detector knows of one core.
#[derive(Debug, Default)]
struct Watch {
    beats: u64,
    /// When these beats were first seen.
    since: Option<Instant>,
    counted: bool,
    reported: Option<Instant>,
    passed_over: u64,
}

#[derive(Debug)]
struct Watches<'a> {
    cluster: &'a Cluster,
    limit: Duration,
    cores: Vec<Watch>,
}

impl<'a> Watches<'a> {
    fn new(cluster: &'a Cluster, limit: Duration) -> Self {
        let cores = (0..cluster.cores()).map(|_| Watch::default()).collect();
        Self {
            cluster,
            limit,
            cores,
        }
    }

    /// What was seen of the pulses so far means nothing.
    fn start_afresh(&mut self) {
        self.cores.iter_mut().for_each(|watch| watch.since = None);
    }

    fn look(&mut self, now: Instant) {
        for (core, watch) in self.cores.iter_mut().enumerate() {
            let pulse = self.cluster.port(core).pulse();
            let beats = pulse.beats.load(Ordering::Relaxed);
            let asleep = beats % 2 == 1;
            let since = watch.since.filter(|_| beats == watch.beats && !asleep);
            let Some(since) = since else {
                // A core that has not turned yet has not begun.
                watch.since = (beats > 0).then_some(now);
                (watch.beats, watch.counted) = (beats, false);
                continue;
            };
            let stuck = now - since;
            if stuck < self.limit {
                continue;
            }
            let stuck_ns = u64::try_from(stuck.as_nanos()).unwrap_or(u64::MAX);
            pulse.longest_ns.fetch_max(stuck_ns, Ordering::Relaxed);
            if std::mem::replace(&mut watch.counted, true) {
                continue;
            }
            let due = watch.reported.is_none_or(|at| now - at >= REPORT_EVERY);
            let doing = due.then(|| Doing::ask(pulse, beats));
            // After it was asked: whoever waits for the count may go on now.
            pulse.stalls.fetch_add(1, Ordering::Relaxed);
            let Some(doing) = doing else {
                watch.passed_over += 1;
                continue;
            };
            watch.reported = Some(now);
            say(core, stuck, std::mem::take(&mut watch.passed_over), &doing);
        }
    }
}

/// What a core does that does not turn.
#[derive(Debug)]
enum Doing {
    This(Captured),
    /// It turned again before it could be asked: what it did then is not what held it.
    GoneOn,
    TakesNoSignal,
}

impl Doing {
    fn ask(pulse: &Pulse, beats: u64) -> Self {
        let captured = pulse.capture();
        if pulse.beats.load(Ordering::Relaxed) != beats {
            return Self::GoneOn;
        }
        captured.map_or(Self::TakesNoSignal, Self::This)
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::This(captured) => captured.fmt(f),
            Self::GoneOn => f.write_str("it went on before it could be asked"),
            Self::TakesNoSignal => {
                f.write_str("it takes no signal: it waits in the kernel, or SIGURG is blocked")
            }
        }
    }
}

fn say(core: usize, stuck: Duration, others: u64, doing: &Doing) {
    let others = match others {
        0 => String::new(),
        others => format!(" ({others} more stalls since the last report)"),
    };
    let ms = stuck.as_millis();
    report::say(format_args!(
        "core {core} has not turned for {ms} ms{others}: {doing}"
    ));
}
