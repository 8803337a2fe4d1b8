//! The guard: a thread that sees to it that a runtime which was asked to end does.
//!
//! It starts with the first request, or with the wish to hear signals, and ends with the runtime.
//!
//! ```text
//!   signal handler --- one byte, its number ---+
//!   a request was made, the runtime ended: 0 --+--> pipe --> poll(2) up to the deadline --> guard
//! ```
//!
//! Signals are heard here, and not by a coroutine, because a core that does not turn runs none. For the same reason the deadlines are
//! kept here. When main was to be cancelled and two grace periods have passed - one for main to unwind, one for the stop of all
//! cores - the guard forces the end, as a second signal does. When that has not ended main either, it says what runs and ends the
//! process with code 1, by `_exit(2)`: exit handlers may wait for what is stuck.
#![expect(
    unsafe_code,
    reason = "poll(2), and a signal handler, which does nothing but write(2)"
)]

use super::{FORCED_LIMIT_NS, Shutdown};
use crate::mailbox::Cluster;
use crate::report;
use crate::signal::Teller;
use coring_uring::monotonic_ns;
use signal_hook_registry::{SigId, register, unregister};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsRawFd;
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
    teller: Arc<Teller>,
    thread: JoinHandle<()>,
    /// The signals that are heard.
    handlers: Vec<(libc::c_int, SigId)>,
}

impl Guard {
    pub(super) fn start(cluster: &Arc<Cluster>) -> io::Result<Self> {
        let (reader, teller) = Teller::new()?;
        let watch = Watch {
            cluster: Arc::clone(cluster),
            reader,
            signals: 0,
        };
        let thread = thread::Builder::new().name("coring-guard".into());
        Ok(Self {
            teller: Arc::new(teller),
            thread: thread.spawn(move || watch.run())?,
            handlers: Vec::new(),
        })
    }

    /// Something has changed.
    pub(super) fn poke(&self) {
        self.teller.tell(LOOK);
    }

    /// Makes this signal a request to end, if it is none yet.
    pub(super) fn hear(&mut self, signal: libc::c_int) -> io::Result<()> {
        if self.handlers.iter().any(|(heard, _)| *heard == signal) {
            return Ok(());
        }
        let teller = Arc::clone(&self.teller);
        let number = u8::try_from(signal).expect("signals are below 65");
        // SAFETY: the handler calls getpid(2) and write(2) only, and puts errno back.
        let handler = unsafe { register(signal, move || _ = teller.tell(number)) }?;
        self.handlers.push((signal, handler));
        Ok(())
    }

    /// The runtime has ended, which the shared state says.
    pub(super) fn end(self) {
        self.poke();
        for (_, handler) in self.handlers {
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
        while !self.shutdown().has_ended() {
            let left_ns = self
                .deadline_ns()
                .map(|at_ns| at_ns.saturating_sub(monotonic_ns()));
            if left_ns == Some(0) {
                self.time_is_over();
            }
            if !self.wait(left_ns) {
                continue;
            }
            // An error leaves the deadline, which is looked at again.
            let count = self.reader.read(&mut bytes).unwrap_or(0);
            for signal in bytes[..count].iter().filter(|byte| **byte != LOOK) {
                self.signalled(*signal);
            }
        }
    }

    fn shutdown(&self) -> &Shutdown {
        self.cluster.shutdown()
    }

    fn signalled(&mut self, signal: u8) {
        self.signals = self.signals.saturating_add(1);
        match self.signals {
            1 => {
                report::say(format_args!(
                    "signal {signal}: asked to end; once more forces it"
                ));
                let drain = self.shutdown().drain_on_signal();
                self.shutdown().ask(&self.cluster, drain);
            }
            2 => {
                report::say(format_args!(
                    "signal {signal} came again: the end is forced"
                ));
                self.shutdown().force(&self.cluster);
            }
            // No end is nearer than the one that is under way.
            _ => {}
        }
    }

    /// When the end is forced, if nothing else happens: the time that main is to be cancelled, and what it and the stop may then
    /// take. When it is forced: when the process is ended.
    fn deadline_ns(&self) -> Option<u64> {
        let shutdown = self.shutdown();
        if let Some(forced_at_ns) = shutdown.forced_at_ns() {
            return Some(forced_at_ns.saturating_add(FORCED_LIMIT_NS));
        }
        let grace_ns = shutdown.grace_ns().saturating_mul(2);
        let cancel_at_ns = shutdown.cancel_at_ns()?;
        Some(
            cancel_at_ns
                .saturating_add(grace_ns)
                .saturating_add(SLACK_NS),
        )
    }

    fn time_is_over(&self) {
        if self.shutdown().forced_at_ns().is_some() {
            self.end_process();
        }
        report::say(format_args!(
            "it was to end, and the time for that is over: the end is forced"
        ));
        self.shutdown().force(&self.cluster);
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

    fn end_process(&self) -> ! {
        report::say(format_args!(
            "the runtime did not end: the process is ended by force"
        ));
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
