//! What is in a file: reading, writing, lengths, syncs.

use super::{kind, with_scratch};
use coring::fs::{self, Advice, File};
use coring_tests::random::pattern;
use coring_tests::{check, runtime};
use std::io::{BufRead, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

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
                file.advise(1, u64::MAX, advice).unwrap();
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
fn what_is_written_is_read() {
    // Goal: a file written through one handle is read through another, text and bytes alike.
    // Method: one write, one read; then random bytes and read_to_end.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            assert_eq!(File::create(&path).unwrap().write(b"a message").unwrap(), 9);
            let mut buffer = [0; 64];
            let bytes = File::open(&path).unwrap().read(&mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"a message");
            let bytes = pattern(7, 1024);
            File::create(&path).unwrap().write_all(&bytes).unwrap();
            let mut back = Vec::new();
            let read = File::open(&path).unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(read, 1024);
            assert!(back == bytes);
        });
    });
}

#[test]
fn the_end_stays_the_end() {
    // Goal: at the end a read gives 0, and again; so does a read far beyond it; what is appended is read after that.
    // Method: an empty file that is also written.
    check(|| {
        with_scratch(|scratch| {
            let mut file = File::create_new(scratch.join("empty")).unwrap();
            let mut buffer = [0; 16];
            assert_eq!(file.read(&mut buffer).unwrap(), 0);
            assert_eq!(file.read(&mut buffer).unwrap(), 0);
            assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
            file.write_all_at(b"more", 0).unwrap();
            assert_eq!(file.read(&mut buffer).unwrap(), 4);
            assert_eq!(file.read(&mut buffer).unwrap(), 0);
        });
    });
}

#[test]
fn truncation_keeps_the_position() {
    // Goal: a file grows with zeroes and shrinks; a write after that goes where the position was, over a hole.
    // Method: three bytes, then lengths of 10 and 2 with writes between.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            let mut file = File::create(&path).unwrap();
            file.write_all(b"foo").unwrap();
            file.set_len(10).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 10);
            file.write_all(b"bar").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"foobar\0\0\0\0");
            file.set_len(2).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 2);
            file.write_all(b"wut").unwrap();
            file.sync_all().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"fo\0\0\0\0wut");
        });
    });
}

#[test]
fn syncs_at_any_time() {
    // Goal: an empty file, a written one and one opened for reading can all be synced; a pipe cannot.
    // Method: each call on each.
    check(|| {
        with_scratch(|scratch| {
            let path = scratch.join("file");
            let mut file = File::create(&path).unwrap();
            for _ in 0..2 {
                file.sync_all().unwrap();
                file.sync_data().unwrap();
                file.write_all(b"foo").unwrap();
                file.flush().unwrap();
            }
            File::open(&path).unwrap().sync_all().unwrap();
            let (reader, _writer) = std::io::pipe().unwrap();
            let pipe = File::from(std::os::fd::OwnedFd::from(reader));
            assert_eq!(kind(pipe.sync_all()), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn text_is_checked() {
    // Goal: read_to_string takes UTF-8 of every width, and refuses what is none with InvalidData and std's words.
    // Method: letters beyond the basic plane; a lone 0xff.
    check(|| {
        with_scratch(|scratch| {
            let text = "a\u{e4}\u{20ac}\u{10041}";
            fs::write(scratch.join("good"), text).unwrap();
            assert_eq!(fs::read_to_string(scratch.join("good")).unwrap(), text);
            fs::write(scratch.join("bad"), [0xff]).unwrap();
            let ours = fs::read_to_string(scratch.join("bad")).unwrap_err();
            let theirs = std::fs::read_to_string(scratch.join("bad")).unwrap_err();
            assert_eq!(ours.to_string(), theirs.to_string());
            assert_eq!(ours.kind(), ErrorKind::InvalidData);
        });
    });
}

#[test]
fn a_directory_has_no_contents() {
    // Goal: a directory can be opened for reading, and reading it is IsADirectory, in every way.
    // Method: read, read_at, read_vectored, fs::read.
    check(|| {
        with_scratch(|scratch| {
            let mut directory = File::open(scratch).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(kind(directory.read(&mut buffer)), ErrorKind::IsADirectory);
            assert_eq!(
                kind(directory.read_at(&mut buffer, 0)),
                ErrorKind::IsADirectory
            );
            let mut vectors = [IoSliceMut::new(&mut buffer)];
            assert_eq!(
                kind(directory.read_vectored(&mut vectors)),
                ErrorKind::IsADirectory
            );
            assert_eq!(kind(fs::read(scratch)), ErrorKind::IsADirectory);
            assert_eq!(
                kind(File::options().write(true).open(scratch)),
                ErrorKind::IsADirectory
            );
        });
    });
}

#[test]
fn a_reference_reads_and_writes() {
    // Goal: `&File` is Read, Write and Seek, as with std.
    // Method: one shared handle.
    check(|| {
        with_scratch(|scratch| {
            let file = File::create_new(scratch.join("file")).unwrap();
            (&file).write_all(b"shared").unwrap();
            (&file).seek(SeekFrom::Start(2)).unwrap();
            let mut rest = String::new();
            (&file).read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "ared");
        });
    });
}
