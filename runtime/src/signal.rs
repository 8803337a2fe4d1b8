//! Signals as something to wait for: [`ctrl_c`], [`Signals`].
//!
//! ```text
//!   signal --> handler: one byte, its number, into a pipe --> read through the ring --> Signals::recv
//!                `--> the handler that was there before, if any
//! ```
//!
//! The handler is installed by signal-hook-registry, which calls what was installed before it, so handlers of others
//! stay intact. It does one write(2) to a pipe that never blocks. A full pipe loses signals, as the kernel does with
//! those that come while the same one is pending: what they say is "at least one has come".
#![expect(
    unsafe_code,
    reason = "a signal handler, which does nothing but write(2)"
)]

use crate::io::PipeReader;
use signal_hook_registry::{FORBIDDEN, SigId, register, unregister};
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

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
        let (reader, writer) = io::pipe()?;
        let writer = OwnedFd::from(writer);
        never_wait(&writer)?;
        let writer = Arc::new(writer);
        let mut this = Self {
            pipe: reader.into(),
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
            let writer = Arc::clone(&writer);
            // SAFETY: the handler calls write(2) only, and puts errno back.
            let handler = unsafe { register(signal, move || tell(&writer, number)) }?;
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
        let mut number = [0];
        self.pipe.read_exact(&mut number)?;
        Ok(i32::from(number[0]))
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

/// The handler.
pub(crate) fn tell(writer: &OwnedFd, number: u8) {
    // SAFETY: every thread has its errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { errno.read() };
    // SAFETY: one byte of this frame. A full pipe is fine, see the head.
    let _ = unsafe { libc::write(writer.as_raw_fd(), (&raw const number).cast(), 1) };
    // SAFETY: as above.
    unsafe { errno.write(before) };
}

/// A handler must not wait for room.
pub(crate) fn never_wait(fd: &OwnedFd) -> io::Result<()> {
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
