//! The ring of the raw io_uring loops: the fastest set-up for one thread, and a turn.
//!
//! ```text
//! push, push, ... -> turn: one io_uring_enter that submits all and waits for one -> all completions
//! ```
//!
//! SINGLE_ISSUER, COOP_TASKRUN and DEFER_TASKRUN have the kernel do its part inside that call, not in interrupts
//! of the running thread. The ring's descriptor is registered, which saves its look-up in every call; the
//! io-uring crate remembers that in the `Submitter`, so one is kept rather than asked for each time.
#![expect(unsafe_code, reason = "submitting to a ring is unsafe")]

use std::hint::spin_loop;
use std::io;

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, squeue};

/// Entries of the submission queue; the completion queue has twice as many.
const ENTRIES: u32 = 4096;
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: u32 = 1;

/// A ring that lives as long as the process.
pub(crate) struct Ring {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
}

impl Ring {
    /// Sets up a ring for this thread alone.
    pub(crate) fn new() -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)?;
        let (mut submitter, submissions, completions) = Box::leak(Box::new(ring)).split();
        submitter.register_ring_fd()?;
        Ok(Ring {
            submitter,
            submissions,
            completions,
        })
    }

    /// For what is registered with the ring.
    pub(crate) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Queues an entry, submitting first if the queue is full.
    ///
    /// # Safety
    ///
    /// What the entry points to must stay valid, and must not be used otherwise, until its completion has come.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the caller promises that what the entry points to outlives the operation.
            if unsafe { self.submissions.push(entry) }.is_ok() {
                return Ok(());
            }
            self.submissions.sync();
            self.submitter.submit()?;
            self.submissions.sync();
        }
    }

    /// Submits everything queued, waits until something has completed, and takes all that has.
    pub(crate) fn turn(&mut self, completed: &mut Vec<cqueue::Entry>) -> io::Result<()> {
        self.submissions.sync();
        self.submitter.submit_and_wait(1)?;
        self.take(completed);
        Ok(())
    }

    /// As [`turn`](Self::turn), and then has the kernel run the rest of what was deferred: it runs some twenty a call, however many
    /// completions come without.
    pub(crate) fn turn_fair(&mut self, completed: &mut Vec<cqueue::Entry>) -> io::Result<()> {
        self.turn(completed)?;
        while self.submissions.taskrun() {
            self.run_deferred()?;
            let before = completed.len();
            self.take(completed);
            if completed.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// As [`turn`](Self::turn), without sleeping: looks at memory until there is something, and enters the kernel when it says
    /// that it has work to do for us.
    pub(crate) fn turn_awake(&mut self, completed: &mut Vec<cqueue::Entry>) -> io::Result<()> {
        self.submissions.sync();
        self.submitter.submit()?;
        loop {
            self.take(completed);
            if !completed.is_empty() {
                return Ok(());
            }
            if self.submissions.taskrun() {
                self.run_deferred()?;
            }
            spin_loop();
        }
    }

    /// Has the kernel do what it has deferred for us.
    fn run_deferred(&self) -> io::Result<()> {
        // SAFETY: submits nothing and waits for nothing; there is no signal mask.
        unsafe {
            self.submitter
                .enter::<libc::sigset_t>(0, 0, GET_EVENTS, None)
        }?;
        Ok(())
    }

    fn take(&mut self, completed: &mut Vec<cqueue::Entry>) {
        self.submissions.sync();
        self.completions.sync();
        completed.extend(&mut self.completions);
        self.completions.sync();
    }
}
