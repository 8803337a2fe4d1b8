//! Files: what std's `File` does, ours does; with the same kinds of errors.

use coring::fs::{File, OpenOptions};
use coring_tests::random::pattern;
use coring_tests::{check, heavy, runtime};
use std::fs;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Read, write, append, truncate, create, create_new: one bit each.
type Bits = u8;

fn has(bits: Bits, index: u8) -> bool {
    bits >> index & 1 == 1
}

#[test]
fn open_options_are_stds() {
    // Goal: each of the 64 combinations of options, on a file that exists and on one that does not, ends as std's
    // does: the same kind of error, or a file that can be read and written the same way.
    // Method: both are tried on fresh files with the same content; outcomes and contents are compared.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        runtime(1).run(|| {
            for bits in 0..64 {
                for exists in [true, false] {
                    let (ours, stds) = (folder.path().join("ours"), folder.path().join("stds"));
                    for path in [&ours, &stds] {
                        let _ = fs::remove_file(path);
                        if exists {
                            fs::write(path, "0123456789").unwrap();
                        }
                    }
                    let ours = (open_ours(bits, &ours).map(try_out), fs::read(&ours).ok());
                    let stds = (open_stds(bits, &stds).map(try_out), fs::read(&stds).ok());
                    let kind =
                        |outcome: io::Result<_>| outcome.map_err(|error: io::Error| error.kind());
                    let (ours, stds) = ((kind(ours.0), ours.1), (kind(stds.0), stds.1));
                    assert_eq!(ours, stds, "options {bits:06b}, exists: {exists}");
                }
            }
        });
    });
}

fn open_ours(bits: Bits, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(has(bits, 0))
        .write(has(bits, 1))
        .append(has(bits, 2));
    options
        .truncate(has(bits, 3))
        .create(has(bits, 4))
        .create_new(has(bits, 5));
    options.open(path)
}

fn open_stds(bits: Bits, path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options
        .read(has(bits, 0))
        .write(has(bits, 1))
        .append(has(bits, 2));
    options
        .truncate(has(bits, 3))
        .create(has(bits, 4))
        .create_new(has(bits, 5));
    options.open(path)
}

type Tried = (Result<Vec<u8>, ErrorKind>, Result<usize, ErrorKind>, u64);

/// What a file of either kind does: read three bytes, write two, where is it then.
fn try_out<F: Read + Write + Seek>(mut file: F) -> Tried {
    let mut bytes = vec![0; 3];
    let read = file.read(&mut bytes).map(|length| bytes[..length].to_vec());
    let written = file.write(b"ab");
    let position = file.stream_position().unwrap();
    (
        read.map_err(|error| error.kind()),
        written.map_err(|error| error.kind()),
        position,
    )
}

#[test]
fn modes_and_flags() {
    // Goal: permission bits go through the umask as std's do; custom flags reach the kernel, access bits in them not.
    // Method: metadata of files created with both.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        runtime(1).run(|| {
            for mode in [0o600, 0o640, 0o777, 0o444] {
                let (ours, stds) = (folder.path().join("ours"), folder.path().join("stds"));
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&ours)
                    .unwrap();
                fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&stds)
                    .unwrap();
                let bits = |path| fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(bits(&ours), bits(&stds));
                fs::remove_file(&ours).unwrap();
                fs::remove_file(&stds).unwrap();
            }
            let mut directory = OpenOptions::new();
            directory
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_RDWR);
            assert!(
                directory
                    .open(folder.path())
                    .unwrap()
                    .metadata()
                    .unwrap()
                    .is_dir()
            );
            let file = folder.path().join("file");
            File::create(&file).unwrap();
            let error = directory.open(&file).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotADirectory);
        });
    });
}

#[test]
fn positions() {
    // Goal: reads and writes move the position, those at an offset do not; append writes at the end whatever the
    // position; seek knows all three origins; clones share the position.
    // Method: a small file, step by step.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        runtime(1).run(|| {
            let mut file = File::create_new(&path).unwrap();
            file.write_all(b"0123456789").unwrap();
            assert_eq!(file.stream_position().unwrap(), 10);
            assert_eq!(file.write_at(b"AB", 2).unwrap(), 2);
            let mut two = [0; 2];
            assert_eq!(file.read_at(&mut two, 1).unwrap(), 2);
            assert_eq!(&two, b"1A");
            assert_eq!(file.stream_position().unwrap(), 10, "not moved");
            assert_eq!(file.read_at(&mut two, 10).unwrap(), 0, "at the end");
            assert_eq!(file.read_at(&mut two, 9).unwrap(), 1, "a short read");
            assert_eq!(file.seek(SeekFrom::Start(3)).unwrap(), 3);
            assert_eq!(file.seek(SeekFrom::Current(2)).unwrap(), 5);
            assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), 9);
            let error = file.seek(SeekFrom::Current(-100)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let mut clone = file.try_clone().unwrap();
            clone.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "01AB456789", "from the clone's position");

            let mut log = OpenOptions::new()
                .append(true)
                .read(true)
                .open(&path)
                .unwrap();
            log.rewind().unwrap();
            log.write_all(b"end").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"01AB456789end");
            let too_far = log.read_at(&mut two, u64::MAX).unwrap_err();
            assert_eq!(
                too_far.kind(),
                ErrorKind::InvalidInput,
                "not: at the position"
            );
            assert_eq!(
                log.write_at(&two, 1 << 63).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        });
    });
}

#[test]
fn lengths_metadata_and_syncs() {
    // Goal: set_len cuts and extends with zeroes, metadata tells the truth at once, both syncs succeed.
    // Method: compared with std::fs::metadata of the path after each step.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        runtime(1).run(|| {
            let mut file = File::create(&path).unwrap();
            file.write_all(&[7; 5000]).unwrap();
            for length in [5000, 3, 0, 4097, 6 << 30] {
                file.set_len(length).unwrap();
                file.sync_data().unwrap();
                let (ours, stds) = (file.metadata().unwrap(), fs::metadata(&path).unwrap());
                assert_eq!((ours.len(), stds.len()), (length, length));
                assert_eq!((ours.ino(), ours.mode()), (stds.ino(), stds.mode()));
            }
            let far = File::open(&path).unwrap();
            let mut bytes = [1; 8];
            assert_eq!(far.read_at(&mut bytes, (6 << 30) - 8).unwrap(), 8);
            assert_eq!(bytes, [0; 8], "zeroes beyond 4 GiB");
            file.sync_all().unwrap();
            file.set_len(1 << 20).unwrap();
            let invalid = file.set_len(u64::MAX).unwrap_err();
            assert_eq!(invalid.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn a_big_file() {
    // Goal: many megabytes go to a file and come back unchanged, through the position and at offsets beyond 4 GiB.
    // Method: copied in pieces of odd size by 8 coroutines at once; compared with std's reading.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (pieces, length) = (if heavy() { 4096 } else { 64 }, 262_147);
        runtime(1).run(|| {
            let base: u64 = 5 << 30;
            let file = std::rc::Rc::new(File::create(&path).unwrap());
            let writers: Vec<_> = (0..8)
                .map(|writer| {
                    let file = std::rc::Rc::clone(&file);
                    coring::coro::spawn(move || {
                        for piece in (writer..pieces).step_by(8) {
                            let bytes = pattern(piece, length);
                            let mut done = 0;
                            while done < length {
                                let offset = base + (piece * length + done) as u64;
                                done += file.write_at(&bytes[done..], offset).unwrap();
                            }
                        }
                    })
                })
                .collect();
            writers
                .into_iter()
                .for_each(|writer| writer.join().unwrap());
            file.sync_all().unwrap();
            let mut ours = File::open(&path).unwrap();
            let mut stds = fs::File::open(&path).unwrap();
            ours.seek(SeekFrom::Start(base)).unwrap();
            stds.seek(SeekFrom::Start(base)).unwrap();
            for piece in 0..pieces {
                let (mut one, mut other) = (vec![0; length], vec![0; length]);
                ours.read_exact(&mut one).unwrap();
                stds.read_exact(&mut other).unwrap();
                assert!(
                    one == pattern(piece, length) && one == other,
                    "piece {piece}"
                );
            }
            assert_eq!(ours.read(&mut [0]).unwrap(), 0, "nothing after it");
        });
    });
}

#[test]
fn more_than_the_kernel_takes_at_once() {
    // Goal: a buffer larger than one operation may transfer (2 GiB less a page) gives a short count, as write(2).
    // Method: 4 GiB of zeroes that nobody ever touches, to /dev/null.
    check(|| {
        let nothing = vec![0u8; 1 << 32];
        let written = runtime(1).run(|| {
            let mut null = OpenOptions::new().write(true).open("/dev/null").unwrap();
            null.write(&nothing).unwrap()
        });
        let stds = fs::OpenOptions::new()
            .write(true)
            .open("/dev/null")
            .unwrap();
        assert_eq!(written, (&stds).write(&nothing).unwrap());
        assert!((1 << 30..1 << 31).contains(&written), "{written}");
    });
}

#[test]
fn errors_have_stds_kinds() {
    // Goal: what cannot be opened, read or written fails with the same kind and number as std's call.
    // Method: pairs of calls on the same thing.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        let long = folder.path().join("x".repeat(300));
        let below = file.join("below");
        runtime(1).run(|| {
            let same = |ours: io::Error, stds: io::Error| {
                assert_eq!(
                    (ours.kind(), ours.raw_os_error()),
                    (stds.kind(), stds.raw_os_error())
                );
            };
            for path in [Path::new("/nowhere/at/all"), &long, &below, Path::new("")] {
                same(
                    File::open(path).unwrap_err(),
                    fs::File::open(path).unwrap_err(),
                );
                same(
                    File::create(path).unwrap_err(),
                    fs::File::create(path).unwrap_err(),
                );
            }
            same(
                File::create(folder.path()).unwrap_err(),
                fs::File::create(folder.path()).unwrap_err(),
            );
            same(
                File::create_new(&file).unwrap_err(),
                fs::File::create_new(&file).unwrap_err(),
            );
            same(
                File::open(&file).unwrap().write(b"x").unwrap_err(),
                fs::File::open(&file).unwrap().write(b"x").unwrap_err(),
            );
            same(
                File::open(folder.path())
                    .unwrap()
                    .read(&mut [0])
                    .unwrap_err(),
                fs::File::open(folder.path())
                    .unwrap()
                    .read(&mut [0])
                    .unwrap_err(),
            );
            let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            assert_eq!(full.write(b"x").unwrap_err().kind(), ErrorKind::StorageFull);
            let nul = File::open("a\0b").unwrap_err();
            assert_eq!(nul.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn files_travel() {
    // Goal: a file is a plain descriptor: it goes to std and back, to other cores and threads, and can be dropped
    // where no core is.
    // Method: one file makes the whole round.
    check(|| {
        let file = runtime(2).run(|| {
            let mut file = File::from(tempfile::tempfile().unwrap());
            file.write_all(b"one ").unwrap();
            let file = coring::spawn_on(1, move || {
                (&file).write_all(b"two ").unwrap();
                file
            });
            let mut stds = fs::File::from(file.join().unwrap());
            stds.write_all(b"three").unwrap();
            File::from(OwnedFd::from(stds))
        });
        let error = (&file).read(&mut [0]).unwrap_err();
        assert!(
            error.to_string().contains("Runtime::run"),
            "no ring here: {error}"
        );
        let mut stds = fs::File::from(file);
        stds.rewind().unwrap();
        let mut text = String::new();
        stds.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
        drop(File::from(stds));
    });
}

#[test]
fn a_dropped_pipe_is_closed_at_once() {
    // Goal: whoever reads the other end of a pipe sees its end when ours is dropped, not when the core next submits.
    // Method: the same coroutine drops the writing end and then reads with std, which blocks the core.
    check(|| {
        runtime(1).run(|| {
            let (mut reader, writer) = io::pipe().unwrap();
            let mut ours = File::from(OwnedFd::from(writer));
            ours.write_all(b"last words").unwrap();
            drop(ours);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "last words");
        });
    });
}
