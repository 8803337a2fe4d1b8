//! Suite `net`: TCP over the loopback, server on one CPU, spinning load generator on another.
//!
//! - `echo`, closed loop: 64 B on 1 / 64 / 512 / 2,000 connections, 4 KiB on 64 / 512 / 2,000, one request under way
//!   on each. With one connection it is a ping-pong.
//! - `echo_deep`: 64 B, 16 requests sent at once on each of 64 connections.
//! - `echo_open`, open loop: 20,000 / 80,000 / 120,000 requests a second over 64 connections, which is well below what
//!   one CPU can do; here runtimes differ more than when they are saturated.
//! - `hello`: HTTP/1.1 GET on 64 / 512 connections that are kept alive.
//! - `bulk`: an answer of 1 MiB for each request, on 1 / 16 connections: the server writes more than a socket takes.
//! - `idle`: the memory of a server with 2,000 / 10,000 connections that have had two answers each and wait.
//!
//! The CPU time is that of the server's process, kernel included. Over the loopback each side's send also
//! runs part of the other's receive, so it contains one delivery to the client.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::load::{Exchange, Load, Pace, Plan, Tally};
use crate::subject::Work;
use crate::suite::{Bench, Better, Metric, Sample, Suite, Timing};

/// The suite.
#[derive(Debug)]
pub(crate) struct Net;

const CLOSED: &[Metric] = &[
    metric("requests", "1/s", Better::Higher, true),
    metric("cpu", "us/request", Better::Lower, true),
    metric("p50", "us", Better::Lower, false),
    metric("p99", "us", Better::Lower, false),
    metric("p99.9", "us", Better::Lower, false),
    metric("server_busy", "%", Better::Lower, false),
    metric("generator_idle", "%", Better::Higher, false),
    metric("generator_queue", "%", Better::Lower, false),
];

/// As many values in the same order, but the rate is given and the cost is the question.
const OPEN: &[Metric] = &[
    metric("requests", "1/s", Better::Higher, false),
    metric("cpu", "us/request", Better::Lower, true),
    metric("p50", "us", Better::Lower, true),
    metric("p99", "us", Better::Lower, false),
    metric("p99.9", "us", Better::Lower, false),
    metric("server_busy", "%", Better::Lower, false),
    metric("generator_idle", "%", Better::Higher, false),
    metric("generator_queue", "%", Better::Lower, false),
];

const MEMORY: &[Metric] = &[
    metric("memory", "KiB/connection", Better::Lower, true),
    metric("own", "KiB/connection", Better::Lower, true),
    metric("growth", "KiB/connection", Better::Lower, false),
];

const fn metric(name: &'static str, unit: &'static str, better: Better, headline: bool) -> Metric {
    Metric {
        name,
        unit,
        better,
        headline,
    }
}

impl Suite for Net {
    fn name(&self) -> &'static str {
        "net"
    }

    fn reference(&self) -> (&'static str, &'static str) {
        ("raw-uring", "raw-uring-again")
    }

    fn benches(&self) -> Vec<Bench> {
        let echo = |bytes, connections| {
            let params = [("bytes", bytes), ("connections", connections)];
            bench("echo", &params, CLOSED, Work::Echo)
        };
        let open = |rate| {
            let params = [("bytes", 64), ("connections", 64), ("rate", rate)];
            bench("echo_open", &params, OPEN, Work::Echo)
        };
        let hello = |connections| {
            let params = [("connections", connections)];
            bench("hello", &params, CLOSED, Work::Hello)
        };
        let idle = |connections| {
            let params = [("connections", connections)];
            bench("idle", &params, MEMORY, Work::Echo)
        };
        let bulk = |connections| {
            let params = [("bytes", 1 << 20), ("connections", connections)];
            bench("bulk", &params, CLOSED, Work::Bulk { bytes: 1 << 20 })
        };
        let deep = [("bytes", 64), ("connections", 64), ("deep", 16)];
        let mut benches = Vec::new();
        benches.extend([1, 64, 512, 2000].map(|connections| echo(64, connections)));
        benches.extend([64, 512, 2000].map(|connections| echo(4096, connections)));
        benches.push(bench("echo_deep", &deep, CLOSED, Work::Echo));
        benches.extend([20_000, 80_000, 120_000].map(open));
        benches.extend([64, 512].map(hello));
        benches.extend([1, 16].map(bulk));
        benches.extend([2000, 10_000].map(idle));
        benches
    }

    fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_millis(400),
            measure: Duration::from_millis(1200),
        }
    }

    fn overhead(&self) -> Duration {
        Duration::from_millis(60)
    }

    fn plan(&self, bench: &Bench) -> Option<Plan> {
        (bench.name != "idle").then(|| plan(bench))
    }

    fn sample(&self, bench: &Bench, child: &mut Child, timing: Timing) -> Result<Sample, Failure> {
        match bench.name {
            "idle" => memory(bench, child),
            _ => speed(bench, child, timing),
        }
    }
}

fn bench(
    name: &'static str,
    params: &[(&'static str, u64)],
    metrics: &'static [Metric],
    work: Work,
) -> Bench {
    Bench {
        name,
        params: BTreeMap::from_iter(params.iter().copied()),
        metrics,
        work,
    }
}

/// The load that a bench asks for by its parameters.
pub(super) fn plan(bench: &Bench) -> Plan {
    let size = |name, default| match bench.param(name) {
        None => default,
        Some(value) => usize::try_from(value).expect("parameters of this suite are small"),
    };
    Plan {
        connections: size("connections", 1),
        exchange: match bench.work {
            Work::Hello => Exchange::Hello,
            Work::Bulk { bytes } => Exchange::Bulk { bytes },
            _ => Exchange::Echo {
                bytes: size("bytes", 64),
                deep: size("deep", 1),
            },
        },
        pace: bench
            .param("rate")
            .map_or(Pace::Closed, |rate| Pace::Open { rate }),
    }
}

fn speed(bench: &Bench, child: &mut Child, timing: Timing) -> Result<Sample, Failure> {
    let plan = plan(bench);
    let server = child.address()?;
    let clock = child.cpu_clock()?;
    let mut load = Load::connect(server, plan)?;
    load.start()?;
    load.run(timing.warm_up)?;
    let before = clock.read()?;
    let tally = load.run(timing.measure)?;
    let cpu = clock.read()? - before;
    if tally.requests == 0 {
        return Err(Failure::Broken("answered no request in time".to_owned()));
    }
    Ok(sample(plan, &tally, cpu))
}

/// What the figures of a server are, by its load and the CPU time it used.
pub(crate) fn sample(plan: Plan, tally: &Tally, cpu: Duration) -> Sample {
    Sample {
        values: values(tally, cpu),
        doubt: doubt(plan, tally),
    }
}

/// How long a server gets to become idle after its last answer.
const SETTLING: Duration = Duration::from_millis(50);

/// Resident memory for each connection: of the whole process, without the program, and what it grew by since there
/// were none.
fn memory(bench: &Bench, child: &mut Child) -> Result<Sample, Failure> {
    let plan = plan(bench);
    let server = child.address()?;
    let before = child.memory()?;
    let load = Load::connect(server, plan)?;
    thread::sleep(SETTLING);
    let after = child.memory()?;
    drop(load);
    let each = |bytes: u64| bytes as f64 / 1024.0 / plan.connections as f64;
    Ok(Sample {
        values: vec![
            each(after.resident),
            each(after.own),
            each(after.resident.saturating_sub(before.resident)),
        ],
        doubt: None,
    })
}

/// In the order of the metrics.
fn values(tally: &Tally, cpu: Duration) -> Vec<f64> {
    let microseconds = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
    vec![
        tally.requests as f64 / tally.elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / tally.requests as f64,
        microseconds(0.5),
        microseconds(0.99),
        microseconds(0.999),
        busy(cpu, tally) * 100.0,
        tally.idle * 100.0,
        tally.queued * 100.0,
    ]
}

/// Share of its CPU that the server has used.
fn busy(cpu: Duration, tally: &Tally) -> f64 {
    cpu.as_secs_f64() / tally.elapsed.as_secs_f64()
}

/// A closed loop with more of its connections than this waiting for the generator measures the generator.
const MOST_QUEUED: f64 = 1.0 / 3.0;
/// A generator with less idle time than this cannot keep to the clock of an open loop.
const LEAST_IDLE: f64 = 0.05;
/// Below this share of the rate asked for, an open loop has become a measurement of overload.
const RATE_REACHED: f64 = 0.99;
/// A generator that had its CPU for less of the time than this was disturbed.
const LEAST_RUNNING: f64 = 0.95;

fn doubt(plan: Plan, tally: &Tally) -> Option<&'static str> {
    if tally.running < LEAST_RUNNING {
        return Some("another process took CPU from the load generator");
    }
    if tally.starved {
        return Some("a connection waited all the time for an answer");
    }
    let limited = match plan.pace {
        Pace::Closed => tally.queued > MOST_QUEUED,
        Pace::Open { .. } => tally.idle < LEAST_IDLE,
    };
    if limited {
        return Some("the load generator was the bottleneck");
    }
    let requests = tally.requests as f64;
    match plan.pace {
        Pace::Open { rate }
            if requests < rate as f64 * tally.elapsed.as_secs_f64() * RATE_REACHED =>
        {
            Some("the rate was not reached")
        }
        _ => None,
    }
}
