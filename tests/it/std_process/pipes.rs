//! Pipes, and readiness of descriptors that belong to others.

use coring::coro;
use coring::io::{Interest, is_cancelled, poll_fd};
use coring_tests::{alone, check, proc, runtime, until_fails, until_in_flight};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

#[test]
fn a_pipe_of_our_own() {
    // Goal: readers wait, writers wait when it is full, the end is 0, a pipe that nobody reads is BrokenPipe.
    // Method: more than it holds, through a slow reader; lines through BufReader.
    check(|| {
        runtime(1).run(|| {
            let (mut reader, mut writer) = coring::io::pipe().unwrap();
            let writing = coro::spawn(move || {
                writer.write_all(&vec![7; 300_000]).unwrap();
                writeln!(writer, "\nlast line").unwrap();
            });
            let mut first = vec![0; 300_000];
            reader.read_exact(&mut first).unwrap();
            assert!(first.iter().all(|byte| *byte == 7));
            let lines: Vec<_> = BufReader::new(&reader)
                .lines()
                .map(Result::unwrap)
                .collect();
            assert_eq!(lines, ["", "last line"]);
            writing.join().unwrap();
            let (reader, mut writer) = coring::io::pipe().unwrap();
            drop(reader);
            until_fails(ErrorKind::BrokenPipe, || writer.write(b"x"));
        });
    });
}

#[test]
fn non_blocking_pipes_still_wait() {
    // Goal: O_NONBLOCK on a pipe changes nothing.
    // Method: set it on both ends.
    check(|| {
        runtime(1).run(|| {
            let (mut reader, mut writer) = coring::io::pipe().unwrap();
            make_nonblocking(reader.as_raw_fd());
            make_nonblocking(writer.as_raw_fd());
            let reading = coro::spawn(move || {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).map(|_| bytes.len())
            });
            until_in_flight(1);
            writer.write_all(&vec![1; 200_000]).unwrap();
            drop(writer);
            assert_eq!(reading.join().unwrap().unwrap(), 200_000);
        });
    });
}

#[expect(unsafe_code, reason = "sets a flag of a descriptor")]
fn make_nonblocking(fd: i32) {
    // SAFETY: plain numbers.
    let outcome = unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(outcome, 0);
}

#[test]
fn readiness_of_foreign_descriptors() {
    // Goal: poll_fd waits for what was asked, reports it, and reports a hang-up unasked; it can be timed out.
    // Method: a pair of std's sockets; an eventfd.
    check(|| {
        runtime(1).run(|| {
            let (one, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
            assert!(poll_fd(&one, Interest::WRITABLE).unwrap().is_writable());
            let start = Instant::now();
            let silent = coro::timeout(Duration::from_millis(10), || {
                poll_fd(&one, Interest::READABLE).unwrap_err().kind()
            });
            assert!(silent.is_err());
            assert!(start.elapsed() >= Duration::from_millis(10));
            other.write_all(b"x").unwrap();
            let both = poll_fd(&one, Interest::READABLE | Interest::WRITABLE).unwrap();
            assert!(both.is_readable() && both.is_writable() && !both.is_hung_up());
            drop(other);
            assert!(poll_fd(&one, Interest::PRIORITY).unwrap().is_hung_up());
            let event = eventfd();
            let waiter = coro::spawn({
                let event = event.try_clone().unwrap();
                move || poll_fd(&event, Interest::READABLE).map(|ready| ready.is_readable())
            });
            until_in_flight(1);
            coring::fs::File::from(event)
                .write_all(&1_u64.to_ne_bytes())
                .unwrap();
            assert!(waiter.join().unwrap().unwrap());
        });
    });
}

#[expect(unsafe_code, reason = "makes a descriptor")]
fn eventfd() -> OwnedFd {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn clones_and_conversions_of_pipes() {
    // Goal: the end comes when the last writer has gone; std's type and back is the same pipe.
    // Method: two writers.
    check(|| {
        runtime(1).run(|| {
            let (reader, mut writer) = coring::io::pipe().unwrap();
            let number = reader.as_raw_fd();
            let mut reader = coring::io::PipeReader::from(std::io::PipeReader::from(reader));
            assert_eq!(reader.as_raw_fd(), number);
            let mut clone = writer.try_clone().unwrap();
            writer.write_all(b"one ").unwrap();
            drop(writer);
            clone.write_all(b"two").unwrap();
            drop(clone);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "one two");
        });
    });
}

#[test]
fn a_cancelled_call_on_a_pipe_loses_nothing() {
    // Goal: whether the cancellation or the byte is first, the byte is read by this call or by the next one; descriptors
    // are what they were.
    // Method: both at once, two thousand times, in a process of its own.
    alone(|| {
        runtime(1).run(|| {
            let (mut reader, mut writer) = coring::io::pipe().unwrap();
            let before = proc::fds();
            let mut both = [0; 2];
            for round in 0..2000_u32 {
                let mut clone = reader.try_clone().unwrap();
                let waiting = coro::spawn(move || {
                    let mut byte = [0];
                    clone.read_exact(&mut byte).map(|()| byte[0])
                });
                coro::yield_now();
                let byte = round.to_le_bytes()[0];
                if round % 2 == 0 {
                    waiting.cancel();
                    writer.write_all(&[byte]).unwrap();
                } else {
                    writer.write_all(&[byte]).unwrap();
                    waiting.cancel();
                }
                let got = match waiting.join() {
                    Ok(Ok(byte)) => {
                        both[0] += 1;
                        byte
                    }
                    outcome => {
                        if let Ok(Err(error)) = outcome {
                            assert!(is_cancelled(&error), "{error}");
                        }
                        both[1] += 1;
                        let mut byte = [0];
                        reader.read_exact(&mut byte).unwrap();
                        byte[0]
                    }
                };
                assert_eq!(got, byte);
            }
            assert_eq!(proc::fds(), before);
            assert!(both.iter().all(|count| *count > 0), "{both:?}");
        });
    });
}

#[test]
fn a_call_on_a_pipe_that_is_too_late() {
    // Goal: a time limit ends a read of an empty pipe and a write to a full one, with TimedOut; nothing is lost.
    // Method: `coro::timeout` around both.
    check(|| {
        runtime(1).run(|| {
            let (mut reader, mut writer) = coring::io::pipe().unwrap();
            let time = Duration::from_millis(10);
            let mut kind = None;
            let late = coro::timeout(time, || {
                kind = reader.read(&mut [0; 4]).err().map(|error| error.kind());
            });
            assert_eq!(
                (late, kind),
                (Err(coro::Elapsed), Some(ErrorKind::TimedOut))
            );
            let mut taken = 0;
            let late = coro::timeout(time, || {
                loop {
                    match writer.write(&[7; 4096]) {
                        Ok(bytes) => taken += bytes,
                        Err(error) => {
                            kind = Some(error.kind());
                            break;
                        }
                    }
                }
            });
            assert_eq!(
                (late, kind),
                (Err(coro::Elapsed), Some(ErrorKind::TimedOut))
            );
            drop(writer);
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len(), taken);
        });
    });
}
