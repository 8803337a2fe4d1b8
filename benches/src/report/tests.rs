//! The report over made-up results: what a reader and a program get to see.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{json, tables};
use crate::harness::{Cell, Results};
use crate::subject::{Job, Role, Skip, Subject, Work};
use crate::suite::{Bench, Better, Metric, Sample, Timing};
use crate::suites;

struct Fake(&'static str, Role);

impl Subject for Fake {
    fn name(&self) -> &'static str {
        self.0
    }
    fn role(&self) -> Role {
        self.1
    }
    fn version(&self) -> String {
        "1.0".to_owned()
    }
    fn run(&self, job: &Job) -> Result<(), Skip> {
        job.not_offered()
    }
}

static OURS: Fake = Fake("ours", Role::Ours);
static LIMIT: Fake = Fake("raw-corosensei", Role::Limit);
static PEER: Fake = Fake("peer", Role::Peer);
static IDLE: Fake = Fake("idle", Role::Peer);

const METRICS: &[Metric] = &[Metric {
    name: "",
    unit: "ns",
    better: Better::Lower,
    headline: true,
}];

fn cell(subject: &'static Fake, values: [f64; 2], doubt: Option<&'static str>) -> Cell {
    let sample = |value| {
        Some(Sample {
            values: vec![value],
            doubt,
        })
    };
    Cell {
        subject,
        rounds: values.map(sample).into(),
        distances: Vec::new(),
        left_out: 0,
        skipped: None,
        failures: Vec::new(),
    }
}

fn results() -> Results {
    let bench = Bench {
        name: "yield",
        params: BTreeMap::from([("tasks", 2)]),
        metrics: METRICS,
        work: Work::Yield { tasks: 2 },
    };
    let skipped = Cell {
        subject: &IDLE,
        rounds: vec![None],
        distances: Vec::new(),
        left_out: 0,
        skipped: Some("offers no tasks".to_owned()),
        failures: vec!["was killed by signal 11".to_owned()],
    };
    let cells = vec![
        cell(&PEER, [30.0, 60.0], Some("it was tired")),
        cell(&OURS, [12.0, 22.0], None),
        cell(&LIMIT, [10.0, 20.0], None),
        skipped,
    ];
    let moment = Duration::from_millis(1);
    Results {
        suite: suites::find("micro").expect("there is such a suite"),
        tables: vec![(bench, cells)],
        runs: 2,
        sliced: false,
        timing: Timing {
            warm_up: moment,
            measure: moment,
        },
        attempts: 1,
        others: 0.5,
    }
}

fn lines(write: impl FnOnce(&Results, &mut Vec<u8>)) -> Vec<String> {
    let mut output = Vec::new();
    write(&results(), &mut output);
    let text = String::from_utf8(output).expect("a report is text");
    text.lines().map(str::to_owned).collect()
}

/// Goal: the JSON fields that others rely on, and nothing for a subject without a result.
#[test]
fn json_has_a_line_for_each_figure() {
    let lines = lines(|results, output| json(results, output).expect("memory takes it"));
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[1],
        r#"{"suite":"micro","bench":"yield","params":{"tasks":2},"subject":"ours","version":"1.0","#
            .to_owned()
            + r#""unit":"ns","better":"lower","median":17.0,"min":12.0,"max":22.0,"runs":2,"#
            + r#""ratio":1.15,"doubtful_runs":0,"values":[12.0,22.0]}"#
    );
    assert!(lines[0].contains(r#""doubtful_runs":2,"#), "{}", lines[0]);
}

/// Goal: best first, ratios within rounds, and every doubt, failure and skip in words.
#[test]
fn tables_say_everything() {
    let lines = lines(|results, output| tables(results, output).expect("memory takes it"));
    let begins = |line: &str, words: &str| {
        let found = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(found.starts_with(words), "{found:?} is not {words:?}");
    };
    begins(&lines[0], "yield(tasks=2), ratios to raw-corosensei");
    begins(&lines[1], "subject ns min-max ratio");
    begins(&lines[2], "raw-corosensei 15.0 10.0-20.0 1.00");
    begins(&lines[3], "ours 17.0 12.0-22.0 1.15");
    begins(&lines[4], "peer 45.0 30.0-60.0 3.00");
    begins(
        &lines[5],
        "ours against peer, the best peer: ns x 0.38 (0.37-0.40)",
    );
    begins(
        &lines[6],
        "! failed: idle in 1 of 1: was killed by signal 11",
    );
    begins(&lines[7], "! it was tired: peer in 2");
    begins(&lines[9], "skipped: idle (all): offers no tasks");
    begins(&lines[10], "! other processes used 0.50 CPUs");
}

/// Goal: a difference in percent is told with the interval in which it lies, once there are rounds enough.
#[test]
fn differences_are_told_with_their_interval() {
    let mut results = results();
    results.tables[0].0.metrics = &[Metric {
        name: "p99",
        unit: "%",
        better: Better::Lower,
        headline: true,
    }];
    let told = |results: &Results| {
        let mut output = Vec::new();
        tables(results, &mut output).expect("memory takes it");
        let text = String::from_utf8(output).expect("a report is text");
        let found = text.lines().find(|line| line.contains("certainty"));
        found.map(|line| line.trim().to_owned())
    };
    assert_eq!(told(&results), None, "two rounds are too few");
    let mut rounds = cell(&OURS, [1.0, 2.0], None).rounds;
    rounds.extend(cell(&OURS, [3.0, 4.0], None).rounds);
    results.tables[0].1[1].rounds = rounds;
    let expected = "ours: p99 +2.50 %, with 95 % certainty +0.46 to +4.54";
    assert_eq!(told(&results).as_deref(), Some(expected));
}
