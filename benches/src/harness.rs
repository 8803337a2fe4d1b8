//! Runs a suite: which pairs of bench and subject, in which order, for how long.
//!
//! In every round each pair is measured once. The order of benches, and of subjects within a bench, is drawn
//! anew from the seed: each subject meets the machine's good and bad minutes alike, none always runs
//! after the same other, and what is compared later was measured within seconds of each other.
//!
//! A sample during which others used the machine is taken once more; if that was disturbed too, it stands and is
//! marked.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::distance;
use crate::machine::{Cpus, Watch};
use crate::subject::Subject;
use crate::suite::{Bench, Sample, Suite, Timing};
use crate::{slices, subjects, sys};

/// How to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Finish in some minutes.
    pub(crate) quick: bool,
    /// Names of benches and subjects to keep; empty for all.
    pub(crate) only: Vec<String>,
    /// Rounds, if not the default.
    pub(crate) runs: Option<usize>,
    /// Ask servers in turn instead of starting one for each sample: see [`slices`].
    pub(crate) slices: bool,
    /// Other binaries whose coring is to be measured as well.
    pub(crate) against: Vec<PathBuf>,
    /// Where the order of subjects comes from.
    pub(crate) seed: u64,
}

const RUNS: usize = 5;
const RUNS_QUICK: usize = 3;
/// How often a disturbed sample is taken at most; a quick run has no time for a second.
const ATTEMPTS: usize = 2;
const DISTURBED: &str = "other processes used the machine";
/// What a quick run shares out among its samples.
const QUICK_BUDGET: Duration = Duration::from_secs(55);
/// A sample is never shorter: below, a rate of some hundred samples is noise.
const SHORTEST_SAMPLE: Duration = Duration::from_millis(60);

/// What one subject gave in one bench.
pub(crate) struct Cell {
    /// Who.
    pub(crate) subject: &'static dyn Subject,
    /// A sample a round, `None` where there is none.
    pub(crate) rounds: Vec<Option<Sample>>,
    /// How far apart the CPUs were in each, where that matters: see [`distance`].
    pub(crate) distances: Vec<Option<f64>>,
    /// Samples that were left out for their distance.
    pub(crate) left_out: usize,
    /// Why it was not asked again.
    pub(crate) skipped: Option<String>,
    /// What went wrong, round by round.
    pub(crate) failures: Vec<String>,
}

/// Everything one run of a suite gave.
pub(crate) struct Results {
    /// The suite that was run.
    pub(crate) suite: &'static dyn Suite,
    /// Its benches with the subjects asked, in the order of the registry.
    pub(crate) tables: Vec<(Bench, Vec<Cell>)>,
    /// How many rounds there were.
    pub(crate) runs: usize,
    /// Whether servers were asked in turn: a round is then a block of slices, and `runs` the most of any bench.
    pub(crate) sliced: bool,
    /// How long each sample was.
    pub(crate) timing: Timing,
    /// How often a disturbed one was taken at most.
    pub(crate) attempts: usize,
    /// CPUs that other processes used meanwhile.
    pub(crate) others: f64,
}

/// The benches and subjects that the options leave over, or what is wrong with them.
pub(crate) fn select(
    suite: &dyn Suite,
    options: &Options,
) -> Result<(Vec<Bench>, Vec<&'static dyn Subject>), String> {
    let only = &options.only;
    let (mut benches, mut chosen) = (suite.benches(), suite.subjects());
    let is_bench = |bench: &Bench, word: &String| bench.name == word || bench.key() == *word;
    let names_bench = |word: &&String| benches.iter().any(|bench| is_bench(bench, word));
    let names_subject = |word: &&String| chosen.iter().any(|subject| subject.name() == *word);
    if let Some(word) = only
        .iter()
        .find(|it| !names_bench(it) && !names_subject(it))
    {
        let benches: Vec<String> = benches.iter().map(Bench::key).collect();
        let subjects: Vec<&str> = chosen.iter().map(|subject| subject.name()).collect();
        return Err(format!(
            "--only {word}: no bench or subject of that name\n  benches: {}\n  subjects: {}",
            benches.join(" "),
            subjects.join(" ")
        ));
    }
    if only.iter().any(|word| names_bench(&word)) {
        benches.retain(|bench| only.iter().any(|word| is_bench(bench, word)));
    }
    if only.iter().any(|word| names_subject(&word)) {
        chosen.retain(|subject| only.iter().any(|word| subject.name() == word));
    } else {
        chosen.retain(|subject| !subject.only_when_named());
    }
    chosen.extend(options.against.iter().map(|it| subjects::against(it)));
    if options.slices {
        benches.retain(|bench| suite.plan(bench).is_some());
        if benches.is_empty() {
            return Err(
                "--slices is for servers under load, and none of these benches is one".to_owned(),
            );
        }
    }
    Ok((benches, chosen))
}

/// Runs what `select` left over.
pub(crate) fn run(
    suite: &'static dyn Suite,
    benches: Vec<Bench>,
    subjects: &[&'static dyn Subject],
    options: &Options,
    cpus: Cpus,
) -> io::Result<Results> {
    sys::raise_file_limit()?;
    sys::pin(&[cpus.harness])?;
    suite.prepare()?;
    let watch = Watch::start()?;
    let runs = options
        .runs
        .unwrap_or(if options.quick { RUNS_QUICK } else { RUNS });
    let mut timing = suite.timing();
    if options.quick {
        let samples = u32::try_from(runs * benches.len() * subjects.len()).unwrap_or(u32::MAX);
        let share = (QUICK_BUDGET / samples.max(1)).saturating_sub(suite.overhead());
        timing = timing.shrunk_to(share.max(SHORTEST_SAMPLE));
    }
    let cells = || subjects.iter().map(|&subject| Cell::new(subject)).collect();
    let mut results = Results {
        suite,
        tables: benches.into_iter().map(|bench| (bench, cells())).collect(),
        runs,
        sliced: options.slices,
        timing,
        attempts: if options.quick { 1 } else { ATTEMPTS },
        others: 0.0,
    };
    let mut random = fastrand::Rng::with_seed(options.seed);
    if options.slices {
        results.runs = slices::run(suite, &mut results.tables, options, &mut random, cpus)?;
    } else {
        for round in 0..runs {
            results.round(round, &mut random, cpus)?;
        }
    }
    progress("");
    if suite.distance_matters() {
        results.keep_usual_distance();
    }
    results.others = watch.others()?;
    Ok(results)
}

impl Results {
    /// Leaves out the samples of a table that were taken at another distance than most.
    fn keep_usual_distance(&mut self) {
        for (_, cells) in &mut self.tables {
            let all = cells.iter().flat_map(|cell| &cell.distances);
            let usual = distance::usual(&all.copied().flatten().collect::<Vec<_>>());
            for cell in cells {
                for (sample, taken_at) in cell.rounds.iter_mut().zip(&cell.distances) {
                    let is_usual = usual
                        .zip(*taken_at)
                        .is_some_and(|(a, b)| distance::is_same(a, b));
                    if !is_usual && sample.take().is_some() {
                        cell.left_out += 1;
                    }
                }
            }
        }
    }

    /// Takes one sample from every pair that can give one.
    fn round(&mut self, round: usize, random: &mut fastrand::Rng, cpus: Cpus) -> io::Result<()> {
        let mut tables: Vec<usize> = (0..self.tables.len()).collect();
        random.shuffle(&mut tables);
        let mut order = Vec::new();
        for table in tables {
            let begin = order.len();
            order.extend((0..self.tables[table].1.len()).map(|cell| (table, cell)));
            random.shuffle(&mut order[begin..]);
        }
        for (done, &(table, cell)) in order.iter().enumerate() {
            let (bench, cells) = &mut self.tables[table];
            let cell = &mut cells[cell];
            progress(&format!(
                "{}: round {} of {}, {} of {}: {} {}",
                self.suite.name(),
                round + 1,
                self.runs,
                done + 1,
                order.len(),
                bench.key(),
                cell.subject.name()
            ));
            if cell.skipped.is_none() {
                let sample = cell.measure(self.suite, bench, self.timing, cpus, self.attempts)?;
                let (sample, distance) = sample.unzip();
                cell.rounds.push(sample);
                cell.distances.push(distance.flatten());
            }
        }
        Ok(())
    }
}

impl Cell {
    pub(crate) fn new(subject: &'static dyn Subject) -> Cell {
        Cell {
            subject,
            rounds: Vec::new(),
            distances: Vec::new(),
            left_out: 0,
            skipped: None,
            failures: Vec::new(),
        }
    }

    /// One round of this pair, with the distance of the CPUs where that matters. An error means that the harness itself cannot go on.
    fn measure(
        &mut self,
        suite: &dyn Suite,
        bench: &Bench,
        timing: Timing,
        cpus: Cpus,
        attempts: usize,
    ) -> io::Result<Option<(Sample, Option<f64>)>> {
        let measure_distance = || {
            let matters = suite.distance_matters();
            matters.then(|| distance::measure(cpus)).transpose()
        };
        let mut taken = None;
        for _ in 0..attempts {
            let before = measure_distance()?;
            let watch = Watch::start()?;
            let child = Child::start(suite, bench, self.subject, timing, cpus)?;
            let Some(sample) = self.sample(suite, bench, timing, child) else {
                break;
            };
            let disturbed = watch.disturbed()?;
            let distance = before.zip(measure_distance()?);
            // Of a sample in which they moved there is no saying at which it was taken.
            let distance = distance.filter(|(before, after)| distance::is_same(*before, *after));
            let moved = before.is_some() && distance.is_none();
            let sample = Sample {
                doubt: sample.doubt.or(disturbed.then_some(DISTURBED)),
                ..sample
            };
            taken = Some((sample, distance.map(|(before, _)| before)));
            if !disturbed && !moved {
                break;
            }
        }
        Ok(taken)
    }

    /// One sample; the child has ended when this returns. Without a sample the reason has been noted.
    fn sample(
        &mut self,
        suite: &dyn Suite,
        bench: &Bench,
        timing: Timing,
        mut child: Child,
    ) -> Option<Sample> {
        match suite.sample(bench, &mut child, timing) {
            Ok(sample) => {
                let expected = bench.metrics.len();
                assert_eq!(sample.values.len(), expected, "a value for each metric");
                return Some(sample);
            }
            Err(failure) => self.note(failure, &mut child),
        }
        None
    }

    /// Why there is no sample from this child.
    pub(crate) fn note(&mut self, failure: Failure, child: &mut Child) {
        match failure {
            Failure::Skipped(reason) => self.skipped = Some(reason),
            Failure::Broken(reason) => {
                let end = child.post_mortem().filter(|end| *end != reason);
                let end = end.map_or_else(String::new, |end| format!(": the subject {end}"));
                self.failures.push(reason + &end);
            }
        }
    }

    /// The values of one metric, round by round.
    pub(crate) fn values(&self, metric: usize) -> Vec<Option<f64>> {
        let values = self.rounds.iter();
        values
            .map(|sample| sample.as_ref().map(|it| it.values[metric]))
            .collect()
    }
}

/// Says on a terminal what is being measured; says nothing into a pipe.
pub(crate) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}
