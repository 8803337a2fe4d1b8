//! Stackful coroutines for one core: stacks, switch, scheduler, cancellation, timers. Knows no kernel.
//!
//! A coroutine is a closure with a stack of its own. It runs until it waits, and a wait is a function call that
//! returns later: no `async`, no `Pin`, no second kind of function. This crate is the machinery for one core; the
//! package `coring` drives one scheduler per CPU with a ring, and re-exports this crate as `coring::coro`.
//!
//! ```
//! use coring_coro as coro;
//! use std::time::Duration;
//!
//! let sum = coro::testing::run(|| {
//!     let slow = coro::spawn(|| { coro::sleep(Duration::from_millis(10)); 40 });
//!     let fast = coro::spawn(|| 2);
//!     slow.join().unwrap() + fast.join().unwrap()
//! });
//! assert_eq!(sum, 42);
//! ```
//!
//! # Life of a coroutine
//!
//! ```text
//!              spawn            run loop switches in            closure returns, panics,
//!   (vacant) --------> Ready ------------------------> Running -------- is unwound -------> Finished
//!      ^                 ^                              |   |                                  |
//!      |                 |   yield_now                  |   |                                  |
//!      |                 +------------------------------+   |  park, sleep, join, I/O          |
//!      |                 |   wake                           v                                  |
//!      |                 +------------------------------ Parked                                |
//!      +---------------------------- joined, or its handle dropped ----------------------------+
//! ```
//!
//! # What there is
//!
//! - Spawning: [`spawn()`], [`Builder`], [`JoinHandle`], [`local!`]
//! - Structure: [`scope()`], [`join2`], [`join_all`], [`race`]
//! - Time: [`sleep`], [`timeout`], [`deadline()`], [`interval`], [`schedule_after`], [`checkpoint`]
//! - Waiting for each other: [`sync`], [`channel`], [`select!`]
//! - Sharing a core: [`Group`]s with weights and a latency class
//! - Looking inside: [`dump()`], [`stack_usage`], [`SchedulerStats`]
//!
//! # Features
//!
//! - `jump`: switches by jumps instead of corosensei's calls and returns, on x86-64. A wait inside of real functions costs a third to a
//!   half less, one that is inlined into its coroutine 1 ns more. Off by default: the code is young.
//! - `sanitizer`: tells AddressSanitizer about switches; for a nightly toolchain. Switches off `jump`.
//!
//! # Why `spawn` is safe
//!
//! - The closure is `'static`; what is borrowed across coroutines is borrowed by calls that block.
//! - A coroutine never changes its thread, so it may hold what is not `Send`, and thread-locals stay valid.
//! - The scheduler owns every stack. No handle can free or leak a live one.
//! - A stack is neither unwound nor freed while an operation may still touch it: waits end only after their
//!   token can no longer be used ([`wait`]).
//! - No switch happens while a panic unwinds, since std counts panics per thread.
//!
//! # Inside
//!
//! From the outside in: `testing`; `periodic`, `structure`, `select`; `channel`; `sync`; `scope`, `dump`, `running`, `join`,
//! `suspend`, `local`; `spawn`; `wait`, `deadline` and `cancel`, which know each other; `scheduler` with `coroutine`, which
//! is its record, and `switch`; `stack`, `timer`, `histogram`, `payload`, `driver`, `prefetch`. There are no atomics, no locks, no clock and no descriptors in this crate.

mod cancel;
pub mod channel;
mod coroutine;
mod deadline;
mod driver;
mod dump;
mod histogram;
mod instant;
mod join;
mod local;
mod payload;
mod periodic;
mod prefetch;
mod running;
mod scheduler;
mod scope;
pub mod select;
mod spawn;
mod stack;
mod structure;
mod suspend;
mod switch;
pub mod sync;
pub mod testing;
pub mod timer;
pub mod wait;

pub use cancel::{is_cancellation, is_cancelled, shield};
pub use deadline::{Elapsed, deadline, timeout};
pub use driver::Driver;
pub use dump::{Activity, CoroutineInfo, dump, dump_with_backtraces, stack_usage};
pub use histogram::{Histogram, Tally};
pub use instant::Instant;
pub use join::{JoinError, JoinHandle};
pub use local::{LocalAccessError, LocalKey};
pub use payload::PanicPayload;
pub use periodic::{
    Interval, MissedTicks, Schedule, interval, schedule_after, schedule_at_fixed_rate,
    schedule_with_fixed_delay,
};
pub use running::{Running, with_running};
pub use scheduler::{
    Group, GroupConfig, GroupStats, Scheduler, SchedulerConfig, SchedulerStats, Turn, group_stats,
};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use spawn::{Builder, SpawnError, spawn, try_spawn};
pub use stack::config::StackConfig;
pub use stack::usage::SiteUsage;
pub use structure::{join_all, join2, race, race_all};
pub use suspend::{
    Coroutine, checkpoint, current, current_id, current_id_word, park, park_timeout, sleep,
    sleep_until, try_current, yield_now,
};
