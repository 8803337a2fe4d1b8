//! Skipped tests are results: each is printed when it happens, all are counted, a last line sums them up.
#![expect(unsafe_code, reason = "the summary is written by an atexit handler")]

use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};

/// Marks the lines of skips, also in the output of a child process.
pub(crate) const MARK: &str = "skipped: ";

static SKIPS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static SUMMARY: Once = Once::new();

/// Leaves the test, with the reason counted and printed.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::count_skip(&format!("{}: {}", module_path!(), format_args!($($reason)+)));
        return;
    }};
}

/// Leaves the test where the limit on locked memory does not allow so many KiB. The smallest ring takes 8.
#[macro_export]
macro_rules! need_locked_kib {
    ($kib:expr) => {{
        let (kib, limit) = ($kib, $crate::proc::locked_memory());
        if limit.is_some_and(|limit| limit < kib * 1024) {
            $crate::skip!("{kib} KiB of locked memory are more than the limit (ulimit -l)");
        }
    }};
}

/// Counts and prints one skip. Use [`skip!`](crate::skip), which also leaves the test.
pub fn count_skip(reason: &str) {
    SUMMARY.call_once(|| {
        // SAFETY: a function without arguments; it only locks a mutex and writes.
        unsafe { libc::atexit(summary) };
    });
    // Past the capture of the test harness: a skip is to be seen in a run that passes.
    let _ = writeln!(std::io::stderr(), "{MARK}{reason}");
    SKIPS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(reason.to_owned());
}

extern "C" fn summary() {
    let skips = SKIPS.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(
        std::io::stderr(),
        "{} skipped in this run, reasons above",
        skips.len()
    );
}
