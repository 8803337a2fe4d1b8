//! A dump of all coroutines of all cores, on stderr, when a signal comes.

use super::capture;
use crate::mailbox::try_spawn_on;
use crate::per_core;
use crate::report;
use crate::signal::Signals;
use coring_coro::{self as coro, CoroutineInfo};
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

/// A core that has not answered by then does not turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// From now on this signal (`libc::SIGUSR2`, say) makes the caller's runtime write on stderr what every coroutine of every
/// core is doing.
///
/// Cores that do not turn are given a second; then what holds them up is written instead, with its backtrace. The core that this is
/// called on has to turn itself: a coroutine of it waits for the signal, until the runtime ends.
///
/// # Errors
///
/// As [`Signals::new`].
///
/// # Panics
///
/// Outside a runtime.
///
/// # Examples
///
/// ```no_run
/// coring::Runtime::new()?.run(|| {
///     coring::dump_on_signal(libc::SIGUSR2)
///     // .. serve; `kill -USR2` shows what is going on
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn dump_on_signal(signal: i32) -> io::Result<()> {
    per_core::require_current("dump_on_signal");
    capture::install();
    let mut signals = Signals::new([signal])?;
    let watcher = coro::Builder::new().name("dump on a signal");
    let watching = watcher.spawn(move || {
        while signals.recv().is_ok() {
            say_all();
        }
    });
    watching.map(drop).map_err(io::Error::other)
}

fn say_all() {
    let cluster = per_core::require_current("dump_on_signal").cluster();
    // All are asked before the first is waited for.
    let asked: Vec<_> = (0..cluster.cores())
        .map(|core| try_spawn_on(core, coro::dump))
        .collect();
    for (core, asked) in asked.into_iter().enumerate() {
        let answer = asked
            .ok()
            .and_then(|asked| asked.join_timeout(PATIENCE).ok());
        match answer {
            Some(Ok(coroutines)) => say(core, &coroutines),
            Some(Err(error)) => report::say(format_args!("core {core}: {error}")),
            None => match cluster.port(core).pulse().capture() {
                Some(captured) => {
                    report::say(format_args!("core {core} does not turn: {captured}"))
                }
                None => report::say(format_args!(
                    "core {core} does not turn and takes no signal"
                )),
            },
        }
    }
}

fn say(core: usize, coroutines: &[CoroutineInfo]) {
    let mut text = format!("core {core}, {} coroutines:", coroutines.len());
    for coroutine in coroutines {
        // A string takes everything.
        let _ = write!(text, "\n  {coroutine}");
    }
    report::say(format_args!("{text}"));
}
