//! Datagrams, sent and received so that no worker of the kernel waits for them.
//!
//! A ring waits for a socket by a poll, and tries again when that says that it is ready. An operation that has been in vain 128 times
//! is left to a worker, which waits inside of it; a core has 16 for all that may wait for ever. So as many operations that come away
//! empty again and again would hold up every other of that kind. With a stream that does not happen: what is ready is its own. With
//! datagrams it does:
//!
//! - Several coroutines receive with one socket, and one of them is faster each time.
//! - Many send to one socket that has no room, and one of them is faster each time.
//! - A Unix socket sends to an address whose queue is full. It counts as ready itself, and the 128 attempts are over at once.
//!
//! ```text
//!   receive, the only one --------------------------> recv, which waits
//!   receive, others do, too -> recv, MSG_DONTWAIT --> nothing there? poll, and again
//!   send --------------------> send, MSG_DONTWAIT --> no room?       poll, and again
//!   send to a Unix address --> sendmsg, the same ---> no room?       a pause, and again
//! ```

use super::socket::Socket;
use crate::io::net as operations;
use crate::io::{pause, within};
use socket2::SockAddr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// How long the first pause is before a datagram is sent again to a queue that was full; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// A receive that is under way.
struct Receiving<'a> {
    receivers: &'a AtomicU32,
    flags: i32,
}

impl<'a> Receiving<'a> {
    fn begin(socket: &'a Socket, flags: i32) -> Self {
        let receivers = socket.receivers();
        let is_alone = receivers.fetch_add(1, Relaxed) == 0;
        let waits = if is_alone { 0 } else { libc::MSG_DONTWAIT };
        Self {
            receivers,
            flags: flags | waits,
        }
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.receivers.fetch_sub(1, Relaxed);
    }
}

impl Socket {
    pub(super) fn recv_datagram(&self, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
        let receiving = Receiving::begin(self, flags);
        self.recv(buffer, receiving.flags)
    }

    pub(super) fn recv_datagram_from(
        &self,
        buffer: &mut [u8],
        flags: i32,
    ) -> io::Result<(usize, SockAddr)> {
        let received =
            self.recv_datagram_message(&mut [IoSliceMut::new(buffer)], &mut [], flags)?;
        Ok((received.bytes, received.from))
    }

    pub(in crate::net) fn recv_datagram_message(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        control: &mut [u8],
        flags: i32,
    ) -> io::Result<operations::Received> {
        let receiving = Receiving::begin(self, flags);
        self.recv_message(buffers, control, receiving.flags)
    }

    /// To the connected peer.
    pub(super) fn send_datagram(&self, buffer: &[u8]) -> io::Result<usize> {
        within(self.write_limit(), |limit| {
            operations::send(self.as_fd(), buffer, libc::MSG_DONTWAIT, limit)
        })
    }

    /// To an address or to the connected peer.
    pub(super) fn send_datagram_message(
        &self,
        buffers: &[IoSlice<'_>],
        to: Option<&SockAddr>,
        control: &[u8],
    ) -> io::Result<usize> {
        let (fd, flags) = (self.as_fd(), libc::MSG_DONTWAIT);
        within(self.write_limit(), |limit| {
            operations::send_message(fd, buffers, to, control, flags, limit)
        })
    }

    /// To a Unix address, whose queue may be full.
    pub(super) fn send_datagram_to_queue(&self, buffer: &[u8], to: &SockAddr) -> io::Result<usize> {
        let (fd, buffers, flags) = (self.as_fd(), [IoSlice::new(buffer)], libc::MSG_DONTWAIT);
        within(self.write_limit(), |limit| {
            let mut time = FIRST_PAUSE;
            loop {
                let sent = operations::send_message_once(fd, &buffers, Some(to), &[], flags, limit);
                match sent {
                    Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && !limit.passed() => {
                        pause(time, "room in a socket's queue", limit)?;
                        time = (2 * time).min(LONGEST_PAUSE);
                    }
                    sent => return sent,
                }
            }
        })
    }
}
