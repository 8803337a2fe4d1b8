//! What every socket type is made of: a descriptor, and the time limits of its calls.
//!
//! The kernel's `SO_RCVTIMEO` and `SO_SNDTIMEO` mean nothing to a ring, so the limits are kept here as well as in
//! the socket: here for our own calls, there for whoever gets the descriptor. As in the kernel they belong to the
//! socket and not to the handle: clones made by `try_clone` share them. A socket without limits pays one load.
//!
//! A stream's write goes on until all is taken, so it may meet an error after a part. It tells the part; the error that ended the
//! connection, which the kernel tells once, is kept for the next call that would tell only what it left behind:
//!
//! ```text
//!   write --> a part, a part, ECONNRESET --> Ok(parts)       the next write: EPIPE   --> ECONNRESET, once
//!                                  `-- kept                  the next read: the end  --> ECONNRESET, once
//! ```

use super::mode::Mode;
use super::zero_copy::{LentBuffer, send_zero_copy};
use crate::io::net as operations;
use crate::io::{Limit, RecvBuffer, may_wait, recv_pooled, told_in_part, within};
use socket2::{SockAddr, SockRef};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Nanoseconds that reads and writes may take; zero for "as long as they like".
#[derive(Debug, Default)]
struct Times {
    read: AtomicU64,
    write: AtomicU64,
    /// No call may wait at all, whatever the times say.
    nonblocking: AtomicBool,
    /// The error that ended the connection and was not told yet; zero for none.
    kept: AtomicI32,
    /// Who receives datagrams now.
    receivers: AtomicU32,
    /// Whether the descriptor blocks; held for a system call or two.
    mode: Mutex<Mode>,
}

/// Nothing at all until a limit is set, the socket is cloned or an error is kept.
#[derive(Debug, Default)]
struct Limits(OnceLock<Arc<Times>>);

impl Limits {
    #[inline(always)]
    fn of(&self, which: fn(&Times) -> &AtomicU64) -> Option<Duration> {
        let times = self.0.get()?;
        match which(times).load(Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    /// The time of a call: none at all in non-blocking mode.
    #[inline(always)]
    fn of_a_call(&self, which: fn(&Times) -> &AtomicU64) -> Option<Duration> {
        match self.0.get()?.nonblocking.load(Relaxed) {
            true => Some(Duration::ZERO),
            false => self.of(which),
        }
    }

    fn shared(&self) -> &Arc<Times> {
        self.0.get_or_init(Arc::default)
    }

    fn set(&self, which: fn(&Times) -> &AtomicU64, time: Option<Duration>) {
        let nanoseconds = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        which(self.shared()).store(nanoseconds, Relaxed);
    }
}

/// A socket. See the head of the file.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    limits: Limits,
}

impl Socket {
    /// A socket that was just made, and so has no limits.
    pub(crate) fn fresh(fd: OwnedFd) -> Self {
        Self {
            fd,
            limits: Limits::default(),
        }
    }

    /// A socket from elsewhere: its limits are taken over.
    pub(crate) fn adopt(fd: OwnedFd) -> Self {
        let this = Self::fresh(fd);
        let options = SockRef::from(&this.fd);
        // What is not a socket has no limits; its first operation will say what it is.
        if let Ok(Some(time)) = options.read_timeout() {
            this.limits.set(|times| &times.read, Some(time));
        }
        if let Ok(Some(time)) = options.write_timeout() {
            this.limits.set(|times| &times.write, Some(time));
        }
        this
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// For options and questions: plain system calls that do not wait.
    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.fd)
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let fd = self.fd.try_clone()?;
        let limits = Limits(OnceLock::from(Arc::clone(self.limits.shared())));
        Ok(Self { fd, limits })
    }

    pub(crate) fn read_timeout(&self) -> Option<Duration> {
        self.limits.of(|times| &times.read)
    }

    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        self.limits.of(|times| &times.write)
    }

    /// How long a call that reads or accepts may wait.
    #[inline(always)]
    pub(crate) fn read_limit(&self) -> Option<Duration> {
        self.limits.of_a_call(|times| &times.read)
    }

    /// How long a call that writes may wait.
    #[inline(always)]
    pub(crate) fn write_limit(&self) -> Option<Duration> {
        self.limits.of_a_call(|times| &times.write)
    }

    /// How many coroutines receive datagrams with the handles of this socket.
    pub(super) fn receivers(&self) -> &AtomicU32 {
        &self.limits.shared().receivers
    }

    pub(super) fn mode(&self) -> MutexGuard<'_, Mode> {
        let mode = self.limits.shared().mode.lock();
        mode.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.mode().choose(self.options(), nonblocking)?;
        self.limits.shared().nonblocking.store(nonblocking, Relaxed);
        Ok(())
    }

    pub(crate) fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.options().set_read_timeout(not_zero(time)?)?;
        self.limits.set(|times| &times.read, time);
        Ok(())
    }

    pub(crate) fn set_write_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.options().set_write_timeout(not_zero(time)?)?;
        self.limits.set(|times| &times.write, time);
        Ok(())
    }

    /// Takes note of an error after a part that is told instead.
    #[cold]
    pub(crate) fn keep(&self, error: &io::Error) {
        told_in_part(error);
        if let Some(errno) = error.raw_os_error().filter(|errno| ends_connection(*errno)) {
            self.limits.shared().kept.store(errno, Relaxed);
        }
    }

    /// What was kept; told once.
    #[cold]
    fn kept(&self) -> Option<io::Error> {
        let times = self.limits.0.get()?;
        match times.kept.swap(0, Relaxed) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// The end of a stream, if that is all.
    #[cold]
    pub(crate) fn ended<T>(&self, end: T) -> io::Result<T> {
        self.kept().map_or(Ok(end), Err)
    }

    /// The error of a send, or the one that it comes of.
    #[cold]
    pub(crate) fn failed(&self, error: io::Error) -> io::Error {
        match error.raw_os_error() {
            Some(libc::EPIPE) => self.kept().unwrap_or(error),
            _ => error,
        }
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let pending = self.options().take_error()?;
        Ok(pending.or_else(|| self.kept()))
    }

    #[inline]
    pub(crate) fn recv(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        let received = match self.read_limit() {
            None => operations::recv(self.fd.as_fd(), buffer, flags, Limit::NONE),
            Some(time) => self.recv_in_time(buffer, flags, time),
        };
        match received {
            Ok(0) => self.ended(0),
            received => received,
        }
    }

    #[inline(never)]
    fn recv_in_time(&self, buffer: &mut [u8], flags: i32, time: Duration) -> io::Result<usize> {
        within(Some(time), |limit| {
            operations::recv(self.fd.as_fd(), buffer, flags, limit)
        })
    }

    #[inline]
    pub(crate) fn recv_pooled(&self) -> io::Result<RecvBuffer> {
        let received = match self.read_limit() {
            None => recv_pooled(self.fd.as_fd(), Limit::NONE),
            Some(time) => self.recv_pooled_in_time(time),
        };
        match received {
            Ok(end) if end.is_empty() => self.ended(end),
            received => received,
        }
    }

    #[inline(never)]
    fn recv_pooled_in_time(&self, time: Duration) -> io::Result<RecvBuffer> {
        within(Some(time), |limit| recv_pooled(self.fd.as_fd(), limit))
    }

    pub(crate) fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // As readv(2); recvmsg(2) would wait.
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return may_wait().map(|()| 0);
        }
        self.recv_message(buffers, &mut [], 0)
            .map(|received| received.bytes)
    }

    pub(crate) fn recv_message(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        control: &mut [u8],
        flags: i32,
    ) -> io::Result<operations::Received> {
        let received = within(self.read_limit(), |limit| {
            operations::recv_message(self.fd.as_fd(), buffers, control, flags, limit)
        })?;
        match received {
            // With descriptors it is no end.
            end if end.bytes == 0 && end.control_bytes == 0 => self.ended(end),
            received => Ok(received),
        }
    }

    /// A stream's write: all of it.
    #[inline]
    pub(crate) fn send_whole(&self, buffer: &[u8]) -> io::Result<usize> {
        match self.write_limit() {
            None => self.send_all(buffer, Limit::NONE),
            Some(time) => self.send_whole_in_time(buffer, time),
        }
    }

    #[inline(never)]
    fn send_whole_in_time(&self, buffer: &[u8], time: Duration) -> io::Result<usize> {
        within(Some(time), |limit| self.send_all(buffer, limit))
    }

    #[inline(always)]
    pub(super) fn send_all(&self, buffer: &[u8], limit: Limit<'_>) -> io::Result<usize> {
        match operations::send(self.fd.as_fd(), buffer, 0, limit) {
            Ok(sent) if sent == buffer.len() => Ok(sent),
            Ok(sent) => Ok(self.send_rest(buffer, sent, limit)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Goes on after a part: how much is sent in the end.
    #[cold]
    #[inline(never)]
    fn send_rest(&self, buffer: &[u8], mut sent: usize, limit: Limit<'_>) -> usize {
        while sent < buffer.len() && !limit.passed() {
            match operations::send_by_ring(self.fd.as_fd(), &buffer[sent..], 0, limit) {
                Ok(more) => sent += more,
                Err(error) => {
                    self.keep(&error);
                    break;
                }
            }
        }
        sent
    }

    /// A stream's write that lends the buffer to the kernel.
    pub(crate) fn send_zero_copy<B: AsRef<[u8]> + 'static>(
        &self,
        buffer: B,
    ) -> (io::Result<usize>, LentBuffer<B>) {
        within(self.write_limit(), |limit| {
            send_zero_copy(self, buffer, limit)
        })
    }

    /// A stream's write from several buffers: all of them, 1,024 at most. Control data go with the first byte.
    pub(crate) fn send_whole_message(
        &self,
        buffers: &[IoSlice<'_>],
        control: &[u8],
    ) -> io::Result<usize> {
        let buffers = &buffers[..buffers.len().min(operations::IOV_MAX)];
        let all: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        // As writev(2); sendmsg(2) would look at the connection.
        if all == 0 && control.is_empty() {
            return may_wait().map(|()| 0);
        }
        within(self.write_limit(), |limit| {
            match operations::send_message(self.fd.as_fd(), buffers, None, control, 0, limit) {
                Ok(sent) if sent == all => Ok(sent),
                Ok(sent) => Ok(self.send_rest_of(buffers, sent, limit)),
                Err(error) => Err(self.failed(error)),
            }
        })
    }

    /// As [`send_rest`](Self::send_rest).
    #[cold]
    fn send_rest_of(&self, buffers: &[IoSlice<'_>], mut sent: usize, limit: Limit<'_>) -> usize {
        let mut rest = buffers.to_vec();
        let mut rest = &mut rest[..];
        IoSlice::advance_slices(&mut rest, sent);
        while !rest.is_empty() && !limit.passed() {
            match operations::send_message(self.fd.as_fd(), rest, None, &[], 0, limit) {
                Ok(more) => {
                    sent += more;
                    IoSlice::advance_slices(&mut rest, more);
                }
                Err(error) => {
                    self.keep(&error);
                    break;
                }
            }
        }
        sent
    }

    /// A connection, and who is at its other end. The listener's read timeout limits it, as in the kernel.
    pub(crate) fn accept(&self) -> io::Result<(Self, SockAddr)> {
        let (fd, address) = within(self.read_limit(), |limit| {
            operations::accept(self.fd.as_fd(), limit)
        })?;
        Ok((Self::fresh(fd), address))
    }

    /// Connects, at the latest within this time.
    pub(crate) fn connect(&self, address: &SockAddr, time: Option<Duration>) -> io::Result<()> {
        within(time, |limit| {
            let outcome = operations::connect(self.fd.as_fd(), address, limit);
            match outcome {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && limit.passed() => Err(
                    io::Error::new(io::ErrorKind::TimedOut, "connection timed out"),
                ),
                outcome => outcome,
            }
        })
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.options().shutdown(how)
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether no more can be sent or received after this error. Others, such as a want of memory, are met again if they stay.
fn ends_connection(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNRESET
            | libc::ECONNABORTED
            | libc::ETIMEDOUT
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ENETDOWN
    )
}

/// A limit of no time at all is refused, as std does.
pub(crate) fn not_zero(time: Option<Duration>) -> io::Result<Option<Duration>> {
    match time {
        Some(Duration::ZERO) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "cannot set a 0 duration timeout",
        )),
        time => Ok(time),
    }
}
