//! Goal: who is refused a ring reads a sentence that names cause and cure.
//!
//! Method: this test program runs itself again, as a child under a limit or under strace, which makes the system
//! call fail. The child is the ignored test below. What the machine does not have (strace, privileges to lower) is
//! skipped with a reason on stdout.

use std::process::{Command, Output};

use coring_uring::{Ring, SetupOptions};

/// What the child prints when it got a ring.
const OPENED: &str = "opened a ring with";

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    match Ring::open(&SetupOptions::default()) {
        Ok(ring) => {
            let capabilities = ring.capabilities();
            println!(
                "{OPENED} {} and {}",
                capabilities.sq_entries(),
                capabilities.cq_entries()
            );
        }
        Err(error) => println!("refused: {error}"),
    }
}

/// Runs the child with `wrapper` in front, and gives what it printed; `None` if the wrapper cannot be used here.
fn run_child(wrapper: &[&str]) -> Option<String> {
    let child = std::env::current_exe().expect("a running program has a path");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(child)
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .output()
        .map_err(|error| println!("skipped: {} does not run: {error}", wrapper[0]))
        .ok()?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !stdout.contains("refused: ") && !stdout.contains(OPENED) {
        let stderr = String::from_utf8_lossy(&stderr);
        println!("skipped: {wrapper:?} gave {status}: {stderr}");
        return None;
    }
    Some(stdout)
}

fn with_errno(errno: &str) -> Option<String> {
    run_child(&[
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        &format!("inject=io_uring_setup:error={errno}"),
    ])
}

#[test]
fn a_filter_is_named_as_such() {
    if let Some(text) = with_errno("EPERM") {
        assert!(
            text.contains("seccomp") || text.contains("kernel.io_uring_disabled"),
            "{text}"
        );
    }
}

#[test]
fn a_kernel_without_io_uring_is_named_as_such() {
    if let Some(text) = with_errno("ENOSYS") {
        assert!(
            text.contains("offers no io_uring") && text.contains("6.1"),
            "{text}"
        );
    }
}

#[test]
fn a_kernel_that_knows_no_rung_of_the_ladder_is_too_old() {
    if let Some(text) = with_errno("EINVAL") {
        assert!(text.contains("too old"), "{text}");
    }
}

#[test]
fn without_descriptors_the_limit_is_named() {
    if let Some(text) = with_errno("EMFILE") {
        assert!(text.contains("ulimit -n"), "{text}");
    }
}

/// One refused flag costs one feature, not the ring.
#[test]
fn a_refused_rung_is_stepped_down() {
    let inject = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "inject=io_uring_setup:error=EINVAL:when=1..2",
    ];
    if let Some(text) = run_child(&inject) {
        assert!(text.contains(OPENED), "{text}");
    }
}

/// Rings are charged to the user unless one has CAP_IPC_LOCK, so the child runs as nobody.
fn with_locked_memory(limit_bytes: &str) -> Option<String> {
    let limit = format!("--memlock={limit_bytes}");
    run_child(&[
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        "prlimit",
        &limit,
    ])
}

#[test]
fn a_tight_limit_on_locked_memory_gives_a_smaller_ring() {
    if let Some(text) = with_locked_memory("32768") {
        assert!(
            text.contains(OPENED) && !text.contains("256 and 2048"),
            "{text}"
        );
    }
}

#[test]
fn no_locked_memory_at_all_names_need_and_limit() {
    if let Some(text) = with_locked_memory("4096") {
        assert!(
            text.contains("8 KiB") && text.contains("4 KiB") && text.contains("ulimit -l"),
            "{text}"
        );
    }
}
