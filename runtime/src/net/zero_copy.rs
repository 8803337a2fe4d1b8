//! Sending without copying: the kernel works from the caller's own memory until it says that it is done.
//!
//! ```text
//!   send_zero_copy(buffer) --> result          the stream has taken so many bytes: the call returns
//!                         \--> LentBuffer      the network card, or the peer's acknowledgement, is still to come
//!                                 | notification
//!                                 v
//!                              buffer, free again
//! ```
//!
//! The two are apart because they are far apart: a TCP segment is kept until the peer has acknowledged it. Who waits for
//! that with each buffer sends one buffer a round trip. So the buffer is owned and not borrowed: it belongs to the
//! operation, and to the `LentBuffer` that asks for it. Whoever comes last frees it.
//!
//! Where the kernel cannot, or may not (a Unix socket, no such opcode, no locked memory left for the pages), the bytes are
//! copied, and the buffer is free at once.
#![expect(unsafe_code, reason = "lends memory to the kernel beyond the call")]

use super::socket::Socket;
use crate::io::net::poll;
use crate::io::{Interrupted, Limit, Multishot, failed};
use crate::per_core;
use coring_uring::{Carries, Feature, op};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;

/// A buffer that was sent with [`TcpStream::send_zero_copy`](super::TcpStream::send_zero_copy), and that the kernel may
/// still read from.
///
/// Dropping it is fine: the buffer is freed when the kernel has let go of it. It belongs to the core that sent it
/// (`!Send`).
pub struct LentBuffer<B> {
    buffer: Rc<B>,
    /// `None` when the kernel has let go.
    send: Option<Multishot>,
}

impl<B> LentBuffer<B> {
    /// Whether the kernel has let go of the buffer. Asks memory, not the kernel: true at the latest a turn of the core
    /// after it has.
    pub fn is_free(&mut self) -> bool {
        while let Some(send) = &mut self.send {
            if send.try_next().is_none() {
                return false;
            }
            if send.is_over() {
                self.send = None;
            }
        }
        true
    }

    /// Waits until the kernel has let go of the buffer.
    ///
    /// # Parks
    ///
    /// Until then: for TCP until the peer has acknowledged the bytes, or the connection has gone.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds. The kernel keeps the buffer for as
    /// long as it needs.
    ///
    /// # Errors
    ///
    /// Cancelled, or called on another core or in another runtime than the send.
    pub fn wait(&mut self) -> io::Result<()> {
        while let Some(send) = &mut self.send {
            send.next("a lent buffer", Limit::NONE, Interrupted::Leave)?;
            if send.is_over() {
                self.send = None;
            }
        }
        Ok(())
    }

    /// The buffer, when the kernel has let go of it.
    ///
    /// # Parks
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancellation
    ///
    /// As [`wait`](Self::wait). The buffer is dropped when the kernel has let go of it.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn reclaim(mut self) -> io::Result<B> {
        self.wait()?;
        let buffer = Rc::try_unwrap(self.buffer);
        Ok(buffer.unwrap_or_else(|_| unreachable!("an operation that is over holds no memory")))
    }
}

impl<B> fmt::Debug for LentBuffer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentBuffer")
            .field("lent", &self.send.is_some())
            .finish_non_exhaustive()
    }
}

/// Sends all of a buffer, or the part that went before an error, a limit or a cancellation.
pub(crate) fn send_zero_copy<B: AsRef<[u8]> + 'static>(
    socket: &Socket,
    buffer: B,
    limit: Limit<'_>,
) -> (io::Result<usize>, LentBuffer<B>) {
    let fd = socket.as_fd();
    let mut lent = LentBuffer {
        buffer: Rc::new(buffer),
        send: None,
    };
    let sent = loop {
        let refused = match lend(fd, &mut lent, limit) {
            Err(error) => error,
            sent => break sent,
        };
        match refused.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN) if !limit.passed() => {
                // The descriptor is non-blocking: as in io/net.rs.
                if let Err(error) = poll(fd, u32::from(libc::POLLOUT.cast_unsigned()), limit) {
                    break Err(error);
                }
            }
            Some(libc::EOPNOTSUPP | libc::ENOMEM | libc::ENOBUFS) => {
                break socket.send_all((*lent.buffer).as_ref(), limit);
            }
            _ => break Err(socket.failed(refused)),
        }
    };
    (sent, lent)
}

/// One attempt, up to the result. `EOPNOTSUPP` where there is no such operation.
fn lend<B: AsRef<[u8]> + 'static>(
    fd: BorrowedFd<'_>,
    lent: &mut LentBuffer<B>,
    limit: Limit<'_>,
) -> io::Result<usize> {
    // An attempt that failed has sent nothing, but holds the buffer until its notification, which is not far.
    lent.wait()?;
    let offered = per_core::current().is_some_and(|engine| {
        let ring = engine.ring().borrow();
        ring.capabilities().has(Feature::SendZc)
    });
    if !offered {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let bytes = (*lent.buffer).as_ref();
    let sqe = op::net::send_zc(
        fd.as_raw_fd(),
        bytes.as_ptr(),
        bytes.len(),
        libc::MSG_WAITALL,
    );
    let keep = Carries::Lent(lent.buffer.clone());
    // SAFETY: the bytes are borrowed from the buffer, which the operation keeps to its last completion. As long as
    // it does nobody has it to itself, so nobody can change it in place. The descriptor is open until the result is
    // there; the notification does not need it.
    let mut send = unsafe { Multishot::submit(sqe, keep) }?;
    let (event, ending) = send.next("send", limit, Interrupted::End)?;
    if !send.is_over() {
        lent.send = Some(send);
    }
    match usize::try_from(event.completion.result) {
        Ok(sent) => Ok(sent),
        Err(_) => Err(failed(-event.completion.result, ending)),
    }
}
