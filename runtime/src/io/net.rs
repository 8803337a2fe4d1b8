//! The socket operations, with their lowering: what every stream, listener and datagram type is made of.
//!
//! A descriptor that some other library made non-blocking is no error: an operation that would block waits for
//! readiness with a poll operation and is done again.
#![expect(
    unsafe_code,
    reason = "lends buffers and addresses to the kernel while the operation runs"
)]

use super::{perform, perform_open};
use coring_uring::op;
use socket2::{SockAddr, SockAddrStorage};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Waits until `fd` is ready for one of `events` (`POLLIN`, `POLLOUT`, ...).
fn poll(fd: BorrowedFd<'_>, events: libc::c_short) -> io::Result<()> {
    let events = u32::from(events.cast_unsigned());
    // SAFETY: a poll points at nothing.
    unsafe { perform(op::net::poll_add(fd.as_raw_fd(), events), "readiness") }.map(drop)
}

/// Does an operation; where the descriptor is non-blocking and not ready, waits for readiness and does it again.
#[inline(always)]
fn retry<T>(
    fd: BorrowedFd<'_>,
    events: libc::c_short,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => poll(fd, events)?,
            outcome => return outcome,
        }
    }
}

/// recv(2) into a borrowed buffer.
#[inline]
pub(crate) fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    retry(fd, libc::POLLIN, || {
        let sqe = op::net::recv(fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len(), flags);
        // SAFETY: the buffer is borrowed for longer than this call, uniquely.
        unsafe { perform(sqe, "recv") }.map(|received| received as usize)
    })
}

/// send(2) from a borrowed buffer. `MSG_WAITALL`: as a blocking socket does, it returns when all is accepted, or
/// with the part that was when an error or a cancellation came between.
#[inline]
pub(crate) fn send(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    retry(fd, libc::POLLOUT, || {
        let sqe = op::net::send(
            fd.as_raw_fd(),
            buffer.as_ptr(),
            buffer.len(),
            libc::MSG_WAITALL,
        );
        // SAFETY: the buffer is borrowed for longer than this call.
        unsafe { perform(sqe, "send") }.map(|sent| sent as usize)
    })
}

/// sendmsg(2) from borrowed buffers, up to the kernel's limit of 1,024 of them; `MSG_WAITALL` as in [`send`].
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    const IOV_MAX: usize = 1024;
    let buffers = &buffers[..buffers.len().min(IOV_MAX)];
    retry(fd, libc::POLLOUT, || {
        // SAFETY: a zeroed msghdr is a valid one: no address, no buffers, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // std guarantees that an IoSlice has the layout of an iovec. The kernel only reads it.
        message.msg_iov = buffers.as_ptr().cast_mut().cast();
        message.msg_iovlen = buffers.len();
        let sqe = op::net::sendmsg(
            fd.as_raw_fd(),
            &raw const message,
            libc::MSG_WAITALL.cast_unsigned(),
        );
        // SAFETY: the message lives in this frame and the buffers are borrowed for longer than this call.
        unsafe { perform(sqe, "send") }.map(|sent| sent as usize)
    })
}

/// accept4(2) with `SOCK_CLOEXEC`.
pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let (accepted, address) = retry(fd, libc::POLLIN, || {
        let mut storage = SockAddrStorage::zeroed();
        let mut length = storage.size_of();
        // SAFETY: `sockaddr_storage` is one of the platform's address types.
        let address = std::ptr::from_mut(unsafe { storage.view_as::<libc::sockaddr_storage>() });
        let sqe = op::net::accept(
            fd.as_raw_fd(),
            address.cast(),
            &raw mut length,
            libc::SOCK_CLOEXEC,
        );
        // SAFETY: storage and length live in this frame until the operation is done; an accept makes a new descriptor.
        let accepted = unsafe { perform_open(sqe, "accept") }?;
        // SAFETY: the kernel has filled the storage up to this length.
        let address = unsafe { SockAddr::new(storage, length) };
        Ok((accepted, address))
    })?;
    let address = address
        .as_socket()
        .ok_or_else(|| io::Error::other("the peer's address is not an IP address"))?;
    Ok((accepted, address))
}

/// connect(2).
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &SockAddr) -> io::Result<()> {
    let sqe = op::net::connect(fd.as_raw_fd(), address.as_ptr().cast(), address.len());
    // SAFETY: the address is borrowed for longer than this call.
    unsafe { perform(sqe, "connect") }.map(drop)
}
