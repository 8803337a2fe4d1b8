//! A Unix connection.

use super::{SocketAddr, StdStream, address_of, lower, open, pair, path_address};
use crate::net::methods::{common_methods, descriptor, stream_traits, timeout_methods};
use crate::net::socket::Socket;
use socket2::{SockAddr, Type};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A Unix connection. Compare [`std::os::unix::net::UnixStream`].
pub struct UnixStream {
    pub(super) socket: Socket,
}

impl UnixStream {
    /// Connects to the listener on a path.
    ///
    /// # Parks
    ///
    /// While the listener's backlog is full.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds.
    ///
    /// # Errors
    ///
    /// As connect(2); `InvalidInput` for a path that is too long (107 bytes) or contains a NUL byte.
    ///
    /// # Source
    ///
    /// `IORING_OP_CONNECT`, Linux 5.5.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_lowered(&path_address(path.as_ref())?)
    }

    /// Connects to the listener on an address.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::connect_lowered(&lower(address)?)
    }

    fn connect_lowered(address: &SockAddr) -> io::Result<Self> {
        let socket = open(Type::STREAM)?;
        socket.connect(address, None)?;
        Ok(Self { socket })
    }

    /// Two streams, connected to each other.
    ///
    /// # Errors
    ///
    /// As socketpair(2).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = pair(Type::STREAM)?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// Reads without taking the bytes out of the socket.
    ///
    /// # Parks
    ///
    /// Until there is something, or the peer has ended its side.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds.
    ///
    /// # Errors
    ///
    /// As recv(2) with `MSG_PEEK`.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer, libc::MSG_PEEK)
    }

    /// Ends one or both directions. A coroutine that waits in the other call on it returns.
    ///
    /// # Errors
    ///
    /// As shutdown(2).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }

    /// The address of this side; unnamed unless it was bound.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address_of(&self.socket, StdStream::local_addr)
    }

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// As getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address_of(&self.socket, StdStream::peer_addr)
    }

    common_methods!();
    timeout_methods!();
}

stream_traits!(UnixStream);
descriptor!(UnixStream, std::os::unix::net::UnixStream);

impl fmt::Debug for UnixStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UnixStream");
        shown.field("fd", &self.as_raw_fd());
        if let Ok(local) = self.local_addr() {
            shown.field("local", &local);
        }
        if let Ok(peer) = self.peer_addr() {
            shown.field("peer", &peer);
        }
        shown.finish()
    }
}
