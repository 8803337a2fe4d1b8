//! Suite `micro`: what tasks cost when no kernel is involved. The subject measures itself.
//!
//! - `yield`: nanoseconds from one task's turn to the next one's, with 2 / 100 / 10,000 runnable.
//! - `spawn_join`: nanoseconds to spawn a task that returns a number, run it and take its result, in
//!   batches of 1 / 100 / 10,000 alive at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::subject::Work;
use crate::suite::{Bench, Better, Metric, Sample, Suite, Timing};

/// The suite.
#[derive(Debug)]
pub(crate) struct Micro;

const NANOSECONDS: &[Metric] = &[Metric {
    name: "",
    unit: "ns",
    better: Better::Lower,
    headline: true,
}];

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
        yields.chain(spawns).collect()
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
