//! The guard: a thread that sees to it that a runtime which was asked to end does.
//!
//! It starts with the first request, or with the wish to hear signals, and ends with the runtime.
//!
//! ```text
//!   signal handler --- one byte, its number ---+
//!   a request was made, the runtime ended: 0 --+--> pipe --> poll(2) up to the deadline --> guard
//! ```
//!
//! Signals are heard here, and not by a coroutine, because a core that does not turn runs none. For the same reason the deadline is
//! kept here: when main was to be cancelled and two grace periods have passed - one for main to unwind, one for the stop of all
//! cores - the guard says what core 0 does and ends the process with code 1. A third signal does so at once. It ends by
//! `_exit(2)`: exit handlers may wait for what is stuck.
#![expect(
    unsafe_code,
    reason = "poll(2), and a signal handler, which does nothing but write(2)"
)]

use super::ShutdownHandle;
use crate::mailbox::Cluster;
use crate::report;
use crate::signal::{never_wait, tell};
use coring_uring::monotonic_ns;
use signal_hook_registry::{SigId, register, unregister};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// On top of the grace periods.
const SLACK_NS: u64 = 1_000_000_000;
/// Not the number of a signal.
const LOOK: u8 = 0;
/// What the process ends with.
const FORCED: libc::c_int = 1;

/// The thread, as others see it.
#[derive(Debug)]
pub(super) struct Guard {
    writer: Arc<OwnedFd>,
    thread: JoinHandle<()>,
    handlers: Vec<SigId>,
}

impl Guard {
    pub(super) fn start(cluster: &Arc<Cluster>) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let writer = OwnedFd::from(writer);
        never_wait(&writer)?;
        let watch = Watch {
            cluster: Arc::clone(cluster),
            reader,
            signals: 0,
        };
        let thread = thread::Builder::new().name("coring-guard".into());
        Ok(Self {
            writer: Arc::new(writer),
            thread: thread.spawn(move || watch.run())?,
            handlers: Vec::new(),
        })
    }

    /// Something has changed.
    pub(super) fn poke(&self) {
        tell(&self.writer, LOOK);
    }

    /// Makes this signal a request to end.
    pub(super) fn hear(&mut self, signal: u8) -> io::Result<()> {
        let writer = Arc::clone(&self.writer);
        // SAFETY: the handler calls write(2) only, and puts errno back.
        let handler =
            unsafe { register(libc::c_int::from(signal), move || tell(&writer, signal)) }?;
        self.handlers.push(handler);
        Ok(())
    }

    /// The runtime has ended, which the shared state says.
    pub(super) fn end(self) {
        self.poke();
        for handler in self.handlers {
            unregister(handler);
        }
        // It does not panic; if it did, it has been reported.
        let _ = self.thread.join();
    }
}

/// The thread's own side.
struct Watch {
    cluster: Arc<Cluster>,
    reader: PipeReader,
    signals: u32,
}

impl Watch {
    fn run(mut self) {
        let mut bytes = [0; 64];
        while !self.cluster.shutdown().has_ended() {
            let left_ns = self
                .deadline_ns()
                .map(|at_ns| at_ns.saturating_sub(monotonic_ns()));
            if left_ns == Some(0) {
                self.force("it was to end, and the time for that is over");
            }
            if !self.wait(left_ns) {
                continue;
            }
            // An error leaves the deadline, which is looked at again.
            let count = self.reader.read(&mut bytes).unwrap_or(0);
            for signal in bytes[..count].iter().filter(|byte| **byte != LOOK) {
                self.signals += 1;
                if self.signals > 2 {
                    self.force(&format!("signal {signal} came for the third time"));
                }
                let drain = self.cluster.shutdown().drain_on_signal();
                let what = if self.signals == 1 {
                    "asked to end"
                } else {
                    "main is cancelled; once more ends the process"
                };
                report::say(format_args!("signal {signal}: {what}"));
                ShutdownHandle::new(&self.cluster).shutdown(drain);
            }
        }
    }

    /// When the process is ended: the time that main is to be cancelled, and what it and the stop may then take.
    fn deadline_ns(&self) -> Option<u64> {
        let shutdown = self.cluster.shutdown();
        let grace_ns = shutdown.grace_ns();
        let at_ns = shutdown.force_at_ns()?;
        Some(
            at_ns
                .saturating_add(grace_ns.saturating_mul(2))
                .saturating_add(SLACK_NS),
        )
    }

    /// Whether there is something to read before the time is over.
    fn wait(&self, left_ns: Option<u64>) -> bool {
        // Rounded up: not to come back a little too early, again and again.
        let left_ms = left_ns.map(|ns| ns.div_ceil(1_000_000));
        let timeout = left_ms.map_or(-1, |ms| {
            libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
        });
        let mut poll = libc::pollfd {
            fd: self.reader.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd of this frame.
        let ready = unsafe { libc::poll(&raw mut poll, 1, timeout) };
        ready > 0
    }

    fn force(&self, why: &str) -> ! {
        report::say(format_args!("the process is ended by force: {why}"));
        for core in 0..self.cluster.cores() {
            let pulse = self.cluster.port(core).pulse();
            if pulse.is_beating() {
                match pulse.capture() {
                    Some(captured) => report::say(format_args!("core {core}: {captured}")),
                    None => report::say(format_args!("core {core} takes no signal")),
                }
            }
        }
        // SAFETY: it only ends the process.
        unsafe { libc::_exit(FORCED) }
    }
}
