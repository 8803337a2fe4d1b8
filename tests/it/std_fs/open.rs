//! Opening files.

use super::{kind, with_scratch};
use coring::fs::{self, File, OpenOptions};
use coring_tests::check;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};

#[test]
fn open_options_follow_stds_table() {
    // Goal: every combination of the six switches opens, or fails with the same kind as std's, for a file that is
    // there and for one that is not.
    // Method: all 64, each on a fresh file of "old", compared with std.
    check(|| {
        with_scratch(|scratch| {
            for (bits, there) in (0..64).flat_map(|bits| [(bits, true), (bits, false)]) {
                let [read, write, append, truncate, create, create_new] =
                    [1, 2, 4, 8, 16, 32].map(|bit| bits & bit != 0);
                let outcomes = ["ours", "theirs"].map(|whose| {
                    let path = scratch.join(format!("{whose}-{bits}-{there}"));
                    if there {
                        std::fs::write(&path, "old").unwrap();
                    }
                    let outcome = if whose == "ours" {
                        OpenOptions::new()
                            .read(read)
                            .write(write)
                            .append(append)
                            .truncate(truncate)
                            .create(create)
                            .create_new(create_new)
                            .open(&path)
                            .map(drop)
                    } else {
                        std::fs::OpenOptions::new()
                            .read(read)
                            .write(write)
                            .append(append)
                            .truncate(truncate)
                            .create(create)
                            .create_new(create_new)
                            .open(&path)
                            .map(drop)
                    };
                    (
                        outcome.map_err(|error| error.kind()),
                        std::fs::read(&path).ok(),
                    )
                });
                assert_eq!(outcomes[0], outcomes[1], "{bits:06b} there: {there}");
            }
        });
    });
}

#[test]
fn what_is_not_there() {
    // Goal: NotFound for a file and for a directory on the way; NotADirectory for a file on the way.
    // Method: each.
    check(|| {
        with_scratch(|scratch| {
            assert_eq!(kind(File::open(scratch.join("no"))), ErrorKind::NotFound);
            assert_eq!(kind(File::open("/no/such/path")), ErrorKind::NotFound);
            assert_eq!(
                kind(File::create(scratch.join("no/x"))),
                ErrorKind::NotFound
            );
            fs::write(scratch.join("file"), "").unwrap();
            assert_eq!(
                kind(File::open(scratch.join("file/x"))),
                ErrorKind::NotADirectory
            );
            assert_eq!(kind(File::open("")), ErrorKind::NotFound);
        });
    });
}

#[test]
fn who_comes_second() {
    // Goal: create_new is AlreadyExists for a file, a directory and a link to nothing.
    // Method: each.
    check(|| {
        with_scratch(|scratch| {
            let file = scratch.join("file");
            File::create(&file).unwrap();
            fs::symlink("nowhere", scratch.join("link")).unwrap();
            for path in [&file, &scratch.join("link"), &scratch.to_owned()] {
                let again = OpenOptions::new().write(true).create_new(true).open(path);
                assert_eq!(kind(again), ErrorKind::AlreadyExists, "{path:?}");
            }
            assert!(!scratch.join("nowhere").exists());
        });
    });
}

#[test]
fn options_that_contradict_each_other() {
    // Goal: InvalidInput, and nothing is made.
    // Method: the four combinations, and none at all.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("never");
            let options = [
                OpenOptions::new().create(true).read(true).clone(),
                OpenOptions::new().create_new(true).read(true).clone(),
                OpenOptions::new().truncate(true).read(true).clone(),
                OpenOptions::new().truncate(true).append(true).clone(),
                OpenOptions::new(),
            ];
            for option in options {
                assert_eq!(
                    kind(option.open(&path)),
                    ErrorKind::InvalidInput,
                    "{option:?}"
                );
            }
            assert!(!path.exists());
        });
    });
}

#[test]
fn each_access_does_its_own() {
    // Goal: a file for reading is not written, one for writing not read; write overwrites, truncate empties, append adds,
    // and `write` with `append` is `append`.
    // Method: one file, looked at after each.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "foobar").unwrap();
            let contents = || fs::read_to_string(&path).unwrap();
            let mut reading = File::open(&path).unwrap();
            assert!(reading.write(b"wut").is_err());
            let mut writing = OpenOptions::new().write(true).open(&path).unwrap();
            assert!(writing.read(&mut [0; 4]).is_err());
            writing.write_all(b"baz").unwrap();
            assert_eq!(contents(), "bazbar");
            let mut emptied = OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(&path)
                .unwrap();
            emptied.write_all(b"foo").unwrap();
            assert_eq!(contents(), "foo");
            let mut added = OpenOptions::new().append(true).open(&path).unwrap();
            added.write_all(b"bar").unwrap();
            assert_eq!(contents(), "foobar");
            let mut both = OpenOptions::new()
                .write(true)
                .append(true)
                .open(&path)
                .unwrap();
            both.write_all(b"baz").unwrap();
            assert_eq!(contents(), "foobarbaz");
        });
    });
}

#[test]
fn options_and_files_may_be_shared() {
    // Goal: what std promises of Send and Sync holds, so that files may go to other cores.
    // Method: the compiler.
    fn is_shared<T: Send + Sync + Unpin + 'static>() {}
    is_shared::<OpenOptions>();
    is_shared::<File>();
    is_shared::<fs::ReadDir>();
    is_shared::<fs::DirEntry>();
    is_shared::<fs::DirBuilder>();
}

#[test]
fn conversions_keep_the_descriptor() {
    // Goal: to std, to a number and back it is the same open file; it can be a child's input; `{:?}` is std's.
    // Method: follow the number, then read.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "contents").unwrap();
            let file = File::open(&path).unwrap();
            let number = file.as_raw_fd();
            let shown = format!("{file:?}");
            let theirs = file.into_std();
            assert_eq!(theirs.as_raw_fd(), number);
            assert_eq!(format!("{theirs:?}"), shown);
            assert!(shown.contains("read: true, write: false"), "{shown}");
            let raw = File::from_std(theirs).into_raw_fd();
            assert_eq!(raw, number);
            #[expect(unsafe_code, reason = "a descriptor that was just given away")]
            // SAFETY: `into_raw_fd` made it ours.
            let file = unsafe { File::from_raw_fd(raw) };
            let output = coring::process::Command::new("cat").stdin(file).output();
            assert_eq!(output.unwrap().stdout, b"contents");
        });
    });
}
