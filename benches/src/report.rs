//! What is shown of the results: a table for people, a line of JSON for each figure for programs.
//!
//! A table's row is a subject, best first. A headline figure shows its median, its range over the rounds,
//! and its ratio to the suite's limit, taken within each round; the other figures show their median.
//! Below it stand the A/A pair (how far the same code is from itself: smaller differences mean nothing),
//! our runtime against the limit and the best peer, and every reason to doubt a row.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::harness::{Cell, Results};
use crate::machine::NOISY_CPUS;
use crate::stats::{self, Summary, ratios};
use crate::subject::Role;
use crate::suite::{Bench, Better, Metric};

mod slices;

/// One figure in JSON. The first eleven fields are the contract; what follows may grow.
#[derive(Debug, Serialize)]
struct Line<'a> {
    suite: &'a str,
    bench: String,
    params: &'a BTreeMap<&'static str, u64>,
    subject: &'a str,
    version: &'a str,
    unit: &'a str,
    better: Better,
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
    /// Median of the ratios to the suite's limit, each taken within a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// Runs of these that are to be doubted.
    doubtful_runs: usize,
    /// What each run gave, so that those of several invocations can be taken together.
    values: Vec<f64>,
}

/// Writes one object a line: every metric of every bench and subject that has a result.
pub(crate) fn json(results: &Results, output: &mut dyn Write) -> io::Result<()> {
    for (bench, cells) in &results.tables {
        let reference = named(cells, results.suite.reference().0);
        for cell in cells {
            for (index, metric) in bench.metrics.iter().enumerate() {
                let values = cell.values(index);
                let Some(summary) = Summary::of(values.iter().copied().flatten()) else {
                    continue;
                };
                let ratio = reference.and_then(|it| ratios(&values, &it.values(index)));
                let line = Line {
                    suite: results.suite.name(),
                    bench: figure(bench, metric),
                    params: &bench.params,
                    subject: cell.subject.name(),
                    version: &cell.subject.version(),
                    unit: metric.unit,
                    better: metric.better,
                    median: summary.median,
                    min: summary.min,
                    max: summary.max,
                    runs: cell.rounds.iter().flatten().count(),
                    ratio: ratio.map(|it| it.median).filter(|it| it.is_finite()),
                    doubtful_runs: cell.doubts().count(),
                    values: values.iter().copied().flatten().collect(),
                };
                serde_json::to_writer(&mut *output, &line)?;
                writeln!(output)?;
            }
        }
    }
    Ok(())
}

/// Writes a table for each bench, then who was left out and why.
pub(crate) fn tables(results: &Results, output: &mut dyn Write) -> io::Result<()> {
    for (bench, cells) in &results.tables {
        table(results, bench, cells, output)?;
    }
    skipped(results, output)?;
    if results.others > NOISY_CPUS {
        writeln!(
            output,
            "! other processes used {:.2} CPUs meanwhile: these figures are not fit to be quoted",
            results.others
        )?;
    }
    Ok(())
}

fn table(
    results: &Results,
    bench: &Bench,
    cells: &[Cell],
    output: &mut dyn Write,
) -> io::Result<()> {
    if results.sliced {
        slices::table(results.suite, bench, cells, output)?;
        doubts(cells, output)?;
        return writeln!(output);
    }
    let (limit, twin) = results.suite.reference();
    let reference = named(cells, limit);
    writeln!(output, "{}, ratios to {limit}", bench.key())?;
    let mut rows = vec![header(bench)];
    let mut ranked: Vec<(f64, &Cell)> = cells
        .iter()
        .filter_map(|it| Some((rank(bench, it)?, it)))
        .collect();
    ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    rows.extend(ranked.iter().map(|(_, cell)| row(bench, cell, reference)));
    align(&rows, output)?;
    if let (Some(twin), Some(reference)) = (named(cells, twin), reference) {
        let apart = compared(bench, twin, reference).join(", ");
        if !apart.is_empty() {
            writeln!(output, "  A/A, the same code twice: {apart}")?;
        }
    }
    for cell in cells
        .iter()
        .filter(|cell| cell.subject.role() == Role::Ours)
    {
        against_best_peer(bench, cell, &ranked, output)?;
        differences(bench, cell, output)?;
    }
    distances(cells, output)?;
    doubts(cells, output)?;
    writeln!(output)
}

/// At which distance of the CPUs the samples were taken, and how many were left out because it was another one.
fn distances(cells: &[Cell], output: &mut dyn Write) -> io::Result<()> {
    let taken = |cell: &Cell| {
        let pairs = cell.rounds.iter().zip(&cell.distances);
        let kept = pairs.filter(|(sample, _)| sample.is_some());
        kept.filter_map(|(_, distance)| *distance)
            .collect::<Vec<_>>()
    };
    let kept: Vec<f64> = cells.iter().flat_map(taken).collect();
    let Some(summary) = Summary::of(kept.iter().copied()) else {
        return Ok(());
    };
    let left_out: usize = cells.iter().map(|cell| cell.left_out).sum();
    writeln!(
        output,
        "  a line there and back takes {} ns ({}-{}); samples left out that were not taken at this distance: {left_out} of {}",
        number(summary.median),
        number(summary.min),
        number(summary.max),
        kept.len() + left_out
    )
}

/// What failed, and what is to be doubted, grouped by reason; with the number of runs it happened in.
fn doubts(cells: &[Cell], output: &mut dyn Write) -> io::Result<()> {
    let mut doubts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for cell in cells {
        let name = cell.subject.name();
        for doubt in cell.doubts() {
            *doubts.entry(doubt).or_default().entry(name).or_default() += 1;
        }
        if let Some(failure) = cell.failures.last() {
            let (count, runs) = (cell.failures.len(), cell.rounds.len());
            writeln!(output, "  ! failed: {name} in {count} of {runs}: {failure}")?;
        }
    }
    for (doubt, subjects) in doubts {
        let subjects = subjects
            .iter()
            .map(|(name, count)| format!("{name} in {count}"));
        let subjects: Vec<String> = subjects.collect();
        writeln!(output, "  ! {doubt}: {}", subjects.join(", "))?;
    }
    Ok(())
}

fn header(bench: &Bench) -> Vec<String> {
    let mut row = vec!["  subject".to_owned()];
    for metric in bench.metrics {
        row.push(
            format!("{} {}", metric.name, metric.unit)
                .trim_start()
                .to_owned(),
        );
        if metric.headline {
            row.push("min-max".to_owned());
            row.push("ratio".to_owned());
        }
    }
    row
}

fn row(bench: &Bench, cell: &Cell, reference: Option<&Cell>) -> Vec<String> {
    let mut row = vec![format!("  {}", cell.subject.name())];
    for (index, metric) in bench.metrics.iter().enumerate() {
        let values = cell.values(index);
        let summary =
            Summary::of(values.iter().copied().flatten()).expect("ranked cells have values");
        row.push(number(summary.median));
        if metric.headline {
            row.push(format!("{}-{}", number(summary.min), number(summary.max)));
            let ratio = reference.and_then(|it| ratios(&values, &it.values(index)));
            row.push(ratio.map_or("-".to_owned(), |it| format!("{:.2}", it.median)));
        }
    }
    row
}

/// Every headline figure of `cell` as a multiple of `other`'s, with its range.
fn compared(bench: &Bench, cell: &Cell, other: &Cell) -> Vec<String> {
    let headlines = bench
        .metrics
        .iter()
        .enumerate()
        .filter(|(_, it)| it.headline);
    let compared = headlines.filter_map(|(index, metric)| {
        let ratio = ratios(&cell.values(index), &other.values(index))?;
        let (median, min, max) = (ratio.median, ratio.min, ratio.max);
        let name = if metric.name.is_empty() {
            metric.unit
        } else {
            metric.name
        };
        Some(format!("{name} x {median:.2} ({min:.2}-{max:.2})"))
    });
    compared.collect()
}

fn against_best_peer(
    bench: &Bench,
    ours: &Cell,
    ranked: &[(f64, &Cell)],
    output: &mut dyn Write,
) -> io::Result<()> {
    let best = ranked
        .iter()
        .find(|(_, cell)| cell.subject.role() == Role::Peer);
    let Some((_, best)) = best.filter(|_| rank(bench, ours).is_some()) else {
        return Ok(());
    };
    let compared = compared(bench, ours, best).join(", ");
    let (ours, best) = (ours.subject.name(), best.subject.name());
    writeln!(output, "  {ours} against {best}, the best peer: {compared}")
}

/// Headline figures in percent are differences: of these the mean over the rounds counts, and how sure it is.
fn differences(bench: &Bench, cell: &Cell, output: &mut dyn Write) -> io::Result<()> {
    for (index, metric) in bench.metrics.iter().enumerate() {
        if !(metric.headline && metric.unit == "%") {
            continue;
        }
        if let Some((mean, half)) = stats::mean(cell.values(index).into_iter().flatten()) {
            let (subject, name) = (cell.subject.name(), metric.name);
            let (low, high) = (mean - half, mean + half);
            writeln!(
                output,
                "  {subject}: {name} {mean:+.2} %, with 95 % certainty {low:+.2} to {high:+.2}"
            )?;
        }
    }
    Ok(())
}

/// Who could not do what, grouped by reason.
fn skipped(results: &Results, output: &mut dyn Write) -> io::Result<()> {
    let mut reasons: BTreeMap<(&str, &str), Vec<&Bench>> = BTreeMap::new();
    for (bench, cells) in &results.tables {
        for cell in cells {
            if let Some(reason) = &cell.skipped {
                let benches = reasons.entry((cell.subject.name(), reason)).or_default();
                benches.push(bench);
            }
        }
    }
    for ((subject, reason), benches) in reasons {
        let names = skipped_names(results, &benches).join(" ");
        writeln!(output, "skipped: {subject} ({names}): {reason}")?;
    }
    Ok(())
}

/// The benches in few words: a name alone stands for all benches of that name.
fn skipped_names(results: &Results, skipped: &[&Bench]) -> Vec<String> {
    if skipped.len() == results.tables.len() {
        return vec!["all".to_owned()];
    }
    let all_of = |name| results.tables.iter().filter(move |(it, _)| it.name == name);
    let whole = |name| all_of(name).count() == skipped.iter().filter(|it| it.name == name).count();
    let mut names: Vec<String> = skipped
        .iter()
        .map(|bench| match whole(bench.name) {
            true => bench.name.to_owned(),
            false => bench.key(),
        })
        .collect();
    names.dedup();
    names
}

/// Position by the first headline figure: smaller is better.
fn rank(bench: &Bench, cell: &Cell) -> Option<f64> {
    let index = bench.metrics.iter().position(|it| it.headline)?;
    let median = Summary::of(cell.values(index).into_iter().flatten())?.median;
    match bench.metrics[index].better {
        Better::Higher => Some(-median),
        Better::Lower => Some(median),
    }
}

impl Cell {
    fn doubts(&self) -> impl Iterator<Item = &'static str> {
        self.rounds
            .iter()
            .flatten()
            .filter_map(|sample| sample.doubt)
    }
}

fn named<'a>(cells: &'a [Cell], name: &str) -> Option<&'a Cell> {
    cells.iter().find(|cell| cell.subject.name() == name)
}

fn figure(bench: &Bench, metric: &Metric) -> String {
    let name = [bench.name, metric.name].join("/");
    name.trim_end_matches('/').to_owned()
}

/// Three or four digits that count; no more are reproducible.
fn number(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.1}k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Writes rows in columns: the first to the left, all others to the right.
fn align(rows: &[Vec<String>], output: &mut dyn Write) -> io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    for row in rows {
        write!(output, "{:<1$}", row[0], widths[0])?;
        for (text, width) in row.iter().zip(&widths).skip(1) {
            write!(output, "  {text:>width$}")?;
        }
        writeln!(output)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
