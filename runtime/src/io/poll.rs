//! Readiness of descriptors that belong to others: libraries that do their own reading and writing.

use super::Limit;
use super::net::poll;
use std::io;
use std::ops::BitOr;
use std::os::fd::AsFd;

/// What to wait for. Combine with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u32);

impl Interest {
    /// Something to read, or the end.
    pub const READABLE: Self = Self(bits(libc::POLLIN | libc::POLLRDHUP));
    /// Room to write.
    pub const WRITABLE: Self = Self(bits(libc::POLLOUT));
    /// Something exceptional, such as out-of-band data.
    pub const PRIORITY: Self = Self(bits(libc::POLLPRI));
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const fn bits(events: libc::c_short) -> u32 {
    events.cast_unsigned() as u32
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness(u32);

impl Readiness {
    const fn has(self, events: libc::c_short) -> bool {
        self.0 & bits(events) != 0
    }

    /// A read would not wait.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.has(libc::POLLIN | libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR)
    }

    /// A write would not wait.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.has(libc::POLLOUT | libc::POLLERR)
    }

    /// Something exceptional is there.
    #[must_use]
    pub fn is_priority(self) -> bool {
        self.has(libc::POLLPRI)
    }

    /// The other side has gone.
    #[must_use]
    pub fn is_hung_up(self) -> bool {
        self.has(libc::POLLHUP)
    }

    /// An error is pending.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.has(libc::POLLERR)
    }
}

/// Waits until a descriptor is ready, and says for what. Errors and hang-ups are reported whatever is asked for.
///
/// Readiness is a hint: somebody else may be faster. So the descriptor should be non-blocking.
///
/// # Parks
///
/// Until then.
///
/// # Cancellation
///
/// Returns an error for which [`is_cancelled`](super::is_cancelled) holds.
///
/// # Errors
///
/// As poll(2). A regular file, which is always ready, is one: `EPERM` on some file systems.
///
/// # Examples
///
/// ```
/// use coring::io::{Interest, poll_fd};
/// use std::io::Write;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let (reader, mut writer) = std::io::pipe()?;
///     assert!(poll_fd(&writer, Interest::WRITABLE)?.is_writable());
///     writer.write_all(b"x")?;
///     assert!(poll_fd(&reader, Interest::READABLE)?.is_readable());
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// `IORING_OP_POLL_ADD`, Linux 5.1.
pub fn poll_fd(fd: impl AsFd, interest: Interest) -> io::Result<Readiness> {
    poll(fd.as_fd(), interest.0, Limit::NONE).map(Readiness)
}
