//! Why there is no pool of buffers, and what to do about it.

use std::{fmt, io};

use crate::{Feature, sys};

/// A pool of buffers could not be made or made known to the kernel.
#[derive(Debug)]
#[non_exhaustive]
pub enum BufferError {
    /// The sizes asked for are none that a pool can have.
    Size {
        /// What was asked for, and what would be possible.
        problem: &'static str,
    },
    /// The kernel does not have it, or it is switched off.
    Unsupported(Feature),
    /// This user may not lock (pin) that much memory.
    LockedMemory {
        /// What the pool needs.
        needed_kib: u64,
        /// The soft limit of the process; memory that other rings of this user have pinned counts against it.
        limit_kib: u64,
    },
    /// Any other error of mmap(2) or io_uring_register(2).
    Kernel(io::Error),
}

impl BufferError {
    /// What a refused registration of `pinned_bytes` means.
    pub(crate) fn refused(source: io::Error, pinned_bytes: usize) -> BufferError {
        match (source.raw_os_error(), sys::soft_limit(libc::RLIMIT_MEMLOCK)) {
            (Some(libc::ENOMEM), Some(limit)) => BufferError::LockedMemory {
                needed_kib: (pinned_bytes as u64).div_ceil(1024),
                limit_kib: limit / 1024,
            },
            _ => BufferError::Kernel(source),
        }
    }
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BufferError::Size { problem } => f.write_str(problem),
            BufferError::Unsupported(feature) => write!(
                f,
                "this ring does without {feature} (Linux {} has it, unless it is switched off); use the pool without \
                 the kernel's help instead",
                feature.info().since
            ),
            BufferError::LockedMemory {
                needed_kib,
                limit_kib,
            } => write!(
                f,
                "the limit on locked memory ({limit_kib} KiB for all processes of this user) leaves no room for \
                 {needed_kib} KiB of buffers. Raise it (ulimit -l unlimited, or LimitMEMLOCK= in the systemd unit), \
                 or use fewer or smaller buffers"
            ),
            BufferError::Kernel(source) => write!(f, "the kernel refuses the buffers: {source}"),
        }
    }
}

impl std::error::Error for BufferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BufferError::Kernel(source) => Some(source),
            _ => None,
        }
    }
}

impl From<BufferError> for io::Error {
    fn from(error: BufferError) -> io::Error {
        let kind = match &error {
            BufferError::Size { .. } => io::ErrorKind::InvalidInput,
            BufferError::Unsupported(_) => io::ErrorKind::Unsupported,
            BufferError::LockedMemory { .. } => io::ErrorKind::OutOfMemory,
            BufferError::Kernel(source) => source.kind(),
        };
        io::Error::new(kind, error)
    }
}
