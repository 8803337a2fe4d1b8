//! A test in a process of its own: what it counts (descriptors, memory, threads) is nobody else's.
//!
//! The test runs the test program again, with only itself selected; there the body runs. The child's output is
//! shown when it fails, and its skips are counted here.

use crate::skips::MARK;
use crate::{count_skip, name_of, watchdog};
use std::env;
use std::process::Command;

/// Set in the child to the name of the test.
const VARIABLE: &str = "CORING_TEST_ALONE";

/// Runs a test's body in a process of its own, under the watchdog.
///
/// # Panics
///
/// When the child fails; with its output.
pub fn alone<F: FnOnce()>(body: F) {
    let name = name_of::<F>();
    if env::var_os(VARIABLE).is_some_and(|chosen| chosen == name) {
        crate::proc::raise_file_limit();
        return watchdog::watch(name, body);
    }
    let output = Command::new(env::current_exe().expect("a running program has a path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(VARIABLE, name)
        .output()
        .expect("the test program can be started again");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{name} failed in its own process: {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
        output.status
    );
    assert!(
        stdout.contains("1 passed"),
        "the child found no test called {name}:\n{stdout}"
    );
    for skipped in stderr.lines().filter_map(|line| line.strip_prefix(MARK)) {
        count_skip(skipped);
    }
    // Numbers that the child measured, for who runs with --nocapture.
    print!("{stdout}");
}
