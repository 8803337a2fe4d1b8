//! TCP and UDP with std's names: [`TcpListener`], [`TcpStream`], [`UdpSocket`]; [`TcpSocket`] for options that come
//! before bind or connect. Unix domain sockets: [`UnixListener`], [`UnixStream`], [`UnixDatagram`].
//!
//! A stream is a plain descriptor. It finds the ring of the core it is used on at each call, so it is
//! `Send + Sync + 'static` and may be moved to another core; `&TcpStream` reads and writes, so crates written for
//! `std::io::{Read, Write}` run on it as they are. Calls block the coroutine, never the core,
//! also where the descriptor came non-blocking; `set_nonblocking` asks for errors of kind `WouldBlock` instead.

mod accept_stream;
mod addresses;
mod datagrams;
mod methods;
mod mode;
mod recv_stream;
mod send_file;
mod socket;
mod tcp;
mod udp;
mod unix;
mod zero_copy;

pub use crate::per_core::Filling;
pub use accept_stream::AcceptStream;
pub use addresses::ToSocketAddrs;
pub use recv_stream::RecvStream;
pub use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
pub use tcp::{Incoming, TcpListener, TcpSocket, TcpStream};
pub use udp::{DatagramBatch, UdpSocket};
pub use unix::{
    MAX_DESCRIPTORS, ReceivedWithFds, UnixDatagram, UnixIncoming, UnixListener, UnixSocketAddr,
    UnixStream,
};

pub use zero_copy::LentBuffer;

use std::io;

/// Tries each address in turn and returns the first success, else the last error, as std does.
fn each_address<T>(
    addresses: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses.to_socket_addrs()? {
        match attempt(address) {
            Ok(value) => return Ok(value),
            Err(error) if crate::io::is_cancelled(&error) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(no_addresses))
}

fn no_addresses() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "could not resolve to any addresses: the list is empty",
    )
}
