//! A socket that accepts Unix connections.

use super::{
    BACKLOG, SocketAddr, StdStream, UnixStream, address_of, lift, lower, open, path_address,
    unnamed,
};
use crate::net::AcceptStream;
use crate::net::methods::{common_methods, descriptor};
use crate::net::socket::Socket;
use socket2::{SockAddr, Type};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A listening Unix socket. Compare [`std::os::unix::net::UnixListener`].
///
/// Dropping it leaves its path in the file system, as std does.
///
/// # Examples
///
/// ```
/// use coring::net::{UnixListener, UnixSocketAddr, UnixStream};
/// use std::io::{Read, Write};
/// use std::os::linux::net::SocketAddrExt;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let name = format!("coring-doc-{}", std::process::id());
///     let address = UnixSocketAddr::from_abstract_name(name)?;
///     let listener = UnixListener::bind_addr(&address)?;
///     let server = coring::coro::spawn(move || listener.accept()?.0.write_all(b"hello"));
///     let mut text = String::new();
///     UnixStream::connect_addr(&address)?.read_to_string(&mut text)?;
///     assert_eq!(text, "hello");
///     server.join().unwrap()
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UnixListener {
    socket: Socket,
}

impl UnixListener {
    /// Listens on a path, which must not exist yet.
    ///
    /// # Errors
    ///
    /// As bind(2); `InvalidInput` for a path that is too long (107 bytes) or contains a NUL byte.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::bind_lowered(&path_address(path.as_ref())?)
    }

    /// Listens on an address.
    ///
    /// # Errors
    ///
    /// As bind(2).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::bind_lowered(&lower(address)?)
    }

    fn bind_lowered(address: &SockAddr) -> io::Result<Self> {
        let socket = open(Type::STREAM)?;
        socket.options().bind(address)?;
        socket.options().listen(BACKLOG)?;
        Ok(Self { socket })
    }

    /// Waits for the next connection.
    ///
    /// # Parks
    ///
    /// Until a connection is there.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds, or the connection that was
    /// accepted at that very moment.
    ///
    /// # Errors
    ///
    /// As accept(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_ACCEPT`, Linux 5.5.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (socket, address) = self.socket.accept()?;
        // A connection is not given up for an address that cannot be told.
        let address = lift(&address)
            .or_else(|_| address_of(&socket, StdStream::peer_addr))
            .or_else(|_| unnamed())?;
        Ok((UnixStream { socket }, address))
    }

    /// Connections, one after the other, for ever.
    #[must_use]
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    /// Connections, one after the other, accepted by one operation for all of them. Begins with the first call of
    /// [`accept`](AcceptStream::accept).
    ///
    /// See [`AcceptStream`] for when to use it, and for what it does when descriptors run out.
    #[must_use]
    pub fn accept_stream(&self) -> AcceptStream<'_, UnixStream> {
        AcceptStream::new(&self.socket, |socket| UnixStream { socket })
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address_of(&self.socket, StdStream::local_addr)
    }

    common_methods!();
}

/// The iterator of [`UnixListener::incoming`].
#[derive(Debug)]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// As [`incoming`](UnixListener::incoming).
impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = UnixIncoming<'a>;

    fn into_iter(self) -> UnixIncoming<'a> {
        self.incoming()
    }
}

descriptor!(UnixListener, std::os::unix::net::UnixListener);

impl fmt::Debug for UnixListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("UnixListener");
        shown.field("fd", &self.as_raw_fd());
        if let Ok(local) = self.local_addr() {
            shown.field("local", &local);
        }
        shown.finish()
    }
}
