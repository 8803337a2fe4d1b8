//! What the runtime says on stderr, and what it does with panics that are not its own.
//!
//! Nothing here can panic: a stderr that is closed or broken swallows the words, and nothing else.
//!
//! Panics name the coroutine they happen in. std's report names the thread, which on a core says little. The first
//! runtime of the process puts a hook before the one that was there: it writes one line with the coroutine's name and
//! spawn site and goes on to the other. A cancellation does not come here: it unwinds without the hook.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

static HOOK: Once = Once::new();

/// One line on stderr.
pub(crate) fn say(what: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "coring: {what}");
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
