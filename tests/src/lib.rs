//! What the behaviour tests share. A test is a function that hands its body to one of two guards:
//!
//! ```text
//!   check(|| ..)    runs it under a watchdog: a hang ends the process with the test's name and what is known
//!   alone(|| ..)    the same, in a process of its own: for tests that count descriptors, memory, threads
//! ```
//!
//! A test that needs something this machine lacks returns through [`skip!`], which prints the reason and counts it;
//! the last line of a run tells how many were skipped. io_uring is never such a thing: without it everything fails.
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `CORING_HEAVY=1` | the long lanes too: more rounds, bigger files, every kernel feature off with every core count |
//! | `CORING_TEST_GROUND=..` | all tests on other ground: any of `tiny-rings`, `two-buffers`, `sq-poll`, `napi`, `bundles`, `incremental`, with commas between |
//! | `CORING_FEATURES=..` | all tests without some kernel features (see `coring::Builder::features`) |
//! | `CORING_TEST_SEED=N` | the seed of the random tests; each prints the one it used |
//! | `CORING_TEST_SECONDS=N` | what the watchdog allows a test; default 60, in the long lanes 900 |
//!
//! # Inside
//!
//! `alone` -> `watchdog` -> `skips`; `server` -> `command`, `proc`; `conserve`, `lane`, `running`, `tcp`, `random` stand
//! for themselves.

mod alone;
pub mod command;
pub mod conserve;
pub mod lane;
pub mod port;
pub mod proc;
pub mod random;
pub mod running;
pub mod server;
mod skips;
pub mod tcp;
mod watchdog;

pub use alone::alone;
pub use skips::count_skip;
pub use watchdog::{check, note};

use std::time::{Duration, Instant};

/// Whether the long lanes were asked for.
#[must_use]
pub fn heavy() -> bool {
    std::env::var_os("CORING_HEAVY").is_some_and(|value| value == "1")
}

/// How many rounds: the first by default, the second in the heavy lanes.
#[must_use]
pub fn rounds(normal: usize, heavy_lane: usize) -> usize {
    if heavy() { heavy_lane } else { normal }
}

/// A runtime with this many cores. Not pinned: tests share the CPUs with each other.
///
/// # Panics
///
/// When it does not start.
#[must_use]
pub fn runtime(cores: usize) -> coring::Runtime {
    builder(cores).build().expect("the runtime starts")
}

/// The builder behind [`runtime`], on the ground that the run is to stand on.
pub fn builder(cores: usize) -> coring::Builder {
    lane::chosen(coring::Runtime::builder().cores(cores).pin(false))
}

/// In a coroutine: lets others run until the condition holds.
///
/// # Panics
///
/// When it does not hold within 20 s; says what was waited for.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "still waiting for: {what}"
        );
        coring::coro::yield_now();
    }
}

/// In a coroutine: calls until the error is of this kind. What a test has closed may be open a moment longer: the child of
/// another test has it, too, between its fork and its exec.
///
/// # Panics
///
/// As [`until`].
#[track_caller]
pub fn until_fails<T>(kind: std::io::ErrorKind, mut call: impl FnMut() -> std::io::Result<T>) {
    until(&format!("an error of kind {kind:?}"), || {
        call().is_err_and(|error| error.kind() == kind)
    });
}

/// In a thread: waits for something outside of this process.
///
/// # Panics
///
/// When it does not hold within 20 s; says what was waited for.
#[track_caller]
pub fn until_outside(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "still waiting for: {what}"
        );
        std::thread::yield_now();
    }
}

/// In a coroutine: waits until exactly this many operations of this core are in flight.
///
/// # Panics
///
/// As [`until`].
#[track_caller]
pub fn until_in_flight(operations: usize) {
    until(&format!("{operations} operations in flight"), || {
        in_flight() == operations
    });
}

/// Operations of the calling core that the kernel still has.
///
/// # Panics
///
/// Outside a runtime.
#[must_use]
pub fn in_flight() -> usize {
    coring::stats().expect("on a core").in_flight
}

/// The name of the test that a body belongs to, as libtest knows it: from the type of its closure.
pub(crate) fn name_of<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let path = path.trim_end_matches("::{{closure}}");
    path.split_once("::").map_or(path, |(_, name)| name)
}
