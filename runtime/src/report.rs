//! What the runtime says on stderr, and what it does with panics that are not its own.
//!
//! Nothing here can panic: a stderr that is closed or broken swallows the words, and nothing else. Nor does anybody wait
//! here for long: what is said at an end that is forced must not hold it up, so a pipe that is full and that nobody
//! reads swallows the words, too, after a second, and at once as long as it stays full. Hence no lock of std's, which another thread
//! may hold while it waits for that pipe.
//!
//! Panics name the coroutine they happen in. std's report names the thread, which on a core says little. The first
//! runtime of the process puts a hook before the one that was there: it writes one line with the coroutine's name and
//! spawn site and goes on to the other. A cancellation does not come here: it unwinds without the hook.

#![expect(
    unsafe_code,
    reason = "poll(2) and write(2) on standard error, which std does not offer without its lock"
)]

use coring_uring::monotonic_ns;
use std::fmt::Arguments;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static HOOK: Once = Once::new();

/// How long a line may wait for room in stderr.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Nobody has made room in time, and there is none yet.
static FULL: AtomicBool = AtomicBool::new(false);

/// One line on stderr, if it takes it in time.
pub(crate) fn say(what: Arguments<'_>) {
    let text = format!("coring: {what}\n");
    let mut left = text.as_bytes();
    while !left.is_empty() {
        let patience_ns = match FULL.load(Ordering::Relaxed) {
            true => 0,
            false => PATIENCE_NS,
        };
        if !wait_for_room(monotonic_ns().saturating_add(patience_ns)) {
            return FULL.store(true, Ordering::Relaxed);
        }
        FULL.store(false, Ordering::Relaxed);
        // A pipe with any room has it for so many bytes.
        let some = &left[..left.len().min(libc::PIPE_BUF)];
        // SAFETY: the bytes are there to be read.
        let written = unsafe { libc::write(libc::STDERR_FILENO, some.as_ptr().cast(), some.len()) };
        match usize::try_from(written) {
            Ok(written) => left = &left[written..],
            Err(_) if is_interrupted() => {}
            Err(_) => return,
        }
    }
}

/// Whether stderr takes something, or gives an error, before the time is over.
fn wait_for_room(until_ns: u64) -> bool {
    loop {
        let left_ms = until_ns.saturating_sub(monotonic_ns()).div_ceil(1_000_000);
        let mut poll = libc::pollfd {
            fd: libc::STDERR_FILENO,
            events: libc::POLLOUT,
            revents: 0,
        };
        let left_ms = libc::c_int::try_from(left_ms).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd of this frame.
        let ready = unsafe { libc::poll(&raw mut poll, 1, left_ms) };
        if ready >= 0 || !is_interrupted() {
            return ready > 0;
        }
    }
}

fn is_interrupted() -> bool {
    io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
}

/// A broken invariant of the runtime: says so and ends the process, rather than limp on.
#[cold]
pub(crate) fn fatal(what: Arguments<'_>) -> ! {
    say(format_args!("fatal: {what}"));
    std::process::abort()
}

/// Runs what may run a destructor of a user's where no coroutine would catch its panic. Whether it ended without one.
///
/// The panic has been reported by the hook; its payload may panic again when dropped, so it is not.
pub(crate) fn contain(call: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(()) => true,
        Err(payload) => {
            let _ = ManuallyDrop::new(payload);
            false
        }
    }
}

/// Values that are dropped one by one, whatever their destructors do: a second panic inside of a first one would end the process.
pub(crate) struct Contained<I: Iterator>(pub(crate) I);

impl<I: Iterator> Drop for Contained<I> {
    fn drop(&mut self) {
        for value in self.0.by_ref() {
            contain(|| drop(value));
        }
    }
}

/// Puts the panic hook in place, once for the process. A hook that is set later replaces it.
pub(crate) fn install_panic_hook() {
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(coroutine) = coring_coro::try_current() {
                let core = crate::per_core::current().map_or(0, |engine| engine.index());
                let site = coroutine.spawn_site();
                match coroutine.name() {
                    Some(name) => say(format_args!(
                        "panic in coroutine '{name}' (spawned at {site}) on core {core}"
                    )),
                    None => say(format_args!(
                        "panic in a coroutine spawned at {site} on core {core}"
                    )),
                }
            }
            previous(info);
        }));
    });
}
