//! Forked children: what they may do inside of a runtime, and what they hear if they do more.
#![expect(unsafe_code, reason = "fork(2)")]

use coring_tests::{alone, check, runtime};
use std::io::{PipeWriter, Read, pipe};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How a child ends that does this, and what it says on standard error.
fn child(work: fn()) -> (i32, String) {
    let (mut said, end) = pipe().expect("two descriptors");
    // SAFETY: the child does only what the test is about, and ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        go(&end, work);
    }
    drop(end);
    let mut text = String::new();
    said.read_to_string(&mut text).expect("it ends");
    let mut status = 0;
    // SAFETY: it is our child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    (status, text)
}

fn go(stderr: &PipeWriter, work: fn()) -> ! {
    // SAFETY: both are descriptors of this process.
    unsafe { libc::dup2(stderr.as_raw_fd(), libc::STDERR_FILENO) };
    work();
    // SAFETY: ends the child, with nothing of the parent's.
    unsafe { libc::_exit(7) }
}

#[test]
fn who_uses_its_parents_runtime_is_told_so() {
    // Goal: a child that goes on with the runtime it was forked in ends with a sentence that says why, and one that only ends is left
    // alone. Method: children of a coroutine that do so by a call of each kind.
    check(|| {
        alone(|| {
            runtime(1).run(|| {
                assert_eq!(child(|| ()), (7 << 8, String::new()));
                let sleeps = || coring::coro::sleep(Duration::from_millis(1));
                let opens = || assert!(coring::fs::File::open("/").is_ok());
                for work in [sleeps, opens] {
                    let (status, said) = child(work);
                    assert!(libc::WIFSIGNALED(status), "{status:#x}: {said}");
                    assert_eq!(said.matches("a forked child").count(), 1, "{said}");
                }
                assert_eq!(child(|| ()), (7 << 8, String::new()));
            });
        });
    });
}
