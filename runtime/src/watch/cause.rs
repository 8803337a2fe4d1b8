//! Why a core stands still, as far as the names on its stack tell.
//!
//! Whoever is stuck in a call that blocks the thread has the name of that call among its innermost frames: std keeps
//! the waiting part of its locks out of line. The one that matters most is a lock of std. A coroutine that waits while it
//! holds one leaves no trace that could be looked for at that moment (SOUNDNESS.md); what can be seen is the next one that
//! wants the lock, which stops the whole core, and for ever if the holder waits on the same one.
//!
//! The names are those of std on Linux, which may change: then the cause is missing from the report, and its frames still tell.

/// How many of the innermost functions are looked at: deeper ones belong to the caller.
pub(super) const DEPTH: usize = 16;

/// What a function's name says, the more telling first.
const CAUSES: &[(&str, &str)] = &[
    ("sync::mutex::", LOCK_OF_STD),
    ("sync::rwlock::", LOCK_OF_STD),
    ("sync::reentrant_lock::", LOCK_OF_STD),
    ("parking_lot::", LOCK_OF_THREADS),
    ("pthread_mutex_lock", LOCK_OF_THREADS),
    ("pthread_rwlock_", LOCK_OF_THREADS),
    (
        "sync::condvar::",
        "it waits for a std::sync::Condvar, which holds up the whole core. coring::coro::sync::Condvar parks the \
         coroutine; coring::sync has what is told by other cores and threads",
    ),
    (
        "sync::once::",
        "it waits for a std::sync::Once, OnceLock or LazyLock. If the coroutine that initialises it waits meanwhile, and is \
         of this core, it waits for ever: use coring::coro::sync::OnceCell",
    ),
    ("std::thread::functions::sleep", SLEEP),
    ("std::thread::sleep", SLEEP),
    (
        "thread_parking::",
        "it parks the thread (std::thread::park, or a channel or a join of threads), which holds up the whole core. Use \
         coring::coro::park, coring::mailbox or coring::sync, or make the call in coring::blocking",
    ),
    (
        "pthread_join",
        "it joins a thread, which holds up the whole core: make the call in coring::blocking",
    ),
];

const LOCK_OF_STD: &str = "it waits for a lock of std. If that is held by a coroutine of this core that waits for something \
    (a std Mutex held across a park), the core waits for ever: release the lock before waiting, or use \
    coring::coro::sync::Mutex or RwLock";
const LOCK_OF_THREADS: &str = "it waits for a lock made for threads. If that is held by a coroutine of this core that \
    waits for something, the core waits for ever: release the lock before waiting, or use coring::coro::sync::Mutex or RwLock";
const SLEEP: &str =
    "it sleeps with std::thread::sleep, which holds up the whole core: use coring::coro::sleep";

/// What these functions, the innermost first, are waiting for; `None` when it is nothing known.
pub(super) fn likely<'a>(functions: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let known = |name: &str| CAUSES.iter().position(|(part, _)| name.contains(part));
    let found = functions.into_iter().take(DEPTH).filter_map(known).min();
    found.map(|row| CAUSES[row].1)
}

#[cfg(test)]
mod tests;
