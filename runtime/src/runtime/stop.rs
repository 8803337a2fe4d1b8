//! Stopping: how the cores of a runtime end, and what is left behind when they do not.
//!
//! On every core, when it is told to stop ([`retire`]):
//! 1. The port closes: no more closures are taken.
//! 2. Every coroutine is cancelled, again and again while some are left: each blocking call of theirs is refused,
//!    each operation in flight is cancelled and reaped, each stack unwinds.
//! 3. When none is left, the ring is drained: closes that nobody waits for, cancels, rings of other cores' bells.
//! 4. The inbox is emptied: who waits for a dropped message learns that the core has stopped.
//! 5. Stacks and ring are freed. The thread ends and is joined.
//!
//! When all have, the offload pool stops: what it has not begun with is dropped (blocking.rs).
//!
//! A core that is not through with step 3 after the grace period is abandoned: what lives on it is named on
//! stderr, and its memory and its ring are leaked, because a stack that an operation may still write to is never
//! freed. A core that does not even turn is asked by a signal what it does (watch/capture.rs). Each step looks at its deadline
//! again and again: it comes near when the end is forced (shutdown.rs).

use super::Runtime;
use crate::mailbox::Cluster;
use crate::per_core::Core;
use crate::report;
use crate::shutdown::nanoseconds;
use coring_coro::JoinHandle;
use coring_uring::monotonic_ns;
use std::iter;
use std::mem::{self, ManuallyDrop};
use std::thread;

/// How often a cancellation is repeated, for coroutines that were spawned or shielded meanwhile and for operations that it met
/// between two states; and how often who drains its ring looks at its deadline.
const AGAIN_NS: u64 = 10_000_000;
/// What other threads get on top of the grace period to say that theirs is over. One that is still opening its ring may wait for
/// memory, for two seconds and a pause.
const THREAD_SLACK_NS: u64 = 3_000_000_000;

impl Runtime {
    /// Stops all cores and the offload pool. Does nothing the second time.
    pub(super) fn stop(&mut self) {
        let Some(core) = self.core.take() else { return };
        let cluster = &self.cluster;
        cluster.stop();
        let grace_ns = nanoseconds(self.plan.grace).saturating_add(THREAD_SLACK_NS);
        let deadline_ns = monotonic_ns().saturating_add(grace_ns);
        retire(core);
        let stopped = join(cluster, mem::take(&mut self.threads), deadline_ns);
        // Messages that were on their way when their core emptied its inbox. A core that was abandoned is still the
        // receiver of its own.
        let stopped = iter::once(0).chain(stopped);
        stopped.for_each(|core| cluster.port(core).discard());
        for left_behind in cluster.pool().stop(cluster.shutdown(), deadline_ns) {
            cluster.shutdown().abandon(left_behind);
        }
        cluster.shutdown().end();
    }
}

/// What core 0 does about requests to end while main runs.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// When main is cancelled again. Not in each turn: woken in each it would keep the core from sleeping, which is where
    /// its cancelled operation is reaped.
    again_ns: u64,
    named: bool,
}

impl Requests {
    #[inline]
    pub(super) fn obey<T>(&mut self, core: &Core, main: &JoinHandle<T>) {
        if let Some(cancel_at_ns) = core.engine().cluster().shutdown().cancel_at_ns() {
            self.cancel(core, main, cancel_at_ns);
        }
    }

    #[cold]
    fn cancel<T>(&mut self, core: &Core, main: &JoinHandle<T>, cancel_at_ns: u64) {
        let now_ns = monotonic_ns();
        if now_ns >= cancel_at_ns.max(self.again_ns) {
            main.cancel();
            self.again_ns = now_ns.saturating_add(AGAIN_NS);
        }
        let late_at_ns = core.engine().cluster().shutdown().main_is_late_at_ns();
        if late_at_ns.is_some_and(|at_ns| now_ns >= at_ns) && !self.named {
            self.named = true;
            name_survivors(core);
        }
        core.engine().wake_at(cancel_at_ns.max(self.again_ns));
    }
}

/// Joins the threads that stop in time, and says which; names and leaves the others.
fn join(
    cluster: &Cluster,
    mut threads: Vec<(usize, thread::JoinHandle<()>)>,
    deadline_ns: u64,
) -> Vec<usize> {
    let shutdown = cluster.shutdown();
    let mut joined = Vec::new();
    while !threads.is_empty() {
        let Some(core) = shutdown.next_stopped(deadline_ns) else {
            for (core, _thread) in threads.drain(..) {
                let doing = cluster.port(core).pulse().capture();
                let doing = doing.map_or("it takes no signal".to_owned(), |doing| doing.who());
                shutdown.abandon(format!(
                    "core {core} did not stop in time, since it does not turn; abandoned: {doing}"
                ));
            }
            break;
        };
        let position = threads.iter().position(|(index, _)| *index == core);
        let (_, thread) = threads.remove(position.expect("each core stops once"));
        // It has only to return; a panic out of a core's loop has aborted the process.
        let _ = thread.join();
        joined.push(core);
    }
    joined
}

/// Steps 1 to 5 of the stop, on one core.
pub(super) fn retire(core: Core) {
    let cluster = core.engine().cluster();
    let (shutdown, port) = (cluster.shutdown(), cluster.port(core.engine().index()));
    let since_ns = monotonic_ns();
    let unforced_ns = since_ns.saturating_add(shutdown.grace_ns());
    port.close();
    let mut cancel_at_ns = 0;
    core.run(|core| {
        let now_ns = monotonic_ns();
        let deadline_ns = shutdown.deadline_ns(since_ns, unforced_ns);
        if core.scheduler().live() == 0 || now_ns >= deadline_ns {
            return true;
        }
        if now_ns >= cancel_at_ns {
            core.scheduler().cancel_all();
            cancel_at_ns = now_ns.saturating_add(AGAIN_NS);
            core.engine().wake_at(cancel_at_ns.min(deadline_ns));
        }
        false
    });
    let survivors = core.scheduler().survivors();
    if survivors.is_empty() {
        let panicked = core.drop_shards();
        if panicked > 0 {
            report::say(format_args!(
                "{panicked} values of a `Sharded` panicked while they were dropped at the end of their core"
            ));
        }
    }
    // What is left in flight belongs to nobody who waits: closes and cancels. It ends at once or not at all.
    let drained =
        survivors.is_empty() && drain_ring(&core, || shutdown.deadline_ns(since_ns, unforced_ns));
    port.discard();
    port.close_wakes();
    if !drained {
        abandon(core, &survivors);
    }
}

/// Whether the ring is empty before the time is over.
fn drain_ring(core: &Core, deadline_ns: impl Fn() -> u64) -> bool {
    loop {
        let step_ns = monotonic_ns().saturating_add(AGAIN_NS);
        if core.drain_ring(step_ns) {
            return true;
        }
        if step_ns >= deadline_ns() {
            return false;
        }
    }
}

/// Leaks a core that something may still touch, and says what.
fn abandon(core: Core, survivors: &[String]) {
    let core = ManuallyDrop::new(core);
    let (index, operations) = (
        core.engine().index(),
        core.engine().ring().borrow().in_flight(),
    );
    let shutdown = core.engine().cluster().shutdown();
    shutdown.abandon(format!(
        "core {index} did not stop in time; abandoned with {operations} operations in flight and:"
    ));
    survivors
        .iter()
        .for_each(|name| shutdown.abandon(format!("  coroutine {name}")));
}

/// Says what lives on a core that nobody will stop.
pub(super) fn name_survivors(core: &Core) {
    let index = core.engine().index();
    report::say(format_args!("core {index} did not stop in time:"));
    for name in core.scheduler().survivors() {
        report::say(format_args!("  coroutine {name}"));
    }
}
