//! The position of an open file, where the kernel forgets to move it.
//!
//! A read or write at the position that fails after it has moved some bytes reports these bytes, and the error comes
//! with the next call: so far it is like read(2) and write(2). But a ring then leaves the position where it was:
//! `kiocb_done` (io_uring/rw.c, seen with Linux 6.18) moves it only for a result that is no error. The next call would
//! do the same bytes again, and with the same success: a `write_all` to a full device returned `Ok` and had written one
//! place over and over.
//!
//! ```text
//!   lseek: where is it? --> read or write through the ring --> all done? yes: through
//!                                                              no: has it moved? no: move it
//! ```
//!
//! The look costs 0.1 us. Calls with an offset of their own do not need it.
#![expect(unsafe_code, reason = "lseek(2) and fcntl(2) on a borrowed descriptor")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Does a transfer of `asked` bytes at the position, and sees to it that the position has moved by what was done.
#[inline]
pub(crate) fn moving(
    fd: BorrowedFd<'_>,
    asked: usize,
    transfer: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let before = seek(fd, 0, libc::SEEK_CUR);
    let done = transfer()?;
    if done < asked && done > 0 {
        make_up_for(fd, before, done);
    }
    Ok(done)
}

#[cold]
fn make_up_for(fd: BorrowedFd<'_>, before: Option<i64>, done: usize) {
    // What has no position - a pipe, a terminal - has none before and after.
    if before.is_none() || seek(fd, 0, libc::SEEK_CUR) != before {
        return;
    }
    // SAFETY: only asks for the flags of an open descriptor.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags & libc::O_APPEND != 0 {
        // Where the bytes went, wherever the position was.
        seek(fd, 0, libc::SEEK_END);
    } else {
        seek(
            fd,
            i64::try_from(done).expect("a transfer is shorter"),
            libc::SEEK_CUR,
        );
    }
}

/// As lseek(2). `None` for what has no position.
fn seek(fd: BorrowedFd<'_>, by: i64, from: libc::c_int) -> Option<i64> {
    // SAFETY: changes no memory; the descriptor is open for as long as it is borrowed.
    let position = unsafe { libc::lseek(fd.as_raw_fd(), by, from) };
    (position >= 0).then_some(position)
}
