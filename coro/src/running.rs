//! Who runs on this thread, for a signal handler that has interrupted it.
#![expect(unsafe_code, reason = "looks at the block of the running coroutine")]

use crate::coroutine::State;
use crate::scheduler::current_in_signal;
use std::panic::Location;

/// The coroutine that runs on this thread.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Running<'a> {
    /// Its number, as [`Coroutine::id`](crate::Coroutine::id).
    pub id: u64,
    /// The name given to it.
    pub name: Option<&'a str>,
    /// Where it was spawned.
    pub spawn_site: &'static Location<'static>,
    /// The core is about to switch to it, or is switching away from it. In the middle of a switch no unwinding table tells
    /// where the stack is: a handler that has interrupted one must not walk it.
    pub switching: bool,
}

/// Calls `look` with the coroutine that runs on this thread, or with `None` in the scheduler's own loop and outside.
///
/// May be called by a signal handler: it makes plain loads only. What `look` does is the caller's to keep as simple.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let named = coro::Builder::new().name("busy");
/// let id = named.spawn(|| coro::with_running(|running| running.map(|running| running.name == Some("busy"))));
/// assert_eq!(id.unwrap().join().unwrap(), Some(true));
/// # });
/// ```
pub fn with_running<R>(look: impl FnOnce(Option<Running<'_>>) -> R) -> R {
    let Some(control) = current_in_signal() else {
        return look(None);
    };
    // SAFETY: the block of the coroutine that runs on this thread is initialised and mapped, and it cannot end while
    // we, on its thread, keep it from running. Its name, number and site do not change after it was made.
    let block = unsafe { control.as_ref() };
    look(Some(Running {
        id: block.id.get(),
        name: block.name(),
        spawn_site: block.site,
        switching: block.state.get() != State::Running,
    }))
}
