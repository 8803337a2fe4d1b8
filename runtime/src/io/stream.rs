//! read(2) and write(2) on what has no offsets: pipes, terminals, event descriptors.
//!
//! As in net.rs a non-blocking descriptor waits like any other. What can neither be polled nor read without
//! blocking, a terminal for example, is read by a worker thread of the kernel, not by the core.
//!
//! Several coroutines may share a pipe, and one is faster each time. The others would come to wait in workers, as with datagrams
//! (net/datagrams.rs). So who meets another one at a pipe does not wait in the ring, but polls and tries again.
#![expect(
    unsafe_code,
    reason = "lends buffers to the kernel while the operation runs"
)]

use super::net::retry;
use super::{Limit, perform};
use coring_uring::op::fs as op;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

thread_local! {
    /// The transfers of this thread that are under way, by descriptor and kind.
    static UNDER_WAY: RefCell<HashMap<(RawFd, Kind), usize>> = RefCell::default();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Read,
    Write,
}

/// A transfer that is under way.
struct Turn {
    key: (RawFd, Kind),
    /// Whether the ring may wait for it.
    waits: bool,
}

impl Turn {
    fn begin(fd: BorrowedFd<'_>, kind: Kind) -> Self {
        let key = (fd.as_raw_fd(), kind);
        // Late in the end of a thread there are no others.
        let others = UNDER_WAY.try_with(|all| {
            let mut all = all.borrow_mut();
            let count = all.entry(key).or_default();
            *count += 1;
            *count - 1
        });
        Self {
            key,
            waits: others.unwrap_or(0) == 0 || !is_pipe(fd),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = UNDER_WAY.try_with(|all| {
            let mut all = all.borrow_mut();
            if let Some(count) = all.get_mut(&self.key) {
                *count -= 1;
                if *count == 0 {
                    all.remove(&self.key);
                }
            }
        });
    }
}

/// Only pipes have a size of their buffer.
fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: asks for a number, touches no memory of ours.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETPIPE_SZ) >= 0 }
}

pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let turn = Turn::begin(fd, Kind::Read);
    let (number, start, bytes) = (fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len());
    retry(fd, libc::POLLIN, Limit::NONE, || {
        if !turn.waits {
            // SAFETY: as below.
            let outcome = unsafe { perform(op::read_now(number, start, bytes), "read") };
            if !cannot_tell(&outcome) {
                return outcome.map(|bytes| bytes as usize);
            }
        }
        let sqe = op::read(number, start, bytes, op::AT_POSITION);
        // SAFETY: the buffer is borrowed for longer than this call, uniquely.
        unsafe { perform(sqe, "read") }.map(|bytes| bytes as usize)
    })
}

pub(crate) fn write(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    let turn = Turn::begin(fd, Kind::Write);
    let (number, start, bytes) = (fd.as_raw_fd(), buffer.as_ptr(), buffer.len());
    retry(fd, libc::POLLOUT, Limit::NONE, || {
        if !turn.waits {
            // SAFETY: as below.
            let outcome = unsafe { perform(op::write_now(number, start, bytes), "write") };
            if !cannot_tell(&outcome) {
                return outcome.map(|bytes| bytes as usize);
            }
        }
        let sqe = op::write(number, start, bytes, op::AT_POSITION);
        // SAFETY: the buffer is borrowed for longer than this call.
        unsafe { perform(sqe, "write") }.map(|bytes| bytes as usize)
    })
}

/// Whether the kernel does not know how to try: with pipes that have a name, and an older one with all. Such a one is waited for
/// in the ring after all.
fn cannot_tell<T>(outcome: &io::Result<T>) -> bool {
    let error = outcome.as_ref().err();
    error.and_then(io::Error::raw_os_error) == Some(libc::EOPNOTSUPP)
}

/// `Read` of a type with `as_fd`, and of references to it.
macro_rules! readable {
    ($type:ty) => {
        $crate::io::stream::readable!($type, $crate::io::stream::read);
    };
    ($type:ty, $read:path) => {
        /// Parks until there is something; 0 is the end. `IORING_OP_READ`, Linux 5.6.
        impl std::io::Read for &$type {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                $read(self.as_fd(), buffer)
            }
        }

        impl std::io::Read for $type {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buffer)
            }
        }
    };
}

/// `Write` of a type with `as_fd`, and of references to it.
macro_rules! writable {
    ($type:ty) => {
        $crate::io::stream::writable!($type, $crate::io::stream::write);
    };
    ($type:ty, $write:path) => {
        /// Parks while there is no room. `IORING_OP_WRITE`, Linux 5.6.
        impl std::io::Write for &$type {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                $write(self.as_fd(), buffer)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Write for $type {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                (&*self).write(buffer)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

/// A type that is an owned descriptor: conversions both ways.
macro_rules! owns_descriptor {
    ($type:ident, $std:ty) => {
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.fd.as_fd()
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.fd.as_raw_fd()
            }
        }

        impl From<OwnedFd> for $type {
            fn from(fd: OwnedFd) -> Self {
                Self { fd }
            }
        }

        impl From<$type> for OwnedFd {
            fn from(this: $type) -> Self {
                this.fd
            }
        }

        impl From<$std> for $type {
            fn from(theirs: $std) -> Self {
                Self { fd: theirs.into() }
            }
        }

        impl IntoRawFd for $type {
            fn into_raw_fd(self) -> RawFd {
                self.fd.into_raw_fd()
            }
        }
    };
}

pub(crate) use {owns_descriptor, readable, writable};
