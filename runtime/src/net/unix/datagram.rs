//! Unix datagrams: whole messages, in order, never lost.

use super::{SocketAddr, StdStream, address_of, lift, lower, open, pair, path_address, unnamed};
use crate::net::methods::{common_methods, descriptor, timeout_methods};
use crate::net::socket::Socket;
use socket2::{SockAddr, Type};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A Unix datagram socket. Compare [`std::os::unix::net::UnixDatagram`].
///
/// # Examples
///
/// ```
/// use coring::net::UnixDatagram;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let (one, other) = UnixDatagram::pair()?;
///     one.send(b"a whole message")?;
///     let mut buffer = [0; 64];
///     let bytes = other.recv(&mut buffer)?;
///     assert_eq!(&buffer[..bytes], b"a whole message");
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UnixDatagram {
    pub(super) socket: Socket,
}

impl UnixDatagram {
    /// A socket on a path, which must not exist yet.
    ///
    /// # Errors
    ///
    /// As bind(2); `InvalidInput` for a path that is too long (107 bytes) or contains a NUL byte.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = open(Type::DGRAM)?;
        socket.options().bind(&path_address(path.as_ref())?)?;
        Ok(Self { socket })
    }

    /// A socket on an address.
    ///
    /// # Errors
    ///
    /// As bind(2).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        let socket = open(Type::DGRAM)?;
        socket.options().bind(&lower(address)?)?;
        Ok(Self { socket })
    }

    /// A socket without an address: it can send, and nobody can answer.
    ///
    /// # Errors
    ///
    /// As socket(2).
    pub fn unbound() -> io::Result<Self> {
        let socket = open(Type::DGRAM)?;
        Ok(Self { socket })
    }

    /// Two sockets, connected to each other.
    ///
    /// # Errors
    ///
    /// As socketpair(2).
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = pair(Type::DGRAM)?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// Sends to the socket on a path from now on. Does not wait.
    ///
    /// # Errors
    ///
    /// As connect(2).
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.socket.options().connect(&path_address(path.as_ref())?)
    }

    /// Sends to an address from now on. Does not wait.
    ///
    /// # Errors
    ///
    /// As connect(2).
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        self.socket.options().connect(&lower(address)?)
    }

    /// Receives a datagram; one that is longer than the buffer is cut to it.
    ///
    /// # Parks
    ///
    /// Until one is there.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds, or the datagram that was received
    /// at that very moment.
    ///
    /// # Errors
    ///
    /// As recv(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_RECV`, Linux 5.6.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv_datagram(buffer, 0)
    }

    /// As [`recv`](Self::recv), and who sent it. A sender whose path has all of 108 bytes counts as unnamed.
    ///
    /// # Errors
    ///
    /// As recvmsg(2).
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (bytes, from) = self.socket.recv_datagram_from(buffer, 0)?;
        Ok((bytes, sender(&from)?))
    }

    /// As [`recv`](Self::recv), leaving the datagram where it is.
    ///
    /// # Errors
    ///
    /// As recv(2).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv_datagram(buffer, libc::MSG_PEEK)
    }

    /// As [`recv_from`](Self::recv_from), leaving the datagram where it is.
    ///
    /// # Errors
    ///
    /// As recvmsg(2).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (bytes, from) = self.socket.recv_datagram_from(buffer, libc::MSG_PEEK)?;
        Ok((bytes, sender(&from)?))
    }

    /// Sends a datagram to the connected socket.
    ///
    /// # Parks
    ///
    /// While the receiver's queue is full.
    ///
    /// # Errors
    ///
    /// As send(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_SEND`, Linux 5.6.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.send_datagram(buffer)
    }

    /// Sends a datagram to the socket on a path.
    ///
    /// # Parks
    ///
    /// While the receiver's queue is full; that there is room again is seen up to 10 ms late. A receiver that is
    /// [connected](Self::connect) to is waited for without that delay.
    ///
    /// # Errors
    ///
    /// As sendmsg(2).
    pub fn send_to(&self, buffer: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let to = path_address(path.as_ref())?;
        self.socket.send_datagram_to_queue(buffer, &to)
    }

    /// Sends a datagram to an address.
    ///
    /// # Parks
    ///
    /// As [`send_to`](Self::send_to).
    ///
    /// # Errors
    ///
    /// As sendmsg(2).
    pub fn send_to_addr(&self, buffer: &[u8], address: &SocketAddr) -> io::Result<usize> {
        let to = lower(address)?;
        self.socket.send_datagram_to_queue(buffer, &to)
    }

    /// Ends one or both directions.
    ///
    /// # Errors
    ///
    /// As shutdown(2).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.shutdown(how)
    }

    /// The address it is bound to; unnamed if it is not.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address_of(&self.socket, StdStream::local_addr)
    }

    /// The address it is connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected` before [`connect`](Self::connect).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address_of(&self.socket, StdStream::peer_addr)
    }

    common_methods!();
    timeout_methods!();
}

/// A datagram is not given up for a sender that cannot be told.
fn sender(from: &SockAddr) -> io::Result<SocketAddr> {
    lift(from).or_else(|_| unnamed())
}

descriptor!(UnixDatagram, std::os::unix::net::UnixDatagram);

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UnixDatagram");
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
