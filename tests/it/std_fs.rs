//! Files and their names as std documents them.

use coring::coro;
use coring::fs::{self, Advice, AlignedBuf, File, OpenOptions, TryLockError};
use coring_tests::random::pattern;
use coring_tests::{check, runtime};
use std::io::{BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A runtime and a scratch directory.
fn with_scratch(body: impl FnOnce(&Path)) {
    let scratch: TempDir = tempfile::tempdir().unwrap();
    runtime(1).run(|| body(scratch.path()));
}

fn kind<T>(outcome: std::io::Result<T>) -> ErrorKind {
    outcome.err().expect("it fails").kind()
}

#[test]
fn whole_files() {
    // Goal: write, read, read_to_string agree with std's; a write replaces; bad UTF-8 is InvalidData.
    // Method: std on the other side of each.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            for length in [0, 1, 4096, 1 << 20] {
                let contents = pattern(length, length);
                fs::write(&path, &contents).unwrap();
                assert!(std::fs::read(&path).unwrap() == contents);
                assert!(fs::read(&path).unwrap() == contents);
            }
            fs::write(&path, "short").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "short");
            fs::write(&path, [0xff, 0xfe]).unwrap();
            assert_eq!(kind(fs::read_to_string(&path)), ErrorKind::InvalidData);
            assert_eq!(kind(fs::read(scratch.join("none"))), ErrorKind::NotFound);
            // A file of /proc says that it is empty.
            let status = fs::read_to_string("/proc/self/status").unwrap();
            assert!(status.contains("VmRSS"));
        });
    });
}

#[test]
fn rename_replaces() {
    // Goal: the new name has the contents, the old one is gone; what had the new name is replaced.
    // Method: two files; then one that does not exist.
    check(|| {
        with_scratch(|scratch| {
            let (a, b) = (scratch.join("a"), scratch.join("b"));
            fs::write(&a, "a").unwrap();
            fs::write(&b, "b").unwrap();
            fs::rename(&a, &b).unwrap();
            assert_eq!(fs::read_to_string(&b).unwrap(), "a");
            assert!(!fs::exists(&a).unwrap());
            assert_eq!(kind(fs::rename(&a, &b)), ErrorKind::NotFound);
        });
    });
}

#[test]
fn removing_files_and_directories() {
    // Goal: each removes its own sort only, and a directory only when it is empty.
    // Method: every wrong combination, then the right ones.
    check(|| {
        with_scratch(|scratch| {
            let (directory, file) = (scratch.join("d"), scratch.join("d/f"));
            fs::create_dir(&directory).unwrap();
            assert_eq!(kind(fs::create_dir(&directory)), ErrorKind::AlreadyExists);
            fs::write(&file, "x").unwrap();
            assert_eq!(kind(fs::remove_dir(&file)), ErrorKind::NotADirectory);
            assert_eq!(
                kind(fs::remove_dir(&directory)),
                ErrorKind::DirectoryNotEmpty
            );
            assert_eq!(kind(fs::remove_file(&directory)), ErrorKind::IsADirectory);
            fs::remove_file(&file).unwrap();
            assert_eq!(kind(fs::remove_file(&file)), ErrorKind::NotFound);
            fs::remove_dir(&directory).unwrap();
            assert!(!directory.exists());
        });
    });
}

#[test]
fn directories_all_the_way_down() {
    // Goal: create_dir_all makes what is missing, agrees with what exists, fails over a file; many at once agree.
    // Method: deep paths, relative and absolute; eight coroutines on the same path.
    check(|| {
        with_scratch(|scratch| {
            let deep = scratch.join("a/b/c/d");
            fs::create_dir_all(&deep).unwrap();
            fs::create_dir_all(&deep).unwrap();
            assert!(deep.is_dir());
            fs::create_dir_all("").unwrap();
            fs::write(deep.join("file"), "").unwrap();
            assert_eq!(
                kind(fs::create_dir_all(deep.join("file/below"))),
                ErrorKind::NotADirectory
            );
            assert_eq!(
                kind(fs::create_dir_all(deep.join("file"))),
                ErrorKind::AlreadyExists
            );
            let racing = scratch.join("r/a/c/e/s");
            coro::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| fs::create_dir_all(&racing).unwrap());
                }
            });
            assert!(racing.is_dir());
        });
    });
}

#[test]
fn links() {
    // Goal: a hard link is the same file; a symbolic link says its target, is followed by metadata and not by
    // symlink_metadata; a dangling one does not exist.
    // Method: inode numbers.
    check(|| {
        with_scratch(|scratch| {
            let [file, hard, soft, dangling] =
                ["file", "hard", "soft", "dangling"].map(|name| scratch.join(name));
            fs::write(&file, "contents").unwrap();
            fs::hard_link(&file, &hard).unwrap();
            fs::symlink(&file, &soft).unwrap();
            fs::symlink("nowhere", &dangling).unwrap();
            let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
            assert_eq!(inode(&file), inode(&hard));
            assert_eq!(inode(&file), inode(&soft));
            assert_eq!(fs::metadata(&file).unwrap().nlink(), 2);
            let itself = fs::symlink_metadata(&soft).unwrap();
            assert!(itself.file_type().is_symlink());
            assert_eq!(std::fs::read_link(&soft).unwrap(), file);
            assert!(!fs::exists(&dangling).unwrap());
            assert!(fs::symlink_metadata(&dangling).is_ok());
            assert_eq!(kind(fs::hard_link(&file, &hard)), ErrorKind::AlreadyExists);
            assert_eq!(kind(fs::symlink("x", &soft)), ErrorKind::AlreadyExists);
        });
    });
}

#[test]
fn metadata_is_stds() {
    // Goal: by path and by file it says what std's says, for files, directories and devices, without any permission
    // on the file itself.
    // Method: compare field by field.
    check(|| {
        with_scratch(|scratch| {
            let file = scratch.join("file");
            fs::write(&file, vec![1; 12_345]).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o0)).unwrap();
            for path in [
                &*file,
                scratch,
                Path::new("/dev/null"),
                Path::new("/proc/self"),
            ] {
                let (ours, theirs) = (
                    fs::metadata(path).unwrap(),
                    std::fs::metadata(path).unwrap(),
                );
                assert_eq!(ours.ino(), theirs.ino());
                assert_eq!(ours.len(), theirs.len());
                assert_eq!(ours.mode(), theirs.mode());
                assert_eq!(ours.file_type(), theirs.file_type());
            }
            assert_eq!(
                kind(fs::metadata(scratch.join("none"))),
                ErrorKind::NotFound
            );
            assert_eq!(kind(fs::metadata("nul\0")), ErrorKind::InvalidInput);
        });
    });
}

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
fn seeking_reading_and_writing_share_a_position() {
    // Goal: read, write and seek move one position, also of a clone; read_at and write_at leave it alone.
    // Method: a short file, step by step; seeking before the start is InvalidInput.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .open(&path)
                .unwrap();
            file.write_all(b"0123456789").unwrap();
            assert_eq!(file.stream_position().unwrap(), 10);
            file.seek(SeekFrom::Start(2)).unwrap();
            let mut two = [0; 2];
            file.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"23");
            let mut clone = file.try_clone().unwrap();
            clone.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"45");
            file.write_all_at(b"ab", 0).unwrap();
            file.read_exact_at(&mut two, 1).unwrap();
            assert_eq!(&two, b"b2");
            file.read_exact(&mut two).unwrap();
            assert_eq!(&two, b"67");
            assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), 9);
            assert_eq!(file.seek(SeekFrom::Current(5)).unwrap(), 14);
            file.write_all(b"!").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"ab23456789\0\0\0\0!");
            assert_eq!(
                kind(file.seek(SeekFrom::End(-100))),
                ErrorKind::InvalidInput
            );
            assert_eq!(
                kind(file.read_exact_at(&mut two, 14)),
                ErrorKind::UnexpectedEof
            );
        });
    });
}

#[test]
fn appends_go_to_the_end() {
    // Goal: `append` writes at the end whatever the position, also from two handles in turn.
    // Method: as said.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("log");
            let open = || {
                File::options()
                    .append(true)
                    .create(true)
                    .open(&path)
                    .unwrap()
            };
            let (mut one, mut other) = (open(), open());
            for number in 0..10 {
                writeln!(one, "one {number}").unwrap();
                other.seek(SeekFrom::Start(0)).unwrap();
                writeln!(other, "other {number}").unwrap();
            }
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines.len(), 20);
            assert_eq!(lines[18..], ["one 9", "other 9"]);
        });
    });
}

#[test]
fn vectored_calls_scatter_and_gather() {
    // Goal: the bytes of several buffers are consecutive in the file, at a position and at an offset.
    // Method: with an empty one in between, and with more than the kernel takes at once.
    check(|| {
        with_scratch(|scratch| {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .open(scratch.join("file"))
                .unwrap();
            let parts = [
                IoSlice::new(b"abc"),
                IoSlice::new(b""),
                IoSlice::new(b"defg"),
            ];
            assert_eq!(file.write_vectored(&parts).unwrap(), 7);
            assert_eq!(file.write_vectored_at(&parts, 3).unwrap(), 7);
            let (mut a, mut b) = ([0; 4], [0; 8]);
            let mut into = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            assert_eq!(file.read_vectored_at(&mut into, 0).unwrap(), 10);
            assert_eq!((&a, &b[..6]), (b"abca", &b"bcdefg"[..]));
            file.seek(SeekFrom::Start(8)).unwrap();
            let mut into = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            assert_eq!(file.read_vectored(&mut into).unwrap(), 2);
            let many = vec![IoSlice::new(b"x"); 3000];
            assert_eq!(file.write_vectored_at(&many, 0).unwrap(), 1024);
        });
    });
}

#[test]
fn set_len_allocate_and_advise() {
    // Goal: lengths shrink and grow with zeroes; allocated space is there and reads as zeroes; advice is harmless.
    // Method: look at blocks and bytes.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            fs::write(&path, "0123456789").unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            file.set_len(4).unwrap();
            file.set_len(6).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"0123\0\0");
            match file.allocate(0, 1 << 20) {
                Ok(()) => {
                    let metadata = file.metadata().unwrap();
                    assert_eq!(metadata.len(), 1 << 20);
                    assert!(metadata.blocks() >= (1 << 20) / 512);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
            }
            for advice in [
                Advice::Normal,
                Advice::Sequential,
                Advice::Random,
                Advice::WillNeed,
                Advice::DontNeed,
            ] {
                file.advise(0, 0, advice).unwrap();
                file.advise(1, 5 << 32, advice).unwrap();
            }
            let mut head = [0; 6];
            file.read_exact_at(&mut head, 0).unwrap();
            assert_eq!(&head, b"0123\0\0");
            let read_only = File::open(&path).unwrap();
            assert!(read_only.set_len(0).is_err());
        });
    });
}

#[test]
fn locks_exclude_share_and_can_be_given_up() {
    // Goal: exclusive excludes, shared is shared, a waiter gets the lock after the unlock, a cancelled or timed-out
    // waiter goes without it, and the end of a file is the end of its lock.
    // Method: three open files of one path.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("lock");
            fs::write(&path, "").unwrap();
            let [a, b, c] = [(); 3].map(|()| File::open(&path).unwrap());
            a.lock().unwrap();
            assert!(matches!(b.try_lock(), Err(TryLockError::WouldBlock)));
            assert!(matches!(b.try_lock_shared(), Err(TryLockError::WouldBlock)));
            let late = coro::timeout(Duration::from_millis(20), || b.lock());
            assert_eq!(late.unwrap_err(), coro::Elapsed);
            let waiter = coro::spawn(move || {
                b.lock().unwrap();
                b
            });
            coro::sleep(Duration::from_millis(5));
            assert!(!waiter.is_finished());
            a.unlock().unwrap();
            let b = waiter.join().unwrap();
            assert!(matches!(a.try_lock(), Err(TryLockError::WouldBlock)));
            let given_up = coro::spawn(move || c.lock());
            coro::yield_now();
            given_up.cancel();
            let error = given_up.join().unwrap().unwrap_err();
            assert!(coring::io::is_cancelled(&error), "{error}");
            drop(b);
            a.lock_shared().unwrap();
            let d = File::open(&path).unwrap();
            d.try_lock_shared().unwrap();
            assert!(matches!(d.try_lock(), Err(TryLockError::WouldBlock)));
        });
    });
}

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

#[test]
fn buffered_readers_and_std_copy_work() {
    // Goal: what is generic over Read and Write runs on our files.
    // Method: BufReader's lines, std::io::copy, write!.
    check(|| {
        with_scratch(|scratch| {
            let mut file = File::create_new(scratch.join("lines")).unwrap();
            for number in 0..1000 {
                writeln!(file, "line {number}").unwrap();
            }
            let again = File::create_new(scratch.join("lines"));
            assert_eq!(kind(again), ErrorKind::AlreadyExists);
            file.seek(SeekFrom::Start(0)).unwrap();
            let lines: Vec<_> = BufReader::new(&file).lines().map(Result::unwrap).collect();
            assert_eq!(lines.len(), 1000);
            assert_eq!(lines[999], "line 999");
            let mut copy = File::create(scratch.join("copy")).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let bytes = std::io::copy(&mut file, &mut copy).unwrap();
            assert_eq!(bytes, fs::metadata(scratch.join("copy")).unwrap().len());
        });
    });
}

#[test]
fn a_full_device_is_storage_full() {
    // Goal: a device without space is StorageFull, and the next file is not affected.
    // Method: /dev/full, then /dev/null.
    check(|| {
        runtime(1).run(|| {
            let mut full = File::options().write(true).open("/dev/full").unwrap();
            assert_eq!(kind(full.write(b"x")), ErrorKind::StorageFull);
            let mut null = File::options().write(true).open("/dev/null").unwrap();
            assert_eq!(null.write(b"x").unwrap(), 1);
        });
    });
}

#[test]
fn directories_are_listed_and_removed_whole() {
    // Goal: read_dir names every entry once, more than one batch; remove_dir_all removes them all and nothing that a
    // link points at; canonicalize and read_link agree with std's.
    // Method: a thousand files, a directory below, a link to the outside.
    check(|| {
        with_scratch(|scratch| {
            let [tree, outside] = ["tree", "outside"].map(|name| scratch.join(name));
            fs::create_dir_all(tree.join("below")).unwrap();
            fs::write(&outside, "stays").unwrap();
            fs::symlink(&outside, tree.join("below/link")).unwrap();
            for number in 0..1000 {
                std::fs::write(tree.join(number.to_string()), "").unwrap();
            }
            let mut names: Vec<_> = fs::read_dir(&tree)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 1001);
            assert_eq!(kind(fs::read_dir(&outside)), ErrorKind::NotADirectory);
            assert_eq!(fs::read_link(tree.join("below/link")).unwrap(), outside);
            assert_eq!(
                fs::canonicalize(tree.join("below/../below/link")).unwrap(),
                std::fs::canonicalize(&outside).unwrap()
            );
            fs::remove_dir_all(&tree).unwrap();
            assert!(!tree.exists());
            assert_eq!(fs::read_to_string(&outside).unwrap(), "stays");
            assert_eq!(kind(fs::remove_dir_all(&tree)), ErrorKind::NotFound);
        });
    });
}

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
