//! The position of an open file: what read(2) and write(2) promise about it holds, whoever shares it.

use coring::fs::{AlignedBuf, File};
use coring::{coro, spawn_on};
use coring_tests::{check, runtime};
use std::collections::HashSet;
use std::fs;
use std::io::{BufWriter, ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");
const BLOCK: usize = 4096;
const HOUR: Duration = Duration::from_secs(3600);

fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// A block that says its number.
fn block(number: u32) -> AlignedBuf {
    let mut block = AlignedBuf::new(BLOCK, BLOCK);
    block[..4].copy_from_slice(&number.to_ne_bytes());
    block
}

/// What the blocks say.
fn numbers(bytes: &[u8]) -> Vec<u32> {
    let number = |block: &[u8]| u32::from_ne_bytes(block[..4].try_into().unwrap());
    bytes.chunks(BLOCK).map(number).collect()
}

#[test]
fn a_direct_file_goes_on_where_it_was() {
    // Goal: reads and writes around the page cache, which end later than their call, move the position like others.
    // Method: blocks with numbers, one after the other, plain and vectored, over what is there and at the end.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        runtime(1).run(|| {
            fs::write(&path, vec![0; 50 * BLOCK]).unwrap();
            let mut options = File::options();
            options.read(true).write(true).direct(true);
            let mut file = match options.open(&path) {
                Err(error) if error.kind() == ErrorKind::InvalidInput => return,
                outcome => outcome.unwrap(),
            };
            for number in 0..50 {
                if number % 2 == 0 {
                    file.write_all(&block(number)).unwrap();
                } else {
                    let block = block(number);
                    let written = file.write_vectored(&[IoSlice::new(&block)]).unwrap();
                    assert_eq!(written, BLOCK);
                }
                let end = u64::from(number + 1) * BLOCK as u64;
                assert_eq!(file.stream_position().unwrap(), end);
            }
            assert!(numbers(&fs::read(&path).unwrap()).into_iter().eq(0..50));

            file.rewind().unwrap();
            let mut buffer = block(0);
            for number in 0..50 {
                let read = if number % 2 == 0 {
                    file.read(&mut buffer).unwrap()
                } else {
                    file.read_vectored(&mut [IoSliceMut::new(&mut buffer)])
                        .unwrap()
                };
                assert_eq!((read, numbers(&buffer)[0]), (BLOCK, number));
            }
            assert_eq!(file.read(&mut buffer).unwrap(), 0);

            let mut options = File::options();
            options.read(true).append(true).direct(true);
            let mut file = options.open(&path).unwrap();
            assert_eq!(file.read(&mut buffer).unwrap(), BLOCK);
            assert_eq!(file.stream_position().unwrap(), BLOCK as u64);
            file.write_all(&block(50)).unwrap();
            assert_eq!(file.stream_position().unwrap(), 51 * BLOCK as u64);
            assert!(numbers(&fs::read(&path).unwrap()).into_iter().eq(0..51));
        });
    });
}

#[test]
fn those_who_share_a_file_take_turns() {
    // Goal: of what many coroutines on two cores write to one open file, or read from it, nothing is lost or there twice.
    // Method: blocks with numbers, by a shared handle and by clones of it, with the page cache and without.
    const TASKS: u32 = 8;
    const EACH: u32 = 50;
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        for direct in [false, true] {
            let path = folder.path().join("file");
            runtime(2).run(|| {
                let mut options = File::options();
                options.read(true).write(true).create(true).truncate(true);
                let file = match options.direct(direct).open(&path) {
                    Err(error) if error.kind() == ErrorKind::InvalidInput => return,
                    outcome => Arc::new(outcome.unwrap()),
                };
                let handle = |task: u32| match task % 3 {
                    0 => Arc::new(file.try_clone().unwrap()),
                    _ => Arc::clone(&file),
                };
                let writers = (0..TASKS).map(|task| {
                    let file = handle(task);
                    let write = move |number| (&*file).write_all(&block(number)).unwrap();
                    let mine = task * EACH..(task + 1) * EACH;
                    spawn_on(task as usize % 2, move || mine.for_each(write))
                });
                for writer in writers.collect::<Vec<_>>() {
                    writer.join().unwrap();
                }
                let written = numbers(&fs::read(&path).unwrap());
                assert_eq!(written.len(), (TASKS * EACH) as usize, "direct: {direct}");
                let different: HashSet<u32> = written.into_iter().collect();
                assert_eq!(different.len(), (TASKS * EACH) as usize);

                (&*file).rewind().unwrap();
                let readers = (0..TASKS).map(|task| {
                    let file = handle(task);
                    spawn_on(task as usize % 2, move || {
                        let mut buffer = block(0);
                        let mut found = Vec::new();
                        while (&*file).read(&mut buffer).unwrap() > 0 {
                            found.push(numbers(&buffer)[0]);
                        }
                        found
                    })
                });
                let readers: Vec<_> = readers.collect();
                let mut read: Vec<_> = readers
                    .into_iter()
                    .flat_map(|reader| reader.join().unwrap())
                    .collect();
                read.sort_unstable();
                assert!(read.into_iter().eq(0..TASKS * EACH), "direct: {direct}");
            });
        }
    });
}

#[test]
fn a_reader_of_a_pipe_does_not_hold_up_its_writer() {
    // Goal: what has no position is read and written at once by handles of one open file.
    // Method: a FIFO open for both; who reads it waits before anybody writes.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        mkfifo(&path);
        runtime(1).run(|| {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let file = Rc::new(file);
            let reader = coro::spawn({
                let file = Rc::clone(&file);
                move || {
                    let mut text = [0; 5];
                    (&*file).read_exact(&mut text).unwrap();
                    text
                }
            });
            coro::yield_now();
            (&*file).write_all(b"hello").unwrap();
            assert_eq!(reader.join().unwrap(), *b"hello");
            let seek = (&*file).seek(SeekFrom::Start(0)).unwrap_err();
            assert_eq!(seek.kind(), ErrorKind::NotSeekable);
            // As pread(2) and pwrite(2) say; nothing is taken out.
            (&*file).write_all(b"x").unwrap();
            let read = file.read_at(&mut [0], 0).unwrap_err();
            let write = file.write_at(b"y", 0).unwrap_err();
            assert_eq!(
                (read.kind(), write.kind()),
                (ErrorKind::NotSeekable, ErrorKind::NotSeekable)
            );
            assert_eq!((&*file).read(&mut [0; 2]).unwrap(), 1);
        });
    });
}

#[test]
fn a_terminal_has_no_offsets_by_any_name() {
    // Goal: reading at an offset of a terminal is refused and takes nothing out, whatever it was opened as and with.
    // Method: a link to a pseudoterminal, and its name; opened alone, and among files, which are all asked about in one call.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let (_master, name) = pseudoterminal();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&name, &link).unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "plain").unwrap();
        runtime(1).run(|| {
            for path in [link, name.into()] {
                for others in [0, 10] {
                    let open = |path: &Path| {
                        let path = path.to_owned();
                        coro::spawn(move || {
                            let mut options = File::options();
                            options.read(true).custom_flags(libc::O_NOCTTY);
                            let file = options.open(path).unwrap();
                            file.read_at(&mut [0; 3], 0).map_err(|error| error.kind())
                        })
                    };
                    let paths =
                        (0..=2 * others).map(|at| if at == others { &path } else { &plain });
                    let opened: Vec<_> = paths.map(|path| open(path)).collect();
                    for (at, opened) in opened.into_iter().enumerate() {
                        let expected = if at == others {
                            Err(ErrorKind::NotSeekable)
                        } else {
                            Ok(3)
                        };
                        assert_eq!(opened.join().unwrap(), expected);
                    }
                }
            }
        });
    });
}

/// The one end of a pseudoterminal, and the name of the other.
#[expect(unsafe_code, reason = "asks for the name")]
fn pseudoterminal() -> (std::fs::File, String) {
    let master = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/ptmx")
        .unwrap();
    let (mut locked, mut number): (libc::c_int, libc::c_uint) = (0, 0);
    // SAFETY: reads an integer of this frame.
    let unlocked = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw mut locked) };
    // SAFETY: writes an integer of this frame.
    let asked = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    assert_eq!((unlocked, asked), (0, 0));
    (master, format!("/dev/pts/{number}"))
}

#[test]
fn what_a_buf_writer_holds_is_not_lost() {
    // Goal: std's `BufWriter` over a file, whose destructor writes, loses nothing when its coroutine panics, is cancelled, or is late.
    // Method: the file's contents after each.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        runtime(1).run(|| {
            for end in ["panic", "cancel", "late"] {
                let path = folder.path().join(end);
                let file = File::create(&path).unwrap();
                let writes = move || {
                    let mut writer = BufWriter::new(file);
                    writer.write_all(b"the last words of all").unwrap();
                    assert_ne!(end, "panic");
                    coro::sleep(HOUR);
                };
                let writer = coro::spawn(move || match end {
                    "late" => drop(coro::timeout(Duration::from_millis(1), writes)),
                    _ => writes(),
                });
                if end == "cancel" {
                    coro::yield_now();
                    writer.cancel();
                }
                let _ = writer.join();
                assert_eq!(fs::read(&path).unwrap(), b"the last words of all", "{end}");
            }
        });
    });
}

#[test]
fn a_close_that_can_be_seen_is_done_at_once() {
    // Goal: a dropped handle is closed then and there where others can tell, although it was open for reading alone: when
    // it was the last reader of a FIFO, and when its descriptor was lent to somebody who locked the file.
    // Method: what a writer is told, and what another lock gets, without a wait in between; FIFOs opened alone and
    // together.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        mkfifo(&path);
        let locked = folder.path().join("locked");
        fs::write(&locked, "").unwrap();
        runtime(1).run(|| {
            for _ in 0..20 {
                let keep = File::options().read(true).write(true).open(&path).unwrap();
                (&keep).write_all(b"something to be read").unwrap();
                let readers: Vec<_> = (0..4)
                    .map(|_| {
                        let path = path.clone();
                        coro::spawn(move || File::open(&path).unwrap())
                    })
                    .collect();
                let mut writer = File::options().write(true).open(&path).unwrap();
                drop(keep);
                let mut readers: Vec<_> = readers
                    .into_iter()
                    .map(|reader| reader.join().unwrap())
                    .collect();
                writer.write_all(b"x").unwrap();
                readers.clear();
                let error = writer.write(b"x").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);

                let file = File::open(&locked).unwrap();
                let lent = file.as_fd().try_clone_to_owned().unwrap();
                fs::File::from(lent).lock().unwrap();
                let other = fs::File::open(&locked).unwrap();
                assert!(other.try_lock().is_err());
                drop(file);
                other.try_lock().unwrap();
            }
        });
    });
}

#[test]
fn standard_streams_that_are_files_are_shared() {
    // Goal: two cores, std's own output and a child write to one file as their standard output: each line is there, and
    // whole. Two cores that read one file as their standard input get each byte once.
    // Method: programs of their own; lines with numbers.
    check(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let status = Command::new(SCENARIO)
            .arg("shared-output")
            .stdout(fs::File::create(&path).unwrap())
            .status()
            .unwrap();
        assert!(status.success());
        let text = fs::read_to_string(&path).unwrap();
        let lines: HashSet<&str> = text.lines().collect();
        assert_eq!((text.lines().count(), lines.len()), (20_000, 20_000));
        for who in ["core 0", "core 1", "child", "std"] {
            for number in 0..5000 {
                assert!(
                    lines.contains(&*format!("{who}: {number}")),
                    "{who}: {number}"
                );
            }
        }
        let counted = Command::new(SCENARIO)
            .arg("shared-input")
            .stdin(fs::File::open(&path).unwrap())
            .output()
            .unwrap();
        assert_eq!(counted.stdout, format!("{} bytes\n", text.len()).as_bytes());
    });
}
