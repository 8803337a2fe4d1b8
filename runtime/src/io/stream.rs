//! read(2) and write(2) on what has no offsets: pipes, terminals, event descriptors.
//!
//! As in net.rs a non-blocking descriptor waits like any other. What can neither be polled nor read without
//! blocking, a terminal for example, is read by a worker thread of the kernel, not by the core.
#![expect(
    unsafe_code,
    reason = "lends buffers to the kernel while the operation runs"
)]

use super::net::retry;
use super::{Limit, perform};
use coring_uring::op::fs::{AT_POSITION, read as read_op, write as write_op};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(fd, libc::POLLIN, Limit::NONE, || {
        let sqe = read_op(
            fd.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
            AT_POSITION,
        );
        // SAFETY: the buffer is borrowed for longer than this call, uniquely.
        unsafe { perform(sqe, "read") }.map(|bytes| bytes as usize)
    })
}

pub(crate) fn write(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    retry(fd, libc::POLLOUT, Limit::NONE, || {
        let sqe = write_op(fd.as_raw_fd(), buffer.as_ptr(), buffer.len(), AT_POSITION);
        // SAFETY: the buffer is borrowed for longer than this call.
        unsafe { perform(sqe, "write") }.map(|bytes| bytes as usize)
    })
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
