//! Sockets, and readiness of anything that can be polled.

use std::os::fd::RawFd;

use crate::op::transfer;
use crate::types::Fd;
use crate::{Sqe, opcode};

/// Receives into `buffer`. Result: bytes, 0 at the end of the stream. Borrows `buffer[..length]` for writing.
///
/// # Source
/// `IORING_OP_RECV`, 5.6; recv(2) for `flags`.
#[must_use]
pub fn recv(fd: RawFd, buffer: *mut u8, length: usize, flags: i32) -> Sqe {
    opcode::Recv::new(Fd(fd), buffer, transfer(length))
        .flags(flags)
        .build()
}

/// Sends from `buffer`; the kernel adds `MSG_NOSIGNAL`. Result: bytes, fewer than asked possible; with `MSG_WAITALL`
/// only after an error (5.19). Borrows `buffer[..length]`.
///
/// # Source
/// `IORING_OP_SEND`, 5.6; send(2) for `flags`.
#[must_use]
pub fn send(fd: RawFd, buffer: *const u8, length: usize, flags: i32) -> Sqe {
    opcode::Send::new(Fd(fd), buffer, transfer(length))
        .flags(flags)
        .build()
}

/// Receives a message as recvmsg(2) does. Result: bytes. Borrows `message` and all that it points at, for writing.
///
/// # Source
/// `IORING_OP_RECVMSG`, 5.3.
#[must_use]
pub fn recvmsg(fd: RawFd, message: *mut libc::msghdr, flags: u32) -> Sqe {
    opcode::RecvMsg::new(Fd(fd), message).flags(flags).build()
}

/// Sends a message as sendmsg(2) does. Result: bytes. Borrows `message` and all that it points at.
///
/// # Source
/// `IORING_OP_SENDMSG`, 5.3.
#[must_use]
pub fn sendmsg(fd: RawFd, message: *const libc::msghdr, flags: u32) -> Sqe {
    opcode::SendMsg::new(Fd(fd), message).flags(flags).build()
}

/// Accepts a connection. Result: its descriptor. Borrows `address` and `address_length`, for writing; both may be null.
///
/// A completion that nobody takes leaks the descriptor: who cancels an accept has to look at its result.
///
/// # Source
/// `IORING_OP_ACCEPT`, 5.5; accept4(2) for `flags`.
#[must_use]
pub fn accept(
    fd: RawFd,
    address: *mut libc::sockaddr,
    address_length: *mut libc::socklen_t,
    flags: i32,
) -> Sqe {
    opcode::Accept::new(Fd(fd), address, address_length)
        .flags(flags)
        .build()
}

/// Connects a socket. Result: 0. Borrows `address[..address_length]`.
///
/// # Source
/// `IORING_OP_CONNECT`, 5.5.
#[must_use]
pub fn connect(fd: RawFd, address: *const libc::sockaddr, address_length: libc::socklen_t) -> Sqe {
    opcode::Connect::new(Fd(fd), address, address_length).build()
}

/// Makes a socket. Result: its descriptor. Borrows nothing.
///
/// # Source
/// `IORING_OP_SOCKET`, 5.19; socket(2).
#[must_use]
pub fn socket(domain: i32, kind: i32, protocol: i32) -> Sqe {
    opcode::Socket::new(domain, kind, protocol).build()
}

/// Ends one or both directions of a connection. Result: 0. Borrows nothing.
///
/// The kernel always does this on a worker thread (65 us the first time, 6 us later); shutdown(2) does not block
/// and costs less than one.
///
/// # Source
/// `IORING_OP_SHUTDOWN`, 5.11.
#[must_use]
pub fn shutdown(fd: RawFd, how: i32) -> Sqe {
    opcode::Shutdown::new(Fd(fd), how).build()
}

/// Waits until `fd` is ready for one of `events`. Result: the events, as poll(2) has them. Borrows nothing.
///
/// # Source
/// `IORING_OP_POLL_ADD`, 5.1.
#[must_use]
pub fn poll_add(fd: RawFd, events: u32) -> Sqe {
    opcode::PollAdd::new(Fd(fd), events).build()
}

/// Completes each time that `fd` becomes ready, with `F_MORE`, until cancelled. For the doorbell, whose completions
/// need no slot.
pub(crate) fn poll_multishot(fd: RawFd, events: u32) -> Sqe {
    opcode::PollAdd::new(Fd(fd), events).multi(true).build()
}
