//! TCP sockets.
//!
//! What waits goes through the ring: accept, connect, recv, send. What only sets or asks something is a plain
//! system call, as is shutdown(2), which the kernel would hand to a worker thread: 66 us for the first and 6.6 us
//! for each later one, against 0.2 us inline.

use crate::io::net as operations;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// Connections that the kernel keeps for a listener that is busy; it clamps to net.core.somaxconn. std has 128.
const BACKLOG: i32 = 4096;

fn open(address: &SocketAddr) -> io::Result<Socket> {
    Socket::new(
        Domain::for_address(*address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
}

fn as_ip(address: &SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket's address is not an IP address"))
}

/// A listening TCP socket. Compare [`std::net::TcpListener`].
///
/// # Examples
///
/// ```
/// use coring::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let address = listener.local_addr()?;
///     let server = coring::coro::spawn(move || {
///         let (mut stream, _peer) = listener.accept()?;
///         stream.write_all(b"hello")
///     });
///     let mut text = String::new();
///     TcpStream::connect(address)?.read_to_string(&mut text)?;
///     assert_eq!(text, "hello");
///     server.join().unwrap()
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TcpListener {
    fd: OwnedFd,
}

impl TcpListener {
    /// Listens on the first of `addresses` that can be bound, with `SO_REUSEADDR` as std sets it.
    ///
    /// Resolves names as std does, on the calling core: give it an address where that matters.
    ///
    /// # Errors
    ///
    /// As bind(2) and listen(2).
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        super::each_address(addresses, |address| Self::bind_one(address, false))
    }

    /// As [`bind`](Self::bind), with `SO_REUSEPORT`: several listeners, one a core, share the address, and the
    /// kernel spreads new connections over them.
    ///
    /// # Errors
    ///
    /// As bind(2) and listen(2).
    pub fn bind_reuse_port(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        super::each_address(addresses, |address| Self::bind_one(address, true))
    }

    fn bind_one(address: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let socket = open(&address)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { fd: socket.into() })
    }

    /// Waits for the next connection.
    ///
    /// # Parks
    ///
    /// Until a connection is there.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds. A connection that was accepted at
    /// that very moment is returned instead; none is lost.
    ///
    /// # Errors
    ///
    /// As accept(2). `EMFILE` and `ENFILE` leave the connection in the backlog: close something, wait a little, and
    /// accept again.
    ///
    /// # Source
    ///
    /// `IORING_OP_ACCEPT`, Linux 5.5.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, address) = operations::accept(self.fd.as_fd())?;
        Ok((TcpStream { fd }, address))
    }

    /// Connections, one after the other, for ever.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&SockRef::from(self).local_addr()?)
    }

    /// Another handle to the same socket.
    ///
    /// # Errors
    ///
    /// As fcntl(2): no descriptor may be left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// The error that is pending on the socket, cleared by asking.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        SockRef::from(self).take_error()
    }
}

/// The iterator of [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// A TCP connection. Compare [`std::net::TcpStream`].
///
/// Dropping it closes the connection. Reads and writes through `&TcpStream` may go on at the same time from several
/// coroutines.
pub struct TcpStream {
    fd: OwnedFd,
}

impl TcpStream {
    /// Connects to the first of `addresses` that answers.
    ///
    /// Resolves names as std does, on the calling core: give it an address where that matters.
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
        super::each_address(addresses, |address| {
            let socket = open(&address)?;
            operations::connect(socket.as_fd(), &address.into())?;
            Ok(Self { fd: socket.into() })
        })
    }

    /// Reads without taking the bytes out of the socket.
    ///
    /// # Parks
    ///
    /// Until there is something, or the peer has ended its side.
    ///
    /// # Errors
    ///
    /// As recv(2) with `MSG_PEEK`; when cancelled, as [`TcpListener::accept`].
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        operations::recv(self.fd.as_fd(), buffer, libc::MSG_PEEK)
    }

    /// Ends one or both directions. A coroutine that waits in the other call on it returns.
    ///
    /// # Errors
    ///
    /// As shutdown(2).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(self).shutdown(how)
    }

    /// The address of the other side.
    ///
    /// # Errors
    ///
    /// As getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&SockRef::from(self).peer_addr()?)
    }

    /// The address of this side.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&SockRef::from(self).local_addr()?)
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn nodelay(&self) -> io::Result<bool> {
        SockRef::from(self).tcp_nodelay()
    }

    /// Sends small writes at once, or lets the kernel gather them (Nagle's algorithm, the default).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        SockRef::from(self).set_tcp_nodelay(nodelay)
    }

    /// The time to live of outgoing packets.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn ttl(&self) -> io::Result<u32> {
        SockRef::from(self).ttl_v4()
    }

    /// Sets the time to live of outgoing packets.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        SockRef::from(self).set_ttl_v4(ttl)
    }

    /// Another handle to the same connection.
    ///
    /// # Errors
    ///
    /// As fcntl(2): no descriptor may be left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// The error that is pending on the socket, cleared by asking.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        SockRef::from(self).take_error()
    }
}

/// Parks until at least one byte is there; 0 means that the peer has ended its side. Errors as recv(2); when
/// cancelled, as [`TcpListener::accept`], and bytes that arrived stay in the socket. `IORING_OP_RECV`, Linux 5.6.
impl Read for &TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        operations::recv(self.fd.as_fd(), buffer, 0)
    }
}

/// Parks until the kernel has taken all bytes, as a blocking socket does; fewer are reported when an error or a
/// cancellation came between. Never raises SIGPIPE. `IORING_OP_SEND`, Linux 5.6.
impl Write for &TcpStream {
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        operations::send(self.fd.as_fd(), buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        operations::send_vectored(self.fd.as_fd(), buffers)
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for TcpStream {
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

macro_rules! descriptor {
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
            fn from(socket: $type) -> Self {
                socket.fd
            }
        }

        impl From<$std> for $type {
            fn from(socket: $std) -> Self {
                Self { fd: socket.into() }
            }
        }

        impl From<$type> for $std {
            fn from(socket: $type) -> Self {
                socket.fd.into()
            }
        }

        impl IntoRawFd for $type {
            fn into_raw_fd(self) -> RawFd {
                self.fd.into_raw_fd()
            }
        }

        #[expect(
            unsafe_code,
            reason = "the trait's contract: the caller owns the descriptor"
        )]
        impl FromRawFd for $type {
            unsafe fn from_raw_fd(fd: RawFd) -> Self {
                // SAFETY: the caller owns `fd` and gives it to us.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Self { fd }
            }
        }
    };
}

descriptor!(TcpListener, std::net::TcpListener);
descriptor!(TcpStream, std::net::TcpStream);

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.local_addr().ok())
            .field("fd", &self.as_raw_fd())
            .finish()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream")
            .field("addr", &self.local_addr().ok())
            .field("peer", &self.peer_addr().ok())
            .field("fd", &self.as_raw_fd())
            .finish()
    }
}
