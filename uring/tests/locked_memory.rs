//! Rings under a small limit on locked memory, where all of a ring is charged.

use std::env;
use std::process::Command;

use coring_uring::{Ring, SetupOptions};

/// Set in the child that has the limit.
const LIMITED: &str = "CORING_URING_LIMITED";

#[test]
fn rings_are_opened_as_others_are_closed() {
    // Goal: the kernel gives a ring's memory back after the close, in its own time; who opens the next ring at once gets
    // one all the same, though maybe a smaller one.
    // Method: with room for one ring of the ordinary size, one after the other, in a process without the right to lock more.
    if env::var_os(LIMITED).is_some() {
        for number in 0..200 {
            let opened = Ring::open(&SetupOptions::default());
            let ring = opened.unwrap_or_else(|error| panic!("ring {number}: {error}"));
            assert!(ring.capabilities().sq_entries() >= 8);
        }
        return;
    }
    let script = "ulimit -l 64 && exec \"$0\" --exact rings_are_opened_as_others_are_closed";
    let this = env::current_exe().unwrap();
    let output = Command::new("capsh")
        .args(["--drop=cap_ipc_lock", "--", "-c", script])
        .arg(this)
        .env(LIMITED, "1")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("skipped: no capsh to give a right up with: {error}"),
    };
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if stderr.contains("unable to raise") || stderr.contains("Operation not permitted") {
        return println!("skipped: not the right to give a right up: {stderr}");
    }
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}\n{stderr}");
}
