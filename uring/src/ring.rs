//! A ring as its owner sees it: operations go in with a token, tokens come out when they are done.
//!
//! ```text
//!    submit(sqe, token) -> OpId      slot taken, user_data set, SQE queued; no system call unless the queue is full
//!    turn(wait)                      one enter for what is queued; each completion files its result in its slot
//!        wake(token)                 ... and hands the token back
//!    take(op) -> Completion          the result; the slot is free again
//! ```
//!
//! The contract that makes borrowed buffers sound: whoever submitted an operation neither frees nor touches the
//! memory it points at before its token came back. Cancelling does not end an operation, it asks the kernel to;
//! the completion still comes and is still the only truth (it may well be a success).
//!
//! A turn, step by step:
//! 1. File what was reaped earlier to make room. If there was any, or a doorbell rang, do not sleep.
//! 2. Queue the receives of this turn (ring/receives.rs; if some have to wait for the next one, do not sleep), and what the ring wants
//!    for itself: the doorbell's poll, cancels and messages that found no room before.
//! 3. Enter: submit everything, run deferred completions, sleep if allowed.
//! 4. Reap: file every completion, hand out tokens.
//! 5. While the kernel has more (it runs about 20 deferred completions at a time, and keeps what did not fit in the
//!    completion queue), enter and reap again, up to a budget of completions and enters; the rest is for the
//!    next turn.
//!
//! Nothing is lost: a full submission queue is flushed; what the kernel will not take now (`EAGAIN`, `EBUSY`) is
//! retried after reaping; a full completion queue spills into kernel memory, in order. Only when the kernel itself
//! lost a completion is there no way on, because its buffer would be lent out for ever: the process aborts.
//!
//! Not here: what a token stands for, when to take a turn, timers other than the deadline of a wait.

#![expect(
    unsafe_code,
    reason = "passes on the promise about the memory of an operation"
)]

mod cancel;
mod drain;
mod multishot;
mod own;
mod receives;
mod stats;

use std::io;
use std::os::fd::RawFd;

pub use self::stats::RingStats;

use self::own::Own;
use self::receives::Receives;
use crate::error::SubmitError;
use crate::op::raw::{in_words, is_multishot, is_receive, may_end_others};
use crate::slot::Completed;
use crate::user_data::{self, DETACHED, WAKE};
use crate::{
    Backend, BufferRing, Capabilities, Completion, Cqe, Doorbell, Feature, KernelRing, OpId,
    RegisteredBuffers, SetupError, SetupOptions, Slots, SlotsFull, Sqe, Token, Wait, op,
};

/// A turn does not go on entering once it has seen this many completions: others want the core, too. More than a full
/// submission queue brings at once, or deferred completions would wait behind those that come without.
const TURN_COMPLETIONS: usize = 2048;
/// Nor once it has entered this often: work that brings no completion must not hold it up either.
const TURN_ENTERS: u32 = 64;
/// How often a submission tries to empty the queue before it gives up.
const FLUSH_ATTEMPTS: u32 = 64;
/// One thread's way into the kernel. The head of `ring.rs` has the contract and the turn.
#[derive(Debug)]
pub struct Ring<B: Backend = KernelRing> {
    backend: B,
    slots: Slots,
    own: Own,
    /// Completions reaped while making room, to be filed by the next turn.
    kept: Vec<Cqe>,
    /// Receives that wait for a turn.
    receives: Receives,
    stats: RingStats,
    /// Memory that the kernel knows. After the backend: dropped when the kernel is gone.
    buffers: Vec<BufferRing>,
    registered: Option<RegisteredBuffers>,
}

impl Ring<KernelRing> {
    /// Opens a ring of the running kernel for the calling thread.
    ///
    /// # Errors
    /// [`SetupError`] says who refused and how to allow it.
    ///
    /// # Examples
    /// ```
    /// use coring_uring::{Ring, SetupOptions};
    ///
    /// let ring = Ring::open(&SetupOptions::default())?;
    /// assert_eq!(ring.in_flight(), 0);
    /// # Ok::<(), coring_uring::SetupError>(())
    /// ```
    pub fn open(options: &SetupOptions) -> Result<Ring<KernelRing>, SetupError> {
        let backend = KernelRing::open(options)?;
        Ok(Ring::with_backend(backend, options))
    }
}

impl<B: Backend> Ring<B> {
    /// A ring over any backend. Of the options the bounds on operations count.
    pub fn with_backend(backend: B, options: &SetupOptions) -> Ring<B> {
        let watch = backend.doorbell().watch().is_some();
        let receives = Receives::new(backend.capabilities());
        Ring {
            backend,
            slots: Slots::with_limits(options.max_operations, options.multishot_window),
            own: Own {
                watch,
                ..Own::default()
            },
            kept: Vec::new(),
            receives,
            stats: RingStats::default(),
            buffers: Vec::new(),
            registered: None,
        }
    }

    /// Queues a one-shot operation whose owner waits for `token`. Its `user_data` is set here. The kernel begins
    /// operations in the order of these calls, but of many receives only some by each turn (ring/receives.rs), so that other operations
    /// overtake the rest: no receive, cancel or close does. Before a descriptor is closed without the ring: [`hand_over`](Ring::hand_over).
    ///
    /// If the submission queue is full it is flushed first; no operation is lost or half submitted. An operation with
    /// many results would lose all but one here (debug builds refuse it):
    /// [`submit_multishot`](Ring::submit_multishot).
    ///
    /// There are no chains (`IOSQE_IO_LINK`, `IO_HARDLINK`, `IO_DRAIN`): another operation may come between two calls, and the
    /// kernel may get the two in different enters, where a chain ends. A restricted ring answers `EACCES`.
    ///
    /// # Errors
    /// [`SubmitError`]; the kernel has not seen the operation then.
    ///
    /// # Safety
    /// Everything that `sqe` points at stays valid until `token` was handed back, and unaliased where the kernel
    /// writes. Nobody but the kernel reads or writes it before.
    ///
    /// # Examples
    /// ```
    /// use coring_uring::{Ring, SetupOptions, Token, Wait, op};
    /// # use std::{num::NonZeroUsize, os::fd::AsRawFd, io};
    ///
    /// let mut ring = Ring::open(&SetupOptions::default())?;
    /// let file = std::fs::File::open("/dev/zero")?;
    /// let mut buffer = [1u8; 16];
    ///
    /// let sqe = op::fs::read(file.as_raw_fd(), buffer.as_mut_ptr(), buffer.len(), 0);
    /// let token = Token::from_number(NonZeroUsize::MIN);
    /// // SAFETY: `buffer` is not touched before the token is back.
    /// let op = unsafe { ring.submit(sqe, token) }?;
    ///
    /// let mut done = false;
    /// while !done {
    ///     ring.turn(Wait::Until(None), &mut |_token| done = true)?;
    /// }
    /// let completion = ring.take(op).expect("its token came back");
    /// assert_eq!(completion.into_result()?, 16);
    /// assert_eq!(buffer, [0; 16]);
    /// # Ok::<(), io::Error>(())
    /// ```
    #[inline(always)]
    pub unsafe fn submit(&mut self, sqe: Sqe, token: Token) -> Result<OpId, SubmitError> {
        debug_assert!(!is_multishot(&sqe), "submit_multishot is for this");
        let mut sqe = in_words(&sqe);
        if may_end_others(&sqe) {
            self.queue_all_receives()?;
        }
        self.ensure_room()?;
        let op = self.slots.insert(token).map_err(too_many)?;
        sqe.set_user_data(op.user_data());
        if is_receive(&sqe) && !self.receives.has_room() {
            self.receives.keep(sqe);
            return Ok(op);
        }
        // SAFETY: the caller's promise.
        unsafe { self.push(&sqe) };
        Ok(op)
    }

    /// Queues an operation that nobody waits for, such as a close. It still counts as in flight; its result is
    /// dropped. It takes no place among the `max_operations` of [`submit`](Ring::submit): who waits is not refused because
    /// of what nobody waits for. There may be as many of these again.
    ///
    /// # Errors
    /// As [`submit`](Ring::submit).
    ///
    /// # Safety
    /// What `sqe` points at, if anything, stays valid for as long as the ring lives.
    pub unsafe fn submit_detached(&mut self, mut sqe: Sqe) -> Result<(), SubmitError> {
        debug_assert!(!is_multishot(&sqe), "submit_multishot is for this");
        // It may close what a receive names.
        self.queue_all_receives()?;
        self.ensure_room()?;
        let limit = self.slots.limit();
        if self.own.detached >= limit as usize {
            return Err(SubmitError::TooManyOperations { limit });
        }
        self.own.detached += 1;
        self.own.detached_ever += 1;
        sqe.set_user_data(DETACHED);
        // SAFETY: the caller's promise.
        unsafe { self.push(&sqe) };
        Ok(())
    }

    /// Pushes an SQE into a queue that has room.
    ///
    /// There is no way back from here that would need the SQE once more, so it never has to exist in memory: it is
    /// built in registers and stored where the kernel reads it.
    ///
    /// # Safety
    /// As [`Backend::push`].
    #[inline(always)]
    unsafe fn push(&mut self, sqe: &Sqe) {
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.backend.push(sqe) };
        pushed.expect("room was made before");
    }

    #[inline]
    fn ensure_room(&mut self) -> Result<(), SubmitError> {
        if self.backend.is_full() {
            self.make_room()
        } else {
            Ok(())
        }
    }

    /// Has the kernel empty the full submission queue.
    #[cold]
    fn make_room(&mut self) -> Result<(), SubmitError> {
        self.stats.sq_full += 1;
        for _ in 0..FLUSH_ATTEMPTS {
            self.enter(Wait::Submit).map_err(SubmitError::Kernel)?;
            if !self.backend.is_full() {
                return Ok(());
            }
            // The kernel wants room for completions first. They are filed by the next turn: an operation is not done
            // before its token was handed out.
            let Ring { backend, kept, .. } = self;
            self.stats.reaped += backend.reap(&mut |cqe| kept.push(cqe)) as u64;
        }
        Err(SubmitError::Kernel(io::ErrorKind::WouldBlock.into()))
    }

    /// Queues an SQE of the ring's own, whose `user_data` is set by who built it.
    fn push_own(&mut self, sqe: Sqe) -> Result<(), SubmitError> {
        debug_assert!(
            user_data::is_own(sqe.get_user_data()),
            "marked as the ring's own"
        );
        self.ensure_room()?;
        // SAFETY: cancels, messages and polls point at nothing.
        unsafe { self.push(&sqe) };
        Ok(())
    }

    /// The result of `op`, once its token came back; `None` before, and after it was taken.
    #[inline]
    pub fn take(&mut self, op: OpId) -> Option<Completion> {
        self.slots.take(op)
    }

    /// What [`take`](Ring::take) would give, which is left for the owner.
    #[inline]
    #[must_use]
    pub fn look(&self, op: OpId) -> Option<Completion> {
        self.slots.look(op)
    }

    /// Whether the kernel still works on `op`, and so may still use its memory.
    #[inline]
    #[must_use]
    pub fn is_in_flight(&self, op: OpId) -> bool {
        self.slots.is_in_flight(op)
    }

    /// Submits what is queued, of many receives the next ones, waits as `wait` says, and calls `wake` for each operation that is done.
    /// Returns how many that were.
    ///
    /// May return with none, for a signal, a doorbell, a passed deadline, or because more receives wait to be begun. Never sleeps while there are completions
    /// to hand out. With [`Wait::Submit`] and nothing to do it makes no system call.
    ///
    /// # Errors
    /// An error of io_uring_enter(2) that has no cure: the ring cannot be used any more.
    #[inline]
    pub fn turn(&mut self, wait: Wait, wake: &mut impl FnMut(Token)) -> io::Result<usize> {
        let mut has_news = !self.kept.is_empty();
        let mut woken = self.file_kept(wake);
        let all_queued = self.queue_receives() & self.queue_own();
        // What was reaped to make room for that is older than all that the enter brings.
        has_news |= !self.kept.is_empty();
        woken += self.file_kept(wake);
        has_news |= self.own.rung;
        let may_sleep = wait != Wait::Submit && all_queued && !has_news;
        if may_sleep {
            self.enter(wait)?;
        } else if self.backend.pending() != 0 || self.backend.has_events() {
            self.enter(Wait::Submit)?;
        }
        let mut reaped = 0;
        for _ in 0..TURN_ENTERS {
            let (more_reaped, more_woken) = self.file_completions(wake);
            reaped += more_reaped;
            woken += more_woken;
            if reaped >= TURN_COMPLETIONS || !self.backend.has_events() {
                break;
            }
            self.enter(Wait::Submit)?;
        }
        if wait != Wait::Submit {
            self.own.rung = false;
        }
        Ok(woken)
    }

    /// Submits what is queued, and returns when the kernel has taken all of it: what was cancelled before is being ended,
    /// and descriptors that were named may be closed. Hands out tokens as a turn does.
    ///
    /// # Errors
    /// As [`turn`](Ring::turn).
    pub fn hand_over(&mut self, wake: &mut impl FnMut(Token)) -> io::Result<usize> {
        // What finds no room now is queued by the turns below.
        let _ = self.queue_all_receives();
        let mut woken = self.turn(Wait::Submit, wake)?;
        // A poller looks up the descriptors of what it takes, and nothing but the queue says when it has. It may need this CPU: a
        // sleep gives it. sched_yield(2) gives away the caller's turns as well (Linux 6.18), a slice a call: a thousand of
        // them were seconds in which this thread did not run.
        while self.pending() != 0 || !self.own.cancels.is_empty() {
            std::thread::sleep(std::time::Duration::from_micros(20));
            woken += self.turn(Wait::Submit, wake)?;
        }
        Ok(woken)
    }

    /// Files and hands out what lies in the completion queue. No system call.
    #[inline]
    pub fn reap(&mut self, wake: &mut impl FnMut(Token)) -> usize {
        let earlier = self.file_kept(wake);
        earlier + self.file_completions(wake).1
    }

    /// One enter. A kernel that is out of memory or room is no error: the caller reaps and comes again.
    #[inline]
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.stats.enters += 1;
        match self.backend.enter(wait) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                self.stats.busy += 1;
                Ok(())
            }
            entered => entered,
        }
    }

    /// Reaps once: how many CQEs, and how many tokens were handed out.
    #[inline]
    fn file_completions(&mut self, wake: &mut impl FnMut(Token)) -> (usize, usize) {
        let Ring {
            backend,
            slots,
            own,
            ..
        } = self;
        let mut woken = 0;
        let reaped = backend.reap(&mut |cqe| woken += file(slots, own, cqe, wake));
        self.stats.reaped += reaped as u64;
        if !self.own.closes.is_empty() {
            self.close_leftovers();
        }
        (reaped, woken)
    }

    #[inline]
    fn file_kept(&mut self, wake: &mut impl FnMut(Token)) -> usize {
        if self.kept.is_empty() {
            return 0;
        }
        let Ring {
            kept, slots, own, ..
        } = self;
        kept.drain(..).map(|cqe| file(slots, own, cqe, wake)).sum()
    }

    /// Step 2 of a turn. What the kernel has no room for now is kept; whether nothing was.
    #[inline]
    fn queue_own(&mut self) -> bool {
        self.own.is_idle() || self.queue_own_now().is_ok()
    }

    #[cold]
    fn queue_own_now(&mut self) -> Result<(), SubmitError> {
        if self.own.watch {
            if let Some(watch) = self.backend.doorbell().watch() {
                self.push_own(watch)?;
            }
            self.own.watch = false;
        }
        if !self.own.cancels.is_empty() {
            self.queue_all_receives()?;
        }
        while let Some(op) = self.own.cancels.last() {
            self.push_own(op::cancel::operation(op.user_data()))?;
            self.own.cancels.pop();
        }
        while let Some(peer) = self.own.messages.last() {
            self.push_own(wake_message(*peer))?;
            self.own.messages.pop();
        }
        Ok(())
    }

    /// Wakes the ring that `target` belongs to, with the next enter of this one.
    ///
    /// A message through this ring's queue where the kernel has that; otherwise the bell is rung at once.
    /// [`Doorbell::ring`] needs no promise: it is over when it returns.
    ///
    /// # Safety
    /// A message that is queued goes to whatever has the target's descriptor at the next enter. Until then the target may
    /// be dropped, but its number is not given to an io_uring of other code, which would take the message for its own.
    ///
    /// # Source
    /// `IORING_OP_MSG_RING`, 5.18.
    pub unsafe fn ring_doorbell(&mut self, target: &Doorbell) {
        let Some(peer) = target.ring_fd() else {
            self.own.doorbells_failed += 1;
            return;
        };
        self.stats.doorbells += 1;
        let queued = self.backend.capabilities().has(Feature::MsgRing)
            && self.push_own(wake_message(peer)).is_ok();
        if !queued {
            target.ring();
        }
    }

    /// What threads without a ring, and peers, use to wake this one.
    #[must_use]
    pub fn doorbell(&self) -> Doorbell {
        self.backend.doorbell().clone()
    }

    /// Bounds the kernel threads that do what cannot be done without blocking (opens that create, `fsync`, buffered
    /// writes on ext4): `bounded` for files and block devices, `unbounded` for everything else; 0 leaves a bound as it
    /// is. The defaults allow thousands. Call it before the first such operation.
    ///
    /// # Errors
    /// Those of io_uring_register(2).
    ///
    /// # Source
    /// `IORING_REGISTER_IOWQ_MAX_WORKERS`, 5.15.
    pub fn set_worker_limits(&mut self, bounded: u32, unbounded: u32) -> io::Result<()> {
        self.backend.set_worker_limits(bounded, unbounded)
    }

    /// Restricts those kernel threads to `cpus`. Without it they inherit the CPU that this thread is pinned to and
    /// take it away for milliseconds. Call it before the first such operation: a thread that exists does not move.
    ///
    /// # Errors
    /// `InvalidInput` for a CPU number beyond the kernel's sets, `EINVAL` if none of them exists, and those of
    /// io_uring_register(2).
    ///
    /// # Source
    /// `IORING_REGISTER_IOWQ_AFF`, 5.14.
    pub fn set_worker_affinity(&mut self, cpus: &[usize]) -> io::Result<()> {
        self.backend.set_worker_affinity(cpus)
    }

    /// Whether a turn has something to do at once: completions to hand out, or receives to begin. Reads plain memory, so it may be
    /// polled.
    #[inline]
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.kept.is_empty() || self.has_receives_waiting() || self.backend.has_events()
    }

    /// Whether receives wait to be begun by the next turns, so that the ring will not sleep.
    #[inline]
    #[must_use]
    pub fn has_receives_waiting(&self) -> bool {
        self.receives.len() != 0
    }

    /// Operations queued and not yet submitted.
    #[inline]
    #[must_use]
    pub fn pending(&self) -> usize {
        self.backend.pending() as usize + self.receives.len()
    }

    /// Operations whose memory the kernel may still use.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.in_flight() + self.own.detached
    }

    /// Those of them that nobody waits for.
    #[inline]
    #[must_use]
    pub fn detached(&self) -> usize {
        self.own.detached
    }

    /// The clock of [`Wait::Until`], in nanoseconds: `CLOCK_MONOTONIC`, or a simulation's.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.backend.now_ns()
    }

    /// What this ring can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.backend.capabilities()
    }

    /// The backend, for what a simulation wants to know about it.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        RingStats {
            submitted: self.slots.inserted() + self.own.detached_ever,
            stale: self.slots.stale(),
            overflows: self.backend.overflows(),
            wakes: self.own.wakes,
            crowded: self.own.crowded,
            doorbells_failed: self.own.doorbells_failed,
            ..self.stats
        }
    }
}

fn too_many(full: SlotsFull) -> SubmitError {
    SubmitError::TooManyOperations { limit: full.limit }
}

/// Files one completion in its slot and hands its token out: how many that were, 0 or 1.
#[inline(always)]
fn file(slots: &mut Slots, own: &mut Own, cqe: Cqe, wake: &mut impl FnMut(Token)) -> usize {
    match slots.complete(cqe) {
        Completed::Wake(token) => {
            wake(token);
            1
        }
        Completed::Quiet | Completed::Stale => 0,
        Completed::Own => {
            own.file(cqe);
            0
        }
        Completed::Crowded(op) => {
            own.end_crowded(op);
            0
        }
        Completed::Close(fd) => {
            own.closes.push(fd);
            0
        }
    }
}

/// A wake-up whose success is silent and whose failure names the peer.
fn wake_message(peer: RawFd) -> Sqe {
    op::msg::message(peer, 0, WAKE)
        .flags(io_uring::squeue::Flags::SKIP_SUCCESS)
        .user_data(user_data::message_to(peer))
}

#[cfg(test)]
mod tests;
