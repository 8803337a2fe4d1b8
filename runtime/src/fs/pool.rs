//! What has no opcode: done by a thread of the offload pool.
//!
//! What changes something is waited for to its end, cancelled or not, so that nothing happens after the call has
//! returned. What only looks is given up at once when the caller is cancelled.

use super::{File, OpenOptions, Permissions};
use crate::blocking;
use crate::io::offload;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a copy between two looks at cancellation.
const COPY_BYTES: u64 = 16 << 20;
/// Directory entries that one visit to the pool brings.
const ENTRIES: usize = 256;

/// The absolute path without links in it. Compare [`std::fs::canonicalize`].
///
/// # Parks
///
/// Until the offload pool has looked.
///
/// # Errors
///
/// As realpath(3).
pub fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    blocking(move || std::fs::canonicalize(path))?
}

/// What a symbolic link says. Compare [`std::fs::read_link`].
///
/// # Parks
///
/// Until the offload pool has looked.
///
/// # Errors
///
/// As readlink(2).
pub fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref().to_owned();
    blocking(move || std::fs::read_link(path))?
}

/// Removes a directory and everything in it. Compare [`std::fs::remove_dir_all`]: like it, safe against links that
/// somebody puts in the way.
///
/// # Parks
///
/// Until the offload pool is through.
///
/// # Cancellation
///
/// Waits for the end all the same.
///
/// # Errors
///
/// As rmdir(2) and unlink(2).
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    offload(move || std::fs::remove_dir_all(path))?
}

/// Changes the permissions of a file. Compare [`std::fs::set_permissions`].
///
/// # Parks
///
/// Until the offload pool is through.
///
/// # Errors
///
/// As chmod(2).
pub fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    offload(move || std::fs::set_permissions(path, permissions))?
}

/// Copies a regular file, and its permissions. Returns the bytes. Compare [`std::fs::copy`].
///
/// The bytes do not come by here: the kernel copies them (copy_file_range(2)), or only notes that both files have
/// them, where the file system can.
///
/// # Parks
///
/// Until the offload pool is through.
///
/// # Cancellation
///
/// Looked at every 16 MiB. What was copied by then stays.
///
/// # Errors
///
/// As open(2), read(2) and write(2); `InvalidInput` for what is not a regular file.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let source = File::open(from)?;
    let metadata = source.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the source path is neither a regular file nor a symlink to a regular file",
        ));
    }
    let permissions = metadata.permissions();
    let target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(permissions.mode())
        .open(to)?;
    let target_is_file = target.metadata()?.is_file();
    let mut files = (std::fs::File::from(source), std::fs::File::from(target));
    if target_is_file {
        files = offload(move || files.1.set_permissions(permissions).map(|()| files))??;
    }
    let mut copied = 0;
    loop {
        // The files go along, so that they are open for as long as the pool uses them.
        let (bytes, back) = offload(move || {
            let mut part = (&files.0).take(COPY_BYTES);
            io::copy(&mut part, &mut &files.1).map(|bytes| (bytes, files))
        })??;
        if bytes == 0 {
            return Ok(copied);
        }
        copied += bytes;
        files = back;
    }
}

/// The entries of a directory, in no order, without `.` and `..`. Compare [`std::fs::read_dir`].
///
/// # Parks
///
/// Until the offload pool has looked; the iterator, at every 256th entry.
///
/// # Errors
///
/// As opendir(3).
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     for entry in coring::fs::read_dir("/proc/self/fd")? {
///         assert!(entry?.file_type()?.is_symlink());
///     }
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let mut directory = ReadDir {
        source: Some(blocking(move || std::fs::read_dir(path))??),
        batch: VecDeque::new(),
    };
    directory.fill()?;
    Ok(directory)
}

/// The iterator of [`read_dir`]. Its items are std's: their `metadata` is a plain system call that may wait for the
/// device; [`symlink_metadata`](super::symlink_metadata) of their path does not hold up the core.
#[derive(Debug)]
pub struct ReadDir {
    /// `None` when the end has been seen, or the pool would not read on.
    source: Option<std::fs::ReadDir>,
    batch: VecDeque<io::Result<std::fs::DirEntry>>,
}

impl ReadDir {
    /// Fetches the next entries.
    fn fill(&mut self) -> io::Result<()> {
        let Some(mut source) = self.source.take() else {
            return Ok(());
        };
        let (batch, source) = blocking(move || {
            let batch: VecDeque<_> = source.by_ref().take(ENTRIES).collect();
            (batch, source)
        })?;
        self.source = (batch.len() == ENTRIES).then_some(source);
        self.batch = batch;
        Ok(())
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<std::fs::DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.is_empty()
            && let Err(error) = self.fill()
        {
            return Some(Err(error));
        }
        self.batch.pop_front()
    }
}

impl File {
    /// Changes the file's permissions.
    ///
    /// # Parks
    ///
    /// Until the offload pool is through.
    ///
    /// # Errors
    ///
    /// As fchmod(2).
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let file = self.with_std(std::fs::File::try_clone)?;
        offload(move || file.set_permissions(permissions))?
    }

    /// Changes the times that say when the file was read and written.
    ///
    /// # Parks
    ///
    /// Until the offload pool is through.
    ///
    /// # Errors
    ///
    /// As futimens(3).
    pub fn set_times(&self, times: std::fs::FileTimes) -> io::Result<()> {
        let file = self.with_std(std::fs::File::try_clone)?;
        offload(move || file.set_times(times))?
    }
}
