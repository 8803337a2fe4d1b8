//! FIFOs: an open waits for the other side.
#![expect(unsafe_code, reason = "asks for the flags of a descriptor")]

use super::{kind, with_scratch};
use coring::coro;
use coring::fs::{self, File, OpenOptions};
use coring::io::is_cancelled;
use coring_tests::{check, proc, until, until_in_flight};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A FIFO whose path the kernel has cached, so that an open need not go to a worker for that.
fn fifo(scratch: &Path) -> PathBuf {
    fifo_named(scratch, "fifo")
}

fn fifo_named(scratch: &Path, name: &str) -> PathBuf {
    let path = scratch.join(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    fs::metadata(&path).unwrap();
    path
}

#[test]
fn a_reader_waits_for_a_writer() {
    // Goal: an open for reading returns when a writer has opened, and not before; then the bytes come, then the end.
    // Method: time passes first; the writer is std's, in a thread.
    check(|| {
        with_scratch(|scratch| {
            let path = fifo(scratch);
            let reader = coro::spawn({
                let path = path.clone();
                move || {
                    let mut text = String::new();
                    File::open(path)?.read_to_string(&mut text).map(|_| text)
                }
            });
            coro::sleep(Duration::from_millis(5));
            assert!(!reader.is_finished(), "nobody writes");
            let writer = std::thread::spawn(move || std::fs::write(path, "through a fifo"));
            assert_eq!(reader.join().unwrap().unwrap(), "through a fifo");
            writer.join().unwrap().unwrap();
        });
    });
}

#[test]
fn readers_among_many_opens() {
    // Goal: FIFOs that are opened together with other files, so that the kernel does all in one go, wait for their writers as a lone
    // one does; the other files, whatever they are, do not. Some are cancelled. No descriptor stays.
    // Method: a hundred opens in one turn, more than are asked about in one call: every third is of a FIFO, one of a name that is not
    // there. In later rounds a writer is there already, has written, or has gone again.
    coring_tests::alone(|| {
        with_scratch(|scratch| {
            let file = scratch.join("file");
            std::fs::write(&file, "of a file").unwrap();
            fs::metadata(&file).unwrap();
            let fifo = fifo(scratch);
            until_in_flight(0);
            let before = proc::fds();
            for round in 0..12 {
                // Both accesses: it opens without waiting, and counts as a writer.
                let both = || OpenOptions::new().read(true).write(true).open(&fifo);
                let writer = (round % 3 != 0).then(|| both().unwrap());
                let paths = (0..100).map(|number| match number {
                    50 => scratch.join("no"),
                    _ if number % 3 == 0 => fifo.clone(),
                    _ if number == 70 => PathBuf::from("/dev/null"),
                    _ => file.clone(),
                });
                let opens: Vec<_> = paths
                    .map(|path| {
                        coro::spawn(move || {
                            let mut bytes = [0; 32];
                            let mut file = File::open(&path)?;
                            if path.ends_with("fifo") {
                                return Ok("of a fifo".to_owned());
                            }
                            let count = file.read(&mut bytes)?;
                            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes[..count]).into())
                        })
                    })
                    .collect();
                coro::yield_now();
                if round % 3 == 2 {
                    // What was written keeps an early reader's side readable after its writer has gone.
                    writer.as_ref().unwrap().write_all(b"x").unwrap();
                }
                let is_fifo = |number: &usize| number.is_multiple_of(3);
                until("a file has nothing to wait for", || {
                    (0..100).all(|it| is_fifo(&it) || opens[it].is_finished())
                });
                if round % 3 == 0 {
                    coro::sleep(Duration::from_millis(5));
                    let early = (0..100)
                        .filter(is_fifo)
                        .filter(|&it| opens[it].is_finished());
                    assert_eq!(early.count(), 0, "nobody writes");
                    opens
                        .iter()
                        .skip(3)
                        .step_by(9)
                        .for_each(coro::JoinHandle::cancel);
                }
                let writer = writer.unwrap_or_else(|| both().unwrap());
                for (number, open) in opens.into_iter().enumerate() {
                    let outcome = open.join().unwrap();
                    match number {
                        50 => assert_eq!(kind(outcome), ErrorKind::NotFound),
                        70 => assert_eq!(outcome.unwrap(), ""),
                        _ if !is_fifo(&number) => assert_eq!(outcome.unwrap(), "of a file"),
                        _ => match outcome {
                            Err(error) => assert!(is_cancelled(&error)),
                            Ok(text) => assert_eq!(text, "of a fifo"),
                        },
                    }
                }
                drop(writer);
                until_in_flight(0);
            }
            assert_eq!(proc::fds(), before);
        });
    });
}

#[test]
fn a_writer_waits_for_a_reader() {
    // Goal: an open for writing alone waits for a reader instead of failing.
    // Method: as above, the other way round.
    check(|| {
        with_scratch(|scratch| {
            let path = fifo(scratch);
            let writer = coro::spawn({
                let path = path.clone();
                move || {
                    let mut fifo = OpenOptions::new().write(true).open(path)?;
                    fifo.write_all(b"through a fifo")
                }
            });
            coro::sleep(Duration::from_millis(5));
            assert!(!writer.is_finished(), "nobody reads");
            let reader = std::thread::spawn(move || std::fs::read_to_string(path));
            writer.join().unwrap().unwrap();
            assert_eq!(reader.join().unwrap().unwrap(), "through a fifo");
        });
    });
}

#[test]
fn both_sides_on_one_core() {
    // Goal: a reader and a writer that open at the same time meet, whoever is first, and every byte arrives.
    // Method: two coroutines, in both orders, hundreds of times; descriptors are counted.
    check(|| {
        with_scratch(|scratch| {
            let path = &fifo(scratch);
            for round in 0..400 {
                let message = round.to_string();
                let mut text = String::new();
                coro::scope(|scope| {
                    let write = || {
                        let mut fifo = OpenOptions::new().write(true).open(path).unwrap();
                        fifo.write_all(message.as_bytes()).unwrap();
                    };
                    if round % 2 == 0 {
                        scope.spawn(write);
                        coro::yield_now();
                    }
                    let reader = scope.spawn(|| {
                        File::open(path).unwrap().read_to_string(&mut text).unwrap();
                    });
                    if round % 2 == 1 {
                        coro::yield_now();
                        scope.spawn(write);
                    }
                    reader.join().unwrap();
                });
                assert_eq!(text, message);
            }
        });
    });
}

#[test]
fn an_open_that_is_cancelled_or_too_late() {
    // Goal: who waits for the other side can be cancelled and timed out, and leaves no descriptor and no operation behind.
    // Method: both sides, a process of its own.
    coring_tests::alone(|| {
        with_scratch(|scratch| {
            let path = fifo(scratch);
            // The ring may still be closing what has looked at the path.
            until_in_flight(0);
            let before = proc::fds();
            for write in [false, true] {
                let open = {
                    let path = path.clone();
                    move || OpenOptions::new().read(!write).write(write).open(path)
                };
                let waiting = coro::spawn(open.clone());
                coro::sleep(Duration::from_millis(5));
                waiting.cancel();
                assert!(is_cancelled(&waiting.join().unwrap().unwrap_err()));
                let late = coro::timeout(Duration::from_millis(10), || open().map(drop));
                assert!(late.is_err());
            }
            until_in_flight(0);
            assert_eq!(proc::fds(), before);
        });
    });
}

#[test]
fn without_waiting() {
    // Goal: with O_NONBLOCK an open for reading succeeds at once, one for writing fails with ENXIO, as open(2) says; with
    // both accesses it does not wait either; other errors stay what they are.
    // Method: custom flags; a socket's path, which is ENXIO, too.
    check(|| {
        with_scratch(|scratch| {
            let path = fifo(scratch);
            let mut options = OpenOptions::new();
            options.custom_flags(libc::O_NONBLOCK);
            let reader = options.clone().read(true).open(&path).unwrap();
            drop(reader);
            until_in_flight(0);
            let refused = options.write(true).open(&path).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ENXIO));
            let mut both = File::options().read(true).write(true).open(&path).unwrap();
            both.write_all(b"x").unwrap();
            assert_eq!(both.read(&mut [0; 4]).unwrap(), 1);
            let socket = scratch.join("socket");
            let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let refused = File::options().write(true).open(&socket).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ENXIO));
            assert_eq!(kind(File::open(scratch.join("no"))), ErrorKind::NotFound);
        });
    });
}

#[test]
fn many_that_wait_hold_up_nobody() {
    // Goal: opens of FIFOs that wait, for reading, for writing, and for writing with what only a new file needs, more than the
    // kernel has workers for the core, hold up neither other files nor each other; the descriptor that comes blocks, as asked.
    // Method: twenty of each; a file is written and read while they wait; the other sides are std's, the last one first.
    check(|| {
        with_scratch(|scratch| {
            let ways = [(false, false), (true, false), (true, true)];
            let waiting: Vec<_> = (0..60)
                .map(|number| {
                    let path = fifo_named(scratch, &number.to_string());
                    let (write, create) = ways[number % 3];
                    let open = path.clone();
                    let open = coro::spawn(move || {
                        let mut options = OpenOptions::new();
                        options.read(!write).write(write).create(create);
                        options.open(open)
                    });
                    (open, path, write)
                })
                .collect();
            coro::sleep(Duration::from_millis(5));
            fs::write(scratch.join("file"), "text").unwrap();
            assert_eq!(fs::read(scratch.join("file")).unwrap(), b"text");
            for (open, path, write) in waiting.into_iter().rev() {
                assert!(!open.is_finished(), "nobody is at the other side");
                let other = std::thread::spawn(move || {
                    let mut options = std::fs::OpenOptions::new();
                    options.read(write).write(!write).open(path).unwrap()
                });
                let opened = open.join().unwrap().unwrap();
                // SAFETY: asks for the flags of a descriptor that is open.
                let flags = unsafe { libc::fcntl(opened.as_raw_fd(), libc::F_GETFL) };
                assert_eq!(flags & libc::O_NONBLOCK, 0);
                drop(other.join().unwrap());
            }
        });
    });
}
