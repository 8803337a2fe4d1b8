//! Suite `micro`: what tasks of one core cost, and what they do with each other. The subject measures itself.
//!
//! - `yield`: nanoseconds from one task's turn to the next one's, with 2 / 100 / 10,000 runnable.
//! - `spawn_join`: nanoseconds to spawn a task that returns a number, run it and take its result, in
//!   batches of 1 / 100 / 10,000 alive at once.
//! - `ping_pong`, `stream`: two tasks and a channel.
//! - `lock`, `semaphore`, `oneshot`, `watch`, `broadcast`: what they cost when nobody has to wait.
//! - `timers`: to add, remove and fire one among 1,000 / 100,000 / 1,000,000.
//! - `sleep`: how late a sleep of a millisecond ends.
//! - `park`: time and memory of 30,000 / 100,000 / 1,000,000 tasks that wait.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::subject::Work;
use crate::suite::{Bench, Better, Metric, Sample, Suite, Timing};
use crate::work::Local;
use crate::work::channel::CAPACITY;

/// The suite.
#[derive(Debug)]
pub(crate) struct Micro;

const NANOSECONDS: &[Metric] = &[metric("", "ns", true)];

const TIMERS: &[Metric] = &[
    metric("add", "ns", true),
    metric("remove", "ns", true),
    metric("remove_any", "ns", true),
    metric("fire", "ns", true),
];

const SLEEP: &[Metric] = &[
    metric("p50", "us late", true),
    metric("p99", "us late", false),
];

const PARK: &[Metric] = &[
    metric("create", "ns", true),
    metric("resident", "bytes", true),
    metric("page_tables", "bytes", false),
    metric("wake_join", "ns", true),
];

const fn metric(name: &'static str, unit: &'static str, headline: bool) -> Metric {
    Metric {
        name,
        unit,
        better: Better::Lower,
        headline,
    }
}

impl Suite for Micro {
    fn name(&self) -> &'static str {
        "micro"
    }

    fn reference(&self) -> (&'static str, &'static str) {
        ("raw-corosensei", "raw-corosensei-again")
    }

    fn benches(&self) -> Vec<Bench> {
        let counts = [2, 100, 10_000].into_iter();
        let yields = counts.map(|tasks| bench("yield", "tasks", tasks, Work::Yield { tasks }));
        let counts = [1, 100, 10_000].into_iter();
        let spawns =
            counts.map(|batch| bench("spawn_join", "batch", batch, Work::SpawnJoin { batch }));
        let counts = [1_000, 100_000, 1_000_000].into_iter();
        let timers = counts.map(|live| local("timers", "live", live, Local::Timers { live }));
        let counts = [30_000, 100_000, 1_000_000].into_iter();
        let parks = counts.map(|tasks| local("park", "tasks", tasks, Local::Park { tasks }));
        let alone = [
            ("ping_pong", Local::PingPong),
            ("lock", Local::Lock),
            ("semaphore", Local::Semaphore),
            ("oneshot", Local::Oneshot),
            ("watch", Local::Watch),
            ("broadcast", Local::Broadcast),
            ("sleep", Local::Sleep),
        ];
        let alone = alone.map(|(name, work)| Bench {
            params: BTreeMap::new(),
            ..local(name, "", 0, work)
        });
        let stream = local("stream", "capacity", CAPACITY, Local::Stream);
        let benches = yields.chain(spawns).chain([stream]).chain(alone);
        benches.chain(timers).chain(parks).collect()
    }

    fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_millis(150),
            measure: Duration::from_millis(450),
        }
    }

    fn overhead(&self) -> Duration {
        Duration::from_millis(30)
    }

    fn sample(&self, _: &Bench, child: &mut Child, _: Timing) -> Result<Sample, Failure> {
        let values = child.values()?;
        Ok(Sample {
            values,
            doubt: None,
        })
    }
}

fn bench(name: &'static str, param: &'static str, count: usize, work: Work) -> Bench {
    Bench {
        name,
        params: BTreeMap::from([(param, count as u64)]),
        metrics: NANOSECONDS,
        work,
    }
}

fn local(name: &'static str, param: &'static str, count: usize, work: Local) -> Bench {
    let metrics = match work {
        Local::Timers { .. } => TIMERS,
        Local::Sleep => SLEEP,
        Local::Park { .. } => PARK,
        _ => NANOSECONDS,
    };
    Bench {
        metrics,
        ..bench(name, param, count, Work::Local(work))
    }
}
