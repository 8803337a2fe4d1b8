//! Receiving with one operation for many messages.
//!
//! ```text
//!   kernel: recv, recv, recv --> [ buffer | buffer | buffer ] --recv--> a guard, which gives its buffer back
//!                                 bounded by window and pool
//!     - window full, pool empty, or the kernel ended it --> everything is delivered, then it is submitted again
//!     - still no buffer in the pool ----------------------> one receive into memory of the heap, then again
//! ```
//!
//! The order of the bytes is kept: another receive begins only when the operation has ended and all that it brought was
//! taken. Where the kernel has no multishot receive or no pool, or they are switched off, each call is a pooled receive.
#![expect(
    unsafe_code,
    reason = "submits a receive that outlives the call; it points at nothing of ours"
)]

use super::socket::Socket;
use crate::io::net::poll;
use crate::io::{Interrupted, Limit, Multishot, RecvBuffer, recv_pooled, within};
use crate::per_core;
use coring_uring::{Carries, Event, Feature, op};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What arrives on a stream, buffer by buffer, received by one operation that goes on (multishot receive).
///
/// Made by [`TcpStream::recv_stream`](super::TcpStream::recv_stream) and
/// [`UnixStream::recv_stream`](super::UnixStream::recv_stream). It belongs to the core that began it (`!Send`). The stream can
/// be written to meanwhile.
///
/// **When to use it.** For connections that receive much: a GB over loopback costs the core 440 ms of CPU in buffers of 4 KiB,
/// 176 in buffers of 64 KiB, where `read` into as much memory costs 682 and 344, and `recv_buffer` 779 and 379. For messages of
/// 64 bytes all are alike (examples/recv_stream.rs; 2 vCPU AMD EPYC VM, Linux 6.18).
/// It receives before you ask, into buffers of the core's pool
/// ([`Builder::receive_pool`](crate::Builder::receive_pool)), up to the window
/// ([`Builder::multishot_window`](crate::Builder::multishot_window)): a connection whose owner is slow takes buffers from the others.
/// [`Filling`](super::Filling) is how the buffers are used.
///
/// **What it guarantees.** What arrives is delivered in order, whatever runs out: with the pool empty, bytes come in memory of
/// their own. When this is dropped the kernel stops receiving. What it had received by then and nobody took is lost to the
/// stream; [`recv_rest`](Self::recv_rest) takes it.
pub struct RecvStream<'a> {
    socket: &'a Socket,
    /// The receive that is under way. `None` before the first call, and when the last one has ended.
    receive: Option<Multishot>,
}

impl<'a> RecvStream<'a> {
    pub(super) fn new(socket: &'a Socket) -> Self {
        Self {
            socket,
            receive: None,
        }
    }

    /// What comes next. Empty at the end of the stream.
    ///
    /// # Parks
    ///
    /// Until at least one byte is there, or the peer has ended its side. The read timeout counts.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds. Nothing is lost: what arrives is kept for the
    /// next call.
    ///
    /// # Errors
    ///
    /// As recv(2). What arrived before an error is delivered before it.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::{coro, net::UnixStream};
    /// use std::io::Write;
    ///
    /// coring::Runtime::builder().cores(1).build()?.run(|| {
    ///     let (one, mut other) = UnixStream::pair()?;
    ///     let counting = coro::spawn(move || {
    ///         let (mut stream, mut bytes) = (one.recv_stream(), 0);
    ///         loop {
    ///             let buffer = stream.recv()?;
    ///             if buffer.is_empty() {
    ///                 return Ok::<_, std::io::Error>(bytes);
    ///             }
    ///             bytes += buffer.len();
    ///         }
    ///     });
    ///     other.write_all(&[7; 100_000])?;
    ///     drop(other);
    ///     assert_eq!(counting.join().unwrap()?, 100_000);
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Source
    ///
    /// `IORING_OP_RECV` with `IORING_RECV_MULTISHOT`, Linux 6.0; without it as `recv_buffer`.
    pub fn recv(&mut self) -> io::Result<RecvBuffer> {
        let received = within(self.socket.read_limit(), |limit| self.recv_within(limit))?;
        if received.is_empty() {
            return self.socket.ended(received);
        }
        Ok(received)
    }

    fn recv_within(&mut self, limit: Limit<'_>) -> io::Result<RecvBuffer> {
        loop {
            if self.receive.is_none() {
                self.receive = self.submit()?;
            }
            if self.receive.is_none() {
                return recv_pooled(self.socket.as_fd(), limit);
            }
            let event = self.next(limit, Interrupted::Leave)?;
            match -event.completion.result {
                ..=0 => return Ok(RecvBuffer::picked(event.buffer)),
                // No buffer, or too much that waits: seen by the next look at the pool.
                libc::ENOBUFS | libc::ECANCELED | libc::EINTR => {}
                // The descriptor is non-blocking: as in io/net.rs.
                libc::EAGAIN if !limit.passed() => {
                    let readable = u32::from(libc::POLLIN.cast_unsigned());
                    poll(self.socket.as_fd(), readable, limit)?;
                }
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// Stops receiving and takes what had been received by then, one buffer a call; `None` when that was all. What arrives
    /// later stays in the socket, for other ways of reading it or for [`recv`](Self::recv), which begins anew.
    ///
    /// # Parks
    ///
    /// Until the kernel has stopped, which it does at once.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds; what is not taken yet is kept.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_rest(&mut self) -> io::Result<Option<RecvBuffer>> {
        while let Some(receive) = &self.receive {
            receive.end();
            let event = self.next(Limit::NONE, Interrupted::End)?;
            match -event.completion.result {
                ..0 => return Ok(Some(RecvBuffer::picked(event.buffer))),
                // The end of the stream is there for who reads next, too.
                0 | libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        Ok(None)
    }

    /// The next completion of the receive, which stays here meanwhile: who is refused too often unwinds from this, and may go on later.
    fn next(&mut self, limit: Limit<'_>, when: Interrupted) -> io::Result<Event> {
        let receive = self.receive.as_mut().expect("the caller has looked");
        let next = receive.next("recv", limit, when);
        self.receive.take_if(|receive| receive.is_over());
        next.map(|(event, _)| event)
    }

    /// Begins to receive. `None` when there is no buffer to receive into.
    fn submit(&self) -> io::Result<Option<Multishot>> {
        let Some(engine) = per_core::current() else {
            return Ok(None);
        };
        let offered = {
            let ring = engine.ring().borrow();
            ring.capabilities().has(Feature::MultishotRecv)
        };
        let (pool, bundles) = engine.stream_buffers();
        let Some(pool) = pool.filter(|pool| offered && pool.available() > 0) else {
            return Ok(None);
        };
        let Some(group) = pool.group() else {
            return Ok(None);
        };
        let fd = self.socket.as_fd().as_raw_fd();
        let sqe = if bundles {
            op::net::recv_multishot_bundle(fd, group, 0)
        } else {
            op::net::recv_multishot(fd, group, 0)
        };
        // SAFETY: the kernel writes to buffers of the pool, which the ring keeps, and the completions name them. The
        // socket, which is borrowed for longer than this value lives, is open until `drop` has ended the operation.
        unsafe { Multishot::submit(sqe, Carries::Buffers(pool.clone())) }.map(Some)
    }
}

/// Stops receiving. The kernel is told at once and not with the next turn: the socket may be closed after this.
impl Drop for RecvStream<'_> {
    fn drop(&mut self) {
        if let Some(receive) = self.receive.take() {
            receive.end_now();
        }
    }
}

impl fmt::Debug for RecvStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream")
            .field("socket", &self.socket.as_fd().as_raw_fd())
            .field("receiving", &self.receive.is_some())
            .finish()
    }
}
