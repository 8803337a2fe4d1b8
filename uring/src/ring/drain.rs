//! How a ring ends: with nothing in flight.
//!
//! What the kernel works on may use memory of others, so it has to be waited for: by itself ([`Ring::settle`]) or after
//! a cancel ([`Ring::drain`]). Dropping a ring before that ends the process.

use std::io;

use super::Ring;
use crate::error::{DrainTimedOut, fatal};
use crate::{Backend, Token, Wait};

/// While draining, cancels are repeated this often: an operation may have been between two states.
const DRAIN_STEP_NS: u64 = 10_000_000;

impl<B: Backend> Ring<B> {
    /// Waits until nothing is in flight, without cancelling anything: for closes and the like, which end by themselves
    /// and must not be cancelled. Hands out tokens as in a turn. Whether it is empty; not so at the deadline.
    ///
    /// # Errors
    /// As [`turn`](Ring::turn).
    pub fn settle(&mut self, deadline_ns: u64, wake: &mut impl FnMut(Token)) -> io::Result<bool> {
        while self.in_flight() != 0 {
            if self.backend.now_ns() >= deadline_ns {
                return Ok(false);
            }
            self.turn(Wait::Until(Some(deadline_ns)), wake)?;
        }
        Ok(true)
    }

    /// Cancels everything and waits until nothing is in flight, handing out tokens as in a turn.
    ///
    /// # Errors
    /// [`DrainTimedOut`] as an [`io::Error`] of kind `TimedOut` at the deadline (in nanoseconds of the backend's
    /// clock); otherwise as [`turn`](Ring::turn).
    pub fn drain(&mut self, deadline_ns: u64, wake: &mut impl FnMut(Token)) -> io::Result<()> {
        while self.in_flight() != 0 {
            let now = self.backend.now_ns();
            if now >= deadline_ns {
                let timed_out = DrainTimedOut {
                    in_flight: self.in_flight(),
                };
                return Err(io::Error::new(io::ErrorKind::TimedOut, timed_out));
            }
            // What found no room is asked for again below; an error that has no cure comes from the turn.
            let _ = self.cancel_all();
            self.turn(
                Wait::Until(Some(deadline_ns.min(now + DRAIN_STEP_NS))),
                wake,
            )?;
        }
        Ok(())
    }
}

impl<B: Backend> Drop for Ring<B> {
    /// Aborts the process if operations are in flight: the kernel would go on writing into memory whose owner
    /// believes it has it back. [`Ring::drain`] first. What completions carry that nobody took is given back.
    fn drop(&mut self) {
        if self.in_flight() != 0 {
            fatal(format_args!(
                "a ring was dropped while operations were in flight ({}), whose memory the kernel still uses; \
                 cancel and reap them first (Ring::drain)",
                self.in_flight()
            ));
        }
        self.abandon_all();
    }
}
