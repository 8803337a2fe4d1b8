//! Processes that nobody waits for any more, because a wait was given up by the only one who knew of them.
//!
//! A process that has ended is a zombie, and keeps its number, until it is waited for. So each start of a process collects those
//! of them that have ended meanwhile: a server that gives a command so much time and no more keeps a few, not all of them.
#![expect(unsafe_code, reason = "waitpid by number")]

use super::Child;
use std::io;
use std::process::ExitStatus;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Their numbers: each is its own until it is collected here.
static ORPHANS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A process of which the owner of this knows alone.
#[derive(Debug)]
pub(super) struct Only(pub(super) Child);

impl Only {
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Only {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            orphans().push(self.0.id());
        }
    }
}

/// Waits for those that have ended.
pub(super) fn collect() {
    orphans().retain(|number| is_running(*number));
}

fn orphans() -> MutexGuard<'static, Vec<u32>> {
    // Nothing panics while it is held.
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_running(number: u32) -> bool {
    let number = number.cast_signed();
    // SAFETY: a number, and nowhere to write to.
    let outcome = unsafe { libc::waitpid(number, ptr::null_mut(), libc::WNOHANG) };
    outcome == 0
}
