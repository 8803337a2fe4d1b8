//! The seam between the ring and whatever plays the kernel.
//!
//! ```text
//!      Ring<B>  --- push: raw 64-byte SQE ---->  B: Backend
//!               --- enter: submit, wait ------>     KernelRing        the real one
//!               <-- reap: CQEs ----------------     sim::SimRing      a simulated one
//! ```
//!
//! The seam is low on purpose: what crosses it is exactly what the kernel would read and write, so everything
//! above (lowering of operations, slots, cancels, doorbells) is inside the box that a simulation tests. It is
//! chosen at compile time; a [`Ring`](crate::Ring) over [`KernelRing`](crate::KernelRing) contains no dynamic call.
//!
//! Not here: who owns an operation (`slot.rs`), what a completion means (`ring.rs`).

#![expect(unsafe_code, reason = "declares a function with a contract on memory")]

use std::io;
use std::os::fd::RawFd;

use crate::{Capabilities, Cqe, Doorbell, Sqe};

/// The submission queue has no free entry. Entering the kernel frees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqFull;

/// Whether an enter may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Submit what is queued, run deferred completions, return at once.
    Submit,
    /// The same, then block until there is at least one completion, or until this point in nanoseconds of
    /// `CLOCK_MONOTONIC`. `None` has no deadline. May return early (a signal), never before a deadline because
    /// of the deadline.
    Until(Option<u64>),
}

/// A queue pair with a kernel behind it. One thread owns it; the head of `backend.rs` has the division of labour.
pub trait Backend {
    /// Copies `sqe` into the submission queue. The kernel sees it at the next [`enter`](Backend::enter), or at once if
    /// a thread of its own looks ([`SqPoll`](crate::SqPoll)).
    ///
    /// # Errors
    /// [`SqFull`], if [`is_full`](Backend::is_full) says so: nothing was queued.
    ///
    /// # Safety
    /// Everything that `sqe` points at stays valid, and unaliased where the kernel writes, until the terminal CQE
    /// with its `user_data` has been reaped.
    unsafe fn push(&mut self, sqe: &Sqe) -> Result<(), SqFull>;

    /// Whether the submission queue has no free entry. After an `enter` that returned `Ok` for [`Wait::Submit`] it has.
    fn is_full(&self) -> bool;

    /// Submits what is queued, runs deferred completions, and waits as `wait` says.
    ///
    /// An interruption by a signal and a passed deadline are `Ok`. After a short submission [`pending`](Backend::pending)
    /// is not zero; calling again continues.
    ///
    /// # Errors
    /// `EAGAIN` and `EBUSY`: the kernel has no memory for requests or no room for completions; nothing is lost,
    /// reap and enter again. Anything else is a broken ring (a wrong thread, say).
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// Hands every CQE in the completion queue to `sink`, in order, and frees their entries. No system call.
    fn reap(&mut self, sink: &mut impl FnMut(Cqe)) -> usize;

    /// SQEs queued and not yet submitted. With a poller, at most so many.
    fn pending(&self) -> u32;

    /// Whether entering or reaping would bring something: a CQE is queued, or the kernel has flagged deferred
    /// completions or an overflowed queue. Reads plain memory, so it may be polled.
    fn has_events(&self) -> bool;

    /// How often the completion queue was found full with more completions waiting in the kernel.
    fn overflows(&self) -> u64;

    /// The clock of [`Wait::Until`], in nanoseconds.
    fn now_ns(&self) -> u64;

    /// What this ring can do.
    fn capabilities(&self) -> &Capabilities;

    /// The descriptor that an `MSG_RING` from another ring names as its target.
    fn ring_fd(&self) -> RawFd;

    /// What threads without a ring use to wake this one.
    fn doorbell(&self) -> &Doorbell;

    /// Closes a descriptor that a completion carried and nobody wants.
    ///
    /// # Safety
    /// `fd` is open, and nobody else knows it.
    unsafe fn close(&mut self, fd: RawFd);

    /// Makes the ring of `entries` buffers at `address` known under the name `group`. With `incremental` an operation uses
    /// up only as much of a buffer as it fills.
    ///
    /// # Errors
    /// Those of io_uring_register(2).
    ///
    /// # Safety
    /// There is an `io_uring_buf_ring` of that many entries at the address, page aligned; the entries before its tail
    /// name memory that nobody else uses before it was taken out by a completion. All of it lives as long as the ring.
    unsafe fn provide_buffers(
        &mut self,
        address: u64,
        entries: u16,
        group: u16,
        incremental: bool,
    ) -> io::Result<()>;

    /// Makes `buffers` known by their place in the slice.
    ///
    /// # Errors
    /// Those of io_uring_register(2).
    ///
    /// # Safety
    /// The buffers live as long as the ring.
    unsafe fn register_buffers(&mut self, buffers: &[libc::iovec]) -> io::Result<()>;

    /// Bounds the kernel's worker threads for this thread's operations. A backend without workers has nothing to do.
    ///
    /// # Errors
    /// Those of io_uring_register(2).
    fn set_worker_limits(&mut self, bounded: u32, unbounded: u32) -> io::Result<()> {
        let _ = (bounded, unbounded);
        Ok(())
    }

    /// Restricts the kernel's worker threads to some CPUs. A backend without workers has nothing to do.
    ///
    /// # Errors
    /// Those of io_uring_register(2).
    fn set_worker_affinity(&mut self, cpus: &[usize]) -> io::Result<()> {
        let _ = cpus;
        Ok(())
    }
}
