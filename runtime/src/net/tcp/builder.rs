//! A TCP socket before it is one or the other: options that must be set before bind or connect.

use super::{TcpListener, TcpStream, as_ip};
use crate::net::socket::{Socket, not_zero};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A TCP socket that neither listens nor is connected yet.
///
/// What has no method here can be set through [`AsFd`], with `socket2::SockRef` for example.
///
/// # Examples
///
/// ```
/// use coring::net::{TcpSocket, TcpStream};
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let socket = TcpSocket::new_v4()?;
///     socket.set_reuse_address(true)?;
///     socket.set_recv_buffer_size(64 * 1024)?;
///     socket.bind("127.0.0.1:0".parse().unwrap())?;
///     let listener = socket.listen(16)?;
///     TcpStream::connect(listener.local_addr()?)?;
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpSocket {
    socket: Socket,
}

impl TcpSocket {
    /// A socket for IPv4.
    ///
    /// # Errors
    ///
    /// As socket(2).
    pub fn new_v4() -> io::Result<Self> {
        Self::new(Domain::IPV4)
    }

    /// A socket for IPv6.
    ///
    /// # Errors
    ///
    /// As socket(2).
    pub fn new_v6() -> io::Result<Self> {
        Self::new(Domain::IPV6)
    }

    /// A socket of the family of `address`.
    ///
    /// # Errors
    ///
    /// As socket(2).
    pub fn for_address(address: &SocketAddr) -> io::Result<Self> {
        Self::new(Domain::for_address(*address))
    }

    fn new(domain: Domain) -> io::Result<Self> {
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        Ok(Self {
            socket: Socket::fresh(OwnedFd::from(socket)),
        })
    }

    fn options(&self) -> SockRef<'_> {
        self.socket.options()
    }

    /// Lets a listener take an address whose last connections have not quite ended (`SO_REUSEADDR`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_reuse_address(&self, on: bool) -> io::Result<()> {
        self.options().set_reuse_address(on)
    }

    /// Lets several listeners share an address; the kernel spreads connections over them (`SO_REUSEPORT`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_reuse_port(&self, on: bool) -> io::Result<()> {
        self.options().set_reuse_port(on)
    }

    /// Bytes of the kernel's receive buffer, which the kernel doubles for its bookkeeping (`SO_RCVBUF`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.options().set_recv_buffer_size(bytes)
    }

    /// Bytes of the kernel's send buffer, which the kernel doubles for its bookkeeping (`SO_SNDBUF`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.options().set_send_buffer_size(bytes)
    }

    /// Asks a silent peer whether it is still there, after this idle time; `None` never does (`SO_KEEPALIVE`,
    /// `TCP_KEEPIDLE`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        match idle {
            None => self.options().set_keepalive(false),
            Some(idle) => self
                .options()
                .set_tcp_keepalive(&TcpKeepalive::new().with_time(idle)),
        }
    }

    /// Sends small writes at once (`TCP_NODELAY`); accepted connections inherit it.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.options().set_tcp_nodelay(on)
    }

    /// Whether an IPv6 socket leaves IPv4 alone (`IPV6_V6ONLY`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_only_v6(&self, on: bool) -> io::Result<()> {
        self.options().set_only_v6(on)
    }

    /// What a close does with bytes not yet acknowledged. See [`TcpStream::set_linger`].
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn set_linger(&self, time: Option<Duration>) -> io::Result<()> {
        self.options().set_linger(time)
    }

    /// Uses one network interface only, by its name; `None` any (`SO_BINDTODEVICE`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2): `ENODEV` for a name that does not exist.
    pub fn bind_device(&self, interface: Option<&str>) -> io::Result<()> {
        self.options().bind_device(interface.map(str::as_bytes))
    }

    /// Gives the socket its local address.
    ///
    /// # Errors
    ///
    /// As bind(2).
    pub fn bind(&self, address: SocketAddr) -> io::Result<()> {
        self.options().bind(&address.into())
    }

    /// The local address.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&self.options().local_addr()?)
    }

    /// Listens, with room for `backlog` connections that nobody has accepted yet; net.core.somaxconn bounds it.
    ///
    /// # Errors
    ///
    /// As listen(2).
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        self.options().listen(backlog)?;
        Ok(TcpListener {
            socket: self.socket,
        })
    }

    /// Connects.
    ///
    /// # Parks
    ///
    /// Until the connection stands or is refused.
    ///
    /// # Cancellation
    ///
    /// As [`TcpStream::connect`].
    ///
    /// # Errors
    ///
    /// As connect(2).
    pub fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connect_within(address, None)
    }

    /// Connects, within this time.
    ///
    /// # Parks
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Cancellation
    ///
    /// As [`TcpStream::connect`].
    ///
    /// # Errors
    ///
    /// As [`TcpStream::connect_timeout`].
    pub fn connect_timeout(self, address: SocketAddr, time: Duration) -> io::Result<TcpStream> {
        self.connect_within(address, not_zero(Some(time))?)
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    fn connect_within(self, address: SocketAddr, time: Option<Duration>) -> io::Result<TcpStream> {
        self.socket.connect(&address.into(), time)?;
        Ok(TcpStream {
            socket: self.socket,
        })
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
