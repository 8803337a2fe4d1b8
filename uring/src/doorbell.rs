//! How a thread that has no ring wakes one that sleeps in its own.
//!
//! ```text
//!    kernel 6.13+   ring() -- register op 31, MSG_RING to the ring's fd ----------> CQE in the sleeper's queue
//!    else           ring() -- write(eventfd) --> multishot POLL_ADD on the eventfd -> CQE in the sleeper's queue
//! ```
//!
//! Why nothing is lost. In both ways a ring of the bell becomes a completion of the target ring before `ring`
//! returns or is certain to become one: completions do not vanish, and a ring with a completion does not sleep.
//! If the target reaps the completion while it is busy, it remembers that and spends it on its next
//! [`Wait::Until`](crate::Wait::Until). Several rings may melt into one wake; one ring may cause two.
//!
//! The eventfd is never read. A poll that is multishot fires on every write, and when it ends (the kernel ends
//! multishot operations under pressure) it is armed anew; the counter is not zero then, so arming it fires it at
//! once: at worst a wake too many. An operation without a buffer also means that dropping the ring waits for nothing.
//!
//! A doorbell may outlive its ring, and the descriptor may by then belong to somebody else. So the ring
//! disconnects the bell when it is dropped, under a lock that `ring` holds for reading.
//!
//! Not here: the wake of one ring by another, [`Ring::ring_doorbell`](crate::Ring::ring_doorbell), which goes
//! through the sender's own queue; and when to ring, which is the business of the queue that has something for us.

#![expect(unsafe_code, reason = "sends an SQE without a ring")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::error::fatal;
use crate::{Sqe, op, sys, user_data};

/// Wakes one ring, from any thread. Cheap to clone; may outlive the ring, and then does nothing.
///
/// After [`ring`](Doorbell::ring) has returned, the target's current or next `turn(Wait::Until(..))` returns
/// without waiting for its deadline.
#[derive(Clone, Debug)]
pub struct Doorbell {
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    /// The target ring, `None` once it is gone.
    ring_fd: RwLock<Option<RawFd>>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Message,
    Eventfd(OwnedFd),
    /// A simulated ring looks at this.
    Flag(AtomicBool),
}

impl Doorbell {
    /// A bell that sends messages to `ring_fd`, since 6.13.
    pub(crate) fn by_message(ring_fd: RawFd) -> Doorbell {
        Doorbell::new(ring_fd, Way::Message)
    }

    /// A bell that writes to an eventfd, which the ring has to watch with [`Doorbell::watch`].
    pub(crate) fn by_eventfd(ring_fd: RawFd) -> io::Result<Doorbell> {
        Ok(Doorbell::new(ring_fd, Way::Eventfd(sys::eventfd()?)))
    }

    /// A bell that raises a flag: the simulated ring's.
    pub(crate) fn by_flag(ring_fd: RawFd) -> Doorbell {
        Doorbell::new(ring_fd, Way::Flag(AtomicBool::new(false)))
    }

    fn new(ring_fd: RawFd, way: Way) -> Doorbell {
        Doorbell {
            bell: Arc::new(Bell {
                ring_fd: RwLock::new(Some(ring_fd)),
                way,
            }),
        }
    }

    /// Wakes the ring. Costs a system call, and 10 us or more if a sleeping CPU has to be woken.
    ///
    /// # Source
    /// `IORING_REGISTER_SEND_MSG_RING` (6.13), else eventfd(2).
    pub fn ring(&self) {
        // The lock is held to the end: the descriptor must not change hands between look-up and use.
        let ring_fd = self
            .bell
            .ring_fd
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(ring_fd) = *ring_fd else { return };
        match &self.bell.way {
            Way::Message => send_surely(ring_fd),
            Way::Eventfd(eventfd) => {
                if let Err(error) = sys::eventfd_signal(eventfd) {
                    // A full counter (after 2^64 rings) would be EAGAIN, and the bell audible anyway.
                    fatal(format_args!(
                        "a doorbell's eventfd cannot be written: {error}"
                    ));
                }
            }
            // Pairs with the swap in `take_flag`: what was done before ringing is seen by who finds the flag.
            Way::Flag(flag) => flag.store(true, Ordering::Release),
        }
    }

    /// The target's descriptor, if the ring is still there.
    pub(crate) fn ring_fd(&self) -> Option<RawFd> {
        *self
            .bell
            .ring_fd
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The operation that has to be armed for the bell to be heard, if any.
    pub(crate) fn watch(&self) -> Option<Sqe> {
        let Way::Eventfd(eventfd) = &self.bell.way else {
            return None;
        };
        let readable = libc::POLLIN.cast_unsigned().into();
        Some(
            op::net::poll_multishot(eventfd.as_raw_fd(), readable)
                .user_data(user_data::DOORBELL_POLL),
        )
    }

    /// The ring is going away: from now on the bell is silent.
    pub(crate) fn disconnect(&self) {
        *self
            .bell
            .ring_fd
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the flag of a simulated ring was raised; lowers it.
    pub(crate) fn take_flag(&self) -> bool {
        // Pairs with the store in `ring`.
        matches!(&self.bell.way, Way::Flag(flag) if flag.swap(false, Ordering::Acquire))
    }

    /// Whether the flag of a simulated ring is raised.
    pub(crate) fn has_flag(&self) -> bool {
        // Pairs with the store in `ring`.
        matches!(&self.bell.way, Way::Flag(flag) if flag.load(Ordering::Acquire))
    }
}

/// Sends the wake message until the kernel has taken it: a wake that is lost is a core that hangs.
fn send_surely(ring_fd: RawFd) {
    loop {
        match send(ring_fd) {
            Ok(()) => return,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // No memory for the message now. There is nothing to do but to wait for some.
                Some(libc::ENOMEM | libc::EAGAIN | libc::EOVERFLOW) => {
                    std::thread::sleep(Duration::from_micros(50))
                }
                _ => fatal(format_args!("a sleeping ring cannot be woken: {error}")),
            },
        }
    }
}

/// One attempt to post a wake-up to a ring.
pub(crate) fn send(ring_fd: RawFd) -> io::Result<()> {
    let message = op::msg::message(ring_fd, 0, user_data::WAKE);
    // SAFETY: a data message points at nothing.
    unsafe { sys::send_message(&message) }
}
