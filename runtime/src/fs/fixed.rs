//! Registered buffers: memory that the kernel has pinned once, so that a read or write need not.
//!
//! ```text
//!   builder: fixed_buffers(count, bytes) --> pool of the core, made and pinned when first asked for
//!   FixedBuf::take() --> guard --> file.read_at(&mut guard[..n], offset)
//!        ^                            |
//!        `-- dropped: back to it      `-- the slice lies in the core's pool: IORING_OP_READ_FIXED, else IORING_OP_READ
//! ```
//!
//! There are no methods of their own for them: a file knows such memory by its address, which costs one comparison a
//! call. So parts of a buffer, `read_exact_at`, `write_all_at` and `BufReader`-like code all profit, and a buffer of
//! another core's pool (lent to a scoped thread, say) is memory like any other.
//!
//! Where the kernel refuses to register the pool - the feature is switched off, or the limit on locked memory is too
//! tight - the same guards work with plain reads and writes.

use crate::per_core;
use coring_coro::wait::Refusal;
use coring_uring::FixedBuffer;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

/// A page-aligned buffer that the core's ring has registered. Reads and writes of files with it, or with a part of it,
/// need no look-up and no pinning of its pages. Goes back to the core's pool when dropped.
///
/// Dereferences to bytes; they are whatever was in it last, zeroes at first. It is aligned for `O_DIRECT` on any device
/// whose sectors are no larger than a page. Belongs to its core (`!Send`).
///
/// # When it pays
///
/// | CPU a read, Linux 6.18, virtio disk | plain | registered |
/// |---|---|---|
/// | `O_DIRECT`, 4 KiB, 32 at once | 3.05 us | 2.65 us |
/// | `O_DIRECT`, 4 KiB, 128 at once | 2.25 us | 1.92 us |
/// | `O_DIRECT`, 64 KiB, 8 at once | 7.5 us | 5.1 us |
/// | page cache, 4 KiB or 64 KiB, 1 to 32 at once | | the same |
///
/// So: with `O_DIRECT`, and the more the larger the read. Through the page cache there is nothing to gain.
///
/// The memory is pinned as long as the runtime runs, and charged to the limit on locked memory (`ulimit -l`).
///
/// # Examples
///
/// ```
/// use coring::fs::{File, FixedBuf};
/// use std::os::unix::fs::FileExt;
///
/// coring::Runtime::builder().cores(1).fixed_buffers(8, 16 * 1024).build()?.run(|| {
///     let file = File::from(tempfile()?);
///     let mut buffer = FixedBuf::take()?;
///     buffer[..5].copy_from_slice(b"hello");
///     file.write_all_at(&buffer[..5], 0)?;
///     let mut back = FixedBuf::take()?;
///     assert_eq!(file.read_at(&mut back, 0)?, 5);
///     assert_eq!(&back[..5], b"hello");
///     Ok::<_, std::io::Error>(())
/// })?;
/// # fn tempfile() -> std::io::Result<std::fs::File> {
/// #     let path = std::env::temp_dir().join(format!("coring-fixed-{}", std::process::id()));
/// #     let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
/// #     std::fs::remove_file(path).map(|()| file)
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// `IORING_REGISTER_BUFFERS`, `IORING_OP_READ_FIXED`, `IORING_OP_WRITE_FIXED`, Linux 5.1.
pub struct FixedBuf(FixedBuffer);

impl FixedBuf {
    /// A free buffer of the core's pool. Never parks; the first call on a core makes and pins the pool.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded` when all are taken: `fixed_buffers` in the builder says how many there are. Outside a runtime,
    /// and where there is no memory for the pool.
    pub fn take() -> io::Result<Self> {
        let engine = per_core::current().ok_or_else(|| crate::io::refused(Refusal::Outside))?;
        let pool = engine.fixed_buffers().get_or_make(engine.ring())?;
        let buffer = pool.take().ok_or_else(|| {
            let why = "all registered buffers of this core are taken; drop some, or raise `fixed_buffers` in the builder";
            io::Error::new(io::ErrorKind::QuotaExceeded, why)
        })?;
        Ok(Self(buffer))
    }

    /// Whether the kernel has it registered; otherwise reads and writes with it are plain ones.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.0.is_registered()
    }
}

impl Deref for FixedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for FixedBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for FixedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedBuf")
            .field("bytes", &self.len())
            .field("registered", &self.is_registered())
            .finish()
    }
}
