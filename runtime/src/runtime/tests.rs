//! A core's loop that panics.

use super::Runtime;
use crate::per_core::fault;
use coring_coro as coro;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

/// Tells the child process which core's loop is to panic.
const BROKEN: &str = "CORING_BROKEN_CORE";

#[test]
fn a_panic_of_a_cores_own_loop_ends_the_process_and_says_so() {
    // Goal: the process does not go on with a core that is no more, be it that of `main` or another; and it says why.
    // Method: this test again in a child process, where the loop of one core is made to panic while `main` waits.
    let name = "runtime::tests::a_panic_of_a_cores_own_loop_ends_the_process_and_says_so";
    if let Ok(core) = std::env::var(BROKEN) {
        let runtime = Runtime::builder().cores(2).build().unwrap();
        fault::panic_on(core.parse().unwrap());
        runtime.run(|| {
            drop(crate::spawn_on(1, || ()));
            coro::sleep(Duration::from_secs(5));
        });
        return;
    }
    for core in 0..2 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(BROKEN, core.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{said}");
        assert!(said.contains("the loop is broken"), "{said}");
        let last = said.lines().last().unwrap_or_default();
        let expected = format!("fatal: the loop of core {core} panicked: this is a bug in coring");
        assert!(last.ends_with(&expected), "{said}");
    }
}
