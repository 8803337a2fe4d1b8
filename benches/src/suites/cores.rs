//! Suite `cores`: what passes between two cores. The subject measures itself, on both CPUs; the harness sleeps.
//!
//! - `ping_pong`: a word there and back. Who can spin does.
//! - `stream`, `batches`: messages one way, with room for 1,024; one at a time, and with calls that take many.
//! - `wake`: from a send until the receiver runs, which has been asleep.
//! - `wake_beside`: the same and the limit's way in turn, in one process: by how much ours takes longer.
//! - `call`: a closure runs there, its value comes back.
//! - `block_on`: a future that is ready; one that a thread of the other core wakes.
//!
//! The limit is what two threads can do without a runtime: rtrb, with both sides spinning; for `wake` a ring that sleeps
//! and a MSG_RING to it; for `block_on` a parked thread.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::subject::{Between, Work};
use crate::suite::{Bench, Better, Metric, Sample, Suite, Timing};

/// The suite.
#[derive(Debug)]
pub(crate) struct Cores;

const fn metric(name: &'static str, unit: &'static str) -> Metric {
    Metric {
        name,
        unit,
        better: Better::Lower,
        headline: true,
    }
}

const NANOSECONDS: &[Metric] = &[metric("", "ns")];
const WAKE: &[Metric] = &[metric("p50", "us"), metric("p99", "us")];
const fn more(name: &'static str) -> Metric {
    metric(name, "%")
}
const fn beside(name: &'static str) -> Metric {
    Metric {
        headline: false,
        ..metric(name, "us")
    }
}
const WAKE_BESIDE: &[Metric] = &[
    beside("p50"),
    beside("p99"),
    beside("raw_p50"),
    beside("raw_p99"),
    more("p50_more"),
    more("p99_more"),
];

impl Suite for Cores {
    fn name(&self) -> &'static str {
        "cores"
    }

    fn reference(&self) -> (&'static str, &'static str) {
        ("raw-pair", "raw-pair-again")
    }

    fn benches(&self) -> Vec<Bench> {
        let bench = |name, params: &[(&'static str, u64)], work| Bench {
            name,
            params: BTreeMap::from_iter(params.iter().copied()),
            metrics: NANOSECONDS,
            work: Work::Between(work),
        };
        let mut benches = vec![bench("ping_pong", &[], Between::PingPong)];
        for bytes in [8, 64] {
            benches.push(bench(
                "stream",
                &[("bytes", bytes)],
                Between::Stream { bytes },
            ));
        }
        for bytes in [8, 64] {
            benches.push(bench(
                "batches",
                &[("bytes", bytes)],
                Between::Batches { bytes },
            ));
        }
        let pause = Duration::from_micros(200);
        benches.push(Bench {
            metrics: WAKE,
            ..bench("wake", &[("asleep_us", 200)], Between::Wake { pause })
        });
        benches.push(Bench {
            metrics: WAKE_BESIDE,
            ..bench(
                "wake_beside",
                &[("asleep_us", 200)],
                Between::WakeBeside { pause },
            )
        });
        benches.push(bench("call", &[], Between::Call));
        benches.push(bench("block_on_ready", &[], Between::BlockOnReady));
        benches.push(bench("block_on_wake", &[], Between::BlockOnWake));
        benches
    }

    fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_millis(100),
            measure: Duration::from_millis(300),
        }
    }

    fn overhead(&self) -> Duration {
        Duration::from_millis(40)
    }

    fn distance_matters(&self) -> bool {
        true
    }

    fn sample(&self, _: &Bench, child: &mut Child, _: Timing) -> Result<Sample, Failure> {
        let values = child.values()?;
        Ok(Sample {
            values,
            doubt: None,
        })
    }
}
