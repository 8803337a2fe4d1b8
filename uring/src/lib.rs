//! The io_uring layer of coring: setup, probing, operations, completion slots, buffers, doorbells.
//!
//! ```text
//!        this thread                        shared memory                        the kernel
//!
//!    submit(sqe, token) --> [ SQE | SQE | SQE ] submission queue --+
//!                                                                  |  enter
//!    turn() ------------------------------------------------------ + ----> network, files, timers, other rings
//!                                                                  |
//!    wake(token)       <--  [ CQE | CQE ] completion queue      <--+
//!    take(op) -> result
//! ```
//!
//! A [`Ring`] belongs to one thread. An operation is a 64-byte [`Sqe`], built by [`op`]; it is queued without a
//! system call, travels with everything else that is queued at the next turn, and its result waits in a
//! slot until its owner takes it. The crate knows nothing about who that owner is: it hands back a
//! [`Token`] when an operation is done. There is no allocation and no look-up by hash for an operation;
//! only the queue of receives that wait for a turn grows with a crowd of them.
//!
//! An operation may also go on and complete many times: [`Ring::submit_multishot`]. And memory may be known to the
//! kernel beforehand, to be picked by it when something arrives ([`Ring::provide_buffers`]) or to be pinned only once
//! ([`Ring::register_buffers`]).
//!
//! # The kernel
//!
//! The floor is Linux 6.1. What newer kernels add is found at setup, listed in [`Capabilities`], and can be switched
//! off by name with [`Features`]; the whole list with fallbacks is [`TABLE`].
//!
//! # The crate
//!
//! Imports go down this list, never up:
//!
//! ```text
//!    sim        SimKernel: a simulated kernel, for tests of everything above this crate
//!    ring       Ring: the contract, the turn, cancelling, draining
//!    kernel     KernelRing: the real backend      flags  what the kernel says without being asked
//!    backend    the seam between ring and kernel
//!    doorbell   Doorbell: waking a ring from any thread
//!    setup      the ladder of setup flags         restrict  what a ring may be asked for
//!    slot       results on their way to their owner, by multishot where there are many of one operation
//!    multishot  queues, what they carry, windows  buffer  memory that the kernel knows beforehand
//!    probe      Features, Capabilities            op     one function for each operation
//!    error      who refused, and what to do       sys    the system calls
//!    user_data  what travels through the kernel   completion  Token, Completion
//! ```

pub use io_uring::squeue::Entry as Sqe;
pub use io_uring::{opcode, types};

mod backend;
pub mod buffer;
mod completion;
mod doorbell;
mod error;
mod flags;
mod kernel;
mod multishot;
pub mod op;
mod portions;
mod prefetch;
mod probe;
mod restrict;
mod ring;
mod setup;
pub mod sim;
mod slot;
mod sys;
mod user_data;

pub use backend::{Backend, SqFull, Wait};
pub use buffer::{
    BufferError, BufferRing, BufferRingStats, FixedBuffer, PooledBuffer, RegisteredBuffers,
};
pub use completion::{CQE_F_BUFFER, CQE_F_MORE, CQE_F_NOTIF, Completion, Token};
pub use doorbell::Doorbell;
pub use error::{DrainTimedOut, SetupError, SubmitError};
pub use kernel::KernelRing;
pub use multishot::{Carries, Event};
pub use probe::{Capabilities, Feature, FeatureInfo, Features, TABLE, UnknownFeature};
pub use ring::{Ring, RingStats};
pub use setup::{NapiPoll, SetupOptions, SqPoll};
pub use sys::monotonic_ns;
pub use user_data::OpId;

pub(crate) use slot::{Slots, SlotsFull};

/// A completion queue entry: what the kernel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cqe {
    /// What was put into the SQE.
    pub user_data: u64,
    /// What the matching system call would have returned, or a negated errno.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}
