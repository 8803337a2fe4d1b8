//! SIGHUP: "your file was moved away, open it anew", as logrotate and daemons have it.
//!
//! The handler sets a flag and wakes the drain, both safe whatever the thread was doing, then calls the handler that was there before.

#![expect(unsafe_code, reason = "sigaction(2)")]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::state;

static WANTED: AtomicBool = AtomicBool::new(false);
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Whether the signal has come since the last call.
pub(crate) fn take() -> bool {
    WANTED.load(Ordering::Relaxed) && WANTED.swap(false, Ordering::Relaxed)
}

/// Installs the handler, once per process.
pub(crate) fn install() {
    PREVIOUS.get_or_init(|| {
        // SAFETY: all-zero bytes are a valid sigaction.
        let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
        new.sa_sigaction = on_signal as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: both point to sigactions; the handler keeps to what signal-safety(7) allows.
        unsafe { libc::sigaction(libc::SIGHUP, &raw const new, &raw mut old) };
        old
    });
}

type Plain = extern "C" fn(c_int);
type Informed = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the address of this thread's errno, which lives as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { errno.read() };
    WANTED.store(true, Ordering::Relaxed);
    state::wake_drain();
    // SAFETY: as above. What we interrupted may be about to read it.
    unsafe { errno.write(before) };
    let Some(previous) = PREVIOUS.get() else {
        return; // It comes while it is being installed.
    };
    if matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        return;
    }
    if previous.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: the kernel gave us this address as that of a handler without SA_SIGINFO.
        let handler = unsafe { std::mem::transmute::<usize, Plain>(previous.sa_sigaction) };
        handler(signal);
    } else {
        // SAFETY: as above, with SA_SIGINFO.
        let handler = unsafe { std::mem::transmute::<usize, Informed>(previous.sa_sigaction) };
        handler(signal, info, context);
    }
}
