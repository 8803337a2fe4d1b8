//! Suite `log`: what a log line costs who writes it, how fast lines reach a file, and what logging does to a server.
//!
//! - `burst`: nanoseconds a call, in bursts of 10,000 that are emptied in between; the median burst.
//! - `cold`: nanoseconds a call for 20 calls every 2 ms, when the caches have had other things to do.
//! - `call`: each call by itself, between two fenced readings of the counter. p99.9 of all calls, and of those of the median burst of 10,000: what a
//!   host that takes the CPU away for a while adds to the first is not in the second.
//! - `off`: a line whose level is off at run time.
//! - `file`: up to 4,000,000 lines, until all are in the file; nothing is to be lost.
//! - `echo_logged`: the open loop of suite `net` at half of what the server can do, one line a request. The limit there is the same
//!   server without the line.
//! - `echo_effect`: half of what the server can do, which a closed loop on it has just found, on one server that logs in some slices of the run and not in
//!   others (`effect.rs`): what the line does to the p99 and the p50, and the same of two halves that are equal (`a/a`). `beside` is the p99 when
//!   the drain also takes its time from the generator's CPU. A round is twelve times as long as those of other benches.
//!
//! All but the last two are measured by the subject itself (`lines.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Child, Failure};
use crate::effect::{LOGS, ONE, OTHER, Part, QUIET, Slices};
use crate::lines::{self, FILE_LINES, Lines};
use crate::load::{Load, Pace, Plan};
use crate::subject::{Subject, Work};
use crate::subjects::{self, log::coring};
use crate::suite::{Bench, Better, Metric, Sample, Suite, Timing};
use crate::suites::net::{self, Net};

/// The suite.
#[derive(Debug)]
pub(crate) struct Log;

const LOST: Metric = metric("lost", "%", false);
const BURST: &[Metric] = &[metric("", "ns", true), LOST];
const QUANTILES_COLD: &[Metric] = &[
    metric("p50", "ns", true),
    metric("p90", "ns", false),
    metric("p99", "ns", false),
    LOST,
];
const QUANTILES_CALL: &[Metric] = &[
    metric("p50", "ns", true),
    metric("p99", "ns", false),
    metric("p99.9", "ns", true),
    metric("p99.9_median_burst", "ns", true),
    LOST,
];
const FILE: &[Metric] = &[
    Metric {
        name: "rate",
        unit: "M lines/s",
        better: Better::Higher,
        headline: true,
    },
    metric("cpu", "ns/line", false),
    metric("size", "bytes/line", false),
    metric("memory", "MiB", false),
    LOST,
];
/// As suite `net` reports them, with the tail in front.
const ECHO: &[Metric] = &[
    metric("requests", "1/s", false),
    metric("cpu", "us/request", true),
    metric("p50", "us", true),
    metric("p99", "us", true),
    metric("p99.9", "us", false),
    metric("server_busy", "%", false),
    metric("generator_idle", "%", false),
    metric("generator_queue", "%", false),
];

/// In percent of what the quiet slices have, above it.
const EFFECT: &[Metric] = &[
    metric("p99", "%", true),
    metric("a/a_p99", "%", true),
    metric("pooled_p99", "%", true),
    metric("a/a_pooled_p99", "%", true),
    metric("p50", "%", true),
    metric("a/a_p50", "%", true),
    metric("beside_p99", "%", true),
    metric("rate", "1/s", false),
    metric("slices", "", false),
    metric("quiet_p99", "us", false),
    metric("quiet_p50", "us", false),
    metric("undisturbed", "%", false),
];

const fn metric(name: &'static str, unit: &'static str, headline: bool) -> Metric {
    Metric {
        name,
        unit,
        better: Better::Lower,
        headline,
    }
}

impl Suite for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn reference(&self) -> (&'static str, &'static str) {
        ("raw-log", "raw-log-again")
    }

    fn subjects(&self) -> Vec<&'static dyn Subject> {
        subjects::loggers()
    }

    fn benches(&self) -> Vec<Bench> {
        let bench = |name, params: &[(&'static str, u64)], metrics, work| Bench {
            name,
            params: BTreeMap::from_iter(params.iter().copied()),
            metrics,
            work,
        };
        let echo = [("bytes", 64), ("connections", 64), ("rate", 120_000)];
        vec![
            bench(
                "burst",
                &[("lines", 10_000)],
                BURST,
                Work::Log(Lines::Burst),
            ),
            bench(
                "cold",
                &[("lines", 20), ("every_ms", 2)],
                QUANTILES_COLD,
                Work::Log(Lines::Cold),
            ),
            bench("call", &[], QUANTILES_CALL, Work::Log(Lines::Call)),
            bench("off", &[], BURST, Work::Log(Lines::Off)),
            bench(
                "file",
                &[("lines", FILE_LINES)],
                FILE,
                Work::Log(Lines::File),
            ),
            bench(
                "echo_logged",
                &echo,
                ECHO,
                Work::EchoLogged { sliced: false },
            ),
            bench(
                "echo_effect",
                &[("bytes", 64), ("connections", 64), ("load_percent", 50)],
                EFFECT,
                Work::EchoLogged { sliced: true },
            ),
        ]
    }

    fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_millis(400),
            measure: Duration::from_millis(1600),
        }
    }

    fn overhead(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn sample(&self, bench: &Bench, child: &mut Child, timing: Timing) -> Result<Sample, Failure> {
        match bench.work {
            Work::EchoLogged { sliced: true } => return echo_by_slices(bench, child, timing),
            Work::EchoLogged { sliced: false } => return echo(bench, child, timing),
            _ => {}
        }
        let values = child.values()?;
        let lost = values.last().is_some_and(|lost| *lost > 0.0);
        Ok(Sample {
            doubt: lost.then_some("lines were lost: not all calls did what they are there for"),
            values,
        })
    }
}

/// What the line does to the latency of one server.
fn echo_by_slices(bench: &Bench, child: &mut Child, timing: Timing) -> Result<Sample, Failure> {
    let log = lines::scratch_path(child.id());
    let slices = (|| {
        let (server, mut plan) = (child.address()?, net::plan(bench));
        let rate = most(server, plan, timing)? * bench.param("load_percent").unwrap_or(100) / 100;
        plan.pace = Pace::Open { rate };
        let mut load = Load::connect(server, plan)?;
        load.start()?;
        load.run(timing.warm_up)?;
        let slices = Slices::watch(&mut load, timing.measure * SLICED_TIMES)?;
        Ok::<_, Failure>((rate, slices))
    })();
    // What the drain still has is the end of the last slice.
    thread::sleep(Duration::from_millis(200));
    let mut text = fs::read(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    let (rate, slices) = slices?;
    if coring::is_binary(&text) {
        text = coring::text_of_binary(&text);
    }
    let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let lines = lines::Content::of(&text[..whole]).lines;
    if !text.is_empty() && lines < slices.logged() {
        return Err(Failure::Broken("lines of requests are missing".to_owned()));
    }
    if slices.kept() == 0.0 {
        return Err(Failure::Broken(
            "the machine disturbed every block".to_owned(),
        ));
    }
    let above = |ratio: f64| (ratio - 1.0) * 100.0;
    let paired = |parts, to, at| above(slices.paired(parts, to, at));
    let pooled = |parts, to| above(slices.pooled(parts, to, 0.99));
    Ok(Sample {
        values: vec![
            paired(LOGS, QUIET, 0.99),
            paired(ONE, OTHER, 0.99),
            pooled(LOGS, QUIET),
            pooled(ONE, OTHER),
            paired(LOGS, QUIET, 0.5),
            paired(ONE, OTHER, 0.5),
            paired(&[Part::LogsBeside], QUIET, 0.99),
            rate as f64,
            slices.count() as f64,
            slices.value(QUIET, 0.99) / 1e3,
            slices.value(QUIET, 0.5) / 1e3,
            slices.kept() * 100.0,
        ],
        doubt: None,
    })
}

/// How many requests a second the server answers, if each connection asks as soon as it can.
fn most(server: SocketAddr, plan: Plan, timing: Timing) -> Result<u64, Failure> {
    let mut load = Load::connect(server, plan)?;
    load.start()?;
    load.run(timing.warm_up)?;
    let tally = load.run(timing.measure)?;
    let answered = u128::from(tally.requests) * 1_000_000 / tally.elapsed.as_micros();
    Ok(u64::try_from(answered).expect("a rate"))
}

/// How much longer than other samples one by slices is.
const SLICED_TIMES: u32 = 12;

/// The lines must be there: as many as there were requests, if the server logs at all.
fn echo(bench: &Bench, child: &mut Child, timing: Timing) -> Result<Sample, Failure> {
    let log = lines::scratch_path(child.id());
    let sample = Net.sample(bench, child, timing);
    let logged = || {
        fs::read(&log).map(|text| {
            // The server still runs: the last line may be half there.
            let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
            lines::Content::of(&text[..whole]).lines
        })
    };
    let result = sample.and_then(|sample| {
        let requests = sample.values[0] * timing.measure.as_secs_f64();
        let begin = Instant::now();
        while log.exists() && (logged()? as f64) < requests {
            if begin.elapsed() > Duration::from_secs(2) {
                return Err(Failure::Broken("lines of requests are missing".to_owned()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(sample)
    });
    let _ = fs::remove_file(&log);
    result
}
