//! Messages between cores: the only traffic that crosses them.
//!
//! [`mailbox()`] is a bounded channel from any core or thread to one receiver, [`mesh`] one from every core to every core,
//! [`Topic`] one from any to all who subscribe. Work goes to another core with [`spawn_on`] and
//! [`call`](crate::call).
//!
//! # Inside
//!
//! Cores share nothing. What one wants of another travels in one of two ways:
//!
//! ```text
//!   a closure     remote.rs  -> port.rs: inbox = lanes.rs, one ring (ring.rs) for each pair of cores
//!   a wake        waiter.rs  -> port.rs: wake_list.rs, which cannot be full
//! ```
//!
//! The receiver drains both once a turn; a core that sleeps is rung (port.rs). Delivery runs no user code: a closure
//! becomes a coroutine, a wake makes one ready.
//!
//! What waits for another core waits in a wait_queue.rs. Built on it: the result of remote work (packet.rs), the
//! mailboxes (channel.rs), and everything in `sync`.
//!
//! Inside, imports go one way: `call` -> `remote`; `mesh`, `topic` -> `channel` -> `channel_errors`, `ending`; -> `packet`, `lanes` -> `wait_queue` -> `waiter` -> `port`, `wake_list`,
//! `ring`, `bias` -> `atomics`, `prefetch`.

mod atomics;
mod bias;
mod call;
mod channel;
mod channel_errors;
mod ending;
mod lanes;
mod mesh;
mod packet;
mod port;
mod prefetch;
mod remote;
mod ring;
mod topic;
mod turns;
mod wait_queue;
mod waiter;
mod wake_list;

pub use call::{call, call_all, map_reduce};
pub use channel::{Iter, Receiver, Sender, mailbox};
pub use channel_errors::{RecvError, SendError, TryRecvError, TrySendError};
pub use mesh::{Mesh, Node, mesh};
pub use packet::{RemoteError, RemoteHandle};
pub use remote::{TrySpawnOnError, spawn_on, spawn_on_each, try_spawn_on};
pub use topic::{Lagging, Subscription, Topic, topic};

pub(crate) use bias::OpenTurn;
pub(crate) use packet::{Completer, packet};
pub(crate) use port::InboxRound;
pub(crate) use port::Port;
pub(crate) use turns::Turns;
pub(crate) use wait_queue::WaitQueue;
pub(crate) use waiter::{Stop, Waiter, block};

use crate::blocking::{Pool, PoolConfig};
use crate::shutdown::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the cores of one runtime share: their ports, the offload pool, and whether it is time to stop.
#[derive(Debug)]
pub(crate) struct Cluster {
    ports: Box<[Port]>,
    pool: Arc<Pool>,
    shutdown: Shutdown,
    stopping: AtomicBool,
    shards: AtomicU64,
}

impl Cluster {
    pub(crate) fn new(
        cores: usize,
        inbox_capacity: usize,
        pool: PoolConfig,
        grace: Duration,
    ) -> Arc<Self> {
        let ports = (0..cores)
            .map(|_| Port::new(cores, inbox_capacity))
            .collect();
        Arc::new(Self {
            ports,
            pool: Pool::new(pool),
            shutdown: Shutdown::new(grace),
            stopping: AtomicBool::new(false),
            shards: AtomicU64::new(0),
        })
    }

    pub(crate) fn cores(&self) -> usize {
        self.ports.len()
    }

    /// A number for values that are one a core, never given twice.
    pub(crate) fn next_shard(&self) -> u64 {
        self.shards.fetch_add(1, Ordering::Relaxed)
    }

    /// Who has asked for the end, and how it went.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The threads for calls that block.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    #[inline]
    pub(crate) fn port(&self, core: usize) -> &Port {
        &self.ports[core]
    }

    /// Tells every core to stop, and wakes those that sleep.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ports.iter().for_each(Port::alert);
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
