//! The process's own input and output, without holding up a core.
//!
//! Unbuffered, and without std's locks: wrap them in `BufReader` or `BufWriter`. What std's `println!` has buffered
//! is not known here.
//!
//! Where one of them is a file (`server > log`), its position is shared with children, with the other of `2>&1`, with
//! `println!`. read(2) and write(2) take turns there, and a ring does not: of two writes that overlap one is lost. So a
//! file is read and written by these, in the offload pool.

use super::offload;
use super::stream::{self, readable, writable};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileTypeExt;

/// How much of one call goes to the pool, at the most: it is copied.
const MOST_BYTES: usize = 1 << 20;

fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let Some(mut file) = as_file(fd) else {
        return stream::read(fd, buffer);
    };
    let mut bytes = vec![0; buffer.len().min(MOST_BYTES)];
    let bytes = offload(move || file.read(&mut bytes).map(|read| bytes[..read].to_vec()))??;
    buffer[..bytes.len()].copy_from_slice(&bytes);
    Ok(bytes.len())
}

fn write(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    let Some(mut file) = as_file(fd) else {
        return stream::write(fd, buffer);
    };
    if std::thread::panicking() {
        // As with any file: the destructor of a `BufWriter` has no other chance.
        return file.write(buffer);
    }
    let bytes = buffer[..buffer.len().min(MOST_BYTES)].to_vec();
    offload(move || file.write(&bytes))?
}

/// What has a position: a file, or a disk.
#[expect(unsafe_code, reason = "lends a descriptor to std")]
fn as_file(fd: BorrowedFd<'_>) -> Option<ManuallyDrop<File>> {
    // SAFETY: borrowed for longer than `offload` lasts, which returns only after the closure has; and `ManuallyDrop` does not
    // close it.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd.as_raw_fd()) });
    let of = file.metadata().ok()?.file_type();
    (of.is_file() || of.is_block_device()).then_some(file)
}

macro_rules! standard {
    ($(#[$doc:meta])* $type:ident, $make:ident, $theirs:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $type(BorrowedFd<'static>);

        $(#[$doc])*
        #[must_use]
        #[expect(unsafe_code, reason = "the standard descriptors are taken to be open, as std does")]
        pub fn $make() -> $type {
            // SAFETY: std's runtime opens /dev/null in the place of a standard descriptor that is closed at start.
            $type(unsafe { BorrowedFd::borrow_raw($theirs) })
        }

        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0
            }
        }
    };
}

standard!(
    /// Standard input.
    Stdin,
    stdin,
    libc::STDIN_FILENO
);
standard!(
    /// Standard output.
    Stdout,
    stdout,
    libc::STDOUT_FILENO
);
standard!(
    /// Standard error.
    Stderr,
    stderr,
    libc::STDERR_FILENO
);

readable!(Stdin, read);
writable!(Stdout, write);
writable!(Stderr, write);
