//! Directories: reading their entries, and making them with options.
//!
//! There is no opcode for getdents(2), so entries are read by the offload pool, many at a time. What an entry says without
//! asking the file - its name, as a rule its type - costs nothing; what has to be asked goes through the ring.

use super::names::{make_dir, make_dir_all};
use super::{FileType, Metadata, symlink_metadata};
use crate::blocking;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

/// Directory entries that one visit to the pool brings.
const ENTRIES: usize = 256;

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

/// The iterator of [`read_dir`].
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
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.is_empty()
            && let Err(error) = self.fill()
        {
            return Some(Err(error));
        }
        let entry = self.batch.pop_front()?;
        Some(entry.map(|theirs| DirEntry { theirs }))
    }
}

/// An entry of a directory. Compare [`std::fs::DirEntry`].
pub struct DirEntry {
    theirs: std::fs::DirEntry,
}

impl DirEntry {
    /// The path of the directory, as it was given to [`read_dir`], and the name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.theirs.path()
    }

    /// The name alone.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.theirs.file_name()
    }

    /// The number of the file in its file system.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.theirs.ino()
    }

    /// What sort of file it is. Symbolic links are not followed.
    ///
    /// The entry itself says it on most file systems; on others it is one plain lstat(2).
    ///
    /// # Errors
    ///
    /// As lstat(2).
    pub fn file_type(&self) -> io::Result<FileType> {
        self.theirs.file_type()
    }

    /// Size, times, permissions. Symbolic links are not followed.
    ///
    /// # Parks
    ///
    /// As [`symlink_metadata`].
    ///
    /// # Errors
    ///
    /// As lstat(2).
    pub fn metadata(&self) -> io::Result<Metadata> {
        symlink_metadata(self.path())
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.theirs.fmt(f)
    }
}

/// How a directory is made. Compare [`std::fs::DirBuilder`].
///
/// # Examples
///
/// ```
/// use coring::fs::{self, DirBuilder};
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let path = std::env::temp_dir().join(format!("coring-dirs-{}", std::process::id()));
///     DirBuilder::new().recursive(true).mode(0o700).create(path.join("for/me/alone"))?;
///     fs::remove_dir_all(path)
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DirBuilder {
    mode: u32,
    recursive: bool,
}

impl Default for DirBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl DirBuilder {
    /// One directory, mode 0o777 less the umask.
    #[must_use]
    pub fn new() -> Self {
        Self {
            mode: 0o777,
            recursive: false,
        }
    }

    /// Whether those above it that are missing are made, too, and one that exists is no error.
    pub fn recursive(&mut self, recursive: bool) -> &mut Self {
        self.recursive = recursive;
        self
    }

    /// Permission bits of what is made, before the umask.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Makes the directory.
    ///
    /// # Parks
    ///
    /// Yes.
    ///
    /// # Errors
    ///
    /// As mkdir(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_MKDIRAT`, Linux 5.15.
    pub fn create(&self, path: impl AsRef<Path>) -> io::Result<()> {
        match self.recursive {
            true => make_dir_all(path.as_ref(), self.mode),
            false => make_dir(path.as_ref(), self.mode),
        }
    }
}
