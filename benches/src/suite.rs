//! What a suite is: a list of benches, a way to take one sample, and whom to compare with.
//!
//! ```text
//! Suite "net"  --benches-->  Bench "echo" (connections=64)  --metrics-->  requests, cpu, p50 ...
//! ```
//!
//! A suite is one file in `suites/`, listed in `suites::ALL`. The harness runs any of them: it decides
//! the order, starts the children, pairs the rounds; the suite only takes samples.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::load::Plan;
use crate::subject::{Subject, Work};
use crate::subjects;

/// A list of benches that are run, and reported, together.
pub(crate) trait Suite: Sync {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// The limit that ratios are taken to, and its twin that estimates the noise: the same code under
    /// another name.
    fn reference(&self) -> (&'static str, &'static str);

    /// Who is asked.
    fn subjects(&self) -> Vec<&'static dyn Subject> {
        subjects::all()
    }

    /// The benches, in the order of the report.
    fn benches(&self) -> Vec<Bench>;

    /// How long one sample of a full run takes.
    fn timing(&self) -> Timing;

    /// What a sample costs beside its own time: start and end of the child, connections.
    fn overhead(&self) -> Duration;

    /// Whether it matters how far apart the two CPUs are: see [`crate::distance`].
    fn distance_matters(&self) -> bool {
        false
    }

    /// Makes what the benches need, once, before the first sample.
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    /// The load of a bench that is a server under load: such servers can be asked in turn, see [`crate::slices`].
    fn plan(&self, _: &Bench) -> Option<Plan> {
        None
    }

    /// Takes one sample from a child that has just been started for `bench`.
    fn sample(&self, bench: &Bench, child: &mut Child, timing: Timing) -> Result<Sample, Failure>;
}

/// One line of questions to every subject.
#[derive(Debug)]
pub(crate) struct Bench {
    /// What is measured.
    pub(crate) name: &'static str,
    /// With which parameters: part of the identity of a result.
    pub(crate) params: BTreeMap<&'static str, u64>,
    /// What comes out, in the order of [`Sample::values`].
    pub(crate) metrics: &'static [Metric],
    /// What the subject has to do for it.
    pub(crate) work: Work,
}

impl Bench {
    /// The name with its parameters, by which a child finds its bench again.
    pub(crate) fn key(&self) -> String {
        let params = self.params.iter();
        let params: Vec<String> = params
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if params.is_empty() {
            return self.name.to_owned();
        }
        format!("{}({})", self.name, params.join(","))
    }

    /// A parameter that the suite itself has set.
    pub(crate) fn param(&self, name: &str) -> Option<u64> {
        self.params.get(name).copied()
    }
}

/// One figure of a bench.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Added to the bench's name; empty if the bench has only one.
    pub(crate) name: &'static str,
    /// The unit of the value.
    pub(crate) unit: &'static str,
    /// Which direction is the good one.
    pub(crate) better: Better,
    /// Whether the table shows its range and its ratio, or the median alone.
    pub(crate) headline: bool,
}

/// Which direction is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// More is better: a rate.
    Higher,
    /// Less is better: a time, a cost.
    Lower,
}

/// How long a sample takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Time before it counts.
    pub(crate) warm_up: Duration,
    /// Time that counts.
    pub(crate) measure: Duration,
}

impl Timing {
    /// Both parts together.
    pub(crate) fn total(self) -> Duration {
        self.warm_up + self.measure
    }

    /// The same proportions in a total of `time`, never longer than it is now.
    pub(crate) fn shrunk_to(self, time: Duration) -> Timing {
        let scale = (time.as_secs_f64() / self.total().as_secs_f64()).min(1.0);
        Timing {
            warm_up: self.warm_up.mul_f64(scale),
            measure: self.measure.mul_f64(scale),
        }
    }
}

/// What one child gave.
#[derive(Debug)]
pub(crate) struct Sample {
    /// A value for each metric of the bench.
    pub(crate) values: Vec<f64>,
    /// A reason to doubt this sample, if there is one.
    pub(crate) doubt: Option<&'static str>,
}
