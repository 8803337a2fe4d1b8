//! What every socket type is made of: a descriptor, and the time limits of its calls.
//!
//! The kernel's `SO_RCVTIMEO` and `SO_SNDTIMEO` mean nothing to a ring, so the limits are kept here as well as in
//! the socket: here for our own calls, there for whoever gets the descriptor. As in the kernel they belong to the
//! socket and not to the handle: clones made by `try_clone` share them. A socket without limits pays one load.

use super::mode::Mode;
use super::zero_copy::{LentBuffer, send_zero_copy};
use crate::io::net as operations;
use crate::io::{Limit, RecvBuffer, may_wait, recv_pooled, within};
use socket2::{SockAddr, SockRef};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// A stream's `send` goes on until the kernel has taken all, as a blocking socket's does.
const WHOLE: i32 = libc::MSG_WAITALL;

/// Nanoseconds that reads and writes may take; zero for "as long as they like".
#[derive(Debug, Default)]
struct Times {
    read: AtomicU64,
    write: AtomicU64,
    /// No call may wait at all, whatever the times say.
    nonblocking: AtomicBool,
    /// Whether the descriptor blocks; held for a system call or two.
    mode: Mutex<Mode>,
}

/// Nothing at all until a limit is set or the socket is cloned.
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

    #[inline]
    pub(crate) fn recv(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        match self.read_limit() {
            None => operations::recv(self.fd.as_fd(), buffer, flags, Limit::NONE),
            Some(time) => self.recv_in_time(buffer, flags, time),
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
        match self.read_limit() {
            None => recv_pooled(self.fd.as_fd(), Limit::NONE),
            Some(time) => self.recv_pooled_in_time(time),
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
        within(self.read_limit(), |limit| {
            operations::recv_message(self.fd.as_fd(), buffers, control, flags, limit)
        })
    }

    pub(crate) fn recv_from(&self, buffer: &mut [u8], flags: i32) -> io::Result<(usize, SockAddr)> {
        let received = self.recv_message(&mut [IoSliceMut::new(buffer)], &mut [], flags)?;
        Ok((received.bytes, received.from))
    }

    /// A stream's write: all of it.
    #[inline]
    pub(crate) fn send_whole(&self, buffer: &[u8]) -> io::Result<usize> {
        match self.write_limit() {
            None => operations::send(self.fd.as_fd(), buffer, WHOLE, Limit::NONE),
            Some(time) => self.send_whole_in_time(buffer, time),
        }
    }

    #[inline(never)]
    fn send_whole_in_time(&self, buffer: &[u8], time: Duration) -> io::Result<usize> {
        within(Some(time), |limit| {
            operations::send(self.fd.as_fd(), buffer, WHOLE, limit)
        })
    }

    /// A stream's write that lends the buffer to the kernel.
    pub(crate) fn send_zero_copy<B: AsRef<[u8]> + 'static>(
        &self,
        buffer: B,
    ) -> (io::Result<usize>, LentBuffer<B>) {
        within(self.write_limit(), |limit| {
            send_zero_copy(self.fd.as_fd(), buffer, limit)
        })
    }

    pub(crate) fn send_whole_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_message(buffers, None, &[], WHOLE)
    }

    /// A datagram to the connected peer.
    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        within(self.write_limit(), |limit| {
            operations::send(self.fd.as_fd(), buffer, 0, limit)
        })
    }

    pub(crate) fn send_message(
        &self,
        buffers: &[IoSlice<'_>],
        to: Option<&SockAddr>,
        control: &[u8],
        flags: i32,
    ) -> io::Result<usize> {
        within(self.write_limit(), |limit| {
            operations::send_message(self.fd.as_fd(), buffers, to, control, flags, limit)
        })
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

/// The methods that all socket types share.
macro_rules! common_methods {
    () => {
        /// Another handle to the same socket. Time limits are the socket's, and so shared.
        ///
        /// # Errors
        ///
        /// As fcntl(2): no descriptor may be left.
        pub fn try_clone(&self) -> io::Result<Self> {
            Ok(Self {
                socket: self.socket.try_clone()?,
            })
        }

        /// In non-blocking mode no call waits: what could not be done at once fails with `WouldBlock`. The mode is the
        /// socket's, and so shared by its clones; a socket that comes from elsewhere begins without it, whatever its
        /// `O_NONBLOCK` says.
        ///
        /// A coroutine has little need of it: a call that waits holds up nobody else. To wait for readiness there is
        /// [`poll_fd`](crate::io::poll_fd).
        ///
        /// # Errors
        ///
        /// As ioctl(2).
        pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
            self.socket.set_nonblocking(nonblocking)
        }

        /// The error that is pending on the socket, cleared by asking.
        ///
        /// # Errors
        ///
        /// As getsockopt(2).
        pub fn take_error(&self) -> io::Result<Option<io::Error>> {
            self.socket.options().take_error()
        }
    };
}

/// Time limits, as std has them.
macro_rules! timeout_methods {
    () => {
        /// How long a read may wait; `None` for ever.
        ///
        /// # Errors
        ///
        /// None; a `Result` because std has one.
        pub fn read_timeout(&self) -> io::Result<Option<std::time::Duration>> {
            Ok(self.socket.read_timeout())
        }

        /// How long a write may wait; `None` for ever.
        ///
        /// # Errors
        ///
        /// None; a `Result` because std has one.
        pub fn write_timeout(&self) -> io::Result<Option<std::time::Duration>> {
            Ok(self.socket.write_timeout())
        }

        /// Limits how long each read may wait. One that waits longer fails with `WouldBlock`, as with std on Unix;
        /// what arrives later is there for the next read. Also set on the socket (`SO_RCVTIMEO`), for whoever gets
        /// the descriptor.
        ///
        /// # Errors
        ///
        /// `InvalidInput` for a duration of zero.
        pub fn set_read_timeout(&self, time: Option<std::time::Duration>) -> io::Result<()> {
            self.socket.set_read_timeout(time)
        }

        /// Limits how long each write may wait. One that waits longer reports the bytes taken so far, or fails with
        /// `WouldBlock` if there are none. Also set on the socket (`SO_SNDTIMEO`).
        ///
        /// # Errors
        ///
        /// `InvalidInput` for a duration of zero.
        pub fn set_write_timeout(&self, time: Option<std::time::Duration>) -> io::Result<()> {
            self.socket.set_write_timeout(time)
        }
    };
}

/// Descriptors in and out, for a type with a field `socket`.
macro_rules! descriptor {
    ($type:ident, $std:ty) => {
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.socket.as_fd()
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.socket.as_fd().as_raw_fd()
            }
        }

        impl From<OwnedFd> for $type {
            fn from(fd: OwnedFd) -> Self {
                Self {
                    socket: Socket::adopt(fd),
                }
            }
        }

        impl From<$type> for OwnedFd {
            fn from(this: $type) -> Self {
                this.socket.into_fd()
            }
        }

        impl From<$std> for $type {
            fn from(theirs: $std) -> Self {
                OwnedFd::from(theirs).into()
            }
        }

        impl From<$type> for $std {
            fn from(this: $type) -> Self {
                this.socket.into_fd().into()
            }
        }

        impl IntoRawFd for $type {
            fn into_raw_fd(self) -> RawFd {
                self.socket.into_fd().into_raw_fd()
            }
        }

        #[expect(
            unsafe_code,
            reason = "the trait's contract: the caller owns the descriptor"
        )]
        impl FromRawFd for $type {
            unsafe fn from_raw_fd(fd: RawFd) -> Self {
                // SAFETY: the caller owns `fd` and gives it to us.
                unsafe { OwnedFd::from_raw_fd(fd) }.into()
            }
        }

        impl $type {
            /// From std's type. Whether it is non-blocking does not matter: calls wait.
            #[must_use]
            pub fn from_std(theirs: $std) -> Self {
                theirs.into()
            }

            /// To std's type, in the blocking mode it was in. Operations of other coroutines on clones go on.
            #[must_use]
            pub fn into_std(self) -> $std {
                self.into()
            }
        }
    };
}

/// `Read` and `Write` of a stream and of a reference to it.
macro_rules! stream_traits {
    ($type:ident) => {
        impl $type {
            /// Receives into a buffer of the core's pool, which is picked when bytes arrive: a connection that waits
            /// holds none. Empty at the end of the stream.
            ///
            /// For many connections that are mostly idle. A busy one is served as well by a `read` into a buffer of
            /// its own. The pool is bounded (`Builder::receive_pool`); when it is empty the bytes come in memory of
            /// their own.
            ///
            /// # Parks
            ///
            /// Until at least one byte is there, or the peer has ended its side. The read timeout counts.
            ///
            /// # Cancellation
            ///
            /// As for a read: bytes that were received at that very moment are returned, others stay in the socket.
            ///
            /// # Errors
            ///
            /// As recv(2).
            ///
            /// # Source
            ///
            /// `IORING_OP_RECV` with a provided buffer ring, Linux 5.19.
            #[inline]
            pub fn recv_buffer(&self) -> io::Result<crate::io::RecvBuffer> {
                self.socket.recv_pooled()
            }

            /// What arrives, received by one operation that goes on (multishot receive). Begins with the first call of
            /// [`recv`](crate::net::RecvStream::recv).
            ///
            /// See [`RecvStream`](crate::net::RecvStream) for when to use it, and for what becomes of bytes that are not
            /// taken.
            #[must_use]
            pub fn recv_stream(&self) -> crate::net::RecvStream<'_> {
                crate::net::RecvStream::new(&self.socket)
            }
        }

        /// Parks until at least one byte is there; 0 means that the peer has ended its side. Errors as recv(2). When
        /// cancelled, the error is one for which [`is_cancelled`](crate::io::is_cancelled) holds; bytes stay in the
        /// socket. `IORING_OP_RECV`, Linux 5.6.
        impl Read for &$type {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.socket.recv(buffer, 0)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.socket.recv_vectored(buffers)
            }
        }

        /// Parks until the kernel has taken all bytes, as a blocking socket does; fewer are reported when an error, a
        /// timeout or a cancellation came between. Never raises SIGPIPE. `IORING_OP_SEND`, Linux 5.6.
        impl Write for &$type {
            #[inline]
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.socket.send_whole(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.socket.send_whole_vectored(buffers)
            }

            #[inline]
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Read for $type {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        impl Write for $type {
            #[inline]
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            #[inline]
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(crate) use {common_methods, descriptor, stream_traits, timeout_methods};
