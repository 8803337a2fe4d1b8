//! A socket that accepts TCP connections.

use super::{BACKLOG, TcpSocket, TcpStream, as_ip};
use crate::net::AcceptStream;
use crate::net::ToSocketAddrs;
use crate::net::each_address;
use crate::net::methods::{common_methods, descriptor};
use crate::net::socket::Socket;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

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
    pub(super) socket: Socket,
}

impl TcpListener {
    /// Listens on the first of `addresses` that can be bound, with `SO_REUSEADDR` as std sets it.
    ///
    /// Names are looked up in the offload pool. For other options before the bind there is [`TcpSocket`].
    ///
    /// # Errors
    ///
    /// As bind(2) and listen(2).
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        each_address(addresses, |address| Self::bind_one(address, false))
    }

    /// As [`bind`](Self::bind), with `SO_REUSEPORT`: several listeners, one a core, share the address, and the
    /// kernel spreads new connections over them.
    ///
    /// # Errors
    ///
    /// As bind(2) and listen(2).
    pub fn bind_reuse_port(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        each_address(addresses, |address| Self::bind_one(address, true))
    }

    fn bind_one(address: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let socket = TcpSocket::for_address(&address)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
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
        let (socket, address) = self.socket.accept()?;
        Ok((TcpStream { socket }, as_ip(&address)?))
    }

    /// Connections, one after the other, for ever.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Connections, one after the other, accepted by one operation for all of them. Begins with the first call of
    /// [`accept`](AcceptStream::accept).
    ///
    /// See [`AcceptStream`] for when to use it, and for what it does when descriptors run out.
    #[must_use]
    pub fn accept_stream(&self) -> AcceptStream<'_, TcpStream> {
        AcceptStream::new(&self.socket, |socket| TcpStream { socket })
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&self.socket.options().local_addr()?)
    }

    /// The time to live of packets that it sends.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn ttl(&self) -> io::Result<u32> {
        self.socket.options().ttl_v4()
    }

    /// Sets the time to live of packets that it sends, which accepted connections inherit.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.socket.options().set_ttl_v4(ttl)
    }

    common_methods!();
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

descriptor!(TcpListener, std::net::TcpListener);

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TcpListener");
        if let Ok(address) = self.local_addr() {
            shown.field("addr", &address);
        }
        shown.field("fd", &self.as_raw_fd()).finish()
    }
}
