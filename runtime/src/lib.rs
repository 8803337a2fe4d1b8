//! A thread-per-core io_uring runtime with stackful coroutines.
//!
//! You write blocking-looking code in closures. Each core runs one scheduler that switches between coroutines with
//! stacks of their own and sends every file and socket operation through its own io_uring. Cores share nothing and
//! talk through mailboxes.
//!
//! ```no_run
//! use coring::{coro, net::TcpListener};
//! use std::io::{Read, Write};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     coring::Runtime::new()?.run(|| {
//!         let listener = TcpListener::bind("127.0.0.1:7777")?;
//!         loop {
//!             let (mut stream, _peer) = listener.accept()?;
//!             coro::spawn(move || {
//!                 let mut buffer = [0; 4096];
//!                 while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
//!                     if stream.write_all(&buffer[..bytes]).is_err() {
//!                         return;
//!                     }
//!                 }
//!             });
//!         }
//!     })
//! }
//! ```
//!
//! # Map
//!
//! | for | look at |
//! |---|---|
//! | starting, limits | [`Runtime`], [`Builder`] |
//! | ending in good order | [`shutdown()`], [`shutdown_on_signals`], [`Runtime::run_to_end`] |
//! | coroutines: spawn, join, cancel, sleep | [`coro`] |
//! | sockets, files | [`net`], [`fs`] |
//! | logging | [`logging`], [`logger`] |
//! | other cores | [`mailbox()`], [`spawn_on`], [`call`], [`call_all`], [`map_reduce`] |
//! | a value on each core; locks between cores | [`Sharded`]; [`sync`] |
//! | futures | [`coro::block_on`] |
//! | calls that would block a core | [`blocking()`] |
//! | cancelled I/O; pipes, stdin, foreign descriptors | [`io::is_cancelled`]; [`io`] |
//! | child processes, signals | [`process`], [`signal`] |
//! | what the cores are doing | [`Runtime::stats`], [`metrics`], [`dump_all`], [`dump_on_signal`], [`Builder::stall_detector`] |
//! | kernel features, what a ring can do | [`uring`] |
//!
//! Inside, imports go one way: `runtime` -> `builder` -> `process`, `signal` -> `net`, `fs` -> `io` -> `per_core` <->
//! `mailbox`, `blocking`.

mod blocking;
mod builder;
pub mod fs;
mod future;
pub mod io;
pub mod logging;
pub mod mailbox;
pub mod metrics;
pub mod net;
mod per_core;
pub mod process;
mod report;
mod runtime;
mod sharded;
mod shutdown;
pub mod signal;
pub mod sync;
mod watch;

/// Coroutines: spawn, join, cancel, sleep, and what lets them work together on one core.
///
/// This is the crate `coring-coro`, which knows no other core, and [`block_on`](coro::block_on), whose wakers do.
pub mod coro {
    pub use crate::future::block_on;
    pub use coring_coro::*;
}
pub use coring_logger as logger;
pub use coring_uring as uring;

pub use blocking::{
    BlockingError, BlockingStats, TrySpawnBlockingError, blocking, blocking_stats,
    try_spawn_blocking,
};
pub use builder::Builder;
pub use mailbox::{
    RemoteError, RemoteHandle, TrySpawnOnError, call, call_all, mailbox, map_reduce, spawn_on,
    spawn_on_each, try_spawn_on,
};
pub use per_core::CoreStats;
pub use runtime::{Runtime, StartError};
pub use sharded::Sharded;
pub use shutdown::{
    Ended, ShutdownHandle, is_shutting_down, shutdown, shutdown_on_signals, shutdown_requested,
};
pub use watch::dump_on_signal;

/// The number of the core that the caller runs on; `None` outside a runtime.
#[must_use]
pub fn current_core() -> Option<usize> {
    per_core::current().map(per_core::Engine::index)
}

/// How many cores the caller's runtime has.
///
/// # Panics
///
/// Outside a runtime.
#[must_use]
pub fn cores() -> usize {
    per_core::require_current("cores").cluster().cores()
}

/// What the caller's core has counted; `None` outside a runtime.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     coring::coro::sleep(std::time::Duration::from_millis(1));
///     assert!(coring::stats().unwrap().ring.enters > 0);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[must_use]
pub fn stats() -> Option<CoreStats> {
    per_core::current().map(per_core::Engine::stats)
}

/// What every coroutine of every core is doing: [`coro::dump`] of each, in the order of the cores.
///
/// # Parks
///
/// As [`Runtime::stats`].
///
/// # Errors
///
/// As [`call_all`].
///
/// # Panics
///
/// Outside a runtime.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     for (core, coroutines) in coring::dump_all().unwrap().iter().enumerate() {
///         coroutines.iter().for_each(|coroutine| println!("core {core}: {coroutine}"));
///     }
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
pub fn dump_all() -> Result<Vec<Vec<coro::CoroutineInfo>>, RemoteError> {
    call_all(|_| coro::dump())
}
