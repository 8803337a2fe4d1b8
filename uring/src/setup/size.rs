//! How large a ring is where the limit on locked memory counts.
//!
//! `ENOMEM` means the limit on locked memory. Where the ring may be smaller, both sizes are halved until it is within its share
//! of the limit ([`SetupOptions::rings`]), and further with each `ENOMEM`, down to a page for each queue. Not before: there are
//! kernels that count nothing.
//!
//! The kernel gives the memory of a closed ring back later, from a thread of its own (20 ms, seconds on a busy machine): who opens
//! a ring right after others were closed, as a server that was started anew, is given a while before the answer counts. Not
//! where the limit is too small for what is asked; a short one where it is just large enough; a long one where half of it is, or
//! where nothing smaller would do. The half of a ring for which the other half was refused is given back as late, so that attempts
//! take memory from each other: the pauses between them become longer.

use std::time::Duration;

use super::SetupOptions;
use crate::sys;

/// How long is waited for the memory of rings that were closed, and the pauses between attempts.
const SHORT_WAIT: Duration = Duration::from_millis(200);
const LONG_WAIT: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(128);

impl SetupOptions {
    /// The same with the share of each ring as its size, and less where that is not to be had: for who has learnt that the limit
    /// on locked memory does not allow as many rings as asked for, and begins again.
    #[must_use]
    pub fn within_share(&self) -> SetupOptions {
        let size = Size::asked(self);
        let size = size.within(share_of_limit(self));
        SetupOptions {
            sq_entries: size.sq,
            cq_entries: size.cq,
            may_shrink: true,
            ..self.clone()
        }
    }
}

/// The entries of both queues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) sq: u32,
    pub(super) cq: u32,
}

impl Size {
    /// Below this a ring is not worth having.
    const SMALLEST: Size = Size { sq: 8, cq: 16 };
    /// The kernel lowers larger ones to this (io_uring/io_uring.h, `IORING_MAX_ENTRIES`).
    const LARGEST: Size = Size {
        sq: 32 << 10,
        cq: 64 << 10,
    };

    fn asked(options: &SetupOptions) -> Size {
        let (sq, cq) = (options.sq_entries, options.cq_entries);
        Size {
            sq: sq.clamp(Self::SMALLEST.sq, Self::LARGEST.sq),
            cq: cq.max(sq).clamp(Self::SMALLEST.cq, Self::LARGEST.cq),
        }
    }

    fn halved(self) -> Size {
        Size {
            sq: (self.sq / 2).max(Self::SMALLEST.sq),
            cq: (self.cq / 2).max(Self::SMALLEST.cq),
        }
    }

    /// Halved until it takes no more than so many bytes, as far as that helps.
    fn within(self, bytes: u64) -> Size {
        let mut size = self;
        while size.bytes() > bytes && !size.takes_least() {
            size = size.halved();
        }
        size
    }

    /// Whether a smaller one would take as much: a page for each queue.
    fn takes_least(self) -> bool {
        self.bytes() == Self::SMALLEST.bytes()
    }

    /// What a ring of this size is charged for: SQEs of 64 bytes, CQEs of 16, indices and heads; in whole pages.
    pub(super) fn bytes(self) -> u64 {
        let (sq, cq) = (
            u64::from(self.sq).next_power_of_two(),
            u64::from(self.cq).next_power_of_two(),
        );
        let page = |bytes: u64| bytes.next_multiple_of(4096);
        page(sq * 64) + page(cq * 16 + sq * 4 + 320)
    }
}

/// What all rings may be charged together, and whatever else is locked.
fn limit() -> u64 {
    sys::soft_limit(libc::RLIMIT_MEMLOCK).unwrap_or(u64::MAX)
}

/// What each of the rings may take of it.
fn share_of_limit(options: &SetupOptions) -> u64 {
    limit() / 2 / u64::from(options.rings.max(1))
}

/// The sizes that are tried, one after the other or again after a while.
pub(super) struct Attempts<'a> {
    options: &'a SetupOptions,
    size: Size,
    begin_ns: u64,
    pause: Duration,
}

impl<'a> Attempts<'a> {
    pub(super) fn begin(options: &'a SetupOptions) -> Attempts<'a> {
        Attempts {
            options,
            size: Size::asked(options),
            begin_ns: sys::monotonic_ns(),
            pause: FIRST_PAUSE,
        }
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// There was no memory: waits a moment, or goes on to a smaller size. Whether there is another attempt.
    pub(super) fn go_on(&mut self) -> bool {
        let waited = Duration::from_nanos(sys::monotonic_ns() - self.begin_ns);
        if waited < self.patience() {
            sys::nap(self.pause);
            self.pause = LONGEST_PAUSE.min(2 * self.pause);
            return true;
        }
        if !self.options.may_shrink || self.size.takes_least() {
            return false;
        }
        self.size = self.size.halved().within(share_of_limit(self.options));
        true
    }

    /// For how long a refusal of this size may be one for memory that is about to come back.
    fn patience(&self) -> Duration {
        let bytes = self.size.bytes();
        let is_last = self.options.may_shrink && self.size.takes_least();
        if bytes > limit() {
            Duration::ZERO
        } else if is_last || bytes <= share_of_limit(self.options) {
            LONG_WAIT
        } else if u64::from(self.options.rings) * bytes <= limit() {
            SHORT_WAIT
        } else {
            Duration::ZERO
        }
    }
}
