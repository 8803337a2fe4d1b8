//! What logging does to a server's latency, by slices of one run: the measuring part of bench `echo_effect`.
//!
//! ```text
//!   wall clock   | block 7                                         | block 8              |
//!                | quiet    logs     quiet'   logs beside   logs'  | logs     quiet' ..
//!                  12 ms each, in an order that is drawn for each block
//!   a slice      | settling: the drain writes | counted: the drain only looks |
//! ```
//!
//! Two runs of a server differ by more than a line costs: what the host does in between decides. So one server, under one open loop, turns its
//! lines on and off in slices that are shorter than anything the machine does to it, and thousands of them are compared. Server and generator know
//! the slice by the clock, without a word between them. The beginning of a slice does not count: it has the end of the one before in it.
//!
//! **Two estimates.** *Paired*: the quantile of each slice, the ratio of those that log to those that do not within each block, and the mean of
//! these (of their logarithms). It is the sharper one: what makes a whole block slow is in both sides. *Pooled*: the quantile of all requests of
//! the slices that log, over that of all others. How sure they are is told by the rounds, each a server of its own: the report gives their mean and its interval.
//!
//! There are two slices of each kind in a block. One quiet and one that logs, against the other two, differ in nothing, and are as many: their
//! ratio (`a/a`) shows how well the method can tell.
//!
//! **What the machine does is left out.** A host that takes a CPU away for milliseconds makes the p99 of everything, and says nothing of a line. A block
//! in which a request took longer than [`STALL`] is not counted, with all its parts; how many blocks are left is reported.
//!
//! **The drain must not be what is measured.** With two CPUs it takes its time from the generator, which then sees answers late: formatting
//! 100,000 lines a second takes more than a hundredth of a CPU, and that alone moves the p99, as it would if a stranger computed there. So
//! the drain writes in the beginnings of slices, which do not count. In the rest it looks at the ring now and then, in all slices, and so takes the
//! line with the ring's head from the core as it does elsewhere. What the server pays is all there: the calls, what it shows, and memory that
//! another CPU has read. It looks every [`LOOK`] only: a wake-up is some microseconds of the generator's, and a thousand of them a second would
//! again be what a hundredth of the requests meets.
//!
//! The fifth part, *logs beside*, is the same with a drain that writes as soon as there are lines: it says what the generator's CPU loses.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::load::{Load, latencies};

const SLICE: Duration = Duration::from_millis(12);
/// So much of a slice's beginning does not count.
const SETTLING: Duration = Duration::from_millis(3);
/// Longer than a server at half its load takes for anything.
const STALL: Duration = Duration::from_millis(1);
/// How often a drain looks that is not to write.
const LOOK: Duration = Duration::from_millis(4);

/// What happens in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Quiet,
    QuietAgain,
    /// The server logs; the lines are written in the beginning of the next slice.
    Logs,
    LogsAgain,
    /// The server logs, and the lines are written at once, on the generator's CPU.
    LogsBeside,
}

const PARTS: [Part; 5] = [
    Part::Quiet,
    Part::QuietAgain,
    Part::Logs,
    Part::LogsAgain,
    Part::LogsBeside,
];
pub(crate) const QUIET: &[Part] = &[Part::Quiet, Part::QuietAgain];
pub(crate) const LOGS: &[Part] = &[Part::Logs, Part::LogsAgain];
/// Two halves that differ in nothing.
pub(crate) const ONE: &[Part] = &[Part::Quiet, Part::LogsAgain];
pub(crate) const OTHER: &[Part] = &[Part::QuietAgain, Part::Logs];
/// Slices of a block: each part once.
const BLOCK: u64 = PARTS.len() as u64;

impl Part {
    /// Whether the server logs.
    pub(crate) fn logs(self) -> bool {
        matches!(self, Part::Logs | Part::LogsAgain | Part::LogsBeside)
    }
}

/// A number made of another as if by chance (splitmix64, as its author gives it).
fn draw(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The time, the same in every process.
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("this is after 1970")
}

/// The number of the slice that is on.
fn slice(now: Duration) -> u64 {
    u64::try_from(now.as_nanos() / SLICE.as_nanos()).expect("the number of a slice")
}

fn part(slice: u64) -> Part {
    let drawn = draw(slice / BLOCK) >> 32;
    let mut drawn = usize::try_from(drawn).expect("half a word");
    let mut parts = PARTS;
    // One of the 120 orders.
    for place in 1..parts.len() {
        parts.swap(place, drawn % (place + 1));
        drawn /= place + 1;
    }
    parts[(slice % BLOCK) as usize]
}

/// What the server is to do now.
pub(crate) fn part_now() -> Part {
    part(slice(now()))
}

/// Whether the drain may take its time now.
pub(crate) fn may_write() -> bool {
    let now = now();
    into_slice(now) < SETTLING / 2 || part(slice(now)) == Part::LogsBeside
}

/// How long the drain is to sleep until it comes again.
pub(crate) fn nap() -> Duration {
    if may_write() {
        Duration::from_millis(1)
    } else {
        LOOK.min(SLICE - into_slice(now()))
    }
}

fn into_slice(now: Duration) -> Duration {
    let ns = now.as_nanos() % SLICE.as_nanos();
    Duration::from_nanos(u64::try_from(ns).expect("part of a slice"))
}

/// Latencies of a slice: bins, and how many fell into each.
type Bins = Vec<(usize, u32)>;

/// Bins of an octave: each is 0.27 % wide.
const BINS: f64 = 256.0;
/// 36 octaves: a minute.
const ALL_BINS: usize = 36 * 256;

fn bins(latency: &Histogram<u64>) -> Bins {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounds down, and a u64 has 64 octaves"
    )]
    let bin = |ns: u64| ((ns.max(1) as f64).log2() * BINS) as usize;
    let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    (latency.iter_recorded())
        .map(|it| (bin(it.value_iterated_to()), count(it.count_at_value())))
        .collect()
}

/// The slices of a run, by block and part.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    blocks: Vec<[Bins; PARTS.len()]>,
    /// Blocks that were left out.
    stalled: usize,
    /// Requests in all slices in which the server logs.
    logged: u64,
}

impl Slices {
    /// Keeps up the load for `time` and sorts what comes.
    pub(crate) fn watch(load: &mut Load, time: Duration) -> io::Result<Slices> {
        let mut slices = Slices::default();
        let (mut counts, mut passes) = (latencies(), latencies());
        let (mut block, mut stalled): ([Bins; PARTS.len()], bool) = Default::default();
        let until = now() + time;
        // To the beginning of a block.
        let mut next = (slice(now()) / BLOCK + 1) * BLOCK;
        while now() < until {
            let begin = SLICE * u32::try_from(next % 1_000_000).expect("small")
                + SLICE * 1_000_000 * u32::try_from(next / 1_000_000).expect("small");
            load.run_on((begin + SETTLING).saturating_sub(now()), &mut passes)?;
            load.run_on((begin + SLICE).saturating_sub(now()), &mut counts)?;
            stalled |= Duration::from_nanos(counts.max().max(passes.max())) > STALL;
            block[part(next) as usize] = bins(&counts);
            if part(next).logs() {
                slices.logged += counts.len();
            }
            counts.reset();
            passes.reset();
            next += 1;
            if next.is_multiple_of(BLOCK) {
                let whole = std::mem::take(&mut block);
                if std::mem::take(&mut stalled) {
                    slices.stalled += 1;
                } else {
                    slices.blocks.push(whole);
                }
            }
        }
        Ok(slices)
    }

    /// Requests of the slices in which the server logs, but for those at their beginnings.
    pub(crate) fn logged(&self) -> u64 {
        self.logged
    }

    /// How many slices of each part count.
    pub(crate) fn count(&self) -> usize {
        self.blocks.len()
    }

    /// The share of the blocks that nothing disturbed, 0 to 1.
    pub(crate) fn kept(&self) -> f64 {
        self.blocks.len() as f64 / (self.blocks.len() + self.stalled).max(1) as f64
    }

    /// A quantile of all requests of some parts, in nanoseconds.
    pub(crate) fn value(&self, parts: &[Part], at: f64) -> f64 {
        quantile(self.blocks.iter().flat_map(|block| of(block, parts)), at).exp2()
    }

    /// The quantile of some parts over that of others, all requests of each taken together.
    pub(crate) fn pooled(&self, parts: &[Part], to: &[Part], at: f64) -> f64 {
        self.value(parts, at) / self.value(to, at)
    }

    /// The same within each block, slice by slice, and the mean of these ratios.
    pub(crate) fn paired(&self, parts: &[Part], to: &[Part], at: f64) -> f64 {
        let mean = |block: &[Bins; PARTS.len()], parts: &[Part]| {
            let logarithms = of(block, parts).map(|slice| quantile([slice], at));
            logarithms.sum::<f64>() / parts.len() as f64
        };
        let ratios = self.blocks.iter();
        let sum: f64 = ratios.map(|it| mean(it, parts) - mean(it, to)).sum();
        (sum / self.blocks.len() as f64).exp2()
    }
}

/// The slices of these parts.
fn of<'a>(block: &'a [Bins; PARTS.len()], parts: &'a [Part]) -> impl Iterator<Item = &'a Bins> {
    parts.iter().map(|part| &block[*part as usize])
}

/// The logarithm of a quantile of all that these slices hold.
fn quantile<'a>(slices: impl IntoIterator<Item = &'a Bins>, at: f64) -> f64 {
    let mut sums = vec![0_u64; ALL_BINS];
    for (bin, count) in slices.into_iter().flatten() {
        sums[*bin] += u64::from(*count);
    }
    let rank = sums.iter().sum::<u64>() as f64 * at;
    let mut below = 0;
    for (bin, count) in sums.iter().enumerate() {
        below += count;
        if below as f64 >= rank && *count > 0 {
            // Within the bin as if they lay evenly.
            let share = (rank - (below - count) as f64) / *count as f64;
            return (bin as f64 + share) / BINS;
        }
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each block has each part once, and no order is the rule.
    #[test]
    fn blocks_are_whole_and_mixed() {
        let mut places = [[0; PARTS.len()]; PARTS.len()];
        for block in 0..800 {
            let parts: Vec<Part> = (block * BLOCK..(block + 1) * BLOCK).map(part).collect();
            assert!(PARTS.iter().all(|it| parts.contains(it)), "{parts:?}");
            for (place, part) in parts.into_iter().enumerate() {
                places[place][part as usize] += 1;
            }
        }
        let all = places.as_flattened();
        assert!(all.iter().all(|count| *count > 120), "{places:?}");
    }

    /// Goal: parts that are slower by a known share are found to be, by either estimate, and halves that are equal to be equal.
    #[test]
    fn a_known_effect_is_found() {
        let mut slices = Slices::default();
        for block in 0..300 {
            slices.blocks.push(PARTS.map(|part| {
                let mut latency = latencies();
                for request in 0..500 {
                    let chance = draw(block * 1_000_000 + part as u64 * 1000 + request) % 10_000;
                    let percent = if LOGS.contains(&part) { 105 } else { 100 };
                    latency.saturating_record((20_000 + chance) * percent / 100);
                }
                bins(&latency)
            }));
        }
        for estimate in [Slices::paired, Slices::pooled] {
            let effect = estimate(&slices, LOGS, QUIET, 0.99);
            assert!((effect - 1.05).abs() < 0.004, "{effect}");
            let none = estimate(&slices, ONE, OTHER, 0.99);
            assert!((none - 1.0).abs() < 0.004, "{none}");
        }
    }
}
