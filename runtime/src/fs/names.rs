//! Changing and asking about names: one operation each.
//!
//! The kernel does all of these on a worker thread (about 6 us), except opening a path that is cached. They all
//! park; a cancellation that comes while the kernel is at it is reported after the fact, as success.
#![expect(
    unsafe_code,
    reason = "lends paths to the kernel while the operation runs"
)]

use super::{File, Metadata, OpenOptions};
use crate::blocking;
use crate::io::perform;
use coring_uring::op;
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Relative paths are relative to the working directory.
const HERE: i32 = libc::AT_FDCWD;

/// A path as the kernel takes it.
pub(super) fn lower(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| has_nul())
}

/// Paths that are shorter are lowered in the caller's frame.
const SHORT_BYTES: usize = 128;

/// Lends a path as the kernel takes it, without allocating for one that is short.
#[inline(always)]
pub(super) fn with_lowered<T>(
    path: &Path,
    call: impl FnOnce(&CStr) -> io::Result<T>,
) -> io::Result<T> {
    let bytes = path.as_os_str().as_bytes();
    let (mut short, long);
    let lowered = if bytes.len() < SHORT_BYTES {
        short = [0; SHORT_BYTES];
        short[..bytes.len()].copy_from_slice(bytes);
        CStr::from_bytes_with_nul(&short[..=bytes.len()]).map_err(|_| has_nul())?
    } else {
        long = lower(path)?;
        &*long
    };
    call(lowered)
}

#[cold]
fn has_nul() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the path contains a NUL byte")
}

/// Removes a name, and the file with its last one. Compare [`std::fs::remove_file`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As unlink(2).
///
/// # Source
///
/// `IORING_OP_UNLINKAT`, Linux 5.11.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    unlink(path.as_ref(), 0)
}

/// Removes an empty directory. Compare [`std::fs::remove_dir`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As rmdir(2).
///
/// # Source
///
/// `IORING_OP_UNLINKAT` with `AT_REMOVEDIR`, Linux 5.11.
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    unlink(path.as_ref(), libc::AT_REMOVEDIR)
}

fn unlink(path: &Path, flags: i32) -> io::Result<()> {
    let path = lower(path)?;
    // SAFETY: the path lives in this frame until `perform` returns.
    unsafe { perform(op::fs::unlinkat(HERE, path.as_ptr(), flags), "unlink") }.map(drop)
}

/// Renames, replacing what has the new name. Compare [`std::fs::rename`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As rename(2).
///
/// # Source
///
/// `IORING_OP_RENAMEAT`, Linux 5.11.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (lower(from.as_ref())?, lower(to.as_ref())?);
    let sqe = op::fs::renameat((HERE, from.as_ptr()), (HERE, to.as_ptr()), 0);
    // SAFETY: the paths live in this frame until `perform` returns.
    unsafe { perform(sqe, "rename") }.map(drop)
}

/// Gives a file another name. A symbolic link is not followed. Compare [`std::fs::hard_link`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As link(2).
///
/// # Source
///
/// `IORING_OP_LINKAT`, Linux 5.15.
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    link_with(original.as_ref(), link.as_ref(), 0)
}

pub(super) fn link_with(original: &Path, link: &Path, flags: i32) -> io::Result<()> {
    let (original, link) = (lower(original)?, lower(link)?);
    let sqe = op::fs::linkat((HERE, original.as_ptr()), (HERE, link.as_ptr()), flags);
    // SAFETY: the paths live in this frame until `perform` returns.
    unsafe { perform(sqe, "link") }.map(drop)
}

/// Makes a symbolic link that says `original`. Compare [`std::os::unix::fs::symlink`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As symlink(2).
///
/// # Source
///
/// `IORING_OP_SYMLINKAT`, Linux 5.15.
pub fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (original, link) = (lower(original.as_ref())?, lower(link.as_ref())?);
    let sqe = op::fs::symlinkat(original.as_ptr(), HERE, link.as_ptr());
    // SAFETY: the paths live in this frame until `perform` returns.
    unsafe { perform(sqe, "symlink") }.map(drop)
}

/// Makes a directory. Compare [`std::fs::create_dir`].
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
pub fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    make_dir(path.as_ref(), 0o777)
}

pub(super) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    let path = lower(path)?;
    // SAFETY: the path lives in this frame until `perform` returns.
    unsafe { perform(op::fs::mkdirat(HERE, path.as_ptr(), mode), "mkdir") }.map(drop)
}

/// Makes a directory and those above it that are missing. Compare [`std::fs::create_dir_all`].
///
/// # Parks
///
/// Yes.
///
/// # Errors
///
/// As mkdir(2). A directory that exists, also one that somebody else makes at the same time, is no error.
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    make_dir_all(path.as_ref(), 0o777)
}

pub(super) fn make_dir_all(path: &Path, mode: u32) -> io::Result<()> {
    // From the path upwards to what exists, then down again.
    let missing: Vec<&Path> = path
        .ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
        .collect();
    let mut depth = 0;
    while let Some(ancestor) = missing.get(depth) {
        match make_dir(ancestor, mode) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => depth += 1,
            Err(_) if is_dir(ancestor) => break,
            Err(error) => return Err(error),
        }
    }
    for below in missing[..depth.min(missing.len())].iter().rev() {
        match make_dir(below, mode) {
            Err(error) if !is_dir(below) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn is_dir(path: &Path) -> bool {
    metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Size, times, permissions of a file, symbolic links followed. Compare [`std::fs::metadata`].
///
/// # Parks
///
/// Until the path is resolved: at once if it is cached.
///
/// # Errors
///
/// As stat(2).
///
/// # Source
///
/// `IORING_OP_OPENAT` with `O_PATH`, then fstat(2). Where no descriptor is left, stat(2) in the offload pool.
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref();
    match place(path, 0) {
        Err(error) if lacks_descriptors(&error) => in_the_pool(path, std::fs::metadata),
        place => place?.metadata(),
    }
}

/// As [`metadata()`], of a symbolic link itself. Compare [`std::fs::symlink_metadata`].
///
/// # Parks
///
/// As [`metadata()`].
///
/// # Errors
///
/// As lstat(2).
pub fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let path = path.as_ref();
    match place(path, libc::O_NOFOLLOW) {
        Err(error) if lacks_descriptors(&error) => in_the_pool(path, std::fs::symlink_metadata),
        place => place?.metadata(),
    }
}

/// Whether no descriptor was left for [`place`]: stat(2) needs none.
fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn in_the_pool(path: &Path, ask: fn(PathBuf) -> io::Result<Metadata>) -> io::Result<Metadata> {
    let path = path.to_owned();
    blocking(move || ask(path))?
}

/// A descriptor that names the file and gives no access to it.
fn place(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | flags)
        .open(path)
}

/// Whether a path names something; a symbolic link to nothing does not. Compare [`std::fs::exists`].
///
/// # Parks
///
/// As [`metadata()`].
///
/// # Errors
///
/// As stat(2), when it cannot be told.
pub fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
