//! Files, and the names of files.
//!
//! Most of these are done by a worker thread of the kernel, at the price of a hop (3 to 20 us): everything that
//! takes a path except plain opens, `fsync`, `statx`, `ftruncate`, `fallocate`, and buffered writes on ext4.
//! Buffered reads of cached pages, and sockets, are done in place.

use std::ffi::c_char;
use std::os::fd::RawFd;

use crate::op::transfer;
use crate::types::{Fd, FsyncFlags, statx as Statx};
use crate::{Sqe, opcode};

/// As offset: read or write at the file's own position and move it, as read(2) does. The only offset for pipes and
/// sockets. Two such operations at once on one file get in each other's way.
pub const AT_POSITION: u64 = u64::MAX;

/// Reads at `offset`, or [`AT_POSITION`]. Result: bytes, 0 at the end. Borrows `buffer[..length]` for writing.
///
/// # Source
/// `IORING_OP_READ`, 5.6; pread(2).
#[must_use]
#[inline]
pub fn read(fd: RawFd, buffer: *mut u8, length: usize, offset: u64) -> Sqe {
    opcode::Read::new(Fd(fd), buffer, transfer(length))
        .offset(offset)
        .build()
}

/// As [`read`] of what has no offsets, but `EAGAIN` where that would wait. `EOPNOTSUPP` for what cannot tell.
///
/// # Source
/// `IORING_OP_READ`, 5.6, with `RWF_NOWAIT`; preadv2(2).
#[must_use]
pub fn read_now(fd: RawFd, buffer: *mut u8, length: usize) -> Sqe {
    opcode::Read::new(Fd(fd), buffer, transfer(length))
        .offset(AT_POSITION)
        .rw_flags(libc::RWF_NOWAIT)
        .build()
}

/// Reads at the position, up to `length` bytes, into a buffer of `group`. Result: bytes. Borrows the buffers of the group.
///
/// # Source
/// `IORING_OP_READ` with `IOSQE_BUFFER_SELECT`, 5.7; with a ring of buffers 5.19
/// ([`Feature::BufferRing`](crate::Feature)).
#[must_use]
pub fn read_pooled(fd: RawFd, group: u16, length: usize) -> Sqe {
    opcode::Read::new(Fd(fd), std::ptr::null_mut(), transfer(length))
        .offset(AT_POSITION)
        .buf_group(group)
        .build()
        .flags(io_uring::squeue::Flags::BUFFER_SELECT)
}

/// Writes at `offset`, or [`AT_POSITION`]. Result: bytes. Borrows `buffer[..length]`.
///
/// # Source
/// `IORING_OP_WRITE`, 5.6; pwrite(2).
#[must_use]
pub fn write(fd: RawFd, buffer: *const u8, length: usize, offset: u64) -> Sqe {
    opcode::Write::new(Fd(fd), buffer, transfer(length))
        .offset(offset)
        .build()
}

/// As [`write()`] to what has no offsets, but `EAGAIN` where that would wait. `EOPNOTSUPP` for what cannot tell.
///
/// # Source
/// `IORING_OP_WRITE`, 5.6, with `RWF_NOWAIT`; pwritev2(2).
#[must_use]
pub fn write_now(fd: RawFd, buffer: *const u8, length: usize) -> Sqe {
    opcode::Write::new(Fd(fd), buffer, transfer(length))
        .offset(AT_POSITION)
        .rw_flags(libc::RWF_NOWAIT)
        .build()
}

/// Reads into a part of the registered buffer `index`. Result: bytes, 0 at the end. Borrows `buffer[..length]` for
/// writing.
///
/// # Source
/// `IORING_OP_READ_FIXED`, 5.1; pread(2).
#[must_use]
pub fn read_fixed(fd: RawFd, buffer: *mut u8, length: usize, offset: u64, index: u16) -> Sqe {
    opcode::ReadFixed::new(Fd(fd), buffer, transfer(length), index)
        .offset(offset)
        .build()
}

/// Writes from a part of the registered buffer `index`. Result: bytes. Borrows `buffer[..length]`.
///
/// # Source
/// `IORING_OP_WRITE_FIXED`, 5.1; pwrite(2).
#[must_use]
pub fn write_fixed(fd: RawFd, buffer: *const u8, length: usize, offset: u64, index: u16) -> Sqe {
    opcode::WriteFixed::new(Fd(fd), buffer, transfer(length), index)
        .offset(offset)
        .build()
}

/// Reads into several buffers. Result: bytes. Borrows `buffers[..count]`, and what they describe for writing.
///
/// # Source
/// `IORING_OP_READV`, 5.1; preadv(2).
#[must_use]
pub fn readv(fd: RawFd, buffers: *const libc::iovec, count: u32, offset: u64) -> Sqe {
    opcode::Readv::new(Fd(fd), buffers, count)
        .offset(offset)
        .build()
}

/// Writes from several buffers. Result: bytes. Borrows `buffers[..count]` and what they describe.
///
/// # Source
/// `IORING_OP_WRITEV`, 5.1; pwritev(2).
#[must_use]
pub fn writev(fd: RawFd, buffers: *const libc::iovec, count: u32, offset: u64) -> Sqe {
    opcode::Writev::new(Fd(fd), buffers, count)
        .offset(offset)
        .build()
}

/// Opens `path`, relative to `directory`. Result: the descriptor. Borrows `path`.
///
/// A completion that nobody takes leaks the descriptor.
///
/// # Source
/// `IORING_OP_OPENAT`, 5.6.
#[must_use]
pub fn openat(directory: RawFd, path: *const c_char, flags: i32, mode: libc::mode_t) -> Sqe {
    opcode::OpenAt::new(Fd(directory), path)
        .flags(flags)
        .mode(mode)
        .build()
}

/// Closes a descriptor. Result: 0. Borrows nothing, and ends no operation on it: cancel and reap those first.
///
/// # Source
/// `IORING_OP_CLOSE`, 5.6.
#[must_use]
pub fn close(fd: RawFd) -> Sqe {
    opcode::Close::new(Fd(fd)).build()
}

/// Makes contents and metadata durable. Result: 0. Borrows nothing.
///
/// # Source
/// `IORING_OP_FSYNC`, 5.1; fsync(2).
#[must_use]
pub fn fsync(fd: RawFd) -> Sqe {
    opcode::Fsync::new(Fd(fd)).build()
}

/// Makes contents durable, and of the metadata what is needed to read them. Result: 0. Borrows nothing.
///
/// # Source
/// `IORING_OP_FSYNC` with `IORING_FSYNC_DATASYNC`, 5.1; fdatasync(2).
#[must_use]
pub fn fdatasync(fd: RawFd) -> Sqe {
    opcode::Fsync::new(Fd(fd))
        .flags(FsyncFlags::DATASYNC)
        .build()
}

/// Fills in what is asked for about a file. Result: 0. Borrows `path`, and `buffer` for writing.
///
/// # Source
/// `IORING_OP_STATX`, 5.6; statx(2) for `flags` and `mask`.
#[must_use]
pub fn statx(
    directory: RawFd,
    path: *const c_char,
    flags: i32,
    mask: u32,
    buffer: *mut libc::statx,
) -> Sqe {
    opcode::Statx::new(Fd(directory), path, buffer.cast::<Statx>())
        .flags(flags)
        .mask(mask)
        .build()
}

/// Sets a file's length. Result: 0. Borrows nothing.
///
/// # Source
/// `IORING_OP_FTRUNCATE`, 6.9 ([`Feature::Ftruncate`](crate::Feature)); ftruncate(2).
#[must_use]
pub fn ftruncate(fd: RawFd, length: u64) -> Sqe {
    opcode::Ftruncate::new(Fd(fd), length).build()
}

/// Reserves or releases space. Result: 0. Borrows nothing.
///
/// # Source
/// `IORING_OP_FALLOCATE`, 5.6; fallocate(2) for `mode`.
#[must_use]
pub fn fallocate(fd: RawFd, mode: i32, offset: u64, length: u64) -> Sqe {
    opcode::Fallocate::new(Fd(fd), length)
        .offset(offset)
        .mode(mode)
        .build()
}

/// Tells the kernel how a range will be used; a `length` of 0 is "to the end". Result: 0. Borrows nothing.
///
/// `advice` is one of `POSIX_FADV_*`. `NORMAL`, `RANDOM` and `SEQUENTIAL` are done in place, others by a worker.
///
/// # Source
/// `IORING_OP_FADVISE`, 5.6; posix_fadvise(2).
#[must_use]
pub fn fadvise(fd: RawFd, offset: u64, length: u32, advice: i32) -> Sqe {
    opcode::Fadvise::new(Fd(fd), i64::from(length), advice)
        .offset(offset)
        .build()
}

/// Removes a name; with `AT_REMOVEDIR` in `flags` an empty directory. Result: 0. Borrows `path`.
///
/// # Source
/// `IORING_OP_UNLINKAT`, 5.11.
#[must_use]
pub fn unlinkat(directory: RawFd, path: *const c_char, flags: i32) -> Sqe {
    opcode::UnlinkAt::new(Fd(directory), path)
        .flags(flags)
        .build()
}

/// Renames. Result: 0. Borrows both paths.
///
/// # Source
/// `IORING_OP_RENAMEAT`, 5.11; renameat2(2) for `flags`.
#[must_use]
pub fn renameat(old: (RawFd, *const c_char), new: (RawFd, *const c_char), flags: u32) -> Sqe {
    opcode::RenameAt::new(Fd(old.0), old.1, Fd(new.0), new.1)
        .flags(flags)
        .build()
}

/// Makes a directory. Result: 0. Borrows `path`.
///
/// # Source
/// `IORING_OP_MKDIRAT`, 5.15.
#[must_use]
pub fn mkdirat(directory: RawFd, path: *const c_char, mode: libc::mode_t) -> Sqe {
    opcode::MkDirAt::new(Fd(directory), path).mode(mode).build()
}

/// Makes another name for a file. Result: 0. Borrows both paths.
///
/// # Source
/// `IORING_OP_LINKAT`, 5.15; linkat(2) for `flags`.
#[must_use]
pub fn linkat(old: (RawFd, *const c_char), new: (RawFd, *const c_char), flags: i32) -> Sqe {
    opcode::LinkAt::new(Fd(old.0), old.1, Fd(new.0), new.1)
        .flags(flags)
        .build()
}

/// Makes a symbolic link at `path` that says `target`. Result: 0. Borrows both.
///
/// # Source
/// `IORING_OP_SYMLINKAT`, 5.15.
#[must_use]
pub fn symlinkat(target: *const c_char, directory: RawFd, path: *const c_char) -> Sqe {
    opcode::SymlinkAt::new(Fd(directory), target, path).build()
}
