//! Child processes, pipes, signals, foreign descriptors: what else the kernel lets one wait for.

use coring::coro;
use coring::io::{Interest, is_cancelled, poll_fd};
use coring::process::{Command, Stdio};
use coring::signal::Signals;
use coring_tests::{alone, check, runtime, until_in_flight};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

#[test]
fn exit_codes_and_signals() {
    // Goal: the status says how the child ended; waiting twice gives the same; try_wait before the end is None.
    // Method: exit 7, and SIGKILL.
    check(|| {
        runtime(1).run(|| {
            let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(7));
            assert_eq!(child.wait().unwrap().code(), Some(7));
            let mut child = Command::new("sleep").arg("100").spawn().unwrap();
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
            child.kill().unwrap();
        });
    });
}

#[test]
fn waiting_for_a_child_holds_up_nobody() {
    // Goal: while one coroutine waits for a child, others run; a cancelled wait leaves the child to the next one.
    // Method: a child that ends when its input does.
    check(|| {
        runtime(1).run(|| {
            let mut child = Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let stdin = child.stdin.take();
            let waiter = coro::spawn(move || {
                let first = child.wait();
                (first.unwrap_err(), child)
            });
            until_in_flight(1);
            coro::sleep(Duration::from_millis(2));
            waiter.cancel();
            let (error, mut child) = waiter.join().unwrap();
            assert!(is_cancelled(&error), "{error}");
            drop(stdin);
            assert!(child.wait().unwrap().success());
        });
    });
}

#[test]
fn pipes_to_a_child() {
    // Goal: what is written to its input comes out of its output, more than a pipe holds; stderr is separate.
    // Method: `cat` with a megabyte, then `output`.
    check(|| {
        runtime(1).run(|| {
            let mut child = Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let writer = coro::spawn(move || stdin.write_all(&[b'x'; 1 << 20]));
            let output = child.stdout.take().unwrap();
            let mut bytes = Vec::new();
            (&output).read_to_end(&mut bytes).unwrap();
            writer.join().unwrap().unwrap();
            assert_eq!(bytes.len(), 1 << 20);
            assert!(child.wait().unwrap().success());
            let output = Command::new("sh")
                .args(["-c", "head -c 300000 /dev/zero >&2; echo out"])
                .output()
                .unwrap();
            assert_eq!(output.stdout, b"out\n");
            assert_eq!(output.stderr.len(), 300_000);
        });
    });
}

#[test]
fn environment_directory_and_missing_programs() {
    // Goal: the settings reach the child; a program that is not there is NotFound; the command can be used again.
    // Method: `sh` prints them.
    check(|| {
        runtime(1).run(|| {
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", "echo $A-$B; pwd"])
                .env_clear()
                .env("A", "1")
                .env("B", "2")
                .env_remove("B")
                .current_dir("/proc");
            for _ in 0..2 {
                let output = command.output().unwrap();
                assert_eq!(String::from_utf8_lossy(&output.stdout), "1-\n/proc\n");
            }
            let error = Command::new("/no/such/program").spawn().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(!Command::new("false").status().unwrap().success());
        });
    });
}

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
            assert_eq!(
                writer.write(b"x").unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
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
fn signals_arrive_and_handlers_of_others_stay() {
    // Goal: a caught signal is received by every stream of it and by a handler that was there before; its default
    // action does not happen; SIGKILL cannot be caught; a cancelled receive loses none.
    // Method: raise SIGUSR1 in a process of its own, with std's handler installed by libc before.
    alone(|| {
        runtime(1).run(|| {
            install_counter();
            let mut one = Signals::new([libc::SIGUSR1, libc::SIGUSR2]).unwrap();
            let mut other = Signals::new([libc::SIGUSR1]).unwrap();
            raise(libc::SIGUSR1);
            raise(libc::SIGUSR2);
            assert_eq!(one.recv().unwrap(), libc::SIGUSR1);
            assert_eq!(one.recv().unwrap(), libc::SIGUSR2);
            assert_eq!(other.recv().unwrap(), libc::SIGUSR1);
            assert_eq!(COUNT.load(std::sync::atomic::Ordering::SeqCst), 1);
            let waiter = coro::spawn(move || (one.recv(), one));
            until_in_flight(1);
            waiter.cancel();
            let (outcome, mut one) = waiter.join().unwrap();
            assert!(is_cancelled(&outcome.unwrap_err()));
            raise(libc::SIGUSR2);
            assert_eq!(one.recv().unwrap(), libc::SIGUSR2);
            for forbidden in [libc::SIGKILL, libc::SIGSEGV, 0, -1, 1000] {
                let error = Signals::new([forbidden]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
            }
        });
    });
}

static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

#[expect(unsafe_code, reason = "installs a handler")]
fn install_counter() {
    let handler: extern "C" fn(i32) = count;
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
}

#[expect(unsafe_code, reason = "sends a signal to this thread")]
fn raise(signal: i32) {
    // SAFETY: it has a handler.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}
