//! TCP sockets.
//!
//! What waits goes through the ring: accept, connect, recv, send. What only sets or asks something is a plain
//! system call, as is shutdown(2), which the kernel would hand to a worker thread: 66 us for the first and 6.6 us
//! for each later one, against 0.2 us inline.

mod builder;
mod connect;
mod listener;
mod stream;

pub use builder::TcpSocket;
pub use listener::{Incoming, TcpListener};
pub use stream::TcpStream;

use socket2::SockAddr;
use std::io;
use std::net::SocketAddr;

/// Connections that the kernel keeps for a listener that is busy; it clamps to net.core.somaxconn. std has 128.
const BACKLOG: u32 = 4096;

pub(super) fn as_ip(address: &SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket's address is not an IP address"))
}
