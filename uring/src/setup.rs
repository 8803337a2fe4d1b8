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
//! `SQPOLL` is asked for when [`SetupOptions::sq_poll`] says so: the ladder then stands on it, without the two rungs that
//! exclude it (`DEFER_TASKRUN`, `COOP_TASKRUN`). Where the kernel refuses that, the ladder is climbed as without it.
//!
//! Not asked for: `IOPOLL` (cannot do sockets).
//!
//! `ENOMEM` means the limit on locked memory: what becomes of the size then is told in setup/size.rs.
//!
//! The mappings are kept out of forked children (`MADV_DONTFORK`): a ring belongs to one thread.

mod size;

use std::io;
use std::time::Duration;

use io_uring::IoUring;

use crate::error::SetupError;
use crate::{Feature, Features};
use size::{Attempts, Size};

pub(crate) const SETUP_SQPOLL: u32 = 1 << 1;
pub(crate) const SETUP_SQ_AFF: u32 = 1 << 2;
pub(crate) const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
pub(crate) const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
pub(crate) const SETUP_COOP_TASKRUN: u32 = 1 << 8;
pub(crate) const SETUP_TASKRUN_FLAG: u32 = 1 << 9;
pub(crate) const SETUP_R_DISABLED: u32 = 1 << 6;
pub(crate) const SETUP_NO_SQARRAY: u32 = 1 << 16;
const SETUP_ALWAYS: u32 = 1 << 3 | 1 << 4 | 1 << 7; // CQSIZE | CLAMP | SUBMIT_ALL

/// What a ring is made with. The defaults fit one core of a server.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    /// Submission queue entries (default 1024). Operations that do not fit are submitted by an extra enter, so this
    /// bounds a batch and not the number of operations. The kernel rounds up to a power of two. 64 bytes each.
    pub sq_entries: u32,
    /// Completion queue entries (default 4096). Completions that do not fit wait in the kernel, each in an
    /// allocation of its own. The kernel rounds up to a power of two.
    pub cq_entries: u32,
    /// Operations in flight or unclaimed at the same time (default 2^20). Costs 24 bytes of address space each.
    pub max_operations: u32,
    /// Completions of one multishot operation that wait for their owner (default 1024, at least 2). At this number
    /// the kernel is asked to end the operation, so that the rest waits in the socket. 12 bytes each.
    pub multishot_window: u32,
    /// Whether the ring may be smaller where the limit on locked memory does not allow these sizes (default true). Otherwise that
    /// is a [`SetupError::LockedMemory`].
    pub may_shrink: bool,
    /// How many such rings there are to be, side by side (default 1). One that shrinks takes no more than its share, if a page for
    /// each queue is no more: half of the limit is divided among them, the other half is left to buffers and to whatever else
    /// the user's processes lock.
    pub rings: u32,
    /// Have a kernel thread take submissions (default `None`: each batch is submitted by an enter).
    pub sq_poll: Option<SqPoll>,
    /// Have a waiting enter poll the network cards of its sockets (default `None`).
    pub napi: Option<NapiPoll>,
    /// Which kernel features may be used (default all).
    pub features: Features,
}

/// A kernel thread for the ring that looks at the submission queue all the time (`IORING_SETUP_SQPOLL`).
///
/// A submission then needs no system call, as long as the thread is awake. It costs a CPU while the thread looks, and
/// completions are no longer run in batches by the ring's own thread, since it excludes `DEFER_TASKRUN`. Where the kernel
/// refuses it, or [`Feature::SqPoll`] is switched off, the ring is as without it; [`Capabilities`](crate::Capabilities) say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqPoll {
    /// For how long the thread looks at an empty queue before it sleeps, in whole milliseconds, at least one. The next
    /// submission then wakes it with a system call.
    pub idle: Duration,
    /// The CPU that the thread is kept on. `None`: any.
    pub cpu: Option<u32>,
}

/// Busy polling of network cards by a waiting enter (`IORING_REGISTER_NAPI`).
///
/// The sleep of [`Wait::Until`](crate::Wait::Until) begins with looks into the queues of the cards that the ring's sockets
/// receive from, at the price of the CPU that looks. Does nothing for loopback and Unix sockets. Without
/// [`Feature::NapiBusyPoll`] an enter sleeps at once; [`Capabilities`](crate::Capabilities) say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NapiPoll {
    /// For how long a waiting enter polls before it sleeps, in whole microseconds.
    pub longest: Duration,
    /// Whether the cards should leave their interrupts off meanwhile (`SO_PREFER_BUSY_POLL`).
    pub prefer: bool,
}

impl Default for SetupOptions {
    fn default() -> SetupOptions {
        SetupOptions {
            sq_entries: 1024,
            cq_entries: 4096,
            max_operations: 1 << 20,
            multishot_window: 1024,
            may_shrink: true,
            rings: 1,
            sq_poll: None,
            napi: None,
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
    let mut attempts = Attempts::begin(options);
    loop {
        match try_ladders(attempts.size(), options) {
            Ok(made) => return Ok(made),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && attempts.go_on() => {}
            Err(error) => {
                let bytes = attempts.size().bytes();
                return Err(SetupError::classify("io_uring_setup", error, bytes));
            }
        }
    }
}

/// The ladder on `SQPOLL`, if that is wanted, and then the other one.
fn try_ladders(size: Size, options: &SetupOptions) -> io::Result<Made> {
    let poll = options.sq_poll;
    if let Some(poll) = poll.filter(|_| options.features.has(Feature::SqPoll)) {
        let without = [Feature::DeferTaskrun, Feature::CoopTaskrun];
        let features = without
            .into_iter()
            .fold(options.features, Features::without);
        match try_ladder(size, features, Some(poll)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => {}
            made => return made,
        }
    }
    try_ladder(size, options.features, None)
}

/// Every rung from the fullest allowed to the floor.
fn try_ladder(size: Size, allowed: Features, poll: Option<SqPoll>) -> io::Result<Made> {
    let mut features = match poll {
        Some(_) => allowed,
        None => allowed.without(Feature::SqPoll),
    };
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
        match build(size, features, poll) {
            Ok(made) => return Ok(made),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
            Err(error) => return Err(error),
        }
    }
    Err(refused)
}

fn build(size: Size, features: Features, poll: Option<SqPoll>) -> io::Result<Made> {
    let mut builder = IoUring::builder();
    let mut flags = SETUP_ALWAYS;
    builder
        .dontfork()
        .setup_cqsize(size.cq)
        .setup_clamp()
        .setup_submit_all();
    if let Some(SqPoll { idle, cpu }) = poll {
        let milliseconds = u32::try_from(idle.as_millis()).unwrap_or(u32::MAX);
        // Zero is the kernel's default, a second.
        builder.setup_sqpoll(milliseconds.max(1));
        flags |= SETUP_SQPOLL;
        if let Some(cpu) = cpu {
            builder.setup_sqpoll_cpu(cpu);
            flags |= SETUP_SQ_AFF;
        }
    }
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
    let ring = builder.build(size.sq)?;
    let got = [
        Feature::SingleIssuer,
        Feature::DeferTaskrun,
        Feature::CoopTaskrun,
        Feature::NoSqarray,
        Feature::SqPoll,
    ];
    let got = got.into_iter().filter(|feature| features.has(*feature));
    Ok(Made {
        ring,
        flags,
        features: got.fold(Features::NONE, Features::with),
    })
}
