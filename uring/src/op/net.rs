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
#[inline]
pub fn recv(fd: RawFd, buffer: *mut u8, length: usize, flags: i32) -> Sqe {
    opcode::Recv::new(Fd(fd), buffer, transfer(length))
        .flags(flags)
        .build()
}

/// Receives whenever something arrives, each time into a buffer of `group`, until the last completion. Results: bytes,
/// 0 at the end of the stream. Borrows the buffers of the group.
///
/// For [`Ring::submit_multishot`](crate::Ring::submit_multishot) with [`Carries::Buffers`](crate::Carries). Ended by the
/// end of the stream, an error, a cancel, or `ENOBUFS` when no buffer is left; then what arrives stays in the socket.
///
/// # Source
/// `IORING_OP_RECV` with `IORING_RECV_MULTISHOT`, 6.0 ([`Feature::MultishotRecv`](crate::Feature)).
#[must_use]
pub fn recv_multishot(fd: RawFd, group: u16, flags: i32) -> Sqe {
    opcode::RecvMulti::new(Fd(fd), group).flags(flags).build()
}

/// As [`recv_multishot`], but a completion may fill several buffers that follow each other in the group's ring. The result
/// is what they hold together; [`Ring::next`](crate::Ring::next) gives them out one by one.
///
/// # Source
/// `IORING_RECVSEND_BUNDLE`, 6.10, used from 6.15 on ([`Feature::RecvBundle`](crate::Feature)).
#[must_use]
pub fn recv_multishot_bundle(fd: RawFd, group: u16, flags: i32) -> Sqe {
    opcode::RecvMultiBundle::new(Fd(fd), group)
        .flags(flags)
        .build()
}

/// Receives once, up to `length` bytes, into a buffer of `group` that is taken when something arrives. Result: bytes,
/// 0 at the end of the stream. Borrows the buffers of the group.
///
/// Submitted like [`recv_multishot`], of which it is the fallback.
///
/// # Source
/// `IORING_OP_RECV` with `IOSQE_BUFFER_SELECT`, 5.7; with a ring of buffers 5.19
/// ([`Feature::BufferRing`](crate::Feature)).
#[must_use]
pub fn recv_pooled(fd: RawFd, group: u16, length: usize, flags: i32) -> Sqe {
    opcode::Recv::new(Fd(fd), std::ptr::null_mut(), transfer(length))
        .flags(flags)
        .buf_group(group)
        .build()
        .flags(io_uring::squeue::Flags::BUFFER_SELECT)
}

/// Sends from `buffer` without copying it. Result: bytes. Borrows `buffer[..length]` until the kernel's notification
/// that nothing refers to it any more, which for TCP is when the peer has acknowledged the bytes.
///
/// Completes twice: the result, then the notification ([`CQE_F_NOTIF`](crate::CQE_F_NOTIF)).
/// [`Ring::submit`](crate::Ring::submit) makes one completion of both, the result at the time of the notification;
/// [`Ring::submit_multishot`](crate::Ring::submit_multishot) gives them one by one, and with
/// [`Carries::Lent`](crate::Carries) keeps the memory when the owner of the operation goes away in between. Pays from about 16 KiB, and never over loopback, where the kernel
/// copies anyway. `EOPNOTSUPP` on Unix sockets.
///
/// # Source
/// `IORING_OP_SEND_ZC`, 6.0 ([`Feature::SendZc`](crate::Feature)); send(2) for `flags`.
#[must_use]
pub fn send_zc(fd: RawFd, buffer: *const u8, length: usize, flags: i32) -> Sqe {
    opcode::SendZc::new(Fd(fd), buffer, transfer(length))
        .flags(flags)
        .build()
}

/// Sends from `buffer`; the kernel adds `MSG_NOSIGNAL`. Result: bytes, fewer than asked possible; with `MSG_WAITALL`
/// only after an error (5.19). Borrows `buffer[..length]`.
///
/// # Source
/// `IORING_OP_SEND`, 5.6; send(2) for `flags`.
#[must_use]
#[inline]
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

/// Accepts connections, a completion each, until the last completion. Results: descriptors. Borrows nothing.
///
/// For [`Ring::submit_multishot`](crate::Ring::submit_multishot) with [`Carries::Descriptors`](crate::Carries). The
/// address of a peer is asked for with getpeername(2). The kernel ends it by an error (`EMFILE`: no descriptor is
/// free, and the connection stays in the queue), by a cancel, or for want of room for completions.
///
/// # Source
/// `IORING_OP_ACCEPT` with `IORING_ACCEPT_MULTISHOT`, 5.19 ([`Feature::MultishotAccept`](crate::Feature)).
#[must_use]
pub fn accept_multishot(fd: RawFd, flags: i32) -> Sqe {
    opcode::AcceptMulti::new(Fd(fd)).flags(flags).build()
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
