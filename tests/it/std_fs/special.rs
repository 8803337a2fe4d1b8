//! Files that are made or read in a special way: without a name, around the page cache.

use super::{kind, with_scratch};
use coring::fs::{self, AlignedBuf, File};
use coring_tests::check;
use coring_tests::random::pattern;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;

#[test]
fn files_without_a_name() {
    // Goal: an unnamed file leaves nothing behind; linked it is whole, and an existing name is not replaced.
    // Method: list the directory.
    check(|| {
        with_scratch(|scratch| {
            let count = || std::fs::read_dir(scratch).unwrap().count();
            let mut file = match File::create_unnamed(scratch) {
                Err(error) if error.kind() == ErrorKind::Unsupported => return,
                outcome => outcome.unwrap(),
            };
            file.write_all(b"contents").unwrap();
            assert_eq!(count(), 0);
            let path = scratch.join("named");
            file.link_to(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"contents");
            assert_eq!(kind(file.link_to(&path)), ErrorKind::AlreadyExists);
            drop(File::create_unnamed(scratch).unwrap());
            assert_eq!(count(), 1);
        });
    });
}

#[test]
fn direct_io_needs_alignment_and_works_with_it() {
    // Goal: with a buffer as the file asks for, direct writes and reads give the bytes back; without it, an error.
    // Method: alignment from statx; skipped where the file system has no direct I/O (tmpfs of old).
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("direct");
            fs::write(&path, "").unwrap();
            let file = match File::options()
                .read(true)
                .write(true)
                .direct(true)
                .open(&path)
            {
                Err(error) if error.kind() == ErrorKind::InvalidInput => return,
                outcome => outcome.unwrap(),
            };
            let Some(alignment) = file.direct_alignment().unwrap() else {
                return;
            };
            let mut buffer = AlignedBuf::new(64 * 1024, alignment.memory.max(alignment.offset));
            buffer.copy_from_slice(&pattern(1, 64 * 1024));
            assert_eq!(file.write_at(&buffer, 0).unwrap(), buffer.len());
            let mut back = AlignedBuf::new(64 * 1024, buffer.alignment());
            file.read_exact_at(&mut back, 0).unwrap();
            assert!(*back == *buffer);
            let odd = file.write_at(&buffer[..alignment.offset - 1], 0);
            assert_eq!(kind(odd), ErrorKind::InvalidInput);
        });
    });
}
