//! coring, the runtime of this repository, on one core: plain closures, std's `Read` and `Write`.
//!
//! `coring` is the runtime as it comes, which looks at memory for about as long as a sleep costs while
//! that pays; `coring-spin` looks for up to 50 us; `coring-nospin` never looks, as all the others here: latency bought
//! with CPU time. `coring-pooled` receives into buffers of the core's pool instead of one for each connection. `coring-small` has the
//! smallest stacks that may be asked for: page tables, and the time to make them, go by the distance from one stack to the next.
//!
//! `coring-again` is `coring` once more: what the two differ by is noise. `coring-watched` is what a server in production adds: a
//! stall detector, and somebody who asks for all figures as text, ten times a second. Both are measured only when they are named.

use std::hint::black_box;
use std::time::Duration;

use coring::coro;

use crate::beside;
use crate::load::bulk;
use crate::machine;
use crate::subject::{Job, Role, Skip, Subject, Work};
use crate::work::{Local, Turns, batches_a_lap};

mod between;
mod files;
mod local;
mod net;

/// The subject.
#[derive(Debug)]
pub(crate) struct Coring {
    name: &'static str,
    /// How long to look before a sleep, where it is not the default.
    spin: Option<Duration>,
    /// Whether who waits to receive holds no buffer.
    pooled: bool,
    /// Whether somebody looks at the core all the time.
    watched: bool,
    /// Bytes of a stack, where it is not the default.
    stack_bytes: Option<usize>,
}

/// Without any option but the number of cores.
pub(crate) static AS_IT_COMES: Coring = Coring {
    name: "coring",
    spin: None,
    pooled: false,
    watched: false,
    stack_bytes: None,
};

/// Without spinning.
pub(crate) static NO_SPIN: Coring = Coring {
    name: "coring-nospin",
    spin: Some(Duration::ZERO),
    pooled: false,
    watched: false,
    stack_bytes: None,
};

/// Spinning for latency.
pub(crate) static SPIN: Coring = Coring {
    name: "coring-spin",
    spin: Some(Duration::from_micros(50)),
    pooled: false,
    watched: false,
    stack_bytes: None,
};

/// With the smallest stacks.
pub(crate) static SMALL: Coring = Coring {
    name: "coring-small",
    stack_bytes: Some(16 * 1024),
    ..AS_IT_COMES_AGAIN
};

/// The same as the first.
pub(crate) static AGAIN: Coring = Coring {
    name: "coring-again",
    ..AS_IT_COMES_AGAIN
};

/// Watched and asked.
pub(crate) static WATCHED: Coring = Coring {
    name: "coring-watched",
    watched: true,
    ..AS_IT_COMES_AGAIN
};

const AS_IT_COMES_AGAIN: Coring = Coring {
    name: "",
    spin: None,
    pooled: false,
    watched: false,
    stack_bytes: None,
};

/// After so long without a turn a core has stalled.
const STALL: Duration = Duration::from_millis(25);
/// How often all figures are asked for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Receiving into pooled buffers.
pub(crate) static POOLED: Coring = Coring {
    name: "coring-pooled",
    spin: None,
    pooled: true,
    watched: false,
    stack_bytes: None,
};

impl Subject for Coring {
    fn name(&self) -> &'static str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Ours
    }

    fn version(&self) -> String {
        machine::locked_version("coring")
    }

    fn only_when_named(&self) -> bool {
        self.watched || self.name == AGAIN.name
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        let job = *job;
        let cores = if let Work::Between(_) = job.work {
            beside::use_both(&job)?;
            2
        } else {
            1
        };
        let mut builder = coring::Runtime::builder().cores(cores);
        if let Some(spin) = self.spin {
            builder = builder.spin(spin);
        }
        if let Some(bytes) = self.stack_bytes {
            builder = builder.stack_bytes(bytes);
        }
        if self.watched {
            builder = builder.stall_detector(STALL);
        }
        let runtime = builder.build();
        let runtime = runtime.map_err(|error| Skip::because(error.to_string()))?;
        runtime.run(move || match job.work {
            Work::Echo if self.watched => {
                coro::spawn(ask_for_figures);
                match net::serve(&job, net::echo)? {}
            }
            _ if self.watched => Err(Skip::because("differs from coring in echo only")),
            Work::Local(what @ Local::Park { .. }) => local::run(&job, what),
            _ if self.stack_bytes.is_some() => {
                Err(Skip::because("differs from coring in park only"))
            }
            Work::Echo if self.pooled => match net::serve(&job, net::echo_pooled)? {},
            Work::Echo => match net::serve(&job, net::echo)? {},
            Work::Between(work) if self.spin.is_some() => between::work(&job, work),
            _ if self.pooled || self.spin.is_some() => {
                Err(Skip::because("differs from coring in echo and idle only"))
            }
            Work::Between(work) => between::work(&job, work),
            Work::Hello => match net::serve(&job, net::hello)? {},
            Work::Bulk { bytes } => {
                let answer: &[u8] = bulk(bytes).collect::<Vec<u8>>().leak();
                match net::serve(&job, move |stream| net::bulk(stream, answer))? {}
            }
            Work::Read { depth, direct } => files::reads(&job, depth, direct),
            Work::OpenRead { depth } => files::opens(&job, depth),
            Work::WriteSync => files::writes(&job),
            Work::Yield { tasks } => yields(&job, tasks),
            Work::SpawnJoin { batch } => spawns(&job, batch),
            Work::Local(what) => local::run(&job, what),
            _ => job.not_offered(),
        })
    }
}

fn ask_for_figures() {
    loop {
        coro::sleep(ASK_EVERY);
        let figures = coring::Runtime::stats().expect("every core answers");
        black_box(coring::metrics::prometheus(&figures));
    }
}

fn yields(job: &Job, tasks: usize) -> Result<(), Skip> {
    let mut meter = job.meter(0);
    while meter.more() {
        let turns = Turns::new(tasks);
        let spawn = |task| {
            let laps = turns.laps(task);
            coro::spawn(move || {
                for () in laps {
                    coro::yield_now();
                }
            })
        };
        let handles: Vec<_> = (0..tasks).map(spawn).collect();
        for handle in handles {
            handle.join().expect("no task panics");
        }
        meter.record(turns.per_yield()?);
    }
    meter.finish();
    Ok(())
}

fn spawns(job: &Job, batch: usize) -> Result<(), Skip> {
    let batches = batches_a_lap(batch);
    let mut handles = Vec::with_capacity(batch);
    let mut meter = job.meter(batches * batch);
    while meter.lap() {
        for _ in 0..batches {
            handles.extend((0..batch).map(|value| coro::spawn(move || black_box(value))));
            for (value, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.join().expect("no task panics"), value);
            }
        }
    }
    meter.finish();
    Ok(())
}
