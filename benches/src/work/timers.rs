//! What a timer costs among many: to add, to remove before its time, and to fire.
//!
//! ```text
//!   fill: `live` timers, due from `due` on, one a millisecond in turn, over a second
//!   churn: the oldest tenth is removed (remove), as many are added (add); again and again
//!   churn at random: as before, but any tenth is removed (remove_any)
//!   hold the thread up until all are due; let the runtime run until all have fired (fire: CPU time of the process)
//! ```
//!
//! No task sleeps behind a timer: a future is polled once with a waker that counts, as a task's waker would put
//! it into a queue. Futures are made, and their memory is allocated and freed, while the clock stands.
//! All timers are live at the moment they are removed, and none is due before the last was added.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::subject::{Job, Skip};
use crate::sys::CpuClock;
use crate::work::{median, report};

/// From the first deadline to the last.
pub(crate) const SPREAD: Duration = Duration::from_secs(1);
/// Timers to remove and add in all, in rounds of a tenth of those that are live.
const CHURN: usize = 100_000;
/// However many timers there are: if they take longer than this to fire, the subject has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The deadline of a timer: one each millisecond in turn.
pub(crate) fn offset(index: usize) -> Duration {
    Duration::from_millis(1 + index as u64 % 1000)
}

/// How many timers a round of the churn removes and adds.
pub(crate) fn batch(live: usize) -> usize {
    (live / 10).max(1)
}

/// How many rounds the churn has.
pub(crate) fn rounds(live: usize) -> usize {
    (CHURN / batch(live)).max(1)
}

/// Brings `count` of `items` to the front, any of them.
pub(crate) fn draw<T>(items: &mut [T], count: usize, random: &mut Rng) {
    for index in 0..count {
        let drawn = random.usize(index..items.len());
        items.swap(index, drawn);
    }
}

/// Nanoseconds for each of the four, lap by lap.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    pub(crate) add: Vec<f64>,
    pub(crate) remove: Vec<f64>,
    pub(crate) remove_any: Vec<f64>,
    pub(crate) fire: Vec<f64>,
}

impl Costs {
    /// What a removal took, of the oldest or of any.
    pub(crate) fn removed(&mut self, any: bool, nanoseconds: f64) {
        if any {
            self.remove_any.push(nanoseconds);
        } else {
            self.remove.push(nanoseconds);
        }
    }

    /// Reports the medians.
    pub(crate) fn finish(self) {
        let figures = [self.add, self.remove, self.remove_any, self.fire];
        report(&figures.map(median));
    }
}

/// Nanoseconds each that `work` on `count` timers takes.
pub(crate) fn timed(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// Measures timers that are futures; `turn` lets the runtime look at its timers.
pub(crate) async fn timers_async<F: Future>(
    job: &Job,
    live: usize,
    timer: impl Fn(Duration) -> F,
    turn: impl AsyncFn(),
) -> Result<(), Skip> {
    let begin = Instant::now();
    let mut costs = Costs::default();
    let mut random = Rng::with_seed(live as u64);
    while costs.fire.is_empty() || begin.elapsed() < job.warm_up + job.measure {
        // Ample time to make them all: this is checked below.
        let due =
            Instant::now() + Duration::from_millis(100) + Duration::from_micros(3) * to_u32(live);
        let make = |count: usize| -> Vec<Pin<Box<Option<F>>>> {
            let now = Instant::now();
            let timers = (0..count).map(|index| timer(due + offset(index) - now));
            timers.map(|timer| Box::pin(Some(timer))).collect()
        };
        let fired = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&fired));
        let mut context = Context::from_waker(&waker);
        let mut timers = make(live);
        timers
            .iter_mut()
            .for_each(|timer| start(timer, &mut context));
        for round in 0..2 * rounds(live) {
            let any = round >= rounds(live);
            if any {
                draw(&mut timers, batch(live), &mut random);
            }
            let mut added = make(batch(live));
            let mut removed = timers.drain(..batch(live)).collect::<Vec<_>>();
            let remove = timed(removed.len(), || {
                removed.iter_mut().for_each(|timer| timer.set(None));
            });
            let add = timed(added.len(), || {
                added
                    .iter_mut()
                    .for_each(|timer| start(timer, &mut context));
            });
            costs.removed(any, remove);
            costs.add.push(add);
            timers.append(&mut added);
        }
        if Instant::now() > due {
            return Err(Skip::because("adding and removing them took too long"));
        }
        assert_eq!(fired.read(), 0, "no timer fires before it is due");
        let clock = CpuClock::of(std::process::id())?;
        let idle = clock.read()?;
        thread::sleep(
            (due + SPREAD + Duration::from_millis(5)).saturating_duration_since(Instant::now()),
        );
        let start = Instant::now();
        while fired.read() < live {
            if start.elapsed() > PATIENCE {
                let fired = fired.read();
                return Err(Skip(format!(
                    "{fired} of {live} timers fired in {PATIENCE:?}"
                )));
            }
            turn().await;
        }
        let busy = clock.read()? - idle;
        costs.fire.push(busy.as_secs_f64() * 1e9 / live as f64);
        for timer in &mut timers {
            assert!(!poll(timer, &mut context), "a timer that fired is over");
        }
    }
    costs.finish();
    Ok(())
}

fn to_u32(live: usize) -> u32 {
    u32::try_from(live).expect("a bench has a million timers at the most")
}

/// Polls a timer and says whether it is pending.
fn poll<F: Future>(timer: &mut Pin<Box<Option<F>>>, context: &mut Context<'_>) -> bool {
    let timer = timer
        .as_mut()
        .as_pin_mut()
        .expect("it has not been removed");
    timer.poll(context).is_pending()
}

fn start<F: Future>(timer: &mut Pin<Box<Option<F>>>, context: &mut Context<'_>) {
    assert!(poll(timer, context), "no timer is over before it began");
}

/// A waker that counts.
#[derive(Debug, Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn read(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
