//! Unix domain sockets with the names of `std::os::unix::net`.
//!
//! Addresses are std's [`SocketAddr`]: paths, and with `std::os::linux::net::SocketAddrExt` abstract names, which
//! need no file. [`UnixStream`] and [`UnixDatagram`] carry descriptors, too (descriptors.rs).
//!
//! A path may fill the kernel's 108 bytes, with none left for a NUL. Nobody can make such a [`SocketAddr`], but std gets one from
//! the kernel, and a peer may have one: so who asks for the address of a socket asks through std.
#![expect(unsafe_code, reason = "lends a descriptor to std")]

mod datagram;
mod descriptors;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use descriptors::{MAX_DESCRIPTORS, ReceivedWithFds};
pub use listener::{UnixIncoming, UnixListener};
pub use std::os::unix::net::SocketAddr as UnixSocketAddr;
pub use stream::UnixStream;

use super::socket::Socket;
use socket2::{Domain, SockAddr, Type};
use std::ffi::OsStr;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;

type StdStream = std::os::unix::net::UnixStream;

/// As std has it: the kernel clamps to net.core.somaxconn.
const BACKLOG: i32 = 4096;

fn open(kind: Type) -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, kind, None)?;
    Ok(Socket::fresh(socket.into()))
}

/// Two sockets, each connected to the other.
fn pair(kind: Type) -> io::Result<(Socket, Socket)> {
    let (one, other) = socket2::Socket::pair(Domain::UNIX, kind, None)?;
    Ok((Socket::fresh(one.into()), Socket::fresh(other.into())))
}

/// The address of a path: `InvalidInput` if it is too long or contains a NUL byte.
fn path_address(path: &Path) -> io::Result<SockAddr> {
    lower(&SocketAddr::from_pathname(path)?)
}

/// std's address as the kernel takes it.
fn lower(address: &SocketAddr) -> io::Result<SockAddr> {
    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    let mut bytes = Vec::new();
    if let Some(name) = address.as_abstract_name() {
        bytes.push(0);
        bytes.extend_from_slice(name);
    }
    SockAddr::unix(OsStr::from_bytes(&bytes))
}

/// The kernel's address as std has it. Who has not bound has none, which is an address, too.
fn lift(address: &SockAddr) -> io::Result<SocketAddr> {
    if let Some(path) = address.as_pathname() {
        SocketAddr::from_pathname(path)
    } else if let Some(name) = address.as_abstract_namespace() {
        SocketAddr::from_abstract_name(name)
    } else {
        unnamed()
    }
}

fn unnamed() -> io::Result<SocketAddr> {
    SocketAddr::from_pathname("")
}

/// The address of a socket, or of its peer.
fn address_of(
    socket: &Socket,
    which: fn(&StdStream) -> io::Result<SocketAddr>,
) -> io::Result<SocketAddr> {
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and `ManuallyDrop` does not close it. Any Unix socket has
    // addresses.
    let theirs = ManuallyDrop::new(unsafe { StdStream::from_raw_fd(socket.as_fd().as_raw_fd()) });
    which(&theirs)
}
