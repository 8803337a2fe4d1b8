//! What the public socket types have in common, each a type with a field `socket`: methods, conversions, traits.

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
            self.socket.take_error()
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
        /// timeout or a cancellation came between. An error that has ended the connection is told by the next call, be it a write
        /// or a read. Never raises SIGPIPE. `IORING_OP_SEND`, Linux 5.6.
        impl Write for &$type {
            #[inline]
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.socket.send_whole(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.socket.send_whole_message(buffers, &[])
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
