//! Panics name the coroutine they happen in.
//!
//! std's report names the thread, which on a core says little. The first runtime of the process puts a hook before
//! the one that was there: it writes one line with the coroutine's name and spawn site and goes on to the other.
//! A cancellation does not come here: it unwinds without the hook.

use std::panic;
use std::sync::Once;

static INSTALLED: Once = Once::new();

/// Puts the hook in place, once for the process. A hook that is set later replaces it.
pub(crate) fn install() {
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(coroutine) = coring_coro::try_current() {
                let core = crate::per_core::current().map_or(0, |engine| engine.index());
                let site = coroutine.spawn_site();
                match coroutine.name() {
                    Some(name) => eprintln!(
                        "coring: panic in coroutine '{name}' (spawned at {site}) on core {core}"
                    ),
                    None => {
                        eprintln!("coring: panic in a coroutine spawned at {site} on core {core}")
                    }
                }
            }
            previous(info);
        }));
    });
}
