//! Suite `net`: TCP echo over the loopback, server on one CPU, spinning load generator on another.
//!
//! - `echo`, closed loop: 64 B to and fro on 1 / 64 / 512 connections, one request under way on each.
//! - `echo_open`, open loop: 80,000 requests a second over 64 connections, about a third of what one CPU can
//!   do; here runtimes differ more than when they are saturated.
//!
//! The CPU time is that of the server's process, kernel included. Over the loopback each side's send also
//! runs part of the other's receive, so it contains one delivery to the client.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::child::{Child, Failure};
use crate::load::{Load, Pace, Plan, Tally};
use crate::subject::Work;
use crate::suite::{Bench, Better, Metric, Sample, Suite, Timing};

/// The suite.
#[derive(Debug)]
pub(crate) struct Net;

const MESSAGE_BYTES: u64 = 64;

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
        let closed = [1, 64, 512].map(|connections| Bench {
            name: "echo",
            params: BTreeMap::from([("bytes", MESSAGE_BYTES), ("connections", connections)]),
            metrics: CLOSED,
            work: Work::Echo,
        });
        let load = [
            ("bytes", MESSAGE_BYTES),
            ("connections", 64),
            ("rate", 80_000),
        ];
        let open = Bench {
            name: "echo_open",
            params: BTreeMap::from(load),
            metrics: OPEN,
            work: Work::Echo,
        };
        closed.into_iter().chain([open]).collect()
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

    fn sample(&self, bench: &Bench, child: &mut Child, timing: Timing) -> Result<Sample, Failure> {
        let size = |name| {
            let value = bench.param(name).and_then(|value| value.try_into().ok());
            value.expect("every bench of this suite has this parameter, and it is small")
        };
        let plan = Plan {
            connections: size("connections"),
            message_bytes: size("bytes"),
            pace: bench
                .param("rate")
                .map_or(Pace::Closed, |rate| Pace::Open { rate }),
        };
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
        Ok(Sample {
            values: values(&tally, cpu),
            doubt: doubt(plan, &tally),
        })
    }
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
