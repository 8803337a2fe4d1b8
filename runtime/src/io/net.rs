//! The socket operations, with their lowering: what every stream, listener and datagram type is made of.
//!
//! A descriptor that some other library made non-blocking is no error: an operation that would block waits for
//! readiness with a poll operation and is done again. All attempts share one time limit; what it ends fails with
//! `EAGAIN`, which is what a blocking socket with a timeout says.
#![expect(
    unsafe_code,
    reason = "lends buffers and addresses to the kernel while the operation runs"
)]

use super::{
    Limit, is_cancelled, may_wait, perform_here, perform_open, perform_within, told_in_part, within,
};
use crate::per_core;
use coring_coro::{shield, wait};
use coring_uring::op;
use socket2::{SockAddr, SockAddrStorage};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// How many buffers one operation takes, uio_maxiov.
pub(crate) const IOV_MAX: usize = 1024;

/// Waits until `fd` is ready for one of `events` (`POLLIN`, `POLLOUT`, ...). Returns what it is ready for.
pub(crate) fn poll(fd: BorrowedFd<'_>, events: u32, limit: Limit<'_>) -> io::Result<u32> {
    // SAFETY: a poll points at nothing.
    unsafe {
        perform_within(
            op::net::poll_add(fd.as_raw_fd(), events),
            "readiness",
            limit,
        )
    }
}

/// Does an operation; where the descriptor is non-blocking and not ready, waits for readiness and does it again.
#[inline(always)]
pub(super) fn retry<T>(
    fd: BorrowedFd<'_>,
    events: libc::c_short,
    limit: Limit<'_>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) => wait_until_ready(fd, events, limit, error)?,
            outcome => return outcome,
        }
    }
}

/// Waits until what ended with this error is worth another attempt; otherwise returns the error.
#[cold]
pub(super) fn wait_until_ready(
    fd: BorrowedFd<'_>,
    events: libc::c_short,
    limit: Limit<'_>,
    error: io::Error,
) -> io::Result<()> {
    if error.raw_os_error() != Some(libc::EAGAIN) || limit.passed() {
        return Err(error);
    }
    poll(fd, u32::from(events.cast_unsigned()), limit).map(drop)
}

/// recv(2) into a borrowed buffer.
///
/// A part of its caller, and [`retry`] written out, as in `send_by_ring`: a closure that is called in two places becomes a frame of
/// its own, whose return is mispredicted after a switch, and whose lines are fetched for each coroutine.
#[inline(always)]
pub(crate) fn recv(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: i32,
    limit: Limit<'_>,
) -> io::Result<usize> {
    let (number, start, length) = (fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len());
    loop {
        let make = || op::net::recv(number, start, length, flags);
        // SAFETY: the buffer is borrowed for longer than this call, uniquely.
        match unsafe { perform_here(make, "recv", limit) } {
            Ok(received) => return Ok(received as usize),
            Err(error) => wait_until_ready(fd, libc::POLLIN, limit, error)?,
        }
    }
}

/// send(2) from a borrowed buffer: what the socket takes, which for a stream may be a part.
///
/// With `MSG_WAITALL` the ring would go on until all is taken. But an error that comes then is lost: the operation tells the part,
/// and the kernel has told the error, once for all. Whoever reads next would see a reset as the end of the stream.
#[inline(always)]
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    buffer: &[u8],
    flags: i32,
    limit: Limit<'_>,
) -> io::Result<usize> {
    match send_alone(fd, buffer)? {
        None => send_by_ring(fd, buffer, flags, limit),
        Some(sent) => Ok(sent),
    }
}

/// On a core that has nothing else to do: what the socket takes at once, by a plain call. In the ring this send would have an
/// enter of its own, with a switch there and back. `None`: the ring is to do it.
#[inline]
fn send_alone(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<Option<usize>> {
    if per_core::current().is_none_or(|engine| engine.has_other_work()) {
        return Ok(None);
    }
    may_wait()?;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the buffer is borrowed for longer than the call, which only reads it.
    let sent = unsafe { libc::send(fd.as_raw_fd(), buffer.as_ptr().cast(), buffer.len(), flags) };
    if let Ok(sent) = usize::try_from(sent) {
        wait::give_way();
        return Ok(Some(sent));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(None),
        _ => {
            // Who tries again and again lets others run.
            wait::give_way();
            Err(error)
        }
    }
}

/// As [`send`], by the ring whatever else the core has to do.
#[inline(always)]
pub(crate) fn send_by_ring(
    fd: BorrowedFd<'_>,
    buffer: &[u8],
    flags: i32,
    limit: Limit<'_>,
) -> io::Result<usize> {
    loop {
        let make = || op::net::send(fd.as_raw_fd(), buffer.as_ptr(), buffer.len(), flags);
        // SAFETY: the buffer is borrowed for longer than this call.
        match unsafe { perform_here(make, "send", limit) } {
            Ok(sent) => return Ok(sent as usize),
            Err(error) => wait_until_ready(fd, libc::POLLOUT, limit, error)?,
        }
    }
}

/// What recvmsg(2) tells besides the bytes.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: usize,
    /// Who sent it, where the protocol says so with each message.
    pub(crate) from: SockAddr,
    /// `MSG_TRUNC`, `MSG_CTRUNC`, ...
    pub(crate) flags: i32,
    /// How much of the control buffer was filled.
    pub(crate) control_bytes: usize,
}

/// recvmsg(2) into borrowed buffers; control data, such as descriptors, goes into `control`.
pub(crate) fn recv_message(
    fd: BorrowedFd<'_>,
    buffers: &mut [IoSliceMut<'_>],
    control: &mut [u8],
    flags: i32,
    limit: Limit<'_>,
) -> io::Result<Received> {
    let count = buffers.len().min(IOV_MAX);
    retry(fd, libc::POLLIN, limit, || {
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: a zeroed msghdr is a valid one: no address, no buffers, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_namelen = storage.size_of();
        message.msg_name = ptr::from_mut(&mut storage).cast();
        // std guarantees that an IoSliceMut has the layout of an iovec.
        message.msg_iov = buffers.as_mut_ptr().cast();
        message.msg_iovlen = count;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len();
        let sqe = op::net::recvmsg(fd.as_raw_fd(), &raw mut message, flags.cast_unsigned());
        // SAFETY: message and address live in this frame; the buffers are borrowed uniquely for longer.
        let bytes = unsafe { perform_within(sqe, "recv", limit) }?;
        // SAFETY: the kernel has filled the storage up to this length.
        let from = unsafe { SockAddr::new(storage, message.msg_namelen) };
        Ok(Received {
            bytes: bytes as usize,
            from,
            flags: message.msg_flags,
            control_bytes: message.msg_controllen,
        })
    })
}

/// sendmsg(2) from borrowed buffers, to an address or to the connected peer, with control data if any.
pub(crate) fn send_message(
    fd: BorrowedFd<'_>,
    buffers: &[IoSlice<'_>],
    to: Option<&SockAddr>,
    control: &[u8],
    flags: i32,
    limit: Limit<'_>,
) -> io::Result<usize> {
    retry(fd, libc::POLLOUT, limit, || {
        send_message_once(fd, buffers, to, control, flags, limit)
    })
}

/// As [`send_message`], also where the answer is `EAGAIN`.
pub(crate) fn send_message_once(
    fd: BorrowedFd<'_>,
    buffers: &[IoSlice<'_>],
    to: Option<&SockAddr>,
    control: &[u8],
    flags: i32,
    limit: Limit<'_>,
) -> io::Result<usize> {
    // SAFETY: a zeroed msghdr is a valid one: no address, no buffers, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some(to) = to {
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
    }
    // std guarantees that an IoSlice has the layout of an iovec. The kernel only reads what it is given here.
    message.msg_iov = buffers.as_ptr().cast_mut().cast();
    message.msg_iovlen = buffers.len().min(IOV_MAX);
    if !control.is_empty() {
        message.msg_control = control.as_ptr().cast_mut().cast();
        message.msg_controllen = control.len();
    }
    let sqe = op::net::sendmsg(fd.as_raw_fd(), &raw const message, flags.cast_unsigned());
    // SAFETY: the message lives in this frame; buffers, address and control data are borrowed for longer.
    unsafe { perform_within(sqe, "send", limit) }.map(|sent| sent as usize)
}

/// accept4(2) with `SOCK_CLOEXEC`.
///
/// Of all who wait at a listener a connection wakes one. If that one is ended at this moment the kernel wakes no other, so the
/// connection would wait for the next one to come. So who is ended looks once more, and takes what is there.
pub(crate) fn accept(fd: BorrowedFd<'_>, limit: Limit<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    match retry(fd, libc::POLLIN, limit, || accept_once(fd, limit)) {
        Err(error) if is_end(&error) && is_readable(fd) => accept_what_is_there(fd, error),
        outcome => outcome,
    }
}

fn accept_once(fd: BorrowedFd<'_>, limit: Limit<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let mut storage = SockAddrStorage::zeroed();
    let mut length = storage.size_of();
    let address = ptr::from_mut(&mut storage).cast();
    let sqe = op::net::accept(fd.as_raw_fd(), address, &raw mut length, libc::SOCK_CLOEXEC);
    // SAFETY: storage and length live in this frame until the operation is done; an accept makes a new descriptor.
    let accepted = unsafe { perform_open(sqe, "accept", limit) }?;
    // SAFETY: the kernel has filled the storage up to this length.
    let address = unsafe { SockAddr::new(storage, length) };
    Ok((accepted, address))
}

/// For who was ended with this error: a connection after all, if nobody else is faster.
#[cold]
fn accept_what_is_there(fd: BorrowedFd<'_>, error: io::Error) -> io::Result<(OwnedFd, SockAddr)> {
    while is_readable(fd) {
        // With no time left it does not wait.
        let attempt = || within(Some(Duration::ZERO), |limit| accept_once(fd, limit));
        match shield(attempt) {
            Ok(accepted) => {
                told_in_part(&error);
                return Ok(accepted);
            }
            Err(other) if other.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(_) => break,
        }
    }
    Err(error)
}

/// Whether a wait has ended because of a limit or a cancellation.
fn is_end(error: &io::Error) -> bool {
    error.raw_os_error().map_or_else(
        || is_cancelled(error) || error.kind() == io::ErrorKind::TimedOut,
        |errno| errno == libc::EAGAIN,
    )
}

/// Whether there is something, without waiting.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut question = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, which lives in this frame. It does not wait.
    unsafe { libc::poll(&raw mut question, 1, 0) == 1 }
}

/// connect(2).
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &SockAddr, limit: Limit<'_>) -> io::Result<()> {
    let sqe = op::net::connect(fd.as_raw_fd(), address.as_ptr().cast(), address.len());
    // SAFETY: the address is borrowed for longer than this call.
    unsafe { perform_within(sqe, "connect", limit) }.map(drop)
}
