//! Without unwinding: a program that is built with `panic = "abort"`.

use coring_tests::{check, heavy, skip};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// Builds `src/bin/aborts.rs` with `panic = "abort"`, in a place of its own, and runs it.
fn aborts(argument: &str) -> Output {
    let directory = concat!(env!("CARGO_TARGET_TMPDIR"), "/abort");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args([
        "run",
        "--quiet",
        "--bin",
        "aborts",
        "--target-dir",
        directory,
    ]);
    cargo.args(["--config", "profile.dev.panic=\"abort\"", "--", argument]);
    cargo.output().expect("cargo is there: it runs this test")
}

#[test]
fn what_is_promised_without_unwinding() {
    // Goal: with `panic = "abort"` a cancelled coroutine gets errors for ever, calls without an error return, locks are
    // waited for, and a panic ends the process.
    // Method: a program built that way checks itself and says so; then it panics and is looked at.
    check(|| {
        if !heavy() {
            skip!("builds the library once more: set CORING_HEAVY=1");
        }
        let kept = aborts("check");
        let complaint = String::from_utf8_lossy(&kept.stderr);
        assert!(kept.status.success(), "{complaint}");
        assert_eq!(kept.stdout, b"all kept\n", "{complaint}");
        let panicked = aborts("panic");
        const SIGABRT: i32 = 6;
        let signal = panicked
            .status
            .signal()
            .or(panicked.status.code().map(|code| code & 0x7F));
        assert_eq!(signal, Some(SIGABRT), "{panicked:?}");
        assert!(String::from_utf8_lossy(&panicked.stderr).contains("the end"));
    });
}
