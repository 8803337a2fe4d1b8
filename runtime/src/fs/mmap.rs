//! Files as memory, read in before the core touches them.
//!
//! The trouble with a mapped file on a core: a load from a page that is not in memory waits for the device inside the
//! instruction, and all coroutines of the core wait with it. Nothing can park there. So a map is made with its pages:
//!
//! ```text
//!   map: mmap(2) ----> offload pool: MADV_POPULATE_READ, part by part ----> the coroutine goes on, every page is there
//! ```
//!
//! What cannot be promised: the kernel may take pages back when memory runs short, as it may with any file's. Then a
//! load waits for the device after all. [`Mmap::populate`] brings a range back; reading into a buffer of one's own
//! ([`File::read_at`]) has no such trap, and costs a copy, which for small pieces is cheaper than the page faults.
#![expect(
    unsafe_code,
    reason = "maps a file, on the caller's word that it stays"
)]

use super::File;
use crate::{blocking, try_spawn_blocking};
use memmap2::{Advice, MmapOptions};
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Bytes that are read in between two looks at cancellation. The call holds the lock on the process's mappings while
/// pages are cached, and who maps memory meanwhile waits for it: 8 MiB of cached pages take about 0.1 ms.
const PART_BYTES: usize = 8 << 20;
/// From here on unmapping takes long enough (30 ns a page) to be left to the offload pool.
const LARGE_BYTES: usize = 4 << 20;

/// A file, or a part of one, as memory. Dereferences to its bytes.
///
/// Made with all its pages in memory: touching them stalls the core only if the kernel has taken them back meanwhile,
/// under memory pressure. `Send` and `Sync`; other cores may read it too.
///
/// # A file that changes
///
/// The bytes are the file's own. What others write to it appears in them, which is why making a map is unsafe. When the
/// file is cut off, touching what lies beyond its new end raises `SIGBUS`, which ends the process: no runtime can make an
/// error of it. [`populate`](Self::populate) reports it instead, for as long as the file stays as it is.
///
/// # Examples
///
/// ```
/// use coring::fs::{self, File, Mmap};
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let path = std::env::temp_dir().join(format!("coring-mmap-{}", std::process::id()));
///     fs::write(&path, "mapped")?;
///     let file = File::open(&path)?;
///     // SAFETY: nobody else knows the file.
///     let map = unsafe { Mmap::map(&file) }?;
///     assert_eq!(&*map, b"mapped");
///     fs::remove_file(&path)
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// mmap(2) with `MAP_SHARED` and `PROT_READ`; madvise(2) with `MADV_POPULATE_READ`, Linux 5.14.
pub struct Mmap {
    /// Shared with the thread of the pool that reads it in. `None` only while it is dropped.
    map: Option<Arc<memmap2::Mmap>>,
}

impl Mmap {
    /// Maps the whole file as it is now.
    ///
    /// # Parks
    ///
    /// Until all of it is in memory.
    ///
    /// # Cancellation
    ///
    /// Gives up; the offload pool ends the part it is at, 8 MiB at most.
    ///
    /// # Errors
    ///
    /// As mmap(2) and madvise(2); `UnexpectedEof` for a file that becomes shorter meanwhile.
    ///
    /// # Safety
    ///
    /// As long as the map exists nobody changes the mapped part of the file or cuts it off: no thread of this process
    /// and no other process. The bytes are lent out as `&[u8]`, which may not change.
    pub unsafe fn map(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: passed on to the caller.
        unsafe { Self::map_range(file, 0, bytes) }
    }

    /// Maps `bytes` from `offset` on, which need not be aligned. Parks and is cancelled as [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map); `UnexpectedEof` for a range that reaches beyond the last page of the file.
    ///
    /// # Safety
    ///
    /// As [`map`](Self::map).
    pub unsafe fn map_range(file: &File, offset: u64, bytes: usize) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(bytes);
        // SAFETY: passed on to the caller.
        let map = unsafe { options.map(file.as_raw_fd()) }?;
        let this = Self {
            map: Some(Arc::new(map)),
        };
        this.populate(0..bytes)?;
        Ok(this)
    }

    /// Brings the pages of a range back into memory, if they have gone. Parks and is cancelled as [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` for what lies beyond the end of a file that has been cut off; those of the device.
    ///
    /// # Panics
    ///
    /// If the range is not inside of the map.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} of {} bytes",
            self.len()
        );
        for start in range.clone().step_by(PART_BYTES) {
            let bytes = PART_BYTES.min(range.end - start);
            let map = Arc::clone(self.shared());
            blocking(move || map.advise_range(Advice::PopulateRead, start, bytes))?
                .map_err(explain)?;
        }
        Ok(())
    }

    fn shared(&self) -> &Arc<memmap2::Mmap> {
        self.map.as_ref().expect("it is there until it is dropped")
    }
}

/// madvise(2) calls it a bad address when a load would raise `SIGBUS`.
fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EFAULT) => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the mapped part reaches beyond the end of the file",
        ),
        _ => error,
    }
}

impl Deref for Mmap {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.shared()
    }
}

/// To unmap a large map takes milliseconds: on a core the offload pool does it, if it has room.
impl Drop for Mmap {
    fn drop(&mut self) {
        let map = self.map.take();
        if map.as_ref().is_some_and(|map| map.len() >= LARGE_BYTES) {
            // Refused, the closure comes back and is dropped here, and the map with it.
            let _ = try_spawn_blocking(move || drop(map));
        }
    }
}

impl fmt::Debug for Mmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mmap").field("bytes", &self.len()).finish()
    }
}
