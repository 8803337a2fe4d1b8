//! Opening a FIFO waits for its other side, fifo(7).
//!
//! A ring tries each open without waiting first, as if it were `O_NONBLOCK`. For a file that changes nothing. For a FIFO
//! it does: an open for reading succeeds though nobody writes, and one for writing fails with `ENXIO` if nobody
//! reads. In both cases it goes on here, and not by an open that waits: that would be done by a worker thread of the kernel, of which
//! a core has a few for all its files, and as many waiting opens would hold up every other.
//!
//! ```text
//!   writer: open, O_NONBLOCK --> ENXIO: a pause, again           reader: has its descriptor, for which writers wait
//!                            `-> there is a reader                 bytes, or their writer has gone again: open
//!                                                                  a read says EAGAIN and not the end: a writer is there
//!                                                                  else a pause, then look again
//! ```
//!
//! Pauses grow to some milliseconds, as those for a file lock do. An open that creates is done by a worker in any case, so it is made
//! `O_NONBLOCK`; one of a name that is not cached, for the first time, may still wait there.
//!
//! Nothing of an open says what was opened, so whoever opens for reading is asked about: all that have opened together in one call
//! (opening.rs), a lone one by itself.
#![expect(
    unsafe_code,
    reason = "lends the path to the kernel while the operation runs; asks about a descriptor"
)]

use super::names;
use crate::io::{Limit, pause, perform_open, perform_open_noted};
use crate::per_core::Engine;
use coring_uring::op;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

/// How long the first pause is between two looks for the other side; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Opens what may be a FIFO; and whether it is known to be none, where that was asked.
#[inline]
pub(super) fn open(path: &CStr, flags: libc::c_int, mode: u32) -> io::Result<(OwnedFd, bool)> {
    let may_wait = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0;
    let access = flags & libc::O_ACCMODE;
    // What must not exist is no FIFO.
    if may_wait && access == libc::O_WRONLY && by_worker(flags) && flags & libc::O_EXCL == 0 {
        return open_by_worker(path, flags, mode).map(|fd| (fd, false));
    }
    let reads = may_wait && access == libc::O_RDONLY;
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

/// Whether a ring leaves an open with these flags to a worker.
fn by_worker(flags: libc::c_int) -> bool {
    flags & (libc::O_CREAT | libc::O_TRUNC) != 0
}

/// One for writing that a worker does, who would wait.
#[inline(never)]
fn open_by_worker(path: &CStr, flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    match open_now(path, flags, mode) {
        Ok(fd) => {
            let file = File::from(fd);
            let of = file.metadata()?.file_type();
            if !of.is_char_device() && !of.is_block_device() {
                return blocking_again(file.into(), flags);
            }
            // A terminal waits for its line, a tape for its medium, unless it may not.
        }
        Err(error) if is_code(&error, libc::ENXIO) => return wait_for_a_reader(path, flags, mode),
        // Somebody has a lease on the file, fcntl(2).
        Err(error) if is_code(&error, libc::EAGAIN) => {}
        Err(error) => return Err(error),
    }
    attempt(path, flags, mode)
}

fn attempt(path: &CStr, flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    let sqe = op::fs::openat(libc::AT_FDCWD, path.as_ptr(), flags, mode);
    // SAFETY: the path is borrowed for longer than this call; an open makes a new descriptor.
    unsafe { perform_open(sqe, "open", Limit::NONE) }
}

/// Without waiting for another side. What comes of it is to be made blocking again.
fn open_now(path: &CStr, flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    attempt(path, flags | libc::O_NONBLOCK, mode)
}

fn blocking_again(fd: OwnedFd, flags: libc::c_int) -> io::Result<OwnedFd> {
    set_flags(fd.as_fd(), flags).map(|()| fd)
}

/// Those of open(2) that can be changed afterwards.
fn set_flags(fd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: plain numbers, about a descriptor that is open.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_code(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}

/// Goes on with an open whose first attempt, which did not wait, ended like this.
fn wait_for_other_side(
    first: io::Result<OwnedFd>,
    path: &CStr,
    flags: libc::c_int,
    mode: u32,
) -> io::Result<(OwnedFd, bool)> {
    match (first, flags & libc::O_ACCMODE) {
        (Err(error), libc::O_WRONLY) if is_code(&error, libc::ENXIO) => {
            wait_for_a_reader(path, flags, mode).map(|fd| (fd, false))
        }
        (Ok(fd), libc::O_RDONLY) => {
            let mut file = File::from(fd);
            if file.stream_position().is_ok() {
                Ok((file.into(), true))
            } else if is_fifo(&file) {
                wait_for_a_writer(file, flags).map(|fd| (fd, false))
            } else {
                Ok((file.into(), false))
            }
        }
        (first, _) => first.map(|fd| (fd, false)),
    }
}

/// Pauses, a little longer each time, until there is something.
fn look_for<T>(mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let mut time = FIRST_PAUSE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        pause(time, "the other side of a FIFO", Limit::NONE)?;
        time = (2 * time).min(LONGEST_PAUSE);
    }
}

fn wait_for_a_reader(path: &CStr, flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    let name = Path::new(OsStr::from_bytes(path.to_bytes()));
    let fd = look_for(|| match open_now(path, flags, mode) {
        // A socket says the same, and a device that is not there.
        Err(error) if is_code(&error, libc::ENXIO) => {
            match names::metadata(name)?.file_type().is_fifo() {
                true => Ok(None),
                false => Err(error),
            }
        }
        outcome => outcome.map(Some),
    })?;
    blocking_again(fd, flags)
}

fn wait_for_a_writer(file: File, flags: libc::c_int) -> io::Result<OwnedFd> {
    set_flags(file.as_fd(), flags | libc::O_NONBLOCK)?;
    look_for(|| Ok(has_writer(&file).then_some(())))?;
    blocking_again(file.into(), flags)
}

/// Only pipes have a size of their buffer. The question is answered without a look at the file itself, whose type or
/// position would take two to four times as long.
fn is_fifo(file: &File) -> bool {
    // SAFETY: asks for a number, touches no memory of ours.
    let bytes = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETPIPE_SZ) };
    bytes >= 0
}

/// Whether a writer is there, or has been and gone, or has left bytes. The descriptor is non-blocking.
fn has_writer(file: &File) -> bool {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, which lives in this frame. It does not wait.
    if unsafe { libc::poll(&raw mut poll, 1, 0) } == 1 {
        return true;
    }
    // The end: nobody writes. EAGAIN: somebody will. The byte that comes at this very moment finds no memory, and stays: EFAULT.
    // SAFETY: nothing is written, since there is no memory at that address.
    unsafe { libc::read(file.as_raw_fd(), ptr::null_mut(), 1) != 0 }
}
