//! What a line costs, in nanoseconds, on this machine. Run: `cargo bench -p coring-logger --bench log [-- calls drain file]`.
//!
//! The caller is bound to CPU 0, the drain to CPU 1. The line is `order id={} price={} sym={}` with a u64, an f64 and a text of 12 bytes.
//!
//! - *bursts*: 10,000 lines, then a pause in which the drain empties the ring; the median burst, per line.
//! - *cold*: 20 lines, 2 ms apart from the next 20; the median of their means.
//! - *at the call*: the same line with inline captures, which is formatted at the call; *log facade*: through the `log` crate.
//! - *per call*: each call between two readings of the counter, minus the median of the same without a call.
//! - *file*: 4,000,000 lines into a file until flushed, with `Full::Wait`, and the file's content counted.

use std::hint::black_box;
use std::time::{Duration, Instant};

use coring_logger::{Binary, Full, Logger, register_core, ticks, trace, warn};

const BURST: u64 = 10_000;

fn pin(cpu: usize) {
    let status = std::process::Command::new("taskset")
        .args(["-cp", &cpu.to_string(), &std::process::id().to_string()])
        .output();
    assert!(
        status.is_ok_and(|output| output.status.success()),
        "taskset binds the process"
    );
}

#[inline(never)]
fn line(id: u64, price: f64, symbol: &str) {
    coring_logger::info!("order id={} price={} sym={}", id, price, symbol);
}

#[inline(never)]
fn captured(id: u64, price: f64, symbol: &str) {
    coring_logger::info!("order id={id} price={price} sym={symbol}");
}

#[inline(never)]
fn facade(id: u64, price: f64, symbol: &str) {
    log::info!("order id={id} price={price} sym={symbol}");
}

#[inline(never)]
fn off(id: u64, price: f64, symbol: &str) {
    trace!("order id={} price={} sym={}", id, price, symbol);
}

#[inline(never)]
fn nothing(id: u64, price: f64, symbol: &str) {
    black_box((id, price, symbol));
}

fn burst(count: u64, call: fn(u64, f64, &str)) -> f64 {
    let symbol = black_box("ABCDEFGHIJKL");
    let begun = Instant::now();
    for id in 0..count {
        call(id, id as f64 * 0.25, symbol);
    }
    begun.elapsed().as_nanos() as f64 / count as f64
}

/// Median and best of the samples. On a machine that others use too, the best is the one to compare.
struct Cost {
    median: f64,
    best: f64,
}

impl Cost {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        Self {
            median: samples[samples.len() / 2],
            best: samples[0],
        }
    }

    fn minus(&self, other: &Self) -> Self {
        Self {
            median: self.median - other.median,
            best: self.best - other.best,
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:6.2} ns   (best {:.2})", self.median, self.best)
    }
}

fn percentile(samples: &mut [u64], per_mille: usize) -> u64 {
    samples.sort_unstable();
    samples[(samples.len() - 1) * per_mille / 1000]
}

/// The bytes that a line takes, preceded by the counter: no logger can be faster and keep the same.
fn floor(count: u64) -> f64 {
    let mut ring = vec![0_u8; 1 << 20];
    let mut at = 0;
    let symbol = black_box(*b"ABCDEFGHIJKL");
    let begun = Instant::now();
    for id in 0..count {
        let mut record = [0_u8; 48];
        record[8..16].copy_from_slice(&ticks().to_le_bytes());
        record[17..25].copy_from_slice(&id.to_le_bytes());
        record[26..34].copy_from_slice(&(id as f64 * 0.25).to_le_bytes());
        record[35..47].copy_from_slice(&symbol);
        ring[at..at + 48].copy_from_slice(&record);
        black_box(&mut ring[at]);
        at = if at + 96 > ring.len() { 0 } else { at + 48 };
    }
    begun.elapsed().as_nanos() as f64 / count as f64
}

fn calls(turn_ticks: bool) {
    let path = std::env::temp_dir().join(format!("coring-log-bench-{}", std::process::id()));
    let logger = Logger::builder()
        .cpu(1)
        .file(&path)
        .start()
        .expect("starts");
    let ring = register_core(0).expect("a ring");
    let _here = ring.enter();
    let name = if turn_ticks { "turn time" } else { "counter" };
    if turn_ticks {
        ring.set_turn_ticks(ticks());
    }
    let sample = |lines: u64, call: fn(u64, f64, &str)| {
        let mut samples = Vec::new();
        for _ in 0..200 {
            samples.push(burst(lines, call));
            ring.turn();
            logger.flush().expect("flushes");
            if turn_ticks {
                ring.set_turn_ticks(ticks());
            }
        }
        Cost::of(samples)
    };
    let empty = sample(BURST, nothing);
    let limit = Cost::of((0..50).map(|_| floor(BURST)).collect());
    println!("rdtsc + copy of the bytes   {limit}");
    println!(
        "{name}: bursts           {}",
        sample(BURST, line).minus(&empty)
    );
    println!(
        "{name}: at the call      {}",
        sample(BURST / 5, captured).minus(&empty)
    );
    println!(
        "{name}: log facade       {}",
        sample(BURST / 5, facade).minus(&empty)
    );
    println!(
        "{name}: off              {}",
        sample(BURST, off).minus(&empty)
    );
    let cold = |call: fn(u64, f64, &str)| {
        let samples = (0..300).map(|_| {
            std::thread::sleep(Duration::from_millis(2));
            let cost = burst(20, call);
            ring.turn();
            cost
        });
        Cost::of(samples.collect())
    };
    println!(
        "{name}: cold, 20 of 2 ms {}",
        cold(line).minus(&cold(nothing))
    );
    let per_call = |call: fn(u64, f64, &str)| {
        let symbol = black_box("ABCDEFGHIJKL");
        let mut samples = Vec::new();
        for _ in 0..50 {
            for id in 0..4000 {
                let begun = ticks();
                call(id, 0.25, symbol);
                samples.push(ticks() - begun);
            }
            ring.turn();
            logger.flush().expect("flushes");
        }
        samples
    };
    let per_ns = {
        let (ticks_before, begun) = (ticks(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        (ticks() - ticks_before) as f64 / begun.elapsed().as_nanos() as f64
    };
    let (mut with, mut without) = (per_call(line), per_call(nothing));
    for share in [500, 990, 999] {
        let (with, without) = (
            percentile(&mut with, share),
            percentile(&mut without, share),
        );
        println!(
            "{name}: per call p{:<6} {:6.0} ns   (empty {:.0})",
            share as f64 / 10.0,
            with as f64 / per_ns,
            without as f64 / per_ns
        );
    }
    assert_eq!(
        logger.stats().dropped,
        [0; 5],
        "a burst did not fit: the numbers would be those of dropping"
    );
    drop(_here);
    drop(ring);
    logger.shutdown();
    let _ = std::fs::remove_file(path);
}

fn file(binary: bool) {
    let path = std::env::temp_dir().join(format!("coring-log-bench-{}", std::process::id()));
    let builder = Logger::builder()
        .cpu(1)
        .full(Full::Wait)
        .thread_ring_bytes(4 << 20);
    let builder = if binary {
        builder.format(Binary::new())
    } else {
        builder
    };
    let lines = 4_000_000;
    let logger = builder.file(&path).start().expect("starts");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| burst(lines, line));
    });
    logger.flush().expect("flushes");
    let seconds = begun.elapsed().as_secs_f64();
    let stats = logger.stats();
    logger.shutdown();
    let bytes = std::fs::metadata(&path).expect("the file").len();
    if !binary {
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text.lines().count() as u64, lines, "every line is there");
        assert!(text.contains("order id=3999999 price=999999.75 sym=ABCDEFGHIJKL"));
    }
    assert_eq!((stats.dropped, stats.lines), ([0; 5], lines));
    let name = if binary { "binary" } else { "text" };
    println!(
        "file, {name:6}           {:6.2} million lines/s, {:.0} bytes a line",
        lines as f64 / seconds / 1e6,
        bytes as f64 / lines as f64
    );
    let _ = std::fs::remove_file(path);
}

/// What the drain's core spends on a line: full rings of lines, drained on this thread.
fn drain(binary: bool) {
    let path = std::env::temp_dir().join(format!("coring-log-bench-{}", std::process::id()));
    let builder = Logger::builder().core_ring_bytes(4 << 20);
    let builder = if binary {
        builder.format(Binary::new())
    } else {
        builder
    };
    let (logger, mut drain) = builder.file(&path).build().expect("starts");
    let ring = register_core(0).expect("a ring");
    let _here = ring.enter();
    let mut samples = Vec::new();
    for _ in 0..40 {
        burst(60_000, line);
        ring.turn();
        std::thread::sleep(Duration::from_millis(2));
        let begun = Instant::now();
        let progress = drain.drain(usize::MAX);
        samples.push(begun.elapsed().as_nanos() as f64 / progress.lines as f64);
    }
    assert_eq!(logger.stats().dropped, [0; 5]);
    let name = if binary { "binary" } else { "text" };
    println!("drain, {name:6}          {} a line", Cost::of(samples));
    drain.finish();
    let _ = std::fs::remove_file(path);
}

fn main() {
    // `cargo test --benches` passes no such argument: then there is nothing to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    pin(0);
    let chosen = |name: &str| {
        let mut names = std::env::args()
            .skip(1)
            .filter(|argument| !argument.starts_with("--"))
            .peekable();
        names.peek().is_none() || names.any(|chosen| chosen == name)
    };
    type Part = (&'static str, fn(bool));
    let parts: [Part; 3] = [("calls", calls), ("drain", drain), ("file", file)];
    for (name, run) in parts {
        if chosen(name) {
            run(false);
            run(true);
        }
    }
    warn!("after shutdown: ignored");
}
