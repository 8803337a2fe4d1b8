//! The measuring parts of suite `log`: how a logger is called, timed and checked.
//!
//! ```text
//! spare CPU:   start the logger; its threads stay there
//! subject CPU: pin the caller -> warm up -> samples, each with its empty twin -> finish -> read the file back
//! ```
//!
//! The line is `order id={} price={} sym={}` with a u64 that counts up, an f64 that follows from it, and a text of 12 bytes. So each line can
//! be checked on its own and its neighbour is known: what was lost is counted from the file, whatever the logger says.
//!
//! Every time is net of the same loop around an empty call, measured in turn with it.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::subject::{Job, Skip, say};
use crate::sys;
use crate::work::median;

/// What one bench of the suite measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Nanoseconds a call, in bursts that are emptied in between.
    Burst,
    /// The same for a few lines every two milliseconds.
    Cold,
    /// Each call by itself.
    Call,
    /// A line whose level is off at run time.
    Off,
    /// Lines a second until all are in the file.
    File,
}

/// A logger under test.
pub(crate) trait Logger: Sized {
    /// Whether lines can be turned off at run time.
    const HAS_OFF: bool = true;
    /// Whether lines reach the file in every bench, or in [`Lines::File`] alone.
    const ALWAYS_WRITES: bool = true;
    /// Whether the caller has to empty the logger's queue, by [`Logger::settle`].
    const CALLER_EMPTIES: bool = false;

    /// Starts a logger that appends to `path` at level info. When `lossless`, a caller that is too fast is held up, if the logger can do
    /// that; else what happens is what the logger does by itself.
    fn start(path: &Path, lossless: bool) -> Result<Self, Skip>;

    /// Runs `body`, which calls this logger, in the place such calls come from.
    fn inside(&self, body: impl FnOnce() -> Values) -> Values {
        body()
    }

    /// Logs one line at level info.
    fn line(&self, id: u64, price: f64, symbol: &'static str);

    /// Logs the same at a level that is off. Inlined, as a line is: what is measured must not be the call around it.
    fn off(&self, id: u64, price: f64, symbol: &'static str);

    /// Writes out what was logged so far, between bursts. False: all there is to do is wait for the file to stop growing.
    fn settle(&self) -> bool {
        false
    }

    /// Lets time pass on the caller's side.
    fn pause(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Writes everything out and ends the logger.
    fn end(self);

    /// The file as text, where it is something else.
    fn text(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}

/// What was measured, in the order of the bench's metrics; the count of calls made.
#[derive(Debug)]
pub(crate) struct Values {
    figures: Vec<f64>,
    calls: u64,
}

/// When a measurement that ends with the logger began, and how much CPU time the process had used.
struct Begin {
    at: Instant,
    cpu: Duration,
}

impl Begin {
    fn now() -> io::Result<Begin> {
        Ok(Begin {
            at: Instant::now(),
            cpu: sys::own_cpu_time()?,
        })
    }

    /// Millions of lines a second, and the CPU time of each in nanoseconds.
    fn rate(&self, calls: u64) -> io::Result<[f64; 2]> {
        let seconds = self.at.elapsed().as_secs_f64();
        let cpu = sys::own_cpu_time()?.saturating_sub(self.cpu);
        Ok([
            calls as f64 / seconds / 1e6,
            cpu.as_secs_f64() * 1e9 / calls as f64,
        ])
    }
}

const BURST: u64 = 10_000;
const COLD: u64 = 20;
const COLD_EVERY: Duration = Duration::from_millis(2);
/// Calls timed one by one before the logger may catch up: so many that the first, which comes after a pause as those of bench `cold` do, is no
/// thousandth of them.
const SINGLES: u64 = 10_000;
/// Lines of bench `file`.
pub(crate) const FILE_LINES: u64 = 4_000_000;
pub(crate) const SYMBOL: &str = "ABCDEFGHIJKL";

/// Measures `what` of the logger `L` and reports it.
pub(crate) fn measure<L: Logger>(job: &Job, what: Lines) -> Result<(), Skip> {
    if what == Lines::Off && !L::HAS_OFF {
        return Err(Skip::because("cannot turn a level off at run time"));
    }
    let log = Scratch::new();
    sys::pin(&[job.peer])?;
    let resident = sys::resident_bytes()?;
    let logger = L::start(&log.0, what == Lines::File)?;
    sys::pin(&[job.cpu])?;
    let begin = Begin::now()?;
    let mut values = logger.inside(|| {
        let run = Run {
            logger: &logger,
            log: &log.0,
            job,
        };
        match what {
            Lines::Burst => run.bursts(),
            Lines::Cold => run.cold(),
            Lines::Call => run.singles(),
            Lines::Off => run.off(),
            Lines::File => run.file(),
        }
    });
    let memory = sys::peak_resident_bytes()?.saturating_sub(resident);
    logger.end();
    let rate = begin.rate(values.calls.max(1))?;
    // A logger may make its file with the first line.
    let bytes = fs::read(&log.0).unwrap_or_default();
    let size = bytes.len() as f64;
    let content = Content::of(&L::text(bytes));
    let written = L::ALWAYS_WRITES || what == Lines::File;
    let lost = if written {
        values.calls - content.lines
    } else {
        0
    };
    if what == Lines::File {
        // The rate is that of the lines that arrived.
        let arrived = content.lines as f64 / values.calls as f64;
        values.figures.extend([rate[0] * arrived, rate[1]]);
        values.figures.push(size / content.lines as f64);
        values.figures.push(memory as f64 / f64::from(1 << 20));
    }
    values
        .figures
        .push(lost as f64 * 100.0 / values.calls.max(1) as f64);
    let figures: Vec<String> = values.figures.iter().map(f64::to_string).collect();
    say(&format!("sample {}", figures.join(" ")));
    Ok(())
}

/// One measurement under way.
struct Run<'a, L> {
    logger: &'a L,
    log: &'a Path,
    job: &'a Job,
}

impl<L: Logger> Run<'_, L> {
    /// Calls `lap` until the time is over, then hands back what it returned after the warm-up.
    fn laps<T>(&self, mut lap: impl FnMut() -> T) -> Vec<T> {
        let begin = Instant::now();
        let mut laps = Vec::new();
        while laps.is_empty() || begin.elapsed() < self.job.warm_up + self.job.measure {
            let result = lap();
            if begin.elapsed() > self.job.warm_up {
                laps.push(result);
            }
        }
        laps
    }

    fn bursts(&self) -> Values {
        let mut calls = 0;
        let laps = self.laps(|| {
            let empty = timed(calls, BURST, nothing);
            let full = timed(calls, BURST, |id, price, symbol| {
                self.logger.line(id, price, symbol)
            });
            calls += BURST;
            self.settle();
            (full, empty)
        });
        Values {
            figures: vec![net(&laps, 500)],
            calls,
        }
    }

    /// Eight lines in each turn of the loop, whose own costs are those of the empty one.
    fn off(&self) -> Values {
        const LINES: u64 = 8;
        let turns = BURST / LINES;
        let laps = self.laps(|| {
            let empty = timed(0, turns, |id, _, _| {
                black_box(id);
            });
            let full = timed(0, turns, |id, price, symbol| {
                let id = black_box(id);
                // Written out: no branch but theirs.
                self.logger.off(id, price, symbol);
                self.logger.off(id, price, symbol);
                self.logger.off(id, price, symbol);
                self.logger.off(id, price, symbol);
                self.logger.off(id, price, symbol);
                self.logger.off(id, price, symbol);
                self.logger.off(id, price, symbol);
                self.logger.off(id, price, symbol);
            });
            (full, empty)
        });
        Values {
            figures: vec![net(&laps, 500) / LINES as f64],
            calls: 0,
        }
    }

    fn cold(&self) -> Values {
        let mut calls = 0;
        let laps = self.laps(|| {
            self.logger.pause(COLD_EVERY);
            let empty = timed(calls, COLD, nothing);
            self.logger.pause(COLD_EVERY);
            let full = timed(calls, COLD, |id, price, symbol| {
                self.logger.line(id, price, symbol)
            });
            calls += COLD;
            (full, empty)
        });
        let figures = [500, 900, 990].map(|at| net(&laps, at));
        Values {
            figures: figures.to_vec(),
            calls,
        }
    }

    fn singles(&self) -> Values {
        let mut calls = 0;
        let clock = (Instant::now(), sys::fenced_ticks());
        let laps = self.laps(|| {
            let empty = singly(calls, nothing);
            let full = singly(calls, |id, price, symbol| {
                self.logger.line(id, price, symbol)
            });
            calls += SINGLES;
            self.settle();
            full.into_iter().zip(empty).collect::<Vec<_>>()
        });
        let ticks = (sys::fenced_ticks() - clock.1) as f64;
        let per_ns = ticks / clock.0.elapsed().as_nanos() as f64;
        let tails = laps.iter().map(|lap| net(lap, 999)).collect();
        let laps = laps.concat();
        let [p50, p99, p999] = [500, 990, 999].map(|at| net(&laps, at));
        let figures = [p50, p99, p999, median(tails)].map(|ticks| ticks / per_ns);
        Values {
            figures: figures.to_vec(),
            calls,
        }
    }

    /// All lines, or as many as the time allows. The clock runs on until the logger has written them and ended.
    fn file(&self) -> Values {
        let limit = self.job.warm_up + self.job.measure;
        let begin = Instant::now();
        let mut calls = 0;
        while calls < FILE_LINES && begin.elapsed() < limit {
            timed(calls, BURST, |id, price, symbol| {
                self.logger.line(id, price, symbol)
            });
            calls += BURST;
            if L::CALLER_EMPTIES {
                self.logger.settle();
            }
        }
        Values {
            figures: Vec::new(),
            calls,
        }
    }

    /// Waits until the file has stopped growing: the logger has caught up.
    fn settle(&self) {
        const QUIET: Duration = Duration::from_millis(20);
        if self.logger.settle() {
            return;
        }
        let length = || fs::metadata(self.log).map_or(0, |it| it.len());
        let (mut last, mut since) = (length(), Instant::now());
        while since.elapsed() < QUIET {
            self.logger.pause(Duration::from_millis(1));
            let now = length();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }
}

#[inline(never)]
fn nothing(id: u64, price: f64, symbol: &'static str) {
    black_box((id, price, symbol));
}

/// Every line's price follows from its number.
pub(crate) fn price(id: u64) -> f64 {
    id as f64 * 0.25
}

/// Nanoseconds a call, over `count` calls.
#[inline(always)]
fn timed(first: u64, count: u64, mut call: impl FnMut(u64, f64, &'static str)) -> f64 {
    let symbol = black_box(SYMBOL);
    let begin = Instant::now();
    for id in first..first + count {
        call(id, price(id), symbol);
    }
    begin.elapsed().as_nanos() as f64 / count as f64
}

/// Ticks of each call, the two readings of the counter included.
#[inline(always)]
fn singly(first: u64, mut call: impl FnMut(u64, f64, &'static str)) -> Vec<f64> {
    let symbol = black_box(SYMBOL);
    let mut ticks = Vec::new();
    for id in first..first + SINGLES {
        let begin = sys::fenced_ticks();
        call(id, price(id), symbol);
        ticks.push((sys::fenced_ticks() - begin) as f64);
    }
    ticks
}

/// A quantile of the calls, in thousandths, minus the same quantile of the empty ones.
fn net(laps: &[(f64, f64)], thousandths: usize) -> f64 {
    let quantile = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[(values.len() - 1) * thousandths / 1000]
    };
    let (mut full, mut empty) = laps.iter().copied().unzip();
    quantile(&mut full) - quantile(&mut empty)
}

/// A file of the logger's, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        Scratch(scratch_path(std::process::id()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Where the child of this number logs to.
pub(crate) fn scratch_path(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("coring-bench-{process}.log"))
}

/// What a log file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Lines of ours; a logger may add lines of its own.
    pub(crate) lines: u64,
}

impl Content {
    /// Checks every line of ours.
    ///
    /// # Panics
    /// If one is damaged, repeated or out of order: the subject is broken then, and the harness reports how it ended.
    pub(crate) fn of(text: &[u8]) -> Content {
        let mut lines = 0;
        let mut next = 0;
        for line in text.split(|byte| *byte == b'\n') {
            let line = str::from_utf8(line).expect("lines are text");
            let Some((_, order)) = line.split_once("order id=") else {
                continue;
            };
            let (id, rest) = order.split_once(" price=").expect("the price follows");
            let (shown, symbol) = rest.split_once(" sym=").expect("the symbol follows");
            let id: u64 = id.parse().expect("the number is whole");
            assert!(id >= next, "line {id} after line {next}");
            assert_eq!(shown.parse(), Ok(price(id)), "of line {id}");
            assert!(symbol.starts_with(SYMBOL), "{symbol} in line {id}");
            (lines, next) = (lines + 1, id + 1);
        }
        Content { lines }
    }
}

#[cfg(test)]
mod tests {
    use super::Content;

    /// Goal: what is missing is counted, what is not ours is passed over.
    #[test]
    fn lines_are_counted() {
        let text = b"INFO order id=0 price=0 sym=ABCDEFGHIJKL\n3 lines lost\n[..] order id=4 price=1.0 sym=ABCDEFGHIJKL x\n";
        assert_eq!(Content::of(text).lines, 2);
    }

    /// Goal: a line with another value, or twice the same, is not taken.
    #[test]
    fn damage_is_found() {
        for text in [
            "order id=1 price= sym=ABCDEFGHIJKL",
            "order id=1 price=0.5 sym=ABCDEFGHIJKL",
            "order id=1 price=0.25 sym=ABC",
            "order id=1 price=0.25 sym=ABCDEFGHIJKL\norder id=1 price=0.25 sym=ABCDEFGHIJKL",
        ] {
            assert!(
                std::panic::catch_unwind(|| Content::of(text.as_bytes())).is_err(),
                "{text}"
            );
        }
    }
}
