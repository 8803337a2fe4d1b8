//! Where a file's bytes are: space on the device, pages in memory, alignment, and files without a name.
#![expect(
    unsafe_code,
    reason = "operations that borrow nothing; statx fills a structure in this frame"
)]

use super::{File, OpenOptions, names};
use crate::io::perform;
use coring_uring::op;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// How a range of a file will be used, posix_fadvise(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Nothing special is known.
    Normal,
    /// From lower offsets to higher ones: read ahead further.
    Sequential,
    /// In no order: do not read ahead.
    Random,
    /// Soon: start to read.
    WillNeed,
    /// No more: pages that are on the device may go.
    DontNeed,
}

impl Advice {
    fn lower(self) -> i32 {
        match self {
            Self::Normal => libc::POSIX_FADV_NORMAL,
            Self::Sequential => libc::POSIX_FADV_SEQUENTIAL,
            Self::Random => libc::POSIX_FADV_RANDOM,
            Self::WillNeed => libc::POSIX_FADV_WILLNEED,
            Self::DontNeed => libc::POSIX_FADV_DONTNEED,
        }
    }
}

/// What direct I/O on a file has to be aligned to, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectAlignment {
    /// The address of the buffer.
    pub memory: usize,
    /// Offset and length.
    pub offset: usize,
}

impl File {
    /// Reserves space for a range, so that writing there cannot fail for lack of it. The file grows as needed.
    ///
    /// # Parks
    ///
    /// Yes.
    ///
    /// # Errors
    ///
    /// As fallocate(2): `StorageFull`; `Unsupported` for a file system that cannot.
    ///
    /// # Source
    ///
    /// `IORING_OP_FALLOCATE`, Linux 5.6.
    pub fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        // SAFETY: an allocation points at nothing.
        unsafe {
            perform(
                op::fs::fallocate(self.as_raw_fd(), 0, offset, length),
                "fallocate",
            )
        }
        .map(drop)
    }

    /// Tells the kernel how a range will be used; a length of 0 means "to the end".
    ///
    /// # Parks
    ///
    /// For [`WillNeed`](Advice::WillNeed) and [`DontNeed`](Advice::DontNeed), not until the reading is done.
    ///
    /// # Errors
    ///
    /// As posix_fadvise(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_FADVISE`, Linux 5.6.
    pub fn advise(&self, offset: u64, length: u64, advice: Advice) -> io::Result<()> {
        let (mut offset, mut left) = (offset, length);
        if left > u64::from(u32::MAX) && offset.saturating_add(left) >= self.metadata()?.len() {
            left = 0;
        }
        loop {
            // The operation has 32 bits for the length, so a long range takes several: up to the end of the file one.
            let part = u32::try_from(left).unwrap_or(1 << 31);
            let sqe = op::fs::fadvise(self.as_raw_fd(), offset, part, advice.lower());
            // SAFETY: advice points at nothing.
            unsafe { perform(sqe, "fadvise") }?;
            left -= u64::from(part);
            if left == 0 {
                return Ok(());
            }
            offset += u64::from(part);
        }
    }

    /// A file for reading and writing that has no name, in the file system of `directory`. It is gone when it is
    /// closed, unless [`link_to`](Self::link_to) gives it a name.
    ///
    /// # Parks
    ///
    /// Yes.
    ///
    /// # Errors
    ///
    /// As open(2) with `O_TMPFILE`: `Unsupported` for a file system that cannot.
    ///
    /// # Examples
    ///
    /// A file that is either there and complete, or not there:
    ///
    /// ```
    /// use coring::fs::{self, File};
    /// use std::io::Write;
    ///
    /// # let directory = std::env::temp_dir();
    /// # let path = directory.join(format!("coring-tmpfile-{}", std::process::id()));
    /// coring::Runtime::builder().cores(1).build()?.run(|| {
    ///     let mut file = File::create_unnamed(&directory)?;
    ///     file.write_all(b"complete")?;
    ///     file.sync_all()?;
    ///     file.link_to(&path)?;
    ///     assert_eq!(fs::read(&path)?, b"complete");
    ///     fs::remove_file(&path)
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_unnamed(directory: impl AsRef<Path>) -> io::Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(directory)
    }

    /// Gives this file a name, which must not exist yet. For files from [`create_unnamed`](Self::create_unnamed).
    ///
    /// # Parks
    ///
    /// Yes.
    ///
    /// # Errors
    ///
    /// As linkat(2); needs /proc.
    ///
    /// # Source
    ///
    /// `IORING_OP_LINKAT` with `AT_SYMLINK_FOLLOW`, Linux 5.15; open(2) on `O_TMPFILE`.
    pub fn link_to(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let this = format!("/proc/self/fd/{}", self.as_raw_fd());
        names::link_with(this.as_ref(), path.as_ref(), libc::AT_SYMLINK_FOLLOW)
    }

    /// What direct I/O on this file has to be aligned to; `None` if the file system has none, or does not say.
    ///
    /// # Errors
    ///
    /// As statx(2).
    ///
    /// # Source
    ///
    /// statx(2) with `STATX_DIOALIGN`, Linux 6.1. A plain call: it looks at an open file.
    pub fn direct_alignment(&self) -> io::Result<Option<DirectAlignment>> {
        // SAFETY: all zeroes is a valid value: numbers only.
        let mut answer: libc::statx = unsafe { std::mem::zeroed() };
        // SAFETY: an empty path with AT_EMPTY_PATH means the descriptor; the answer is writable.
        let outcome = unsafe {
            libc::statx(
                self.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                libc::STATX_DIOALIGN,
                &raw mut answer,
            )
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
        let known = answer.stx_mask & libc::STATX_DIOALIGN != 0 && answer.stx_dio_offset_align != 0;
        Ok(known.then_some(DirectAlignment {
            memory: answer.stx_dio_mem_align as usize,
            offset: answer.stx_dio_offset_align as usize,
        }))
    }
}
