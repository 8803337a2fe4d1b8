//! The real ring: shared memory to write to and read from, and one system call.
//!
//! ```text
//!       push  --> | SQE | SQE |     |     |  tail ->          io_uring_enter(index, pending, 0 or 1, flags, time)
//!                 submission queue               \______________    consumes every SQE,
//!                                                 ______________\   runs deferred completions,
//!       reap  <-- | CQE | CQE | CQE |     |  <- tail                sleeps for one CQE if asked to
//!                 completion queue
//! ```
//!
//! * Every enter carries `GETEVENTS`: with `DEFER_TASKRUN` completions are posted only by an enter that does, and
//!   only the flag word in shared memory (`IORING_SQ_TASKRUN`) tells in between that there are some.
//! * A waiting enter asks for exactly one completion: messages and polls wake lazily, and a sleeper that asked for
//!   two sleeps on with one in its queue.
//! * An enter runs about 20 deferred completions (`IO_LOCAL_TW_DEFAULT_MAX`); [`has_events`](Backend::has_events)
//!   then still says yes, and it is the caller's business how often to come again.
//! * A large batch is submitted by portions before (portions.rs).
//! * The ring's descriptor is registered with the thread and named by its index, which saves the kernel a
//!   look-up with a reference count (23 ns in a process with threads).
//!
//! With a kernel thread that takes submissions (`SqPoll`) `push` is all that a submission needs: the thread may read the
//! entry before the next enter. Nothing else changes for whoever submits: what the entry points at is valid until the
//! completion, which is later in any case. An enter that only submits makes a system call when the thread sleeps, when
//! the queue is full (it waits for room then), or when completions overflowed.
//!
//! Invariants: one thread makes, uses and drops a ring (the type is not `Send`); a queue guard of the io-uring
//! crate never lives across a call out of this file except the sink's, which cannot reach the ring.

#![expect(unsafe_code, reason = "pushes SQEs, enters the kernel")]

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::{fmt, io};

use io_uring::{CompletionStatus, IoUring, Probe, types};

use crate::error::{SetupError, fatal};
use crate::flags::SqFlags;
use crate::portions::{Lent, PORTION};
use crate::probe::Detect;
use crate::restrict::restrict;
use crate::setup::{self, Made, NapiPoll, SETUP_R_DISABLED, SETUP_SQPOLL, SetupOptions};
use crate::sys::{
    self, ENTER_ABS_TIMER, ENTER_GETEVENTS, ENTER_NO_IOWAIT, ENTER_REGISTERED_RING, ENTER_SQ_WAIT,
    ENTER_SQ_WAKEUP,
};
use crate::{Backend, Capabilities, Cqe, Doorbell, Feature, Features, SqFull, Sqe, Wait, doorbell};

/// `IOU_PBUF_RING_INC`: an entry of a ring of buffers is used up bit by bit.
const PBUF_RING_INC: u16 = 2;

/// A ring of the running kernel, owned by the thread that opened it.
pub struct KernelRing {
    ring: IoUring,
    /// Looks at the completion queue's head and tail without borrowing it.
    completions: CompletionStatus,
    /// What an enter names as the ring: an index if `enter_flags` says so, else the descriptor.
    enter_fd: RawFd,
    enter_flags: u32,
    /// What an enter that may sleep adds.
    sleep_flags: u32,
    /// A kernel thread takes submissions.
    polled: bool,
    /// At most so many entries are queued. Exact without a poller, which takes some at any time.
    pending: u32,
    lent: Lent,
    flags: SqFlags,
    overflows: u64,
    capabilities: Capabilities,
    doorbell: Doorbell,
    /// Setup, registration and every enter have to happen on one thread.
    _owner: PhantomData<*mut ()>,
}

impl KernelRing {
    /// Sets up a ring for the calling thread.
    ///
    /// # Errors
    /// [`SetupError`] says who refused and how to allow it.
    ///
    /// # Source
    /// io_uring_setup(2). The flags are argued in `setup.rs`.
    pub fn open(options: &SetupOptions) -> Result<KernelRing, SetupError> {
        let Made {
            mut ring,
            flags,
            features,
        } = setup::make(options)?;
        let fd = ring.as_raw_fd();
        let mut capabilities = Capabilities {
            features,
            opcodes: [0; 4],
            setup_flags: flags,
            sq_entries: ring.params().sq_entries(),
            cq_entries: ring.params().cq_entries(),
        };
        if !(ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop()) {
            let too_old = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(SetupError::classify("io_uring_setup", too_old, 0));
        }
        probe_opcodes(&ring, &mut capabilities)
            .map_err(|source| SetupError::classify("io_uring_register (probe)", source, 0))?;
        capabilities.add_probed(options.features);
        let napi = options
            .napi
            .filter(|_| options.features.has(Feature::NapiBusyPoll));
        if napi.is_some_and(|napi| register_napi(&ring, napi).is_ok()) {
            capabilities.features = capabilities.features.with(Feature::NapiBusyPoll);
        }
        if flags & SETUP_R_DISABLED != 0 {
            start_restricted(&ring, &mut capabilities)
                .map_err(|source| SetupError::classify("io_uring_register (enable)", source, 0))?;
        }

        let polled = flags & SETUP_SQPOLL != 0;
        let flags =
            SqFlags::map(&ring).map_err(|source| SetupError::classify("mmap", source, 0))?;
        let queue = ring.completion();
        // SAFETY: the status is stored beside the ring and dropped with it.
        let completions = unsafe { queue.status() };
        drop(queue);
        let mut this = KernelRing {
            ring,
            completions,
            enter_fd: fd,
            enter_flags: ENTER_GETEVENTS,
            sleep_flags: 0,
            polled,
            pending: 0,
            lent: Lent::new(capabilities.sq_entries),
            flags,
            overflows: 0,
            capabilities,
            doorbell: Doorbell::by_message(fd),
            _owner: PhantomData,
        };
        this.try_features(options.features);
        if !this.capabilities.has(Feature::SyncMsgRing) {
            this.doorbell = Doorbell::by_eventfd(fd)
                .map_err(|source| SetupError::classify("eventfd", source, 0))?;
        }
        Ok(this)
    }

    /// The features that can only be found by using them.
    fn try_features(&mut self, allowed: Features) {
        let trials = crate::TABLE
            .iter()
            .filter(|row| matches!(row.detect, Detect::Trial));
        for row in trials.filter(|row| allowed.has(row.feature)) {
            let works = match row.feature {
                Feature::RegisteredRingFd => self.register_ring_fd(),
                Feature::AbsTimer => self.accepts(ENTER_ABS_TIMER),
                Feature::NoIowait => self.accepts(ENTER_NO_IOWAIT),
                Feature::SyncMsgRing => self.hears_messages(),
                feature => unreachable!("{feature} has a trial"),
            };
            if works {
                self.capabilities.features = self.capabilities.features.with(row.feature);
            }
        }
    }

    fn register_ring_fd(&mut self) -> bool {
        let Ok(index) = sys::register_ring_fd(self.ring.as_raw_fd()) else {
            return false;
        };
        self.enter_fd = index;
        self.enter_flags |= ENTER_REGISTERED_RING;
        true
    }

    /// Whether the kernel knows an enter flag: it answers `EINVAL` to those it does not.
    fn accepts(&mut self, flag: u32) -> bool {
        let now = types::Timespec::new();
        // SAFETY: nothing is queued, so nothing is submitted.
        let entered =
            unsafe { sys::enter_until(self.enter_fd, 0, 0, self.enter_flags | flag, &now) };
        let known = entered.is_ok();
        if known {
            self.sleep_flags |= flag;
        }
        known
    }

    /// Sends itself a message without a ring. Whatever arrives is thrown away again.
    fn hears_messages(&mut self) -> bool {
        let sent = doorbell::send(self.ring.as_raw_fd()).is_ok();
        let entered = self.enter(Wait::Submit).is_ok();
        sent && entered && self.reap(&mut |_| ()) == 1
    }

    /// Takes the SQEs that the kernel consumed off `pending`.
    fn count_consumed(&mut self) {
        let queued = self.ring.submission().len();
        self.pending = u32::try_from(queued).expect("a submission queue has at most 32768 entries");
    }

    /// What an enter tells a ring whose submissions a kernel thread takes; `None` when there is nothing to tell.
    #[inline(never)]
    fn poller_flags(&mut self, wait: Wait) -> Option<u32> {
        self.count_consumed();
        let mut flags = 0;
        if self.flags.needs_wakeup() {
            flags |= ENTER_SQ_WAKEUP;
        }
        if self.is_full() {
            flags |= ENTER_SQ_WAIT;
        }
        let enters = flags != 0 || wait != Wait::Submit || self.flags.overflowed();
        enters.then_some(flags)
    }

    /// Submits, and sleeps as `wait` says. The raw result of the one system call.
    #[inline]
    fn enter_once(&mut self, wait: Wait) -> io::Result<u32> {
        debug_assert!(
            self.polled || self.ring.submission().len() == self.pending as usize,
            "what a portion took is not pending"
        );
        let mut flags = self.enter_flags;
        if self.polled {
            match self.poller_flags(wait) {
                Some(more) => flags |= more,
                None => return Ok(0),
            }
        }
        let (fd, pending) = (self.enter_fd, self.pending);
        match wait {
            // SAFETY: `push` had the promise for every queued SQE.
            Wait::Submit => unsafe { sys::enter(fd, pending, 0, flags) },
            Wait::Until(None) => {
                let flags = flags | self.sleep_flags & !ENTER_ABS_TIMER;
                // SAFETY: as above.
                unsafe { sys::enter(fd, pending, 1, flags) }
            }
            Wait::Until(Some(deadline_ns)) => {
                let flags = flags | self.sleep_flags;
                let time = if flags & ENTER_ABS_TIMER != 0 {
                    timespec(deadline_ns)
                } else {
                    timespec(deadline_ns.saturating_sub(sys::monotonic_ns()))
                };
                // SAFETY: as above.
                unsafe { sys::enter_until(fd, pending, 1, flags, &time) }
            }
        }
    }

    /// Submits all but the last portion of a large batch, or less where something stops it.
    #[inline(never)]
    fn submit_portions(&mut self) {
        while self.pending > PORTION {
            self.lent.fetch(self.pending);
            let (fd, flags) = (self.enter_fd, self.enter_flags & !ENTER_GETEVENTS);
            // SAFETY: `push` had the promise for every queued SQE.
            let submitted = unsafe { sys::enter(fd, PORTION, 0, flags) };
            self.count_consumed();
            if submitted.ok() != Some(PORTION) {
                return;
            }
        }
        self.lent.fetch(self.pending);
    }

    /// Enters, and sorts the ways of coming back.
    fn enter_through(&mut self, wait: Wait) -> io::Result<()> {
        if self.pending > PORTION && !self.polled {
            self.submit_portions();
        }
        loop {
            let entered = self.enter_once(wait);
            self.count_consumed();
            return match entered {
                Ok(_) => Ok(()),
                Err(error) => match error.raw_os_error() {
                    // A signal: who only submits comes back to it, who sleeps tells the caller.
                    Some(libc::EINTR) if wait == Wait::Submit => continue,
                    Some(libc::EINTR | libc::ETIME) => Ok(()),
                    Some(libc::EBADR) => fatal(format_args!(
                        "the kernel ran out of memory and lost a completion, so a buffer is lent out for ever"
                    )),
                    _ => Err(error),
                },
            };
        }
    }
}

impl Backend for KernelRing {
    #[inline(always)]
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), SqFull> {
        let mut queue = self.ring.submission();
        // SAFETY: the caller promises it for what `sqe` points at.
        let pushed = unsafe { queue.push(sqe) };
        pushed.map_err(|_| SqFull)?;
        self.lent.note(sqe);
        self.pending += 1;
        Ok(())
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.pending == self.capabilities.sq_entries
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.enter_through(wait)?;
        if self.completions.is_empty() && self.flags.taskrun() {
            // Raised too late, or after work without a completion: `flags.rs` has the argument.
            self.flags.lower_taskrun();
            self.enter_through(Wait::Submit)?;
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self, sink: &mut impl FnMut(Cqe)) -> usize {
        let queue = self.ring.completion();
        let reaped = queue.len();
        for cqe in queue {
            sink(Cqe {
                user_data: cqe.user_data(),
                result: cqe.result(),
                flags: cqe.flags(),
            });
        }
        if reaped == self.capabilities.cq_entries as usize && self.flags.overflowed() {
            self.overflows += 1;
        }
        reaped
    }

    #[inline]
    fn pending(&self) -> u32 {
        self.pending
    }

    #[inline]
    fn has_events(&self) -> bool {
        !self.completions.is_empty() || self.flags.any()
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn now_ns(&self) -> u64 {
        sys::monotonic_ns()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn ring_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    unsafe fn close(&mut self, fd: RawFd) {
        // SAFETY: the caller's promise.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }

    unsafe fn provide_buffers(
        &mut self,
        address: u64,
        entries: u16,
        group: u16,
        incremental: bool,
    ) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let flags = if incremental { PBUF_RING_INC } else { 0 };
        // SAFETY: the caller's promise.
        unsafe { submitter.register_buf_ring_with_flags(address, entries, group, flags) }
    }

    unsafe fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submitter().register_buffers(buffers) }
    }

    fn set_worker_limits(&mut self, bounded: u32, unbounded: u32) -> io::Result<()> {
        self.ring
            .submitter()
            .register_iowq_max_workers(&mut [bounded, unbounded])
    }

    fn set_worker_affinity(&mut self, cpus: &[usize]) -> io::Result<()> {
        self.ring
            .submitter()
            .register_iowq_aff(&sys::cpu_set(cpus)?)
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        self.doorbell.disconnect();
        if self.enter_flags & ENTER_REGISTERED_RING != 0 {
            sys::unregister_ring_fd(self.ring.as_raw_fd(), self.enter_fd);
        }
    }
}

impl fmt::Debug for KernelRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelRing")
            .field("fd", &self.ring.as_raw_fd())
            .field("pending", &self.pending)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// Fills in which opcodes the kernel knows.
fn probe_opcodes(ring: &IoUring, capabilities: &mut Capabilities) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    for code in (0..=u8::MAX).filter(|code| probe.is_supported(*code)) {
        capabilities.opcodes[usize::from(code) / 64] |= 1 << (code % 64);
    }
    Ok(())
}

/// Has enters that wait poll network cards. Before the ring starts: the list of what it may be asked for is then the same
/// for kernels that do not know this registration.
fn register_napi(ring: &IoUring, napi: NapiPoll) -> io::Result<()> {
    let microseconds = u32::try_from(napi.longest.as_micros()).unwrap_or(u32::MAX);
    let mut napi = types::Napi::new()
        .set_busy_poll_timeout(microseconds)
        .set_prefer_busy_poll(napi.prefer);
    ring.submitter().register_napi(&mut napi)
}

/// Restricts a ring that was set up disabled, if the kernel agrees, and enables it.
fn start_restricted(ring: &IoUring, capabilities: &mut Capabilities) -> io::Result<()> {
    if restrict(ring, capabilities).is_ok() {
        capabilities.features = capabilities.features.with(Feature::Restrictions);
    }
    ring.submitter().register_enable_rings()
}

fn timespec(time_ns: u64) -> types::Timespec {
    let nanoseconds = u32::try_from(time_ns % 1_000_000_000).expect("less than a second");
    types::Timespec::new()
        .sec(time_ns / 1_000_000_000)
        .nsec(nanoseconds)
}
