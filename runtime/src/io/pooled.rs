//! Receives into buffers of the core's pool: who waits holds none.
//!
//! ```text
//!   recv, buffer picked by the kernel --> bytes in a pool buffer, which comes back when its guard is dropped
//!        |
//!        `-- pool empty, or none to be had --> poll until readable --> recv into memory of the heap
//! ```
#![expect(unsafe_code, reason = "claims the buffer that a completion names")]

use super::net::{poll, recv, wait_until_ready};
use super::{Limit, complete_once, refused, result_of};
use crate::per_core;
use coring_coro::wait::Refusal;
use coring_uring::{PooledBuffer, op};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Received bytes, in a buffer that goes back to the core's pool when this is dropped. Dereferences to them.
///
/// Belongs to its core (`!Send`). Hold it for as short as possible: it is one of a bounded number.
pub struct RecvBuffer(Memory);

enum Memory {
    Pool(PooledBuffer),
    Heap(Vec<u8>),
}

impl RecvBuffer {
    /// What came with a completion: empty at the end of a stream, which may come without a buffer.
    pub(crate) fn picked(buffer: Option<PooledBuffer>) -> Self {
        Self(buffer.map_or_else(|| Memory::Heap(Vec::new()), Memory::Pool))
    }

    /// Whether the pool was empty and the bytes are in memory of their own.
    #[must_use]
    pub fn is_from_heap(&self) -> bool {
        matches!(self.0, Memory::Heap(_))
    }
}

impl Deref for RecvBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Pool(buffer) => buffer,
            Memory::Heap(bytes) => bytes,
        }
    }
}

impl DerefMut for RecvBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Pool(buffer) => buffer,
            Memory::Heap(bytes) => bytes,
        }
    }
}

impl fmt::Debug for RecvBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuffer")
            .field("bytes", &self.len())
            .field("from_heap", &self.is_from_heap())
            .finish()
    }
}

/// Receives what is there, up to the size of a buffer. Empty at the end of the stream.
///
/// A part of its caller, as [`recv`] is.
#[inline(always)]
pub(crate) fn recv_pooled(fd: BorrowedFd<'_>, limit: Limit<'_>) -> io::Result<RecvBuffer> {
    loop {
        match recv_picked(fd, limit) {
            Ok(Some(buffer)) => return Ok(buffer),
            Ok(None) => return recv_into_heap(fd, limit),
            Err(error) => wait_until_ready(fd, libc::POLLIN, limit, error)?,
        }
    }
}

/// `None` when there is no buffer to pick.
#[inline(always)]
fn recv_picked(fd: BorrowedFd<'_>, limit: Limit<'_>) -> io::Result<Option<RecvBuffer>> {
    let Some(engine) = per_core::current() else {
        return Err(refused(Refusal::Outside));
    };
    let Some((pool, group)) = engine
        .receive_buffers()
        .and_then(|pool| Some((pool, pool.group()?)))
    else {
        return Ok(None);
    };
    loop {
        let used = pool.used();
        let sqe = op::net::recv_pooled(fd.as_raw_fd(), group, pool.buffer_bytes(), 0);
        // SAFETY: the operation points at nothing of ours: the kernel writes to the pool.
        let (completion, cancelling) = unsafe { complete_once(sqe, "recv", limit) }?;
        // SAFETY: the completion of an operation on this pool; whatever its result is, its buffer is claimed here.
        let buffer = unsafe { pool.claim(completion) };
        match result_of(completion, cancelling) {
            Ok(_) => return Ok(Some(RecvBuffer::picked(buffer))),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // There are more of them now.
                Some(libc::ENOBUFS) if pool.used() != used => {}
                Some(libc::ENOBUFS) => return Ok(None),
                _ => return Err(error),
            },
        }
    }
}

/// Waits first, so that here, too, who waits holds no memory.
#[cold]
fn recv_into_heap(fd: BorrowedFd<'_>, limit: Limit<'_>) -> io::Result<RecvBuffer> {
    let bytes = per_core::current().map_or(4096, |engine| engine.receive_bytes());
    poll(fd, u32::from(libc::POLLIN.cast_unsigned()), limit)?;
    let mut buffer = vec![0; bytes];
    let received = recv(fd, &mut buffer, 0, limit)?;
    buffer.truncate(received);
    Ok(RecvBuffer(Memory::Heap(buffer)))
}
