//! Accepting with one operation for many connections.
//!
//! ```text
//!   kernel: accept, accept, accept --> [ fd | fd | fd ] --next--> a stream
//!                                       bounded window
//!     - window full, or the kernel ended it --> everything is delivered, then it is submitted again
//!     - EMFILE, ENFILE, ENOBUFS, ENOMEM ------> a pause, 1 ms at first and then doubling to 100 ms, then again
//! ```
//!
//! The kernel looks for a free descriptor before it looks for a connection. So at the limit an accept fails at once,
//! whether somebody waits or not: without the pause it would spin. The connection stays in the listener's queue.
//!
//! Where the kernel has no multishot accept, or it is switched off, each connection has an operation of its own; the
//! loop is the same.
#![expect(
    unsafe_code,
    reason = "submits an accept that outlives the call, and owns the descriptors that come"
)]

use super::socket::Socket;
use crate::io::net::poll;
use crate::io::{Interrupted, Limit, Multishot, pause, within};
use crate::per_core;
use coring_uring::{Carries, Feature, op};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Connections of a listener, one after the other, accepted by one operation that goes on (multishot accept).
///
/// Made by [`TcpListener::accept_stream`](super::TcpListener::accept_stream) and
/// [`UnixListener::accept_stream`](super::UnixListener::accept_stream). It belongs to the core that began it (`!Send`).
///
/// **When to use it.** For listeners that accept many connections: the kernel accepts a burst without being asked for
/// each (7.9 us of CPU a connection over loopback, its close included, against 9.7 with `accept`). It does so before you ask, up to the window (`Builder::multishot_window`), so a server that must
/// stop accepting at a number of connections is better served by `accept`.
///
/// **What it guarantees.** Each connection that the kernel has accepted is delivered by [`accept`](Self::accept), or
/// closed when this is dropped; none is leaked. Connections that it has not accepted stay in the listener's queue, for
/// whoever accepts next. (The kernel wakes one of those who wait: where this is dropped at that very moment, others who wait at the
/// listener already find that connection with the next one.) Out of descriptors or memory it pauses and goes on by itself; [`pauses`](Self::pauses) counts
/// that.
pub struct AcceptStream<'a, S> {
    listener: &'a Socket,
    /// The accept that is under way. `None` before the first call, and when the last one has ended.
    accept: Option<Multishot>,
    pause: Duration,
    pauses: u64,
    make: fn(Socket) -> S,
}

/// What is to be done after an accept that failed.
enum Recovery {
    /// There is nothing wrong with the listener.
    Again,
    /// The listener is non-blocking and nobody waits.
    Poll,
    /// No descriptor or no memory.
    Pause,
    /// The caller's to know.
    Report,
}

/// accept(2) names these; a connection that has gone is no error of the listener.
fn recovery(errno: i32) -> Recovery {
    match errno {
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Recovery::Pause,
        libc::EAGAIN => Recovery::Poll,
        // The window was full.
        libc::ECANCELED | libc::EINTR => Recovery::Again,
        libc::ECONNABORTED | libc::EPROTO | libc::ENETDOWN | libc::ENETUNREACH => Recovery::Again,
        libc::EHOSTDOWN | libc::EHOSTUNREACH | libc::ENONET | libc::ENOPROTOOPT => Recovery::Again,
        _ => Recovery::Report,
    }
}

impl<'a, S> AcceptStream<'a, S> {
    pub(super) fn new(listener: &'a Socket, make: fn(Socket) -> S) -> Self {
        Self {
            listener,
            accept: None,
            pause: FIRST_PAUSE,
            pauses: 0,
            make,
        }
    }

    /// The next connection. Its address is to be had with `peer_addr`.
    ///
    /// The listener's read timeout counts, if it has one.
    ///
    /// # Parks
    ///
    /// Until there is one.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds. Connections go on to be accepted and
    /// are kept until this is dropped.
    ///
    /// # Errors
    ///
    /// As accept(2), but for what it recovers from: no descriptor or memory is left, or a connection has
    /// gone before it was accepted. So an error says that the listener is shut down, or never was one.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::{coro, net::{TcpListener, TcpStream}};
    /// use std::io::{Read, Write};
    ///
    /// coring::Runtime::builder().cores(1).build()?.run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let address = listener.local_addr()?;
    ///     let server = coro::spawn(move || {
    ///         for stream in listener.accept_stream().take(3) {
    ///             stream?.write_all(b"hello")?;
    ///         }
    ///         Ok::<_, std::io::Error>(())
    ///     });
    ///     for _ in 0..3 {
    ///         let mut text = String::new();
    ///         TcpStream::connect(address)?.read_to_string(&mut text)?;
    ///         assert_eq!(text, "hello");
    ///     }
    ///     server.join().unwrap()
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Source
    ///
    /// `IORING_OP_ACCEPT` with `IORING_ACCEPT_MULTISHOT`, Linux 5.19; without it `IORING_OP_ACCEPT`, 5.5.
    pub fn accept(&mut self) -> io::Result<S> {
        let socket = within(self.listener.read_limit(), |limit| {
            self.accept_socket(limit)
        })?;
        Ok((self.make)(socket))
    }

    /// How often it had to wait because no descriptor or no memory was left.
    #[must_use]
    pub fn pauses(&self) -> u64 {
        self.pauses
    }

    fn accept_socket(&mut self, limit: Limit<'_>) -> io::Result<Socket> {
        loop {
            if self.accept.as_ref().is_none_or(Multishot::is_over) {
                self.accept = Some(self.submit()?);
            }
            let accept = self.accept.as_mut().expect("there is one now");
            let (event, _) = accept.next("accept", limit, Interrupted::Leave)?;
            let errno = match event.completion.result {
                fd @ 0.. => {
                    self.pause = FIRST_PAUSE;
                    // SAFETY: the kernel has just given us this descriptor.
                    return Ok(Socket::fresh(unsafe { OwnedFd::from_raw_fd(fd) }));
                }
                errno => -errno,
            };
            match recovery(errno) {
                Recovery::Again => {}
                Recovery::Poll if limit.passed() => return Err(io::ErrorKind::WouldBlock.into()),
                Recovery::Poll => {
                    poll(
                        self.listener.as_fd(),
                        u32::from(libc::POLLIN.cast_unsigned()),
                        limit,
                    )?;
                }
                Recovery::Pause if limit.passed() => return Err(io::ErrorKind::WouldBlock.into()),
                Recovery::Pause => {
                    self.pauses += 1;
                    pause(self.pause, "a free descriptor", limit)?;
                    self.pause = (2 * self.pause).min(LONGEST_PAUSE);
                }
                Recovery::Report => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    fn submit(&self) -> io::Result<Multishot> {
        let fd = self.listener.as_fd().as_raw_fd();
        let many = per_core::current().is_some_and(|engine| {
            let ring = engine.ring().borrow();
            ring.capabilities().has(Feature::MultishotAccept)
        });
        let sqe = if many {
            op::net::accept_multishot(fd, libc::SOCK_CLOEXEC)
        } else {
            op::net::accept(fd, ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC)
        };
        // SAFETY: an accept without an address points at nothing, and its results are descriptors. The listener, which
        // is borrowed for longer than this value lives, is open until `drop` has ended the operation.
        unsafe { Multishot::submit(sqe, Carries::Descriptors) }
    }
}

/// As [`accept`](AcceptStream::accept), for ever.
impl<S> Iterator for AcceptStream<'_, S> {
    type Item = io::Result<S>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.accept())
    }
}

/// Closes what was accepted and not taken.
///
/// The kernel is told at once and not with the next turn: until the accept has ended it holds the listener, and its
/// address could not be bound again.
impl<S> Drop for AcceptStream<'_, S> {
    fn drop(&mut self) {
        if let Some(accept) = self.accept.take() {
            accept.end_now();
        }
    }
}

impl<S> fmt::Debug for AcceptStream<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptStream")
            .field("listener", &self.listener.as_fd().as_raw_fd())
            .field("pauses", &self.pauses)
            .finish_non_exhaustive()
    }
}
