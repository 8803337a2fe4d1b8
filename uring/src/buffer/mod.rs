//! Memory that the kernel knows before an operation needs it.
//!
//! ```text
//!    ring        the kernel picks a buffer when something arrives: no buffer for an idle socket
//!    registered  pages that are pinned once: no look-up and pinning for each read or write
//! ```
//!
//! Both are pools in one mapping each, and hand out guards that give a buffer back when they are dropped. Neither
//! follows a pointer that it did not make. A pool belongs to one thread, as its ring does.

mod error;
mod registered;
mod ring;

pub use error::BufferError;
pub use registered::{FixedBuffer, RegisteredBuffers};
pub use ring::{BufferRing, BufferRingStats, PooledBuffer};
