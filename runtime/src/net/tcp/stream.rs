//! A TCP connection.

use super::{TcpSocket, as_ip};
use crate::net::ToSocketAddrs;
use crate::net::each_address;
use crate::net::socket::{
    Socket, common_methods, descriptor, not_zero, stream_traits, timeout_methods,
};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A TCP connection. Compare [`std::net::TcpStream`].
///
/// Dropping it closes the connection. Reads and writes through `&TcpStream` may go on at the same time from several
/// coroutines.
///
/// # Examples
///
/// A read that takes no more than a moment:
///
/// ```
/// use coring::net::{TcpListener, TcpStream};
/// use std::io::{ErrorKind, Read};
/// use std::time::Duration;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let mut stream = TcpStream::connect(listener.local_addr()?)?;
///     stream.set_read_timeout(Some(Duration::from_millis(5)))?;
///     let nothing = stream.read(&mut [0; 8]).unwrap_err();
///     assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TcpStream {
    pub(super) socket: Socket,
}

impl TcpStream {
    /// Connects to the first of `addresses` that answers.
    ///
    /// Names are looked up in the offload pool.
    ///
    /// # Parks
    ///
    /// Until the connection stands or is refused.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds; the half-open socket is closed.
    ///
    /// # Errors
    ///
    /// As connect(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_CONNECT`, Linux 5.5.
    pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        each_address(addresses, |address| {
            TcpSocket::for_address(&address)?.connect(address)
        })
    }

    /// Connects, within this time.
    ///
    /// # Parks
    ///
    /// Until the connection stands, is refused, or the time is over.
    ///
    /// # Cancellation
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// `TimedOut` when the time is over, `InvalidInput` for a time of zero, else as connect(2).
    pub fn connect_timeout(address: &SocketAddr, time: Duration) -> io::Result<Self> {
        not_zero(Some(time))?;
        TcpSocket::for_address(address)?.connect_timeout(*address, time)
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

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// As getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&self.socket.options().peer_addr()?)
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&self.socket.options().local_addr()?)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.options().tcp_nodelay()
    }

    /// Sends small writes at once, or lets the kernel gather them (Nagle's algorithm, the default).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.options().set_tcp_nodelay(nodelay)
    }

    /// The time to live of outgoing packets.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket.options().ttl_v4()
    }

    /// Sets the time to live of outgoing packets.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket.options().set_ttl_v4(ttl)
    }

    /// What a close does with bytes not yet acknowledged (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.socket.options().linger()
    }

    /// `None`, the default: closing returns at once and the kernel goes on sending. Zero: closing resets the
    /// connection. Other times make the close wait, and with it the whole core: [`shutdown`](Self::shutdown) and a
    /// read to the end do the same job without that.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_linger(&self, time: Option<Duration>) -> io::Result<()> {
        self.socket.options().set_linger(time)
    }

    common_methods!();
    timeout_methods!();
}

stream_traits!(TcpStream);
descriptor!(TcpStream, std::net::TcpStream);

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("addr", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .field("fd", &self.as_raw_fd())
            .finish()
    }
}
