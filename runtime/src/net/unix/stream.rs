//! A Unix connection.

use super::{SocketAddr, StdStream, address_of, lower, open, pair, path_address};
use crate::io::{Limit, may_wait, pause};
use crate::net::methods::{common_methods, descriptor, stream_traits, timeout_methods};
use crate::net::socket::Socket;
use coring_coro::wait;
use socket2::{SockAddr, Type};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// How long the first pause is before another attempt to connect; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// A Unix connection. Compare [`std::os::unix::net::UnixStream`].
pub struct UnixStream {
    pub(super) socket: Socket,
}

impl UnixStream {
    /// Connects to the listener on a path.
    ///
    /// # Parks
    ///
    /// While the listener's backlog is full; that there is room again is seen up to 10 ms late.
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
    /// connect(2) that does not wait.
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

    /// The kernel connects at once, or waits for room in the listener's queue. In a ring a worker would wait there, of which a core
    /// has some for everything: as many connects to a listener that does not accept would hold up those to others. So nobody
    /// waits in it, as with a file lock.
    fn connect_lowered(address: &SockAddr) -> io::Result<Self> {
        may_wait()?;
        let socket = open(Type::STREAM)?;
        socket.options().set_nonblocking(true)?;
        let mut time = FIRST_PAUSE;
        let connected = loop {
            match socket.options().connect(address) {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    pause(time, "room in a listener's queue", Limit::NONE)?;
                    time = (2 * time).min(LONGEST_PAUSE);
                }
                connected => break connected,
            }
        };
        // Who tries again and again lets others run.
        wait::give_way();
        connected?;
        socket.options().set_nonblocking(false)?;
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
