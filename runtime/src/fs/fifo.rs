//! Opening a FIFO waits for its other side, fifo(7).
//!
//! A ring tries each open without waiting first, as if it were `O_NONBLOCK`. For a file that changes nothing. For a FIFO
//! it does: an open for reading succeeds though nobody writes, and one for writing fails with `ENXIO` if nobody
//! reads. In both cases the open is done again by a worker thread of the kernel, which waits there as open(2)
//! does, and can be called back.
//!
//! Nothing of an open says what was opened, so whoever opens for reading is asked about: all that have opened together in one call
//! (opening.rs), a lone one by itself.
//!
//! The first descriptor of a reader has been seen by writers, so it is kept until there is another. A writer may also
//! come and go before the second open has begun, which then would wait for the next one. So it is called back now and
//! then, with growing pauses, to see whether something has come to the first.
#![expect(
    unsafe_code,
    reason = "lends the path to the kernel while the operation runs; asks about a descriptor"
)]

use crate::io::{Limit, perform_open, perform_open_noted, within};
use crate::per_core::Engine;
use coring_uring::op;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// How long a reader waits before it looks whether a writer has come and gone; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Opens what may be a FIFO; and whether it is known to be none, where that was asked.
#[inline]
pub(super) fn open(path: &CStr, flags: libc::c_int, mode: u32) -> io::Result<(OwnedFd, bool)> {
    let may_wait = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0;
    let reads = may_wait && flags & libc::O_ACCMODE == libc::O_RDONLY;
    let make = || op::fs::openat(libc::AT_FDCWD, path.as_ptr(), flags, mode);
    let note = |engine: &'static Engine, op| {
        let noted = reads.then(|| engine.openings().note(op, path.to_bytes()));
        (engine, noted.flatten())
    };
    // SAFETY: the path is borrowed for longer than this call; an open makes a new descriptor.
    let first = unsafe { perform_open_noted(make, "open", note) };
    let first = match first {
        Ok((fd, (engine, Some(opening)))) if opening.is_a_file(&fd, engine.ring()) => {
            return Ok((fd, true));
        }
        first => first.map(|(fd, _)| fd),
    };
    if may_wait {
        wait_for_other_side(first, path, flags, mode)
    } else {
        first.map(|fd| (fd, false))
    }
}

/// Goes on with an open whose first attempt, which did not wait, ended like this.
fn wait_for_other_side(
    first: io::Result<OwnedFd>,
    path: &CStr,
    flags: libc::c_int,
    mode: u32,
) -> io::Result<(OwnedFd, bool)> {
    let again = |limit: Limit<'_>| {
        let sqe = op::fs::openat_by_worker(libc::AT_FDCWD, path.as_ptr(), flags, mode);
        // SAFETY: the path is borrowed for longer than this call; an open makes a new descriptor.
        unsafe { perform_open(sqe, "the other side of a FIFO", limit) }
    };
    match (first, flags & libc::O_ACCMODE) {
        (Err(error), libc::O_WRONLY) if error.raw_os_error() == Some(libc::ENXIO) => {
            again(Limit::NONE).map(|fd| (fd, false))
        }
        (Ok(fd), libc::O_RDONLY) => {
            let mut file = File::from(fd);
            if file.stream_position().is_ok() {
                Ok((file.into(), true))
            } else if is_fifo(&file) {
                wait_for_a_writer(file, again).map(|fd| (fd, false))
            } else {
                Ok((file.into(), false))
            }
        }
        (first, _) => first.map(|fd| (fd, false)),
    }
}

fn wait_for_a_writer(
    file: File,
    again: impl Fn(Limit<'_>) -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let mut pause = FIRST_PAUSE;
    while !was_written(&file) {
        match within(Some(pause), &again) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            outcome => return outcome,
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    Ok(file.into())
}

/// Only pipes have a size of their buffer. The question is answered without a look at the file itself, whose type or
/// position would take two to four times as long.
fn is_fifo(file: &File) -> bool {
    // SAFETY: asks for a number, touches no memory of ours.
    let bytes = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETPIPE_SZ) };
    bytes >= 0
}

/// Whether bytes are there, or a writer has been and gone.
fn was_written(file: &File) -> bool {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, which lives in this frame. It does not wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}
