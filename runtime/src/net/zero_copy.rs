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
//! A send tells what the stream took at once, and the rest is another one, as with a plain write: with `MSG_WAITALL` the kernel would
//! go on by itself, and an error after a part be lost (net/socket.rs).
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
    /// Those that the kernel has not let go of, as far as is known.
    sends: Vec<Multishot>,
}

impl<B> LentBuffer<B> {
    /// Whether the kernel has let go of the buffer. Asks memory, not the kernel: true at the latest a turn of the core
    /// after it has.
    pub fn is_free(&mut self) -> bool {
        self.sends.retain_mut(|send| {
            while send.try_next().is_some() {}
            !send.is_over()
        });
        self.sends.is_empty()
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
        while let Some(send) = self.sends.last_mut() {
            send.next("a lent buffer", Limit::NONE, Interrupted::Leave)?;
            if send.is_over() {
                self.sends.pop();
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
            .field("lent", &!self.sends.is_empty())
            .finish_non_exhaustive()
    }
}

/// Sends all of a buffer, or the part that went before an error, a limit or a cancellation.
pub(crate) fn send_zero_copy<B: AsRef<[u8]> + 'static>(
    socket: &Socket,
    buffer: B,
    limit: Limit<'_>,
) -> (io::Result<usize>, LentBuffer<B>) {
    let mut lent = LentBuffer {
        buffer: Rc::new(buffer),
        sends: Vec::new(),
    };
    let mut sent = 0;
    let outcome = send_parts(socket, &mut lent, &mut sent, limit);
    let told = match outcome {
        Ok(()) => Ok(sent),
        Err(error) if sent == 0 => Err(socket.failed(error)),
        Err(error) => {
            socket.keep(&error);
            Ok(sent)
        }
    };
    (told, lent)
}

/// Counts in `sent` what is sent, up to the end, the limit or an error.
fn send_parts<B: AsRef<[u8]> + 'static>(
    socket: &Socket,
    lent: &mut LentBuffer<B>,
    sent: &mut usize,
    limit: Limit<'_>,
) -> io::Result<()> {
    let fd = socket.as_fd();
    // Asked once: it might say something else the next time.
    let buffer = Rc::clone(&lent.buffer);
    let bytes = (*buffer).as_ref();
    loop {
        match lend(fd, lent, &bytes[*sent..], limit) {
            Ok(more) => {
                *sent += more;
                if *sent == bytes.len() || limit.passed() {
                    return Ok(());
                }
            }
            Err(refused) => match refused.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) if !limit.passed() => {
                    // The descriptor is non-blocking: as in io/net.rs.
                    poll(fd, u32::from(libc::POLLOUT.cast_unsigned()), limit)?;
                }
                Some(libc::EOPNOTSUPP | libc::ENOMEM | libc::ENOBUFS) => {
                    *sent += socket.send_all(&bytes[*sent..], limit)?;
                    return Ok(());
                }
                _ => return Err(refused),
            },
        }
    }
}

/// One attempt with bytes of the lent buffer, up to the result. `EOPNOTSUPP` where there is no such operation.
fn lend<B: 'static>(
    fd: BorrowedFd<'_>,
    lent: &mut LentBuffer<B>,
    bytes: &[u8],
    limit: Limit<'_>,
) -> io::Result<usize> {
    let offered = per_core::current().is_some_and(|engine| {
        let ring = engine.ring().borrow();
        ring.capabilities().has(Feature::SendZc)
    });
    if !offered {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let sqe = op::net::send_zc(fd.as_raw_fd(), bytes.as_ptr(), bytes.len(), 0);
    let keep = Carries::Lent(lent.buffer.clone());
    // SAFETY: the bytes are borrowed from that buffer, which the operation keeps to its last completion. As long as
    // it does nobody has it to itself, so nobody can change it in place. The descriptor is open until the result is
    // there; the notification does not need it.
    let mut send = unsafe { Multishot::submit(sqe, keep) }?;
    let (event, ending) = send.next("send", limit, Interrupted::End)?;
    if !send.is_over() {
        lent.sends.push(send);
    }
    match usize::try_from(event.completion.result) {
        Ok(sent) => Ok(sent),
        Err(_) => Err(failed(-event.completion.result, ending)),
    }
}
