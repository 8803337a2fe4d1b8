//! An open file.
//!
//! Reads, writes and syncs go through the ring. Buffered writes on ext4 are done by a worker thread of the kernel,
//! which the runtime keeps off the core's own CPU where it can. `seek` and `metadata` only look at what the kernel
//! has in memory for an open file, so they are plain system calls: a statx through the ring costs a worker thread,
//! 2.55 us against 0.41. Where files are elsewhere (NFS, FUSE) they may ask the server, and the core waits for it.
#![expect(
    unsafe_code,
    reason = "lends buffers to the kernel while the operation runs"
)]

use super::OpenOptions;
use super::cached::{Cached, is_in_a_batch};
use super::closing::{close, close_silently};
use super::position::Position;
use crate::io::{Limit, may_wait, perform, perform_here, told_in_part};
use crate::per_core;
use coring_uring::op;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open file. Compare [`std::fs::File`].
///
/// # Examples
///
/// ```
/// use coring::fs::File;
/// use std::io::{Read, Write};
///
/// let text = coring::Runtime::builder().cores(1).build()?.run(|| {
///     let path = std::env::temp_dir().join(format!("coring-file-{}", std::process::id()));
///     File::create(&path)?.write_all(b"hello")?;
///     let mut text = String::new();
///     File::open(&path)?.read_to_string(&mut text)?;
///     std::fs::remove_file(path)?;
///     Ok::<_, std::io::Error>(text)
/// })?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct File {
    fd: ManuallyDrop<OwnedFd>,
    /// Whether it is known to have offsets: a plain file.
    plain: bool,
    position: Position,
    cached: Cached,
}

impl File {
    /// Opens a file for reading. Parks, is cancelled and fails as [`OpenOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file for writing, created or emptied. Parks, is cancelled and fails as [`OpenOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
    }

    /// Creates a file for reading and writing; fails if it exists.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
    }

    /// Options to open a file with.
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Reads at an offset, leaving the position alone. Fewer bytes than asked for are normal; 0 is the end.
    ///
    /// # Parks
    ///
    /// Until the bytes are there. Not for what is in the page cache, though others may run first when the coroutine has
    /// had its time slice.
    ///
    /// # Cancellation
    ///
    /// A disk that is busy with it is waited for.
    ///
    /// # Errors
    ///
    /// As pread(2).
    ///
    /// # Source
    ///
    /// preadv2(2) with `RWF_NOWAIT`, Linux 4.14, for what is in the page cache; `IORING_OP_READ`, Linux 5.6. Which of them is tried
    /// first depends on what the core has to do and on what a system call costs.
    #[inline(always)]
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_anywhere(buffer, self.checked(offset)?)
    }

    /// From the page cache if it has all of it, else through the ring. In a batch of others through the ring at once, where that
    /// is cheaper (cached.rs).
    ///
    /// A part of whoever reads, across crates: what returns after a switch is mispredicted, and its next call is left by the switch, which
    /// is mispredicted too (switch/jump.rs of coring-coro has the reason). 7 to 12 ns of a read that takes a microsecond.
    #[inline(always)]
    fn read_anywhere(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let engine = per_core::current();
        match engine.and_then(|engine| engine.fixed_buffers().number_of(buffer)) {
            None if engine.is_some_and(is_in_a_batch) => self.read_by_ring(buffer, offset),
            None => self.read_cached(buffer, offset),
            Some(number) => self.read_registered(buffer, offset, number),
        }
    }

    #[inline(never)]
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        may_wait()?;
        let (bytes, all) = self.cached.read(self.fd.as_fd(), buffer, offset);
        if all {
            return Ok(bytes);
        }
        match self.read_by_ring(&mut buffer[bytes..], offset + bytes as u64) {
            Ok(rest) => Ok(bytes + rest),
            Err(error) if bytes == 0 => Err(error),
            // What was read is told first; an error that stays is found by the next read.
            Err(error) => {
                told_in_part(&error);
                Ok(bytes)
            }
        }
    }

    pub(super) fn read_from(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match registered(buffer) {
            None => self.read_by_ring(buffer, offset),
            Some(number) => self.read_registered(buffer, offset, number),
        }
    }

    /// A part of its caller: as `recv` in io/net.rs.
    #[inline(always)]
    fn read_by_ring(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (fd, start, bytes) = (self.fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len());
        let make = || op::fs::read(fd, start, bytes, offset);
        // SAFETY: the buffer is borrowed for longer than this call, uniquely.
        unsafe { perform_here(make, "file read", Limit::NONE) }.map(|read| read as usize)
    }

    /// Into a buffer that the ring knows by this number.
    #[inline(never)]
    fn read_registered(&self, buffer: &mut [u8], offset: u64, number: u16) -> io::Result<usize> {
        let (fd, start, bytes) = (self.fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len());
        let sqe = op::fs::read_fixed(fd, start, bytes, offset, number);
        // SAFETY: as above.
        unsafe { perform(sqe, "file read") }.map(|read| read as usize)
    }

    /// Writes at an offset, leaving the position alone. May write fewer bytes.
    ///
    /// # Parks
    ///
    /// Yes.
    ///
    /// # Cancellation
    ///
    /// What was written is reported; a disk that is busy with it is waited for.
    ///
    /// # Errors
    ///
    /// As pwrite(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_WRITE`, Linux 5.6.
    pub fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.write_from(buffer, self.checked(offset)?)
    }

    pub(super) fn write_from(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let (fd, start, bytes) = (self.fd.as_raw_fd(), buffer.as_ptr(), buffer.len());
        let sqe = match registered(buffer) {
            None => op::fs::write(fd, start, bytes, offset),
            Some(number) => op::fs::write_fixed(fd, start, bytes, offset, number),
        };
        // SAFETY: the buffer is borrowed for longer than this call.
        unsafe { perform(sqe, "file write") }.map(|written| written as usize)
    }

    /// As [`read_at`](Self::read_at), into several buffers, one after the other; at most 1,024 of them are used.
    ///
    /// # Errors
    ///
    /// As preadv(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_READV`, Linux 5.1.
    pub fn read_vectored_at(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        self.read_vectored_from(buffers, self.checked(offset)?)
    }

    pub(super) fn read_vectored_from(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        // std guarantees that an IoSliceMut has the layout of an iovec.
        let vectors = buffers.as_ptr().cast();
        let sqe = op::fs::readv(self.fd.as_raw_fd(), vectors, count(buffers), offset);
        // SAFETY: the buffers are borrowed for longer than this call, uniquely.
        unsafe { perform(sqe, "file read") }.map(|read| read as usize)
    }

    /// As [`write_at`](Self::write_at), from several buffers, one after the other; at most 1,024 of them are used.
    ///
    /// # Errors
    ///
    /// As pwritev(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_WRITEV`, Linux 5.1.
    pub fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.write_vectored_from(buffers, self.checked(offset)?)
    }

    pub(super) fn write_vectored_from(
        &self,
        buffers: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<usize> {
        // std guarantees that an IoSlice has the layout of an iovec.
        let vectors = buffers.as_ptr().cast();
        let sqe = op::fs::writev(self.fd.as_raw_fd(), vectors, count(buffers), offset);
        // SAFETY: the buffers are borrowed for longer than this call.
        unsafe { perform(sqe, "file write") }.map(|written| written as usize)
    }

    /// Makes contents and metadata durable.
    ///
    /// # Parks
    ///
    /// Until the device has said so.
    ///
    /// # Errors
    ///
    /// As fsync(2). After an error it is unknown what is on the device; doing it again may hide the loss.
    ///
    /// # Source
    ///
    /// `IORING_OP_FSYNC`, Linux 5.1.
    pub fn sync_all(&self) -> io::Result<()> {
        // SAFETY: a sync points at nothing.
        unsafe { perform(op::fs::fsync(self.fd.as_raw_fd()), "fsync") }.map(drop)
    }

    /// Makes contents durable, and of the metadata what is needed to read them.
    ///
    /// # Parks
    ///
    /// As [`sync_all`](Self::sync_all).
    ///
    /// # Errors
    ///
    /// As [`sync_all`](Self::sync_all).
    pub fn sync_data(&self) -> io::Result<()> {
        // SAFETY: a sync points at nothing.
        unsafe { perform(op::fs::fdatasync(self.fd.as_raw_fd()), "fdatasync") }.map(drop)
    }

    /// Cuts the file off or extends it with zeroes.
    ///
    /// # Errors
    ///
    /// As ftruncate(2).
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        let through_ring = per_core::current().is_some_and(|engine| {
            let ring = engine.ring().borrow();
            ring.capabilities().has(coring_uring::Feature::Ftruncate)
        });
        if through_ring {
            // SAFETY: a truncation points at nothing.
            return unsafe { perform(op::fs::ftruncate(self.fd.as_raw_fd(), bytes), "truncate") }
                .map(drop);
        }
        may_wait()?;
        self.with_std(|file| file.set_len(bytes))
    }

    /// Size, times, permissions.
    ///
    /// # Parks
    ///
    /// No: it asks memory of the kernel. Of a file on a network, or in user space (FUSE), the kernel may ask the server, and the
    /// core waits for that: where that matters, ask in the offload pool.
    ///
    /// # Errors
    ///
    /// As fstat(2).
    pub fn metadata(&self) -> io::Result<super::Metadata> {
        self.with_std(std::fs::File::metadata)
    }

    /// A file that [`OpenOptions`] has opened with these flags. `plain`: it is known to have offsets.
    pub(super) fn opened(fd: OwnedFd, flags: libc::c_int, plain: bool) -> Self {
        Self {
            fd: ManuallyDrop::new(fd),
            plain,
            position: Position::default(),
            cached: Cached::with_flags(flags),
        }
    }

    /// From std's type.
    #[must_use]
    pub fn from_std(theirs: std::fs::File) -> Self {
        theirs.into()
    }

    /// To std's type.
    #[must_use]
    pub fn into_std(self) -> std::fs::File {
        self.into()
    }

    /// Another handle to the same open file: they share the position, and take turns there.
    ///
    /// # Errors
    ///
    /// As fcntl(2): no descriptor may be left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let mut clone = Self::from(self.fd.try_clone()?);
        clone.position = self.position.of_a_clone(self);
        Ok(clone)
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// Lends the descriptor to std for a call that does not wait.
    pub(super) fn with_std<T>(&self, call: impl FnOnce(&std::fs::File) -> T) -> T {
        call(&self.lent())
    }

    /// The descriptor, for std and until `self` is no longer borrowed: for a call, also in the offload pool, that is waited for to
    /// its end.
    pub(super) fn lent(&self) -> ManuallyDrop<std::fs::File> {
        // SAFETY: the descriptor is open for as long as the caller holds `self`, and `ManuallyDrop` does not close it.
        ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(self.fd.as_raw_fd()) })
    }

    /// An offset as pread(2) takes it: what is negative there is an error, and not "at the position"; and so is one of a pipe.
    #[inline]
    fn checked(&self, offset: u64) -> io::Result<u64> {
        if i64::try_from(offset).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file offset is at most 2^63 - 1",
            ));
        }
        if !self.plain {
            self.position.has_offsets(self)?;
        }
        Ok(offset)
    }

    /// Closes the file, and says what the close has found: a file system whose files are elsewhere may tell only now that it could not keep
    /// what was written. A drop closes as well, and is silent.
    ///
    /// While others of the core have something to do it goes with its next batch, where a drop takes two system calls of its own: much the
    /// cheaper way where many files are opened and closed. Alone, and with a poller ([`SqPoll`](coring_uring::SqPoll)), it makes the two.
    ///
    /// # Parks
    ///
    /// Until the file is closed: one of a server until that has answered, which holds up nobody else. Its lock is free then, of a server's
    /// file a moment later.
    ///
    /// # Cancellation
    ///
    /// A close that has begun is waited for. Who was cancelled before gets an error for which [`is_cancelled`](crate::io::is_cancelled) holds;
    /// the file is closed as by a drop, and nobody learns what the close has found.
    ///
    /// # Errors
    ///
    /// As close(2): `EIO`, `ENOSPC`, `EDQUOT` for writes that came to nothing. The file is closed in any case, and there is nothing to do
    /// again. That a close succeeds does not mean that anything is on the device: [`sync_all`](Self::sync_all).
    ///
    /// # Source
    ///
    /// `IORING_OP_CLOSE`, Linux 5.6.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::fs::File;
    /// use std::io::Write;
    ///
    /// coring::Runtime::builder().cores(1).build()?.run(|| {
    ///     let mut file = File::create("/dev/null")?;
    ///     file.write_all(b"all of it")?;
    ///     file.close()
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) -> io::Result<()> {
        close(self.into_fd())
    }

    fn into_fd(self) -> OwnedFd {
        let mut this = ManuallyDrop::new(self);
        drop(std::mem::take(&mut this.position));
        // SAFETY: `this` is never dropped, so the descriptor is taken once.
        unsafe { ManuallyDrop::take(&mut this.fd) }
    }
}

/// The number of the core's registered buffer that this is a part of, if it is one (fixed.rs).
#[inline]
fn registered(buffer: &[u8]) -> Option<u16> {
    per_core::current()?.fixed_buffers().number_of(buffer)
}

/// How many buffers one operation takes: uio_maxiov.
fn count<T>(buffers: &[T]) -> u32 {
    u32::try_from(buffers.len().min(1024)).expect("at most 1,024")
}

/// A close can be seen: a lock of the file goes with it, and with any close of a file its process's record locks, fcntl(2), those
/// that were taken meanwhile by other descriptors, too; a program that was open for writing can be started; the reader of a pipe
/// finds the end. So it is done here and now, but for what waits for a server (closing.rs), which must not hold up the core and is
/// left to the ring. An error is lost, as with std; `sync_all` tells.
///
/// It is the last word unless one of the kernel's worker threads, which holds the file while it writes, gets no CPU between the
/// completion and its own end. What it lets go of then is closed at the core's next turn (`process::Command` allows for that).
impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: this is the drop: the descriptor is taken once.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        close_silently(fd);
    }
}

/// For `read_exact_at` and `write_all_at`.
impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at(buffer, offset)
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> Self {
        Self {
            cached: Cached::of(fd.as_fd()),
            position: Position::default(),
            fd: ManuallyDrop::new(fd),
            plain: false,
        }
    }
}

impl From<File> for OwnedFd {
    fn from(file: File) -> Self {
        file.into_fd()
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl From<File> for std::fs::File {
    fn from(file: File) -> Self {
        file.into_fd().into()
    }
}

impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        self.into_fd().into_raw_fd()
    }
}

impl FromRawFd for File {
    unsafe fn from_raw_fd(fd: RawFd) -> Self {
        // SAFETY: the caller owns `fd` and gives it to us.
        unsafe { OwnedFd::from_raw_fd(fd) }.into()
    }
}

impl From<File> for std::process::Stdio {
    fn from(file: File) -> Self {
        file.into_fd().into()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// As std's: with the path and the access mode, where the kernel tells them.
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_std(|file| file.fmt(f))
    }
}
