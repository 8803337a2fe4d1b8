//! Reads of what lies in the page cache: one plain system call, and the ring for the rest.
//!
//! ```text
//!   preadv2(RWF_NOWAIT) --> all of it, or the end of the file: done, nobody has waited
//!        |
//!        +-- EAGAIN, perhaps after a part: the ring reads on; the next reads of the file go there at once
//!        `-- a file system that cannot tell: never asked again
//! ```
//!
//! From the cache a lone read of 4 KiB costs 0.7 to 1.0 us this way, and 0.9 to 1.4 us through the ring, whose own first attempt is
//! the same. The attempt that fails costs half a microsecond beside a device's 80. With `O_DIRECT` the call would wait for the
//! device, so it is not made. A coroutine that never waits gives way when its time slice is over.
//!
//! Where others are ready or have queued something, the ring's call is shared, and what it takes instead is a park and a
//! completion. So it depends on what a system call costs, and that on the processor and on what the kernel has to guard
//! it against: one is timed, once in a process. Reads 32 deep, against a bare ring: where a call takes 125 ns and more 0.90 by plain
//! calls and 0.95 through the ring; on a newer processor plain calls were at 1.10.
#![expect(unsafe_code, reason = "lends a buffer to a system call")]

use crate::per_core::Engine;
use coring_coro::wait;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// How many reads of a file go to the ring after one that found nothing: a file that is not cached is read on.
const PASSED_OVER: u8 = 15;
const NEVER: u8 = u8::MAX;

/// Whether to try, for one open file: 0 says yes, [`NEVER`] no, others how many reads to pass over.
///
/// Relaxed everywhere: a count that is lost between two threads only changes who tries.
#[derive(Debug)]
pub(super) struct Cached(AtomicU8);

impl Cached {
    /// For a file whose flags of open(2) are known.
    pub(super) fn with_flags(flags: libc::c_int) -> Self {
        let direct = flags & libc::O_DIRECT != 0;
        Self(AtomicU8::new(if direct { NEVER } else { 0 }))
    }

    /// For a file that somebody else has opened.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Self {
        // SAFETY: asks for flags, touches no memory of ours. An error, -1, has all flags set.
        Self::with_flags(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
    }

    /// Reads what the page cache has. The bytes that were there, and whether that is all there is to read.
    pub(super) fn read(&self, fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> (usize, bool) {
        match self.0.load(Ordering::Relaxed) {
            0 => {}
            NEVER => return (0, false),
            left => {
                self.0.store(left - 1, Ordering::Relaxed);
                return (0, false);
            }
        }
        let mut bytes = 0;
        loop {
            match read_now(fd, &mut buffer[bytes..], offset + bytes as u64) {
                Ok(0) => break,
                Ok(more) => bytes += more,
                Err(error) => {
                    let next = match error.raw_os_error() {
                        Some(libc::EAGAIN | libc::EINTR) => PASSED_OVER,
                        _ => NEVER,
                    };
                    self.0.store(next, Ordering::Relaxed);
                    return (bytes, false);
                }
            }
            if bytes == buffer.len() {
                break;
            }
        }
        wait::give_way();
        (bytes, true)
    }
}

/// A system call that costs more than this is worth sharing.
const DEAR_NS: u128 = 100;
/// Calls that are timed together, and how often that is done: the fastest counts, others were interrupted.
const CALLS: u32 = 8;
const SERIES: u32 = 4;

/// Whether a read should go to the ring because a batch is being made there, and a call of its own costs more.
#[inline]
pub(super) fn is_in_a_batch(engine: &Engine) -> bool {
    static DEAR: OnceLock<bool> = OnceLock::new();
    engine.has_other_work() && *DEAR.get_or_init(calls_are_dear)
}

#[cold]
fn calls_are_dear() -> bool {
    let series = || {
        let begin = Instant::now();
        for _ in 0..CALLS {
            // SAFETY: asks about no descriptor, touches no memory of ours. It fails, at once.
            unsafe { libc::fcntl(-1, libc::F_GETFD) };
        }
        begin.elapsed()
    };
    let fastest = (0..SERIES).map(|_| series()).min();
    fastest.is_some_and(|fastest| fastest.as_nanos() > DEAR_NS * u128::from(CALLS))
}

/// `RWF_NOWAIT`: Linux 4.14, preadv2(2).
fn read_now(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the vector names a buffer that is borrowed uniquely for longer than the call.
    let read = unsafe { libc::preadv2(fd.as_raw_fd(), &vector, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}
