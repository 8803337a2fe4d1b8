//! One core: a scheduler, a ring, an inbox, and the turn that ties them together.
//!
//! ```text
//!            +--------------------- Core ----------------------+
//!            |  Scheduler (coro)          Engine: Driver       |
//!  spawn --> |  ready, timers, stacks <-> ring    <---> kernel |
//!            |                            inbox   <--- others  |
//!            +-------------------------------------------------+
//! ```
//!
//! What coroutines log goes into the core's own byte ring, published at the end of each turn.
//!
//! A core is a value with a [`turn`](Core::turn); a thread with a loop around it is one way to drive it. The
//! engine is what coroutines reach through the thread-local "current core", which is set for the length of a turn.

pub(crate) mod affinity;
mod engine;
#[cfg(all(test, not(loom)))]
pub(crate) mod fault;
mod fixed;
mod glance;
mod idle;
mod stats;

pub(crate) use engine::{Engine, current, require_current};
pub(crate) use idle::Spin;

pub use stats::CoreStats;

use crate::mailbox::Cluster;
use crate::report;
use coring_coro::{Scheduler, SchedulerConfig, Turn};
use coring_logger::CoreRing;
use coring_uring::{Ring, SetupError, SetupOptions};
use std::sync::Arc;

/// How the buffers of [`RecvStream`](crate::net::RecvStream)s are filled: [`Builder::stream_filling`](crate::Builder::stream_filling).
///
/// Both opt-ins are for pools of the wrong size: small buffers for a stream that is not, large ones for short messages. A GB
/// over loopback in buffers of 4 KiB costs the core 440 ms of CPU, 226 with bundles and 459 when incremental; in buffers of 64 KiB
/// 176, 201 and 195. For messages of 64 bytes all are alike (examples/recv_stream.rs; 2 vCPU AMD EPYC VM, Linux 6.18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filling {
    /// A completion fills one buffer and uses it up, whatever its length. The default.
    #[default]
    Whole,
    /// A completion may fill several buffers: fewer completions where much arrives at once. Costs nothing where little
    /// does.
    ///
    /// Linux 6.15 ([`Feature::RecvBundle`](crate::uring::Feature)); otherwise as `Whole`.
    Bundles,
    /// A completion uses up only as much of a buffer as it fills, so that many short messages share one. Receive streams
    /// get a pool of their own for it, of the size that [`Builder::receive_pool`](crate::Builder::receive_pool) says. One
    /// message that is kept keeps its whole buffer out of the pool.
    ///
    /// Linux 6.15 ([`Feature::IncrementalBuffers`](crate::uring::Feature)); otherwise as `Whole`.
    Incremental,
}

/// What a core is made with.
#[derive(Clone, Debug)]
pub(crate) struct CoreConfig {
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) ring: SetupOptions,
    pub(crate) spin: Spin,
    pub(crate) io_workers: (u32, u32),
    /// Receive buffers, and the bytes of each.
    pub(crate) receive_pool: (u16, usize),
    /// How receive streams use these buffers.
    pub(crate) stream_filling: Filling,
    /// Registered buffers for files, and the bytes of each.
    pub(crate) fixed_buffers: (u16, usize),
    /// The CPUs that this process may use.
    pub(crate) cpus: Vec<usize>,
}

/// One core's engine and scheduler. Belongs to the thread that made it.
#[derive(Debug)]
pub(crate) struct Core {
    scheduler: Scheduler,
    /// Boxed: coroutines keep a reference to it while they wait, and a core may be moved meanwhile.
    engine: Box<Engine>,
    /// What is logged on this core, until the drain has it. `None` when there was no memory for it: lines then go
    /// through the thread's own ring.
    log: Option<CoreRing>,
}

impl Core {
    /// Opens the core's ring on the calling thread and makes it known to its peers. `pin` is the CPU the thread is, or
    /// will be, pinned to.
    pub(crate) fn open(
        index: usize,
        pin: Option<usize>,
        cluster: &Arc<Cluster>,
        config: &CoreConfig,
    ) -> Result<Self, SetupError> {
        let mut ring = Ring::open(&config.ring)?;
        let (bounded, unbounded) = config.io_workers;
        // Both are wishes: a kernel or a sandbox that refuses them still does the I/O.
        let _ = ring.set_worker_limits(bounded, unbounded);
        let worker_cpus = beside(pin, &config.cpus);
        if !worker_cpus.is_empty() {
            let _ = ring.set_worker_affinity(&worker_cpus);
        }
        cluster.port(index).connect(ring.doorbell());
        let engine = Box::new(Engine::new(index, ring, Arc::clone(cluster), config));
        let log = u32::try_from(index)
            .ok()
            .and_then(|index| coring_logger::register_core(index).ok());
        Ok(Self {
            scheduler: Scheduler::new(config.scheduler),
            engine,
            log,
        })
    }

    pub(crate) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// One turn: timers, ready coroutines, messages, ring. Never blocks.
    pub(crate) fn turn(&self) -> Turn {
        self.engine.pulse().beat();
        let _current = self.engine.enter(&self.scheduler);
        // Left at the end of the turn, which shows its lines to the drain.
        let _log = self.log.as_ref().map(CoreRing::enter);
        self.scheduler.turn(&*self.engine)
    }

    /// Sleeps until a timer, a completion or a message.
    pub(crate) fn park(&self) {
        let _current = self.engine.enter(&self.scheduler);
        self.scheduler.park(&*self.engine);
    }

    /// Turns until `done`, asleep while nothing is ready.
    pub(crate) fn run(&self, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            // `done` may have made a coroutine ready, by cancelling it.
            if self.turn().ready == 0 && !done(self) && self.scheduler.ready() == 0 {
                self.park();
            }
        }
    }

    /// Waits for what is left in the ring: closes that nobody waits for. Whether it is empty then.
    pub(crate) fn drain_ring(&self, deadline_ns: u64) -> bool {
        self.engine.pulse().sleep();
        let _current = self.engine.enter(&self.scheduler);
        self.engine.drain_ring(deadline_ns)
    }

    /// Drops what is left of the core's values of [`Sharded`](crate::Sharded), when no coroutine is left to use them.
    /// How many destructors panicked.
    pub(crate) fn drop_shards(&self) -> usize {
        let _current = self.engine.enter(&self.scheduler);
        let shards = self.engine.take_shards().into_values();
        let dropped = shards.map(|shard| report::contain(|| drop(shard)));
        dropped.filter(|dropped| !dropped).count()
    }
}

/// The CPUs for the kernel's I/O workers of a core: all but the core's own. A worker inherits the mask that its core's
/// thread was pinned with, and the kernel narrows any other mask to what the two have in common
/// (kernel/sched/core.c, `__set_cpus_allowed_ptr`, since 6.2): with the own CPU among them it would be the only one.
/// Without a pin all of them serve; with one CPU there is nothing to say.
fn beside(pin: Option<usize>, cpus: &[usize]) -> Vec<usize> {
    match pin {
        None => cpus.to_vec(),
        Some(own) => cpus.iter().copied().filter(|&cpu| cpu != own).collect(),
    }
}
