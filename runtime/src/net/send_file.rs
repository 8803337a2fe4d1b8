//! sendfile(2): from a file to a socket without passing through our memory.
//!
//! There is no opcode for it (splice has one, and it takes a kernel worker for each of the two hops through a pipe).
//! The call may wait twice, for the device and for room in the socket, and neither wait may hold up a core, nor a
//! thread of the pool for as long as a slow client likes:
//!
//! ```text
//!   pool: sendfile on the non-blocking socket --> some bytes: again
//!                                             --> EAGAIN: wait for room through the ring, then again
//! ```
#![expect(unsafe_code, reason = "calls sendfile")]

use super::TcpStream;
use super::socket::Socket;
use crate::fs::File;
use crate::io::net::poll;
use crate::io::{Limit, offload, within};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// What one visit to the pool sends at most; cancellation is looked at in between.
const PART_BYTES: u64 = 1 << 20;

impl TcpStream {
    /// Sends a part of a file. Returns the bytes sent: fewer when the file ends before.
    ///
    /// Pays for large parts: each visit to the offload pool costs about as much as copying 64 KiB. While it runs the
    /// socket is non-blocking, which only others who use the descriptor can see; when the last of several calls on it, or on its
    /// clones by `try_clone`, has ended, it is as before. The file's position is not used.
    ///
    /// # Parks
    ///
    /// Until the kernel has taken everything. The socket's write timeout limits each wait for room.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds if nothing was sent, else how much was.
    ///
    /// # Errors
    ///
    /// As sendfile(2), if nothing was sent. An error after that is not told: the next call meets it again.
    pub fn send_file(&self, file: &File, offset: u64, length: u64) -> io::Result<u64> {
        let _mode = NonBlocking::begin(&self.socket)?;
        let (socket, source) = (self.as_raw_fd(), file.as_raw_fd());
        let mut sent = 0;
        while sent < length {
            let part = (length - sent).min(PART_BYTES);
            let from = offset + sent;
            // Both descriptors are borrowed, and `offload` returns only after the closure has.
            let outcome = match offload(move || send_part(socket, source, from, part)).flatten() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for_room().map(|()| None)
                }
                outcome => outcome.map(Some),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(0)) => break,
                Ok(Some(bytes)) => sent += bytes,
                Err(error) if sent == 0 => return Err(self.socket.failed(error)),
                Err(error) => {
                    self.socket.keep(&error);
                    break;
                }
            }
        }
        Ok(sent)
    }

    fn wait_for_room(&self) -> io::Result<()> {
        let events = u32::from(libc::POLLOUT.cast_unsigned());
        within(self.socket.write_limit(), |limit: Limit<'_>| {
            poll(self.as_fd(), events, limit).map(drop)
        })
    }
}

fn send_part(socket: RawFd, source: RawFd, offset: u64, length: u64) -> io::Result<u64> {
    let mut offset =
        libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let length = usize::try_from(length).expect("a part is small");
    // SAFETY: the offset is in this frame; the caller holds both descriptors.
    let sent = unsafe { libc::sendfile(socket, source, &raw mut offset, length) };
    u64::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// A use of the socket in non-blocking mode.
struct NonBlocking<'a>(&'a Socket);

impl<'a> NonBlocking<'a> {
    fn begin(socket: &'a Socket) -> io::Result<Self> {
        socket.mode().enter(socket.options())?;
        Ok(Self(socket))
    }
}

impl Drop for NonBlocking<'_> {
    fn drop(&mut self) {
        self.0.mode().leave(self.0.options());
    }
}
