//! What has no opcode: done by a thread of the offload pool.
//!
//! What changes something is waited for to its end, cancelled or not, so that nothing happens after the call has
//! returned. What only looks is given up at once when the caller is cancelled.

use super::{File, FileTimes, OpenOptions, Permissions};
use crate::blocking;
use crate::io::offload;
use std::io::{self, Read};
use std::os::unix::fs::{self as unix, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes of a copy between two looks at cancellation.
const COPY_BYTES: u64 = 16 << 20;

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

/// Changes the owner and the group of a file, or one of them. Compare [`std::os::unix::fs::chown`].
///
/// # Parks
///
/// Until the offload pool is through.
///
/// # Errors
///
/// As chown(2).
pub fn chown(path: impl AsRef<Path>, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    offload(move || unix::chown(path, user, group))?
}

/// As [`chown`], of a symbolic link itself. Compare [`std::os::unix::fs::lchown`].
///
/// # Parks
///
/// Until the offload pool is through.
///
/// # Errors
///
/// As lchown(2).
pub fn lchown(path: impl AsRef<Path>, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    offload(move || unix::lchown(path, user, group))?
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
        files = back;
        if bytes == 0 {
            // Closed as files of ours are: a server may take its time with that.
            drop((File::from(files.0), File::from(files.1)));
            return Ok(copied);
        }
        copied += bytes;
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
        let file = self.lent();
        offload(move || file.set_permissions(permissions))?
    }

    /// Changes the time that says when the file was written. As [`set_times`](Self::set_times).
    ///
    /// # Errors
    ///
    /// As futimens(3).
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
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
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        let file = self.lent();
        offload(move || file.set_times(times))?
    }
}
