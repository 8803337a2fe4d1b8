//! UDP sockets. recv, recvfrom, send and sendto go through the ring; options are plain system calls.

use crate::net::methods::{common_methods, descriptor, timeout_methods};
use crate::net::socket::Socket;
use crate::net::tcp::as_ip;
use crate::net::{ToSocketAddrs, each_address};
use socket2::{Domain, Protocol, Type};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// A UDP socket. Compare [`std::net::UdpSocket`].
///
/// A datagram that is longer than the buffer is cut to it, as recv(2) does. All calls that wait return an error for
/// which [`is_cancelled`](crate::io::is_cancelled) holds when their coroutine is cancelled; a datagram that was
/// received at that very moment is returned instead.
///
/// # Examples
///
/// ```
/// use coring::net::UdpSocket;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
///     one.send_to(b"hello", other.local_addr()?)?;
///     let mut buffer = [0; 16];
///     let (bytes, from) = other.recv_from(&mut buffer)?;
///     assert_eq!((&buffer[..bytes], from), (&b"hello"[..], one.local_addr()?));
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What must be set before the bind is set with [socket2](https://docs.rs/socket2), whose sockets become ours. A socket on each
/// core behind one address, between which the kernel divides the senders:
///
/// ```
/// use coring::net::UdpSocket;
/// use socket2::{Domain, Protocol, Socket, Type};
/// use std::net::SocketAddr;
/// use std::os::fd::OwnedFd;
///
/// fn bind_shared(address: SocketAddr) -> std::io::Result<UdpSocket> {
///     let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
///     socket.set_reuse_port(true)?;
///     socket.set_recv_buffer_size(4 << 20)?;
///     socket.bind(&address.into())?;
///     Ok(OwnedFd::from(socket).into())
/// }
///
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let first = bind_shared("127.0.0.1:0".parse().unwrap())?;
///     let address = first.local_addr()?;
///     let others = coring::call_all(move |_core| bind_shared(address)).unwrap();
///     for socket in others {
///         assert_eq!(socket?.local_addr()?, address);
///     }
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UdpSocket {
    pub(super) socket: Socket,
}

impl UdpSocket {
    /// A socket with the first of `addresses` that can be bound.
    ///
    /// # Errors
    ///
    /// As bind(2).
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        each_address(addresses, |address| {
            let domain = Domain::for_address(address);
            let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
            socket.bind(&address.into())?;
            Ok(Self {
                socket: Socket::fresh(socket.into()),
            })
        })
    }

    /// Sends to and receives from one address only, from now on. With several, the first that works.
    ///
    /// Nothing is sent, so nothing waits.
    ///
    /// # Errors
    ///
    /// As connect(2).
    pub fn connect(&self, addresses: impl ToSocketAddrs) -> io::Result<()> {
        each_address(addresses, |address| {
            self.socket.options().connect(&address.into())
        })
    }

    /// Receives a datagram from the connected address.
    ///
    /// # Parks
    ///
    /// Until one is there.
    ///
    /// # Errors
    ///
    /// As recv(2); `ConnectionRefused` if an earlier datagram found nobody.
    ///
    /// # Source
    ///
    /// `IORING_OP_RECV`, Linux 5.6.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv_datagram(buffer, 0)
    }

    /// As [`recv`](Self::recv), leaving the datagram where it is.
    ///
    /// # Errors
    ///
    /// As recv(2).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv_datagram(buffer, libc::MSG_PEEK)
    }

    /// Receives a datagram, and who sent it.
    ///
    /// # Parks
    ///
    /// Until one is there.
    ///
    /// # Errors
    ///
    /// As recvmsg(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_RECVMSG`, Linux 5.3.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (bytes, from) = self.socket.recv_datagram_from(buffer, 0)?;
        Ok((bytes, as_ip(&from)?))
    }

    /// As [`recv_from`](Self::recv_from), leaving the datagram where it is.
    ///
    /// # Errors
    ///
    /// As recvmsg(2).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (bytes, from) = self.socket.recv_datagram_from(buffer, libc::MSG_PEEK)?;
        Ok((bytes, as_ip(&from)?))
    }

    /// Sends a datagram to the connected address.
    ///
    /// # Parks
    ///
    /// While the socket's buffer is full.
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

    /// Sends a datagram to the first of `addresses`.
    ///
    /// # Parks
    ///
    /// While the socket's buffer is full.
    ///
    /// # Errors
    ///
    /// `InvalidInput` without an address, else as sendmsg(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_SENDMSG`, Linux 5.3.
    pub fn send_to(&self, buffer: &[u8], addresses: impl ToSocketAddrs) -> io::Result<usize> {
        let Some(to) = addresses.to_socket_addrs()?.next() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no addresses to send data to",
            ));
        };
        self.socket
            .send_datagram_message(&[IoSlice::new(buffer)], Some(&to.into()), &[])
    }

    /// The connected address.
    ///
    /// # Errors
    ///
    /// `NotConnected` before [`connect`](Self::connect).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&self.socket.options().peer_addr()?)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        as_ip(&self.socket.options().local_addr()?)
    }

    common_methods!();
    timeout_methods!();
}

/// One getter and one setter of std's for each option.
macro_rules! options {
    ($($get:ident $set:ident: $type:ty => $get2:ident $set2:ident, $text:literal;)*) => {
        /// Options: plain calls of getsockopt(2) and setsockopt(2), whose errors they return.
        impl UdpSocket {
            $(
                #[doc = concat!("Reads ", $text, ".")]
                ///
                /// # Errors
                ///
                /// As getsockopt(2).
                pub fn $get(&self) -> io::Result<$type> {
                    self.socket.options().$get2()
                }

                #[doc = concat!("Sets ", $text, ".")]
                ///
                /// # Errors
                ///
                /// As setsockopt(2).
                pub fn $set(&self, value: $type) -> io::Result<()> {
                    self.socket.options().$set2(value)
                }
            )*
        }
    };
}

options! {
    broadcast set_broadcast: bool => broadcast set_broadcast, "whether it may send to broadcast addresses (`SO_BROADCAST`)";
    ttl set_ttl: u32 => ttl_v4 set_ttl_v4, "the time to live of datagrams (`IP_TTL`)";
    multicast_loop_v4 set_multicast_loop_v4: bool => multicast_loop_v4 set_multicast_loop_v4, "whether its own multicasts come back (`IP_MULTICAST_LOOP`)";
    multicast_ttl_v4 set_multicast_ttl_v4: u32 => multicast_ttl_v4 set_multicast_ttl_v4, "the time to live of multicasts (`IP_MULTICAST_TTL`)";
    multicast_loop_v6 set_multicast_loop_v6: bool => multicast_loop_v6 set_multicast_loop_v6, "whether its own multicasts come back (`IPV6_MULTICAST_LOOP`)";
}

/// Multicast groups, as ip(7) and ipv6(7) have them.
impl UdpSocket {
    /// Joins a group on the interface with this address.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.options().join_multicast_v4(group, interface)
    }

    /// Leaves it.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.options().leave_multicast_v4(group, interface)
    }

    /// Joins a group on the interface with this index.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.options().join_multicast_v6(group, interface)
    }

    /// Leaves it.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.options().leave_multicast_v6(group, interface)
    }
}

descriptor!(UdpSocket, std::net::UdpSocket);

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UdpSocket");
        if let Ok(address) = self.local_addr() {
            shown.field("addr", &address);
        }
        shown.field("fd", &self.as_raw_fd()).finish()
    }
}
