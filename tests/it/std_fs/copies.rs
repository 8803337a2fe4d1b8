//! Copies of files.

use super::{kind, with_scratch};
use coring::fs::{self, File};
use coring_tests::check;
use coring_tests::random::pattern;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn copies_are_equal_and_keep_permissions() {
    // Goal: a copy has the same bytes and permissions and replaces what was there; a directory is no source.
    // Method: longer than one part of a copy, and empty.
    check(|| {
        with_scratch(|scratch| {
            let (from, to) = (scratch.join("from"), scratch.join("to"));
            for length in [0, 1, 17 << 20] {
                let contents = pattern(length, length);
                std::fs::write(&from, &contents).unwrap();
                std::fs::set_permissions(&from, PermissionsExt::from_mode(0o640)).unwrap();
                std::fs::write(&to, "longer than nothing").unwrap();
                assert_eq!(fs::copy(&from, &to).unwrap(), length as u64);
                assert!(std::fs::read(&to).unwrap() == contents);
                let mode = fs::metadata(&to).unwrap().mode();
                assert_eq!(mode & 0o777, 0o640);
            }
            assert_eq!(kind(fs::copy(scratch, &to)), ErrorKind::InvalidInput);
            assert_eq!(kind(fs::copy(scratch.join("no"), &to)), ErrorKind::NotFound);
            let file = File::open(&from).unwrap();
            file.set_permissions(PermissionsExt::from_mode(0o600))
                .unwrap();
            assert_eq!(fs::metadata(&from).unwrap().mode() & 0o777, 0o600);
            fs::set_permissions(&from, PermissionsExt::from_mode(0o400)).unwrap();
            assert_eq!(fs::metadata(&from).unwrap().mode() & 0o777, 0o400);
        });
    });
}

#[test]
fn nothing_to_copy() {
    // Goal: a copy of what does not exist makes nothing, and leaves a target as it was.
    // Method: with and without a target.
    check(|| {
        with_scratch(|scratch| {
            let (from, to) = (scratch.join("from"), scratch.join("to"));
            assert_eq!(kind(fs::copy(&from, &to)), ErrorKind::NotFound);
            assert!(!fs::exists(&to).unwrap() && !fs::exists(&from).unwrap());
            fs::write(&to, "hello").unwrap();
            assert_eq!(kind(fs::copy(&from, &to)), ErrorKind::NotFound);
            assert_eq!(fs::read(&to).unwrap(), b"hello");
        });
    });
}

#[test]
fn directories_are_neither_source_nor_target() {
    // Goal: InvalidInput for a directory as source, IsADirectory as target; nothing is made.
    // Method: both.
    check(|| {
        with_scratch(|scratch| {
            let file = scratch.join("file");
            assert_eq!(kind(fs::copy(scratch, &file)), ErrorKind::InvalidInput);
            assert!(!fs::exists(&file).unwrap());
            fs::write(&file, "x").unwrap();
            assert_eq!(kind(fs::copy(&file, scratch)), ErrorKind::IsADirectory);
        });
    });
}

#[test]
fn a_target_is_replaced_whole() {
    // Goal: a longer file that was there leaves nothing behind; the length is returned.
    // Method: three bytes over six.
    check(|| {
        with_scratch(|scratch| {
            let (from, to) = (scratch.join("from"), scratch.join("to"));
            fs::write(&from, "foo").unwrap();
            fs::write(&to, "barbar").unwrap();
            assert_eq!(fs::copy(&from, &to).unwrap(), 3);
            assert_eq!(fs::read(&to).unwrap(), b"foo");
            assert_eq!(fs::metadata(&to).unwrap().len(), 3);
        });
    });
}

#[test]
fn a_read_only_source_makes_a_read_only_copy() {
    // Goal: permissions go along, also those without write.
    // Method: set_readonly as std has it.
    check(|| {
        with_scratch(|scratch| {
            let (from, to) = (scratch.join("from"), scratch.join("to"));
            fs::write(&from, "foo").unwrap();
            let mut permissions = fs::metadata(&from).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&from, permissions).unwrap();
            fs::copy(&from, &to).unwrap();
            assert!(fs::metadata(&to).unwrap().permissions().readonly());
        });
    });
}

#[test]
fn a_link_is_copied_through() {
    // Goal: a link as target stays a link, and what it says is written; a link as source is followed.
    // Method: both.
    check(|| {
        with_scratch(|scratch| {
            let [from, to, link, other] =
                ["from", "to", "link", "other"].map(|name| scratch.join(name));
            fs::write(&from, "foo").unwrap();
            fs::write(&to, "bar").unwrap();
            fs::symlink(&to, &link).unwrap();
            fs::copy(&from, &link).unwrap();
            assert!(
                fs::symlink_metadata(&link)
                    .unwrap()
                    .file_type()
                    .is_symlink()
            );
            assert_eq!(fs::read(&to).unwrap(), b"foo");
            fs::copy(&link, &other).unwrap();
            assert!(fs::symlink_metadata(&other).unwrap().is_file());
            assert_eq!(fs::read(&other).unwrap(), b"foo");
        });
    });
}

#[test]
fn files_that_say_they_are_empty() {
    // Goal: a file of /proc, whose length is 0, is copied with what is in it; so is one with holes.
    // Method: compared with std's copy; a sparse megabyte.
    check(|| {
        with_scratch(|scratch| {
            let (to, theirs) = (scratch.join("to"), scratch.join("theirs"));
            let bytes = fs::copy("/proc/version", &to).unwrap();
            assert_eq!(bytes, std::fs::copy("/proc/version", &theirs).unwrap());
            assert!(bytes > 0);
            assert_eq!(fs::read(&to).unwrap(), fs::read(&theirs).unwrap());
            let sparse = File::create(scratch.join("sparse")).unwrap();
            sparse.set_len(1 << 20).unwrap();
            sparse.write_at(b"end", (1 << 20) - 3).unwrap();
            // The first copy is as read-only as its source.
            let to = scratch.join("sparse too");
            assert_eq!(fs::copy(scratch.join("sparse"), &to).unwrap(), 1 << 20);
            assert!(fs::read(&to).unwrap() == fs::read(scratch.join("sparse")).unwrap());
        });
    });
}
