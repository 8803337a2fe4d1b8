//! The limit of `cores`: what two threads can do with no runtime in between.
//!
//! Messages pass through rtrb, with both sides spinning. A sleeper waits in its ring and is woken by a MSG_RING from
//! another one. A future is waited for by a thread that parks.
//!
//! Listed twice: the second is the twin of the A/A pair.
#![expect(unsafe_code, reason = "submitting to a ring is unsafe")]

use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

use super::queues::{self, Rtrb};
use crate::beside::{self, Alarm};
use crate::machine;
use crate::subject::{Between, Job, Role, Skip, Subject, Work};

/// The subject.
#[derive(Debug)]
pub(crate) struct Pair(&'static str);

/// The reference.
pub(crate) static FIRST: Pair = Pair("raw-pair");
/// The same again.
pub(crate) static AGAIN: Pair = Pair("raw-pair-again");

impl Subject for Pair {
    fn name(&self) -> &'static str {
        self.0
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn version(&self) -> String {
        machine::locked_version("rtrb")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Between(Between::Wake { pause }) => wake(job, pause)?,
            Work::Between(Between::BlockOnReady) => {
                let waker = Waker::noop();
                beside::ready(job, |future| block_on(future, waker));
            }
            Work::Between(Between::BlockOnWake) => {
                let waker = Waker::from(Arc::new(Unpark(thread::current())));
                beside::woken(job, |bell| block_on(bell.rung(), &waker));
            }
            _ => return queues::work(&Rtrb, job),
        }
        Ok(())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F, waker: &Waker) -> F::Output {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn ring() -> std::io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .build(64)
}

fn wake(job: &Job, pause: Duration) -> std::io::Result<()> {
    let alarm = Alarm::new();
    let mut sleeper = Sleeper::start(job, &alarm)?;
    alarm.ring(job, pause, || sleeper.wake());
    sleeper.join()
}

/// A thread that sleeps in its ring on the other core, and a ring to wake it from.
pub(super) struct Sleeper {
    ring: IoUring,
    message: squeue::Entry,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Sleeper {
    pub(super) fn start(job: &Job, alarm: &Arc<Alarm>) -> std::io::Result<Self> {
        let there = Arc::clone(alarm);
        let (tell, told) = mpsc::channel();
        let thread = beside::start(job, move || -> std::io::Result<()> {
            let mut ring = ring()?;
            tell.send(ring.as_raw_fd())
                .expect("the other side waits for it");
            loop {
                ring.submit_and_wait(1)?;
                if ring.completion().count() > 0 && !there.heard() {
                    return Ok(());
                }
            }
        });
        let target = told.recv().map_err(std::io::Error::other)?;
        Ok(Self {
            ring: ring()?,
            message: opcode::MsgRingData::new(types::Fd(target), 0, 1, None).build(),
            thread,
        })
    }

    pub(super) fn wake(&mut self) {
        // SAFETY: the entry points at nothing.
        let pushed = unsafe { self.ring.submission().push(&self.message) };
        pushed.expect("there is room for one");
        self.ring.submit().expect("a ring can be entered");
        self.ring.completion().for_each(drop);
    }

    pub(super) fn join(self) -> std::io::Result<()> {
        self.thread.join().expect("it hears the last one")
    }
}
