//! A TCP connection.

use super::connect::connect_to_any;
use super::{TcpSocket, as_ip};
use crate::net::LentBuffer;
use crate::net::ToSocketAddrs;
use crate::net::methods::{common_methods, descriptor, stream_traits, timeout_methods};
use crate::net::socket::{Socket, not_zero};
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
    pub(in crate::net) socket: Socket,
}

impl TcpStream {
    /// Connects to the first of `addresses` that answers.
    ///
    /// Names are looked up in the offload pool. Addresses are tried in the order given, as std does, but a silent one does
    /// not hold up the others: when it has not answered after 250 ms the next one is tried beside it, and the first
    /// connection that stands wins (RFC 8305, "happy eyeballs"). The others are ended before this returns; a
    /// peer may see that it accepted a connection that was closed at once.
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
    /// As connect(2); when all fail, that of the last address.
    ///
    /// # Source
    ///
    /// `IORING_OP_CONNECT`, Linux 5.5.
    pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        connect_to_any(addresses.to_socket_addrs()?.as_slice())
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

    /// Sends a large buffer without copying it: the network card reads from it.
    ///
    /// Returns how much the stream has taken, all of it as a rule, and the buffer, which is free when the kernel has let
    /// go of it ([`LentBuffer::reclaim`]): for TCP when the peer has acknowledged the bytes. Several may be under way.
    ///
    /// **When to use it.** From about 16 KiB, to peers behind a network card. Never over loopback: there the kernel copies
    /// all the same, and buffers of 16 KiB to 1 MiB took three to six times as long as a write. Keep several under way: the
    /// last segment's acknowledgement may be delayed, so that who waits for each buffer sends one of 16 KiB in
    /// 2 ms, where a write takes 4 us.
    ///
    /// Bounds: the socket's send buffer, as for a write; one operation (`Builder::max_operations`) for each part that it takes at once, until it is free again; and
    /// without `CAP_IPC_LOCK` the pages count against `RLIMIT_MEMLOCK`. Beyond that limit, on a kernel
    /// without the operation and with the feature `send-zc` off the bytes are copied, and the buffer is free at once.
    ///
    /// # Parks
    ///
    /// Until the stream has taken all, as a write does. The write timeout counts.
    ///
    /// # Cancellation
    ///
    /// As a write: fewer bytes are reported, or an error for which [`is_cancelled`](crate::io::is_cancelled) holds.
    ///
    /// # Errors
    ///
    /// As send(2). Also then the buffer may be lent.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::{coro, net::{TcpListener, TcpStream}};
    /// use std::io::Read;
    ///
    /// coring::Runtime::builder().cores(1).build()?.run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let address = listener.local_addr()?;
    ///     let reader = coro::spawn(move || {
    ///         let mut bytes = Vec::new();
    ///         listener.accept()?.0.read_to_end(&mut bytes)
    ///     });
    ///     let stream = TcpStream::connect(address)?;
    ///     let (sent, buffer) = stream.send_zero_copy(vec![7; 1 << 20]);
    ///     assert_eq!(sent?, 1 << 20);
    ///     let mut buffer = buffer.reclaim()?;
    ///     buffer.fill(8);
    ///     drop(stream);
    ///     assert_eq!(reader.join().unwrap()?, 1 << 20);
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Source
    ///
    /// `IORING_OP_SEND_ZC`, Linux 6.0.
    pub fn send_zero_copy<B: AsRef<[u8]> + 'static>(
        &self,
        buffer: B,
    ) -> (io::Result<usize>, LentBuffer<B>) {
        self.socket.send_zero_copy(buffer)
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
        let mut shown = f.debug_struct("TcpStream");
        if let Ok(address) = self.local_addr() {
            shown.field("addr", &address);
        }
        if let Ok(peer) = self.peer_addr() {
            shown.field("peer", &peer);
        }
        shown.field("fd", &self.as_raw_fd()).finish()
    }
}
