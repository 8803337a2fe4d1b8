//! Messages between cores: the only traffic that crosses them.
//!
//! Cores share nothing. What one wants of another travels as a [`Message`] into that core's bounded inbox
//! ([`port`]); the receiver drains it once a turn. Two kinds exist: a closure to be spawned there ([`spawn_on`]),
//! and the news that something a coroutine there waits for has happened.
//!
//! Delivery runs no user code: a closure becomes a coroutine, news becomes a wake.

mod port;
mod remote;

pub use remote::{
    RemoteError, RemoteHandle, TrySpawnOnError, spawn_on, spawn_on_each, try_spawn_on,
};

pub(crate) use port::{Port, Rejected};

use coring_coro::{Builder, Scheduler};
use remote::{Notify, Start};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What travels between cores.
pub(crate) enum Message {
    /// A closure that becomes a coroutine.
    Spawn(Box<dyn Start>),
    /// Something a coroutine of the receiving core waits for has happened.
    Notify(Arc<dyn Notify>),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Spawn(_) => "Spawn",
            Self::Notify(_) => "Notify",
        })
    }
}

impl Message {
    /// Carries the message out on the receiving core, between two batches of its coroutines.
    pub(crate) fn deliver(self, scheduler: &Scheduler) {
        match self {
            Self::Spawn(start) => start.start(scheduler, Builder::new()),
            Self::Notify(news) => news.notify(),
        }
    }
}

/// What the cores of one runtime share: their ports, and whether it is time to stop.
#[derive(Debug)]
pub(crate) struct Cluster {
    ports: Box<[Port]>,
    stopping: AtomicBool,
}

impl Cluster {
    pub(crate) fn new(cores: usize, inbox_capacity: usize) -> Arc<Self> {
        let ports = (0..cores).map(|_| Port::new(inbox_capacity)).collect();
        Arc::new(Self {
            ports,
            stopping: AtomicBool::new(false),
        })
    }

    pub(crate) fn cores(&self) -> usize {
        self.ports.len()
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
