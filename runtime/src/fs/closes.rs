//! Closes that nobody can tell, done together before the core's next enter.
//!
//! Who opens, reads and closes many files at a time has many to close at a time, and their descriptors lie side by side, since the
//! kernel gives out the lowest. One close_range(2) closes such a run:
//!
//! ```text
//!   drop, drop, drop --> 11 14 12 13 20 --- the next enter is due ---> 11..=14: close_range    20: IORING_OP_CLOSE
//! ```
//!
//! In the ring each would be an operation, and the kernel lets go of the files of a batch at its end: those that are opened in the
//! same batch find no memory that is warm.
//!
//! A run holds nothing but what waits here, so nobody else's descriptor is closed. The call closes on the core's own thread, as the
//! ring does, except where a close waits for a server, which the ring leaves to a worker: nothing is closed this way while a file
//! system is mounted whose closes may (closing.rs).
#![expect(unsafe_code, reason = "closes descriptors that it owns")]

use super::closing::a_server_is_mounted;
use coring_uring::{Ring, monotonic_ns, op};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// How many wait, at most: so many descriptors are still taken although their files are gone.
pub(super) const MOST: usize = 128;
/// For how long the mounts are believed to be as they were.
const BELIEVED_NS: u64 = 1_000_000_000;

/// A core's files that are to be closed. Closes what is left when dropped.
#[derive(Debug, Default)]
pub(crate) struct Closes {
    waiting: RefCell<Vec<OwnedFd>>,
    /// Whether runs may be closed by a call, and until when this is believed.
    direct: Cell<(bool, u64)>,
}

impl Closes {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Adds one. How many there are now.
    #[inline]
    pub(super) fn add(&self, fd: OwnedFd) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push(fd);
        waiting.len()
    }

    /// Closes runs, and queues the others.
    #[inline]
    pub(crate) fn begin(&self, ring: &mut Ring) {
        if self.len() > 0 {
            self.begin_some(ring);
        }
    }

    #[inline(never)]
    fn begin_some(&self, ring: &mut Ring) {
        let mut waiting = self.waiting.borrow_mut();
        let direct = waiting.len() > 1 && self.may_be_direct();
        if direct {
            waiting.sort_unstable_by_key(AsRawFd::as_raw_fd);
        }
        let mut rest = waiting.as_slice();
        while let [first, ..] = rest {
            let (run, others) = rest.split_at(run_length(rest));
            let is_closed = direct && run.len() > 1 && close_run(first.as_raw_fd(), run.len());
            if !is_closed {
                run.iter().for_each(|fd| queue(fd.as_raw_fd(), ring));
            }
            rest = others;
        }
        // All are closed or the ring's.
        waiting.drain(..).for_each(|fd| _ = fd.into_raw_fd());
    }

    fn may_be_direct(&self) -> bool {
        let (direct, until_ns) = self.direct.get();
        let now_ns = monotonic_ns();
        if now_ns < until_ns {
            return direct;
        }
        let direct = !a_server_is_mounted();
        self.direct.set((direct, now_ns + BELIEVED_NS));
        direct
    }
}

/// How many at the front have numbers that follow each other.
fn run_length(sorted: &[impl AsRawFd]) -> usize {
    let mut pairs = sorted.windows(2);
    let ends = pairs.position(|pair| pair[1].as_raw_fd() != pair[0].as_raw_fd() + 1);
    ends.map_or(sorted.len(), |last| last + 1)
}

/// Whether so many were closed, from `first` on. A kernel before Linux 5.9 has no such call, and a filter may forbid it.
fn close_run(first: RawFd, count: usize) -> bool {
    let first = libc::c_long::from(first);
    let last = first + libc::c_long::try_from(count).expect("as many as there are descriptors") - 1;
    // SAFETY: the caller owns each of these descriptors, and forgets them.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

/// Leaves a descriptor to the ring, or closes it if there is no room.
fn queue(fd: RawFd, ring: &mut Ring) {
    // SAFETY: a close points at nothing.
    if unsafe { ring.submit_detached(op::fs::close(fd)) }.is_err() {
        // SAFETY: the caller owns the descriptor, and forgets it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Goal: runs are the whole, without gaps inside, and as long as they can be.
        #[test]
        fn runs_have_no_gaps(numbers in prop::collection::btree_set(3..60_i32, 0..50)) {
            let sorted: Vec<RawFd> = numbers.iter().copied().collect();
            let mut rest = sorted.as_slice();
            let mut seen = BTreeSet::new();
            while let [first, ..] = rest {
                let (run, others) = rest.split_at(run_length(rest));
                let last = run[run.len() - 1];
                prop_assert!((*first..=last).eq(run.iter().copied()));
                prop_assert!(!numbers.contains(&(last + 1)));
                seen.extend(run);
                rest = others;
            }
            prop_assert_eq!(seen, numbers);
        }
    }
}
