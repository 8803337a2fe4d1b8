//! What is shown of servers that were asked in turn: medians, and ratios with the interval in which those of many more
//! blocks would lie.

use std::io::{self, Write};

use super::{align, named, number, rank};
use crate::harness::Cell;
use crate::slices;
use crate::stats::{Summary, ratio_within};
use crate::subject::Role;
use crate::suite::{Bench, Metric, Suite};

/// The figures that are compared; the others belong to the generator, or need longer samples.
const COMPARED: [&str; 4] = ["requests", "cpu", "p50", "p99"];

/// The subjects, best first, with their ratios to the limit; then ours against each of the others.
pub(super) fn table(
    suite: &dyn Suite,
    bench: &Bench,
    cells: &[Cell],
    output: &mut dyn Write,
) -> io::Result<()> {
    let limit = suite.reference().0;
    let blocks = cells.iter().map(|cell| cell.rounds.len()).max();
    let blocks = blocks.unwrap_or_default();
    write!(output, "{}, {blocks} slices", bench.key())?;
    if let Some(plan) = suite.plan(bench) {
        let milliseconds = slices::timing(plan).measure.as_millis();
        write!(output, " of {milliseconds} ms")?;
    }
    writeln!(output, " each, ratios to {limit} (95 % interval)")?;
    let metrics: Vec<(usize, &Metric)> = (bench.metrics.iter().enumerate())
        .filter(|(_, metric)| COMPARED.contains(&metric.name))
        .collect();
    let mut ranked: Vec<(f64, &Cell)> = (cells.iter())
        .filter_map(|cell| Some((rank(bench, cell)?, cell)))
        .collect();
    ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut rows = vec![vec!["  subject".to_owned()]];
    for (_, metric) in &metrics {
        rows[0].push(format!("{} {}", metric.name, metric.unit));
        rows[0].push("ratio".to_owned());
    }
    let reference = named(cells, limit);
    for (_, cell) in &ranked {
        let mut row = vec![format!("  {}", cell.subject.name())];
        for (index, _) in &metrics {
            let median = Summary::of(cell.values(*index).into_iter().flatten());
            row.push(median.map_or("-".to_owned(), |it| number(it.median)));
            let ratio = reference.and_then(|it| told(cell, it, *index));
            row.push(ratio.unwrap_or("-".to_owned()));
        }
        rows.push(row);
    }
    align(&rows, output)?;
    for ours in cells.iter().filter(|it| it.subject.role() == Role::Ours) {
        for (_, other) in ranked.iter().filter(|(_, it)| is_compared(ours, it)) {
            let compared: Vec<String> = (metrics.iter())
                .filter_map(|(index, metric)| {
                    Some(format!("{} x {}", metric.name, told(ours, other, *index)?))
                })
                .collect();
            let (ours, other) = (ours.subject.name(), other.subject.name());
            if !compared.is_empty() {
                writeln!(output, "  {ours} against {other}: {}", compared.join(", "))?;
            }
        }
    }
    Ok(())
}

/// Ours with the peers, and with one another once; the limit has its column.
fn is_compared(ours: &Cell, other: &Cell) -> bool {
    match other.subject.role() {
        Role::Ours => ours.subject.name() < other.subject.name(),
        role => role == Role::Peer,
    }
}

fn told(cell: &Cell, to: &Cell, index: usize) -> Option<String> {
    let (median, [low, high]) = ratio_within(&cell.values(index), &to.values(index))?;
    Some(format!("{median:.3} ({low:.3}-{high:.3})"))
}

#[cfg(test)]
mod tests;
