//! A process that was started.
//!
//! Its end is seen twice: the ring waits for it and leaves it where it is (`WNOWAIT`), then std's own `try_wait`
//! collects it. So std's bookkeeping stays right, and a process number is never waited for after it may have been
//! given to somebody else.
#![expect(
    unsafe_code,
    reason = "waitid fills a structure in this frame; pidfd_open"
)]

use super::orphans::Only;
use crate::io::stream::{owns_descriptor, readable, writable};
use crate::io::{Interest, perform, poll_fd};
use crate::per_core;
use coring_coro as coro;
use coring_uring::{Feature, op};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{ExitStatus, Output};

macro_rules! piped {
    ($(#[$doc:meta])* $type:ident, $std:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $type {
            fd: OwnedFd,
        }

        owns_descriptor!($type, $std);

        impl From<$type> for std::process::Stdio {
            fn from(this: $type) -> Self {
                this.fd.into()
            }
        }
    };
}

piped!(
    /// The pipe to a child's standard input. Dropping it is the end of that.
    ChildStdin,
    std::process::ChildStdin
);
piped!(
    /// The pipe from a child's standard output.
    ChildStdout,
    std::process::ChildStdout
);
piped!(
    /// The pipe from a child's standard error.
    ChildStderr,
    std::process::ChildStderr
);
writable!(ChildStdin);
readable!(ChildStdout);
readable!(ChildStderr);

/// A process that was started. Compare [`std::process::Child`].
///
/// Dropping it leaves the process alone: it runs on, and becomes a zombie when it ends.
#[derive(Debug)]
pub struct Child {
    /// The pipe to its standard input, if it was given one.
    pub stdin: Option<ChildStdin>,
    /// The pipe from its standard output, if it was given one.
    pub stdout: Option<ChildStdout>,
    /// The pipe from its standard error, if it was given one.
    pub stderr: Option<ChildStderr>,
    theirs: std::process::Child,
}

impl Child {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.theirs.id()
    }

    /// Ends it by SIGKILL. One that has ended is no error.
    ///
    /// # Errors
    ///
    /// As kill(2).
    pub fn kill(&mut self) -> io::Result<()> {
        self.theirs.kill()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// As waitpid(2).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.theirs.try_wait()
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Parks
    ///
    /// Until then.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds; `wait` may be called again.
    ///
    /// # Errors
    ///
    /// As waitid(2).
    ///
    /// # Source
    ///
    /// `IORING_OP_WAITID`, Linux 6.7; before, a poll of pidfd_open(2).
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            if let Some(status) = self.theirs.try_wait()? {
                return Ok(status);
            }
            self.until_it_has_ended()?;
        }
    }

    /// Closes its standard input, collects what it writes into pipes, and waits for its end.
    ///
    /// # Parks
    ///
    /// Until the pipes are closed and the process has ended.
    ///
    /// # Cancellation
    ///
    /// As [`Command::status`](super::Command::status).
    ///
    /// # Errors
    ///
    /// As read(2) and waitid(2); a [`SpawnError`](coro::SpawnError) if there is no coroutine to be had, which reads one of the pipes.
    pub fn wait_with_output(self) -> io::Result<Output> {
        let mut this = Only(self);
        drop(this.0.stdin.take());
        let (stdout, stderr) = (this.0.stdout.take(), this.0.stderr.take());
        // Both at once: a child that fills one pipe while we read the other would wait for ever.
        let (stdout, stderr) = coro::scope(|scope| {
            let errors = scope
                .spawn_with(coro::Builder::new(), || drain(stderr))
                .map_err(io::Error::other)?;
            let output = drain(stdout);
            let errors = errors
                .join()
                .unwrap_or_else(|error| Err(io::Error::other(error)));
            Ok::<_, io::Error>((output, errors))
        })?;
        Ok(Output {
            status: this.wait()?,
            stdout: stdout?,
            stderr: stderr?,
        })
    }

    fn until_it_has_ended(&self) -> io::Result<()> {
        let through_ring = per_core::current().is_some_and(|engine| {
            let ring = engine.ring().borrow();
            ring.capabilities().has(Feature::Waitid)
        });
        if !through_ring {
            return poll_fd(self.descriptor()?, Interest::READABLE).map(drop);
        }
        // SAFETY: all zeroes is a valid value.
        let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOWAIT;
        let sqe = op::process::waitid(self.id(), options, &raw mut information);
        // SAFETY: the structure lives in this frame until `perform` returns.
        unsafe { perform(sqe, "child process") }.map(drop)
    }

    /// A descriptor that becomes readable when the process has ended.
    fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: plain numbers. The process has not been collected, so the number is still its own.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.id(), 0) };
        match RawFd::try_from(fd) {
            // SAFETY: the kernel has just given us this descriptor.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn drain(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

impl From<std::process::Child> for Child {
    fn from(mut theirs: std::process::Child) -> Self {
        Self {
            stdin: theirs.stdin.take().map(ChildStdin::from),
            stdout: theirs.stdout.take().map(ChildStdout::from),
            stderr: theirs.stderr.take().map(ChildStderr::from),
            theirs,
        }
    }
}
