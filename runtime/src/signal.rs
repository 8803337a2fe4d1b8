//! Signals as something to wait for: [`ctrl_c`], [`Signals`].
//!
//! ```text
//!   signal --> handler: one byte, its number, into a pipe --> read through the ring --> Signals::recv
//!                |      the pipe is full: a bit in a set  --> looked at first -----------^
//!                `--> the handler that was there before, if any
//! ```
//!
//! The handler is installed by signal-hook-registry, which calls what was installed before it, so handlers of others
//! stay intact. It does one write(2) to a pipe that never blocks. When that is full, after 65,536 signals that nobody has taken,
//! those that come are counted no more, as the kernel does with those that come while the same one is pending: what they say
//! is "at least one has come".
//!
//! The set is written before the pipe is tried once more: either there is room now, and a byte without a number has the reader
//! look, or the pipe was full after the set was written, and who reads it looks after that.
//!
//! A process that was forked from this one has the handlers and the pipe until it executes another program. They do nothing there:
//! what the child is sent is not told here.
#![expect(
    unsafe_code,
    reason = "a signal handler, which does nothing but write(2)"
)]

use crate::io::PipeReader;
use signal_hook_registry::{FORBIDDEN, SigId, register, unregister};
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of signals. They are caught while it lives, and do not have their default effect.
///
/// After it was dropped a signal that nobody else handles is ignored: the default action is not put back.
///
/// # Examples
///
/// ```
/// use coring::signal::Signals;
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let mut signals = Signals::new([libc::SIGUSR1])?;
///     # let raise = |signal| {
///     #     std::process::Command::new("kill")
///     #         .args([format!("-{signal}"), std::process::id().to_string()]).status()
///     # };
///     raise(libc::SIGUSR1)?;
///     assert_eq!(signals.recv()?, libc::SIGUSR1);
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Signals {
    pipe: PipeReader,
    told: Arc<Told>,
    handlers: Vec<SigId>,
}

impl Signals {
    /// Catches these signals (`libc::SIGTERM`, ...) from now on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for SIGKILL, SIGSTOP, SIGILL, SIGFPE and SIGSEGV, which cannot be waited for, else as
    /// sigaction(2).
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let (reader, teller) = Teller::new()?;
        let told = Arc::new(Told {
            teller,
            uncounted: AtomicU64::new(0),
        });
        let mut this = Self {
            pipe: reader.into(),
            told: Arc::clone(&told),
            handlers: Vec::new(),
        };
        for signal in signals {
            let number = u8::try_from(signal).ok();
            let Some(number) = number.filter(|_| signal > 0 && !FORBIDDEN.contains(&signal)) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("signal {signal} cannot be waited for"),
                ));
            };
            let told = Arc::clone(&told);
            // SAFETY: the handler calls getpid(2) and write(2) only, puts errno back, and sets a bit.
            let handler = unsafe { register(signal, move || told.tell(number)) }?;
            this.handlers.push(handler);
        }
        Ok(this)
    }

    /// Waits for the next signal and returns its number.
    ///
    /// # Parks
    ///
    /// Until one comes. Those that came since the last call are there at once.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds; no signal is lost.
    ///
    /// # Errors
    ///
    /// As read(2).
    pub fn recv(&mut self) -> io::Result<i32> {
        let mut number = [LOOK];
        while number == [LOOK] {
            if let Some(signal) = self.told.take_uncounted() {
                return Ok(signal);
            }
            self.pipe.read_exact(&mut number)?;
        }
        Ok(i32::from(number[0]))
    }
}

/// Not the number of a signal.
const LOOK: u8 = 0;

/// What the handlers write to.
struct Told {
    teller: Teller,
    /// Signals that found no room in the pipe, each a bit.
    uncounted: AtomicU64,
}

impl Told {
    /// The handler.
    fn tell(&self, number: u8) {
        if self.teller.tell(number) {
            return;
        }
        // Before the second attempt, and seen by who reads after it: see the head.
        self.uncounted.fetch_or(1 << (number - 1), Ordering::SeqCst);
        self.teller.tell(LOOK);
    }

    fn take_uncounted(&self) -> Option<i32> {
        let set = self.uncounted.load(Ordering::SeqCst);
        let lowest = set & set.wrapping_neg();
        self.uncounted.fetch_and(!lowest, Ordering::SeqCst);
        (set != 0).then(|| lowest.trailing_zeros().cast_signed() + 1)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals")
            .field("handlers", &self.handlers.len())
            .finish()
    }
}

/// The end of a pipe that handlers write to.
#[derive(Debug)]
pub(crate) struct Teller {
    writer: OwnedFd,
    /// Who made it. A child that was forked has the handlers and the pipe too, and what it is sent is not for its parent.
    process: u32,
}

impl Teller {
    pub(crate) fn new() -> io::Result<(io::PipeReader, Self)> {
        let (reader, writer) = io::pipe()?;
        let writer = OwnedFd::from(writer);
        never_wait(&writer)?;
        let process = process::id();
        Ok((reader, Self { writer, process }))
    }

    /// Writes a byte, from a handler. Whether there was room.
    pub(crate) fn tell(&self, number: u8) -> bool {
        if process::id() != self.process {
            return true;
        }
        // SAFETY: every thread has its errno.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let before = unsafe { errno.read() };
        // SAFETY: one byte of this frame.
        let written =
            unsafe { libc::write(self.writer.as_raw_fd(), (&raw const number).cast(), 1) };
        // SAFETY: as above.
        unsafe { errno.write(before) };
        written == 1
    }
}

/// A handler must not wait for room.
fn never_wait(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain numbers; a fresh pipe has no other status flags.
    let outcome = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    if outcome == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits for the next SIGINT, which Ctrl-C sends. From the first call on it no longer ends the process.
///
/// For more than one, keep a [`Signals`]: a signal that comes between two calls of this is lost.
///
/// # Parks
///
/// Until then.
///
/// # Cancellation
///
/// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds.
///
/// # Errors
///
/// As [`Signals::new`].
pub fn ctrl_c() -> io::Result<()> {
    Signals::new([libc::SIGINT])?.recv().map(drop)
}
