//! From options to a ring: the ladder of setup flags.
//!
//! Asked for on every kernel (all older than the floor; the last but one can be switched off):
//! * `CQSIZE`: the completion queue is sized on its own; it must hold bursts of many submissions' completions.
//! * `CLAMP`: sizes above the kernel's maximum are lowered, not refused.
//! * `R_DISABLED`: the ring starts when it has been told what it may be asked for (`restrict.rs`).
//! * `SUBMIT_ALL`: one malformed SQE must not end its batch, and with it the wait that was asked for.
//!
//! Asked for, and dropped from the top when the kernel answers `EINVAL`:
//!
//! ```text
//!    NO_SQARRAY      6.6   SQEs are consumed in ring order: no array of indices between
//!    DEFER_TASKRUN   6.1   completions are run when we enter, in batches, never in the middle of our code;
//!                          needs SINGLE_ISSUER. 165k -> 240k echoes/s at 16 connections
//!    SINGLE_ISSUER   6.0   only this thread submits: the kernel skips locking
//!    COOP_TASKRUN    5.19  without DEFER_TASKRUN: no interrupt to run completions; harmless with it
//!    TASKRUN_FLAG    5.19  the kernel flags deferred completions in shared memory, so that `has_events` sees
//!                          them without a system call. Needs one of the two above, and goes with them
//! ```
//!
//! Not asked for: `SQPOLL` (burns a core, excludes `DEFER_TASKRUN`), `IOPOLL` (cannot do sockets).
//!
//! `ENOMEM` means the limit on locked memory: both sizes are halved and the ladder is tried again, down to 8 and
//! 16 entries. The mappings are kept out of forked children (`MADV_DONTFORK`): a ring belongs to one thread.

use std::io;

use io_uring::IoUring;

use crate::error::SetupError;
use crate::{Feature, Features};

pub(crate) const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
pub(crate) const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
pub(crate) const SETUP_COOP_TASKRUN: u32 = 1 << 8;
pub(crate) const SETUP_TASKRUN_FLAG: u32 = 1 << 9;
pub(crate) const SETUP_R_DISABLED: u32 = 1 << 6;
pub(crate) const SETUP_NO_SQARRAY: u32 = 1 << 16;
const SETUP_ALWAYS: u32 = 1 << 3 | 1 << 4 | 1 << 7; // CQSIZE | CLAMP | SUBMIT_ALL

/// Below these sizes a ring is not worth having.
const SMALLEST: (u32, u32) = (8, 16);

/// What a ring is made with. The defaults fit one core of a server.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    /// Submission queue entries (default 256). Operations that do not fit are submitted by an extra enter, so this
    /// bounds a batch and not the number of operations. The kernel rounds up to a power of two.
    pub sq_entries: u32,
    /// Completion queue entries (default 2048). Completions that do not fit wait in the kernel, each in an
    /// allocation of its own. The kernel rounds up to a power of two.
    pub cq_entries: u32,
    /// Operations in flight or unclaimed at the same time (default 2^20). Costs 24 bytes of address space each.
    pub max_operations: u32,
    /// Completions of one multishot operation that wait for their owner (default 1024, at least 2). At this number
    /// the kernel is asked to end the operation, so that the rest waits in the socket. 12 bytes each.
    pub multishot_window: u32,
    /// Which kernel features may be used (default all).
    pub features: Features,
}

impl Default for SetupOptions {
    fn default() -> SetupOptions {
        SetupOptions {
            sq_entries: 256,
            cq_entries: 2048,
            max_operations: 1 << 20,
            multishot_window: 1024,
            features: Features::ALL,
        }
    }
}

/// A ring as the kernel gave it, and what was got of what was asked for.
pub(crate) struct Made {
    pub(crate) ring: IoUring,
    pub(crate) flags: u32,
    /// The setup features got.
    pub(crate) features: Features,
}

/// Climbs down the ladder, and with `ENOMEM` down in size, until the kernel gives a ring.
pub(crate) fn make(options: &SetupOptions) -> Result<Made, SetupError> {
    let (mut sq, mut cq) = (
        options.sq_entries.max(SMALLEST.0),
        options.cq_entries.max(options.sq_entries).max(SMALLEST.1),
    );
    loop {
        match try_ladder(sq, cq, options.features) {
            Ok(made) => return Ok(made),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && (sq, cq) != SMALLEST => {
                sq = (sq / 2).max(SMALLEST.0);
                cq = (cq / 2).max(SMALLEST.1);
            }
            Err(error) => {
                return Err(SetupError::classify(
                    "io_uring_setup",
                    error,
                    ring_bytes(sq, cq),
                ));
            }
        }
    }
}

/// Every rung from the fullest allowed to the floor.
fn try_ladder(sq: u32, cq: u32, allowed: Features) -> io::Result<Made> {
    let mut features = allowed;
    if !features.has(Feature::SingleIssuer) {
        features = features.without(Feature::DeferTaskrun);
    }
    let rungs = [
        None,
        Some(Feature::NoSqarray),
        Some(Feature::DeferTaskrun),
        Some(Feature::SingleIssuer),
        Some(Feature::CoopTaskrun),
    ];
    let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
    for dropped in rungs {
        if let Some(feature) = dropped {
            if !features.has(feature) {
                continue;
            }
            features = features.without(feature);
        }
        match build(sq, cq, features) {
            Ok(made) => return Ok(made),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn build(sq: u32, cq: u32, features: Features) -> io::Result<Made> {
    let mut builder = IoUring::builder();
    let mut flags = SETUP_ALWAYS;
    builder
        .dontfork()
        .setup_cqsize(cq)
        .setup_clamp()
        .setup_submit_all();
    if features.has(Feature::SingleIssuer) {
        builder.setup_single_issuer();
        flags |= SETUP_SINGLE_ISSUER;
    }
    if features.has(Feature::DeferTaskrun) {
        builder.setup_defer_taskrun();
        flags |= SETUP_DEFER_TASKRUN;
    }
    if features.has(Feature::CoopTaskrun) {
        builder.setup_coop_taskrun();
        flags |= SETUP_COOP_TASKRUN;
    }
    if flags & (SETUP_DEFER_TASKRUN | SETUP_COOP_TASKRUN) != 0 {
        builder.setup_taskrun_flag();
        flags |= SETUP_TASKRUN_FLAG;
    }
    if features.has(Feature::NoSqarray) {
        builder.setup_no_sqarray();
        flags |= SETUP_NO_SQARRAY;
    }
    if features.has(Feature::Restrictions) {
        builder.setup_r_disabled();
        flags |= SETUP_R_DISABLED;
    }
    let ring = builder.build(sq)?;
    let got = [
        Feature::SingleIssuer,
        Feature::DeferTaskrun,
        Feature::CoopTaskrun,
        Feature::NoSqarray,
    ];
    let got = got.into_iter().filter(|feature| features.has(*feature));
    Ok(Made {
        ring,
        flags,
        features: got.fold(Features::NONE, Features::with),
    })
}

/// What a ring of this size is charged for: SQEs of 64 bytes, CQEs of 16, indices and heads; in whole pages.
fn ring_bytes(sq: u32, cq: u32) -> u64 {
    let page = |bytes: u64| bytes.next_multiple_of(4096);
    page(u64::from(sq) * 64) + page(u64::from(cq) * 16 + u64::from(sq) * 4 + 320)
}
