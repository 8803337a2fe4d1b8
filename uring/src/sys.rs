//! The system calls of this crate, each behind a function that cannot be misused, or says how not to.
//!
//! The io-uring crate maps the queues and builds the SQEs. Entering is done here, because it would look the ring's
//! descriptor up on every call and cannot pass the newer flags.
//! Manual pages: io_uring_enter(2), io_uring_register(2), eventfd(2).

#![expect(unsafe_code, reason = "raw system calls")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use crate::{Sqe, types};

pub(crate) const ENTER_GETEVENTS: u32 = 1 << 0;
pub(crate) const ENTER_SQ_WAKEUP: u32 = 1 << 1;
pub(crate) const ENTER_SQ_WAIT: u32 = 1 << 2;
pub(crate) const ENTER_EXT_ARG: u32 = 1 << 3;
pub(crate) const ENTER_REGISTERED_RING: u32 = 1 << 4;
pub(crate) const ENTER_ABS_TIMER: u32 = 1 << 5;
pub(crate) const ENTER_NO_IOWAIT: u32 = 1 << 7;

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_SEND_MSG_RING: u32 = 31;

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingFdUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// The number of SQEs consumed, or the errno.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the calls of this file return an int"
)]
fn check(returned: libc::c_long) -> io::Result<u32> {
    u32::try_from(returned as i32).map_err(|_| io::Error::last_os_error())
}

/// `io_uring_enter` without a timeout.
///
/// # Safety
/// What the queued SQEs point at is valid until their completions: the promise of [`Backend::push`](crate::Backend::push).
#[inline]
pub(crate) unsafe fn enter(fd: RawFd, submit: u32, complete: u32, flags: u32) -> io::Result<u32> {
    let no_arg = ptr::null::<libc::c_void>();
    // SAFETY: no pointer is passed; for what the SQEs point at the caller answers.
    check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            fd,
            submit,
            complete,
            flags,
            no_arg,
            0usize,
        )
    })
}

/// `io_uring_enter` that waits until `time`, which `flags` declare relative or absolute.
///
/// # Safety
/// As for [`enter`].
#[inline]
pub(crate) unsafe fn enter_until(
    fd: RawFd,
    submit: u32,
    complete: u32,
    flags: u32,
    time: &types::Timespec,
) -> io::Result<u32> {
    let args = types::SubmitArgs::new().timespec(time);
    let flags = flags | ENTER_EXT_ARG;
    let (arg, size) = (ptr::from_ref(&args), size_of_val(&args));
    // SAFETY: `arg` is an io_uring_getevents_arg of `size` bytes whose timespec outlives the call; for what the
    // SQEs point at the caller answers.
    check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            fd,
            submit,
            complete,
            flags,
            arg,
            size,
        )
    })
}

/// Registers the ring's descriptor in this thread's table of 16; later enters name the index and
/// [`ENTER_REGISTERED_RING`]. Since 5.18.
pub(crate) fn register_ring_fd(ring: RawFd) -> io::Result<i32> {
    let mut update = RingFdUpdate {
        offset: u32::MAX,
        reserved: 0,
        data: u64::from(ring.cast_unsigned()),
    };
    let arg = ptr::from_mut(&mut update);
    // SAFETY: `arg` is one writable io_uring_rsrc_update.
    check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            REGISTER_RING_FDS,
            arg,
            1u32,
        )
    })?;
    Ok(update.offset.cast_signed())
}

/// Undoes [`register_ring_fd`]. Errors are of no use to anybody: the table dies with the thread.
pub(crate) fn unregister_ring_fd(ring: RawFd, index: i32) {
    let update = RingFdUpdate {
        offset: index.cast_unsigned(),
        reserved: 0,
        data: 0,
    };
    let arg = ptr::from_ref(&update);
    // SAFETY: `arg` is one readable io_uring_rsrc_update.
    unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            UNREGISTER_RING_FDS,
            arg,
            1u32,
        )
    };
}

/// Posts an `MSG_RING` without a ring of one's own. Since 6.13; older kernels answer `EBADF` or `EINVAL`.
///
/// # Safety
/// `message` is an `MSG_RING` SQE that carries data: it makes the kernel touch no memory.
pub(crate) unsafe fn send_message(message: &Sqe) -> io::Result<()> {
    let arg = ptr::from_ref(message);
    // SAFETY: `arg` is one readable SQE, and by the caller's word it borrows nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            -1i32,
            REGISTER_SEND_MSG_RING,
            arg,
            1u32,
        )
    })?;
    Ok(())
}

/// A new eventfd, close-on-exec and non-blocking.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    check(fd.into())?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to an eventfd.
pub(crate) fn eventfd_signal(eventfd: &OwnedFd) -> io::Result<()> {
    let one = 1u64;
    let (buffer, size) = (ptr::from_ref(&one).cast(), size_of_val(&one));
    // SAFETY: `buffer` is eight readable bytes.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), buffer, size) };
    if written < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of [`Wait::Until`](crate::Wait::Until).
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a writable timespec.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(failed, 0, "every kernel has CLOCK_MONOTONIC");
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Sleeps by the clock. std's sleep goes on after a signal for what was left before its handler, and under a storm of them
/// for ever.
pub(crate) fn nap(time: Duration) {
    let end_ns = monotonic_ns() + u64::try_from(time.as_nanos()).expect("a nap is short");
    loop {
        let left = Duration::from_nanos(end_ns.saturating_sub(monotonic_ns()));
        if left.is_zero() {
            return;
        }
        let left = libc::timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        // SAFETY: it reads `left`; the rest of an interrupted sleep is not asked for.
        unsafe { libc::nanosleep(&raw const left, ptr::null_mut()) };
    }
}

/// A set of CPUs as sched_setaffinity(2) has it.
pub(crate) fn cpu_set(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        if *cpu >= 8 * size_of_val(&set) {
            let text = format!("CPU {cpu} does not exist: the kernel's CPU sets end below it");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // SAFETY: the set has a bit for this number.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    Ok(set)
}

/// The soft limit of a resource; `None` when there is no limit.
pub(crate) fn soft_limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a writable rlimit.
    let failed = unsafe { libc::getrlimit(resource, &raw mut limit) };
    (failed == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
