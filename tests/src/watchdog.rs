//! The watchdog: a test that hangs ends the process, with its name and what is known about every thread.

use crate::name_of;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

/// What tests have said about their progress, the newest last.
static NOTES: Mutex<Vec<(Instant, String)>> = Mutex::new(Vec::new());
const NOTES_KEPT: usize = 32;

/// Leaves a line for the dump of a hang: how far the test has come.
pub fn note(text: impl Into<String>) {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    if notes.len() == NOTES_KEPT {
        notes.remove(0);
    }
    notes.push((Instant::now(), text.into()));
}

/// Runs a test's body; aborts the process when it takes too long.
pub fn check<F: FnOnce()>(body: F) {
    watch(name_of::<F>(), body);
}

pub(crate) fn watch(name: &'static str, body: impl FnOnce()) {
    let limit = env::var("CORING_TEST_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(if crate::heavy() { 900 } else { 60 });
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || {
            let outcome = ended.recv_timeout(Duration::from_secs(limit));
            if outcome == Err(RecvTimeoutError::Timeout) {
                bark(name, limit);
            }
        })
        .expect("a thread for the watchdog");
    {
        // Dropped at the end, also by a panic.
        let _done = done;
        body();
    }
    let _ = watchdog.join();
}

fn bark(name: &str, limit: u64) -> ! {
    let mut text = format!("\n*** test {name} hangs: not through after {limit} s\n");
    let notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    for (when, note) in notes.iter() {
        let _ = writeln!(text, "*** noted {:.1?} ago: {note}", when.elapsed());
    }
    for task in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let _ = writeln!(
            text,
            "*** thread {} '{}': waits in {}, system call {}",
            task.file_name().display(),
            read("comm").trim(),
            read("wchan").trim(),
            read("syscall").trim(),
        );
    }
    for fd in fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .take(64)
    {
        let target = fs::read_link(fd.path()).unwrap_or_default();
        let _ = writeln!(
            text,
            "*** fd {} {}",
            fd.file_name().display(),
            target.display()
        );
    }
    // Past the capture of the test harness.
    let _ = std::io::stderr().write_all(text.as_bytes());
    process::abort()
}
