//! Standard error.
//!
//! It may be a pipe whose reader has stopped, and a write into a full pipe blocks. So we ask poll(2) first, and write no more than
//! PIPE_BUF bytes at a time, which a pipe that polls writable takes without blocking (pipe(7)). The flag O_NONBLOCK would be simpler,
//! but it belongs to the open file, which we share with whoever started us.

#![expect(unsafe_code, reason = "poll(2) and write(2)")]

use std::io::{self, IsTerminal};

use crate::sink::Sink;

/// Writes to standard error, never blocking on a full pipe.
#[derive(Debug, Default)]
pub struct Stderr;

impl Stderr {
    /// A sink for standard error.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Whether colours make sense: it is a terminal and the environment does not set `NO_COLOR`.
    #[must_use]
    pub fn wants_colors() -> bool {
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
    }
}

/// Writes what fits without blocking into a descriptor that may be a pipe, a terminal or a file.
pub(crate) fn write_without_blocking(fd: libc::c_int, block: &[u8]) -> io::Result<usize> {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, and a timeout of 0: it does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    if ready == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let length = block.len().min(libc::PIPE_BUF);
    // SAFETY: writes at most `length` bytes out of a live slice.
    let written = unsafe { libc::write(fd, block.as_ptr().cast(), length) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

impl Sink for Stderr {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        write_without_blocking(libc::STDERR_FILENO, block)
    }
}
