//! Children: their ends, their pipes.

use coring::coro;
use coring::io::is_cancelled;
use coring::process::{Command, Stdio};
use coring_tests::{builder, check, proc, runtime, until, until_fails, until_in_flight};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

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
fn ends_of_every_kind() {
    // Goal: success, a code, a signal: what the shell said is what is read, from `status` and from `wait`.
    // Method: a shell for each.
    check(|| {
        runtime(1).run(|| {
            let shell = |text: &str| Command::new("sh").args(["-c", text]).status().unwrap();
            assert!(shell("true").success());
            assert_eq!(shell("false").code(), Some(1));
            assert_eq!(shell("exit 255").code(), Some(255));
            let status = shell("kill -TERM $$");
            assert_eq!(
                (status.code(), status.signal()),
                (None, Some(libc::SIGTERM))
            );
            let mut child = Command::new("true").spawn().unwrap();
            assert!(child.id() > 0);
            assert!(child.wait().unwrap().success());
        });
    });
}

#[test]
fn killed_while_it_reads() {
    // Goal: a child that waits for input is ended by kill, and its status says so.
    // Method: `read` of a pipe that stays open.
    check(|| {
        runtime(1).run(|| {
            let mut child = Command::new("sh")
                .args(["-c", "read a"])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let _open = child.stdin.take();
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        });
    });
}

#[test]
fn input_and_output() {
    // Goal: a line goes in and comes out; closing the input is its end.
    // Method: `read line; echo $line`.
    check(|| {
        runtime(1).run(|| {
            let mut child = Command::new("sh")
                .args(["-c", "read line; echo $line; cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let stdin = child.stdin.as_mut().unwrap();
            stdin.write_all(b"foobar\nrest").unwrap();
            drop(child.stdin.take());
            let mut text = String::new();
            let stdout = child.stdout.as_mut().unwrap();
            stdout.read_to_string(&mut text).unwrap();
            assert!(child.wait().unwrap().success());
            assert_eq!(text, "foobar\nrest");
            assert!(child.stderr.is_none());
        });
    });
}

#[test]
fn collected_output() {
    // Goal: wait_with_output gives status and both outputs, empty for what is no pipe.
    // Method: a shell with words on both.
    check(|| {
        runtime(1).run(|| {
            let spawn = |stderr: Stdio| {
                let child = Command::new("sh")
                    .args(["-c", "echo hello; echo oops >&2; exit 3"])
                    .stdout(Stdio::piped())
                    .stderr(stderr)
                    .spawn();
                child.unwrap().wait_with_output().unwrap()
            };
            let output = spawn(Stdio::piped());
            assert_eq!(output.status.code(), Some(3));
            assert_eq!(
                (&*output.stdout, &*output.stderr),
                (&b"hello\n"[..], &b"oops\n"[..])
            );
            let output = spawn(Stdio::null());
            assert_eq!(
                (&*output.stdout, &*output.stderr),
                (&b"hello\n"[..], &b""[..])
            );
        });
    });
}

#[test]
fn output_without_a_coroutine_to_read_it() {
    // Goal: who cannot have another coroutine gets an error, not a panic.
    // Method: main is the only one there may be.
    check(|| {
        let runtime = builder(1).max_coroutines(1).build().unwrap();
        let error = runtime.run(|| Command::new("true").output()).unwrap_err();
        let source = error.get_ref().unwrap();
        assert!(source.is::<coro::SpawnError>(), "{error}");
    });
}

#[test]
fn a_pipe_from_one_child_to_the_next() {
    // Goal: the output of one child is the input of another, without a byte of it passing by here.
    // Method: `echo | tr`.
    check(|| {
        runtime(1).run(|| {
            let mut first = Command::new("echo")
                .arg("hello")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let second = Command::new("tr")
                .args(["a-z", "A-Z"])
                .stdin(first.stdout.take().unwrap())
                .output()
                .unwrap();
            assert_eq!(second.stdout, b"HELLO\n");
            assert!(first.wait().unwrap().success());
        });
    });
}

#[test]
fn a_child_that_ends_its_input_first() {
    // Goal: writing to a child that has gone is BrokenPipe, and no signal ends the process.
    // Method: `true`, waited for by its output.
    check(|| {
        runtime(1).run(|| {
            let mut child = Command::new("true")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            child
                .stdout
                .take()
                .unwrap()
                .read_to_end(&mut Vec::new())
                .unwrap();
            child.wait().unwrap();
            until_fails(ErrorKind::BrokenPipe, || stdin.write(b"x"));
        });
    });
}

#[test]
fn a_hundred_children_at_once() {
    // Goal: each coroutine gets the status of its own child; no zombie is left.
    // Method: a code each, all waited for at the same time, in a process of its own.
    coring_tests::alone(|| {
        runtime(1).run(|| {
            let waiting: Vec<_> = (0..100)
                .map(|code| {
                    coro::spawn(move || {
                        let text = format!("read a; exit {code}");
                        let mut child = Command::new("sh")
                            .args(["-c", &text])
                            .stdin(Stdio::piped())
                            .spawn()
                            .unwrap();
                        (child.wait().unwrap().code(), code)
                    })
                })
                .collect();
            for child in waiting {
                let (said, code) = child.join().unwrap();
                assert_eq!(said, Some(code));
            }
            assert_eq!(proc::children(), []);
        });
    });
}

#[test]
fn who_gives_up_a_command_leaves_no_zombie() {
    // Goal: a process whose `status` or `output` was given up runs on, and what it leaves when it has ended is collected by the next
    // start of one; a `Child` that the caller has is the caller's.
    // Method: shells that end when their input does, given up after a moment by the call of each kind that owns them.
    coring_tests::alone(|| {
        runtime(1).run(|| {
            let (input, hold) = std::io::pipe().unwrap();
            let shell = || {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", "read a; exit 0"])
                    .stdin(input.try_clone().unwrap());
                shell
            };
            let limit = Duration::from_millis(100);
            let status = coro::timeout(limit, || shell().status().map(drop));
            let output = coro::timeout(limit, || shell().output().map(drop));
            let child = shell().stdout(Stdio::piped()).spawn().unwrap();
            let collected = coro::timeout(limit, || child.wait_with_output().map(drop));
            for outcome in [status, output, collected] {
                assert!(outcome.is_err(), "it came to an end: {outcome:?}");
            }
            let mut mine = shell().spawn().unwrap();
            let all = proc::children();
            assert_eq!(all.len(), 4, "they run on");
            drop((input, hold));
            until("all have ended", || {
                all.iter().all(|pid| proc::is_zombie(*pid))
            });
            assert!(Command::new("true").status().unwrap().success());
            assert_eq!(proc::children(), [mine.id()]);
            assert!(mine.wait().is_ok());
            assert_eq!(proc::children(), []);
        });
    });
}
