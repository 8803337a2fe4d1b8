//! Servers that are all alive and asked in turn, for some ten milliseconds at a time.
//!
//! ```text
//!   start and connect all     block 1              block 2              ...
//!   A B C                  -> [B|B] [A|A] [C|C] -> [C|C] [B|B] [A|A] ->     one load at a time, the others asleep
//!                              |  `-- counts
//!                              `-- settles
//! ```
//!
//! A shared machine changes its speed by several per cent from one second to the next, and the same program, started
//! twice, differs by as much (which pages it got, where its stacks lie). What compares samples of a second in processes
//! of their own therefore sees five per cent. Here what is compared ran within a tenth of a second, in hundreds of
//! blocks: the median of the ratios within a block is sure to some tenths of a per cent. What differs from one start
//! to the next is not averaged out: an important difference is measured in several invocations.
//!
//! All servers share the subjects' CPU, so one that works while it is not asked would slow down the others: that is
//! measured, and marked.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{Child, Failure};
use crate::harness::{Cell, Options, progress};
use crate::load::{Load, Plan};
use crate::machine::Cpus;
use crate::suite::{Bench, Sample, Suite, Timing};
use crate::suites::net;
use crate::sys::CpuClock;

/// How long a bench takes if nobody says how many blocks it has.
const BUDGET: Duration = Duration::from_secs(60);
const BUDGET_QUICK: Duration = Duration::from_secs(15);
/// A slice without connections, and what each of them adds: each is to be served some twenty times.
const SHORTEST_SLICE: Duration = Duration::from_millis(25);
const SLICE_A_CONNECTION: Duration = Duration::from_micros(125);
/// A server that uses more of a CPU than this while others are asked is in their way.
const MOST_UNASKED: f64 = 0.01;
/// How long a server gets to fall asleep after its last answer: the kernel tells what another process has used up to its
/// last switch or tick.
const SETTLING: Duration = Duration::from_millis(1);
const UNASKED: &str = "worked while others were asked";
const NOTHING: &str = "answered nothing in a slice";

/// How long one server is asked at a time.
pub(crate) fn timing(plan: Plan) -> Timing {
    let connections = u32::try_from(plan.connections).unwrap_or(u32::MAX);
    let measure = SHORTEST_SLICE + SLICE_A_CONNECTION * connections;
    Timing {
        warm_up: measure / 4,
        measure,
    }
}

/// A server at rest, with its load connected.
struct Server {
    child: Child,
    load: Load,
    clock: CpuClock,
    /// Since when it rests, and what it had used by then.
    rests: (Instant, Duration),
}

/// One bench after the other; returns the largest number of blocks.
pub(crate) fn run(
    suite: &'static dyn Suite,
    tables: &mut [(Bench, Vec<Cell>)],
    options: &Options,
    random: &mut fastrand::Rng,
    cpus: Cpus,
) -> io::Result<usize> {
    let mut most = 0;
    for (bench, cells) in tables {
        let plan = suite.plan(bench).expect("others were left out before");
        let block = timing(plan).total() * u32::try_from(cells.len()).unwrap_or(u32::MAX);
        let blocks = options.runs.unwrap_or_else(|| {
            let budget = if options.quick { BUDGET_QUICK } else { BUDGET };
            let blocks = budget.as_micros().div_ceil(block.as_micros());
            usize::try_from(blocks).expect("the budget is short")
        });
        // No server may be ended before the last block.
        let life = Timing {
            warm_up: Duration::ZERO,
            measure: block * u32::try_from(blocks).unwrap_or(u32::MAX),
        };
        let mut servers = Vec::new();
        for cell in &mut *cells {
            progress(&format!(
                "{}: starting {}",
                bench.key(),
                cell.subject.name()
            ));
            let mut child = Child::start(suite, bench, cell.subject, life, cpus)?;
            servers.push(match connect(&mut child, plan) {
                Ok(load) => Some(Server::at_rest(child, load)?),
                Err(failure) => {
                    cell.note(failure, &mut child);
                    None
                }
            });
        }
        for block in 0..blocks {
            progress(&format!("{}: block {} of {blocks}", bench.key(), block + 1));
            let mut order: Vec<usize> = (0..cells.len()).collect();
            random.shuffle(&mut order);
            for place in order {
                let sample = ask(&mut servers[place], &mut cells[place], plan);
                cells[place].rounds.push(sample);
            }
        }
        most = most.max(blocks);
    }
    Ok(most)
}

fn connect(child: &mut Child, plan: Plan) -> Result<Load, Failure> {
    Ok(Load::connect(child.address()?, plan)?)
}

/// A slice of a server that is still there; one that fails is asked no more.
fn ask(server: &mut Option<Server>, cell: &mut Cell, plan: Plan) -> Option<Sample> {
    let asked = server.as_mut()?;
    match asked.slice(plan) {
        Ok(Some(sample)) => Some(sample),
        Ok(None) => {
            cell.failures.push(NOTHING.to_owned());
            None
        }
        Err(failure) => {
            cell.note(failure, &mut asked.child);
            *server = None;
            None
        }
    }
}

impl Server {
    fn at_rest(child: Child, load: Load) -> io::Result<Server> {
        let clock = child.cpu_clock()?;
        Ok(Server {
            child,
            load,
            clock,
            rests: (Instant::now(), clock.read()?),
        })
    }

    /// `None`: nothing was answered in it, as when the host had taken the CPU away.
    fn slice(&mut self, plan: Plan) -> Result<Option<Sample>, Failure> {
        let (since, used) = self.rests;
        let unasked = (self.clock.read()? - used).as_secs_f64() / since.elapsed().as_secs_f64();
        let Timing { warm_up, measure } = timing(plan);
        self.load.start()?;
        self.load.run(warm_up)?;
        let before = self.clock.read()?;
        let tally = self.load.run(measure)?;
        let cpu = self.clock.read()? - before;
        self.load.drain()?;
        thread::sleep(SETTLING);
        self.rests = (Instant::now(), self.clock.read()?);
        if tally.requests == 0 {
            return Ok(None);
        }
        let sample = net::sample(plan, &tally, cpu);
        Ok(Some(Sample {
            doubt: sample.doubt.or((unasked > MOST_UNASKED).then_some(UNASKED)),
            ..sample
        }))
    }
}
