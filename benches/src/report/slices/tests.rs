//! The table of servers asked in turn, over made-up figures.

use std::collections::BTreeMap;

use super::table;
use crate::harness::Cell;
use crate::suite::{Bench, Sample, Suite};
use crate::suites;

const BLOCKS: u32 = 20;

/// A subject whose requests are `requests` times the block's own speed.
fn cell(suite: &dyn Suite, name: &str, requests: f64) -> Cell {
    let subject = { suite.subjects() }
        .into_iter()
        .find(|it| it.name() == name)
        .expect("the suite has it");
    let sample = |block: u32| {
        let speed = f64::from(block % 7 + 1);
        let noise = 1.0 + f64::from(block % 3) / 1000.0;
        let per_request = 1.0 / (requests * speed * noise);
        let mut values = vec![requests * speed * noise];
        values.extend([per_request; 7]);
        Some(Sample {
            values,
            doubt: None,
        })
    };
    Cell {
        rounds: (0..BLOCKS).map(sample).collect(),
        ..Cell::new(subject)
    }
}

fn told(names: &[(&str, f64)]) -> Vec<String> {
    let suite = suites::find("net").expect("there is such a suite");
    let bench: Bench = { suite.benches() }
        .into_iter()
        .find(|bench| bench.params == BTreeMap::from([("bytes", 64), ("connections", 64)]))
        .expect("the suite has it");
    let cells: Vec<Cell> = { names.iter() }
        .map(|(name, requests)| cell(suite, name, *requests))
        .collect();
    let mut output = Vec::new();
    table(suite, &bench, &cells, &mut output).expect("memory takes it");
    let text = String::from_utf8(output).expect("a report is text");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).collect()
}

/// Goal: ratios are those within a block, whose speed differs seven times from the next one's, with their interval; best first; ours is
/// compared with each peer, and with another of ours once.
#[test]
fn ratios_and_intervals_are_told() {
    let lines = told(&[
        ("tokio", 900.0),
        ("coring", 1000.0),
        ("coring-spin", 1000.0),
        ("raw-uring", 1000.0),
    ]);
    let begins = |line: &str, words: &str| {
        assert!(line.starts_with(words), "{line:?} is not {words:?}");
    };
    begins(
        &lines[0],
        "echo(bytes=64,connections=64), 20 slices of 33 ms each, ratios to raw-uring (95 % interval)",
    );
    begins(&lines[1], "subject requests 1/s ratio cpu us/request ratio");
    begins(&lines[2], "coring 4002 1.000 (1.000-1.000)");
    begins(&lines[5], "tokio 3602 0.900 (0.900-0.900)");
    begins(&lines[6], "coring against coring-spin: requests x 1.000");
    begins(
        &lines[7],
        "coring against tokio: requests x 1.111 (1.111-1.111), cpu x 0.900",
    );
    begins(&lines[8], "coring-spin against tokio");
    assert_eq!(lines.len(), 9);
}

/// Goal: without the limit among the subjects there is no ratio to it, and the comparison stays.
#[test]
fn a_limit_is_not_needed() {
    let lines = told(&[("tokio", 900.0), ("coring", 1000.0)]);
    assert!(lines[2].starts_with("coring 4002 - "), "{}", lines[2]);
    assert!(lines[4].starts_with("coring against tokio: requests x 1.111"));
}
