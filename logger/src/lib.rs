//! A logger that a latency-sensitive server leaves on: nothing on the hot path, nothing lost in a crash.
//!
//! ```text
//!   info!("order id={} price={}", id, price)
//!     |  one load: is this call site on?            callsite.rs, filter.rs
//!     |  counter + raw bytes of id and price        clock.rs, encode.rs, record.rs
//!     v
//!   [ ring of this core ]  [ ring of core 1 ]  [ ring of a thread ]     ring.rs, memory.rs, producer.rs
//!     \______________________|______________________/
//!                            v
//!              drain: merge by time, format, fill blocks                drain.rs, value.rs, plan.rs, show.rs, line.rs, format/
//!                            v
//!              file, stderr, memory, syslog, yours                      sink/
//! ```
//!
//! # What a line costs the caller
//! No lock, no system call, no allocation, no formatting, no cache line that another core writes in the common case: it reads the
//! processor's counter and copies the arguments. All of that stands at the call site, in no call, as long as texts have 4 to 16 bytes; longer ones
//! are copied out of line, for some nanoseconds more. Arguments of types that are not [`Loggable`], and lines that come through
//! the `log` crate, are formatted at the call instead. An AMD EPYC (Zen 4) guest with 2 CPUs, for `order id={} price={} sym={}` with a u64, an f64
//! and a text of 12 bytes, medians net of the empty loop (suite `log` of the harness; the two formatted ones: `cargo bench -p coring-logger`, Zen 5):
//!
//! | a line that ...                                    | ns   |
//! |----------------------------------------------------|------|
//! | is turned off                                      | 0.3  |
//! | reads the counter (which alone, with a copy of the same bytes, takes 8.3) | 9.6 |
//! | takes the time of its turn ([`Builder::turn_time`]; the copy alone takes 3.6) | 5.4 |
//! | comes after 2 ms of something else, 20 at once (counter and copy: 15) | 14 |
//! | is formatted at the call (`{id}` captured inline)  | 82   |
//! | comes through the `log` crate                      | 114  |
//!
//! # What it takes
//! The same line takes 48 bytes in a ring and in a binary file ([`Binary`]), 104 as text when a thread logs it, 136 when a coroutine does,
//! whose origin is longer. A core's ring is 1 MiB and a thread's 64 KiB ([`Builder::core_ring_bytes`], [`Builder::thread_ring_bytes`]), each with
//! 4 KiB before it. A quarter of a core's ring is memory from the start, the rest when the lines come there. An output holds a block of
//! 320 KiB, and up to 4 MiB while its sink fails. A process with one core that logged four million lines grew by 2.0 (binary) and 2.1 MiB
//! (text) at its peak, ring included.
//!
//! # When a ring is full
//! The line is dropped, and counted by level, exactly; the next line that gets through is preceded by one that says how many are missing and
//! since when. The last eighth of a ring is kept for warnings and errors. [`Full::Wait`] parks the coroutine instead. A ring
//! never grows, and no call ever spins: the drain may be waiting for the same core.
//!
//! # Order
//! Lines of one core, or thread, stand in the order in which they were logged. Between them time decides, exact for turns
//! no longer than [`Builder::window`].
//!
//! # Examples
//! ```
//! use coring_logger::{Filter, Logger, info, debug};
//!
//! let (builder, lines) = Logger::builder()
//!     .filter("info,my_server::net=debug".parse::<Filter>()?)
//!     .pattern("{level} {message}{fields}")
//!     .memory();
//! let logger = builder.start()?;
//!
//! info!(user = "ann", attempt = 2; "login took {:.1} ms", 1.25);
//! debug!("not of interest here");
//!
//! logger.flush()?;
//! assert_eq!(lines.text(), "INFO  login took 1.2 ms user=ann attempt=2\n");
//! logger.shutdown();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inside
//! Imports go one way: `record`, `append` <- `encode`, `value` <- `plan`, `show`, `line` <- `format`, `sink` <- `drain` <- `logger`; and
//! `cache`, `ring` <- `memory` <- `producer` <- `expanded` (what the macros call). `state` is what both sides share.

#[macro_use]
mod macros;

#[doc(hidden)]
#[path = "expanded.rs"]
pub mod __private;
mod append;
mod cache;
mod callsite;
mod clock;
mod context;
mod crash;
mod decode;
mod drain;
mod encode;
mod facade;
mod fatal;
mod filter;
mod format;
mod hangup;
mod line;
mod logger;
mod memory;
mod plan;
mod producer;
mod record;
mod recover;
mod ring;
mod show;
mod sink;
mod state;
mod system;
#[cfg(feature = "tracing")]
mod tracing;
mod value;

use __private as expanded;

pub use context::{ContextId, ContextWord, Hooks, NameTaker, with_context};
pub use decode::{LogReader, TornAt};
pub use drain::{Drain, Progress, SyncPolicy};
pub use encode::{Arg, Loggable, MAX_TEXT_BYTES, Name};
pub use filter::{Filter, ParseFilterError};
pub use format::{Binary, Format, Json, ParsePatternError, Text};
pub use line::{Line, escape};
pub use log::{Level, LevelFilter, STATIC_MAX_LEVEL};
pub use logger::{Builder, Logger, Stats};
pub use producer::{CoreRing, Entered, dropped_here, register_core};
pub use recover::Recovered;
pub use sink::{Datagram, File, FileOptions, Journal, Memory, MemoryLines, Sink, Stderr, Syslog};
pub use state::Full;
#[cfg(feature = "tracing")]
pub use tracing::TracingLayer;
pub use value::{Nested, Torn, Value, Values};

/// The counter that time stamps are made of, for [`CoreRing::set_turn_ticks`].
#[must_use]
#[inline]
pub fn ticks() -> u64 {
    clock::ticks()
}

/// Makes the calling thread's ring now, instead of at its first line: that costs a few microseconds. Returns false if there is no logger,
/// or no ring left.
pub fn warm_up() -> bool {
    state::is_running() && producer::attach()
}
