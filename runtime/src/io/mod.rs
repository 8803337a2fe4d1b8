//! Operations: the only pairing of a ring slot with a waiting coroutine.
//!
//! `perform` is the whole life of a one-shot operation, on the stack of the coroutine that wants it:
//!
//! ```text
//!   begin ----> submit ----> park ----> take ----> result
//!     |           |            |  ^       |
//!   refused     refused        |  +-------+  not done: a hint only. Cancelled? ask the kernel to end it,
//!   (no SQE)    (no SQE)       |             and wait on: its completion still comes
//!                          scheduler
//! ```
//!
//! It returns only after the terminal completion. That is why `read(&mut [u8])` may lend the caller's buffer to
//! the kernel, and why a `sockaddr` or a path may live in the caller's frame: the frame stands until the kernel is
//! done, whatever happens - cancellation, shutdown, a full queue.
//!
//! An operation that completed although it was being cancelled returns its result: nothing that happened is lost.
//!
//! A call with a time limit of its own (`within`) sets an alarm in the core's timer wheel. The alarm is one more
//! hint: who is woken by it cancels the operation and waits on, as above. The kernel keeps no timer for it.
#![expect(
    unsafe_code,
    reason = "hands memory to the kernel for the length of an operation"
)]

mod cold;
mod first;
mod multishot;
pub(crate) mod net;
mod pipe;
mod poll;
mod pooled;
mod stdio;
pub(crate) mod stream;

pub(crate) use cold::give_back as give_back_buffers;
pub(crate) use first::connect_first;
pub(crate) use multishot::{Interrupted, Multishot};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use poll::{Interest, Readiness, poll_fd};
pub use pooled::RecvBuffer;
pub(crate) use pooled::recv_pooled;
pub use stdio::{Stderr, Stdin, Stdout, stderr, stdin, stdout};

use crate::blocking::blocking_to_the_end;
use crate::per_core::{self, Engine};
use coring_coro::wait::{self, Alarm, Interrupt, Refusal};
use coring_uring::{Completion, OpId, Sqe, Token, op};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The error inside an [`io::Error`] that a cancelled coroutine gets. See [`is_cancelled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine was cancelled while it waited for I/O")
    }
}

impl std::error::Error for Cancelled {}

/// Whether an I/O error says that the coroutine was cancelled (`JoinHandle::cancel`, shutdown).
///
/// Its kind is `Other`, never `Interrupted`, since std's own loops retry that one.
///
/// # Examples
///
/// ```
/// use coring::{coro, net::TcpListener};
///
/// coring::Runtime::builder().cores(1).build()?.run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let waiting = coro::spawn(move || listener.accept().map(|_| ()));
///     coro::yield_now();
///     waiting.cancel();
///     let error = waiting.join().unwrap().unwrap_err();
///     assert!(coring::io::is_cancelled(&error));
///     Ok::<_, std::io::Error>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn is_cancelled(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Cancelled>())
}

fn interrupted(interrupt: Interrupt) -> io::Error {
    match interrupt {
        Interrupt::Cancelled => io::Error::other(Cancelled),
        _ => io::ErrorKind::TimedOut.into(),
    }
}

#[cold]
pub(crate) fn refused(refusal: Refusal) -> io::Error {
    match refusal {
        Refusal::Interrupted(interrupt) => interrupted(interrupt),
        other => io::Error::other(other),
    }
}

/// For a call that returns what it had done before this error, and not the error. Nobody is refused then, so nothing
/// counts as refused: inside a `timeout` the part would be lost together with its count.
#[cold]
pub(crate) fn told_in_part(error: &io::Error) {
    let elapsed = error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none();
    if elapsed || is_cancelled(error) {
        wait::forgive();
    }
}

/// How soon an operation that has not ended is asked to end once more.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// How long the operations of one call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit<'a>(Option<&'a Alarm<'a>>);

impl Limit<'_> {
    /// As long as they like.
    pub(crate) const NONE: Limit<'static> = Limit(None);

    /// Whether the time is over.
    pub(crate) fn passed(self) -> bool {
        self.0.is_some_and(Alarm::rang)
    }
}

/// Runs `call` with a limit on the time that its operations take, all together. One that is ended by the limit
/// fails with `EAGAIN`, as a socket with `SO_RCVTIMEO` does.
#[inline(always)]
pub(crate) fn within<T>(time: Option<Duration>, call: impl FnOnce(Limit<'_>) -> T) -> T {
    match time {
        None => call(Limit::NONE),
        Some(time) => within_time(time, call),
    }
}

fn within_time<T>(time: Duration, call: impl FnOnce(Limit<'_>) -> T) -> T {
    if coring_coro::try_current().is_none() {
        // No coroutine, no timer: the call itself will say so in its error.
        return call(Limit::NONE);
    }
    wait::with_alarm(time, |alarm| call(Limit(Some(alarm))))
}

/// Runs a closure in the offload pool: not at all, or to its end, also for a coroutine that is cancelled meanwhile.
pub(crate) fn offload<F, T>(f: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Ok(blocking_to_the_end(f)?)
}

/// For calls that may be done without waiting: refuses who is cancelled, and who is no coroutine, as all others do.
pub(crate) fn may_wait() -> io::Result<()> {
    wait::begin().map(drop).map_err(refused)
}

/// Sleeps, until the limit at most. Unlike `coro::sleep` it has an error to return when the coroutine is cancelled.
pub(crate) fn pause(time: Duration, what_for: &'static str, limit: Limit<'_>) -> io::Result<()> {
    wait::begin().map_err(refused)?;
    wait::with_alarm(time, |alarm| {
        while !alarm.rang() && !limit.passed() {
            wait::park(what_for);
            if wait::interrupted().is_some() {
                return Err(interrupted(wait::refuse_current()));
            }
        }
        Ok(())
    })
}

/// Does one operation and waits for it, as long as it takes. Returns the kernel's non-negative result.
///
/// # Safety
///
/// As [`perform_within`].
#[inline]
pub(crate) unsafe fn perform(sqe: Sqe, what_for: &'static str) -> io::Result<u32> {
    // SAFETY: passed on to the caller.
    unsafe { perform_within(sqe, what_for, Limit::NONE) }
}

/// Does one operation and waits for it, until the limit at most. Returns the kernel's non-negative result.
///
/// # Safety
///
/// Everything that `sqe` points at is valid, and the kernel may write where the operation writes, until this
/// returns.
pub(crate) unsafe fn perform_within(
    sqe: Sqe,
    what_for: &'static str,
    limit: Limit<'_>,
) -> io::Result<u32> {
    // SAFETY: passed on to the caller.
    unsafe { perform_here(|| sqe.clone(), what_for, limit) }
}

/// [`perform_within`] as a part of its caller, for the operations that servers live on: an entry made here goes from registers to
/// where the kernel reads it. One that is passed on in memory is read in other pieces than it was written in, for which the
/// processor waits; and each frame less is a return less that it mispredicts after a switch.
///
/// # Safety
///
/// As [`perform_within`], for each entry made.
#[inline(always)]
pub(crate) unsafe fn perform_here(
    make: impl Fn() -> Sqe,
    what_for: &'static str,
    limit: Limit<'_>,
) -> io::Result<u32> {
    loop {
        // SAFETY: passed on to the caller; an operation that ended with EINTR is over and may be done again.
        match unsafe { perform_once(make(), what_for, limit) } {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            outcome => return outcome,
        }
    }
}

/// As [`perform_within`], for an operation whose result is a new descriptor.
///
/// # Safety
///
/// As [`perform_within`]; the operation's result is a descriptor that nobody else knows.
pub(crate) unsafe fn perform_open(
    sqe: Sqe,
    what_for: &'static str,
    limit: Limit<'_>,
) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller.
    let fd = unsafe { perform_within(sqe, what_for, limit) }?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { owned(fd) })
}

/// As [`perform_open`], without a limit; `begun` is called with the operation when it is under way, and what it returns is given
/// back with the descriptor.
///
/// # Safety
///
/// As [`perform_open`], for each entry made. `begun` does not unwind.
#[inline(always)]
pub(crate) unsafe fn perform_open_noted<T>(
    make: impl Fn() -> Sqe,
    what_for: &'static str,
    begun: impl Fn(&'static Engine, OpId) -> T,
) -> io::Result<(OwnedFd, T)> {
    loop {
        // SAFETY: passed on to the caller; an operation that ended with EINTR is over and may be done again.
        let (engine, op) = unsafe { submit_once(make()) }?;
        let note = begun(engine, op);
        let (completion, cancelling) = completion_of(engine, op, what_for, Limit::NONE);
        match result_of(completion, cancelling) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            // SAFETY: the kernel has just given us this descriptor.
            outcome => return outcome.map(|fd| (unsafe { owned(fd) }, note)),
        }
    }
}

/// Closes a descriptor, and waits for that, also when the coroutine is cancelled meanwhile: nobody could tell a close that was ended before
/// it began, and left the descriptor open, from one whose file system has an `ECANCELED` to tell. So who is told has closed, whatever it is,
/// and need not do it again, not even for `EINTR`, close(2). With an error comes the descriptor where nothing was begun.
pub(crate) fn close(fd: OwnedFd) -> Result<(), (io::Error, Option<OwnedFd>)> {
    let sqe = op::fs::close(fd.as_raw_fd());
    // SAFETY: a close points at nothing, and its end is waited for below.
    let (engine, op) = match unsafe { submit_once(sqe) } {
        Ok(begun) => begun,
        Err(error) => return Err((error, Some(fd))),
    };
    // It is the kernel's now.
    let _ = fd.into_raw_fd();
    let completion = loop {
        wait::park("file close");
        if let Some(completion) = engine.ring().borrow_mut().take(op) {
            break completion;
        }
    };
    let closed = result_of(completion, false);
    closed.map(drop).map_err(|error| (error, None))
}

/// # Safety
///
/// It is a descriptor that nobody else has.
unsafe fn owned(fd: u32) -> OwnedFd {
    let fd = RawFd::try_from(fd).expect("a descriptor fits in its own type");
    // SAFETY: passed on to the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// # Safety
///
/// As [`perform_within`].
#[inline(always)]
unsafe fn perform_once(sqe: Sqe, what_for: &'static str, limit: Limit<'_>) -> io::Result<u32> {
    // SAFETY: passed on to the caller.
    let (completion, cancelling) = unsafe { complete_once(sqe, what_for, limit) }?;
    result_of(completion, cancelling)
}

/// Does an operation once, and gives back all that its completion says, and whether we asked it to end.
///
/// # Safety
///
/// As [`perform_within`].
#[inline(always)]
unsafe fn complete_once(
    sqe: Sqe,
    what_for: &'static str,
    limit: Limit<'_>,
) -> io::Result<(Completion, bool)> {
    // SAFETY: passed on to the caller; the end is waited for at once.
    let (engine, op) = unsafe { submit_once(sqe) }?;
    Ok(completion_of(engine, op, what_for, limit))
}

/// Begins an operation of the current coroutine.
///
/// # Safety
///
/// As [`perform_within`], until [`completion_of`] has returned, which is called next.
#[inline(always)]
unsafe fn submit_once(sqe: Sqe) -> io::Result<(&'static Engine, OpId)> {
    let Some(engine) = per_core::current() else {
        return Err(refused(Refusal::Outside));
    };
    let token = wait::begin().map_err(refused)?;
    let token = Token::new(token.into_raw());
    // SAFETY: passed on to the caller: the memory is valid, and the wait not over, until the token came back.
    let op = unsafe { engine.ring().borrow_mut().submit(sqe, token) }?;
    Ok((engine, op))
}

/// Waits for the end of an operation of the current coroutine.
#[inline(always)]
fn completion_of(
    engine: &Engine,
    op: OpId,
    what_for: &'static str,
    limit: Limit<'_>,
) -> (Completion, bool) {
    // The alarm may have rung since it was set, when the caller let others run in between: it will not ring again. The
    // operation is still tried.
    let mut cancelling = limit.passed();
    if cancelling {
        engine.ring().borrow_mut().cancel(op);
    }
    let completion = loop {
        if cancelling {
            park_to_ask_again(what_for);
        } else {
            wait::park(what_for);
        }
        let mut ring = engine.ring().borrow_mut();
        if let Some(completion) = ring.take(op) {
            break completion;
        }
        // Asked again at each wake, see `park_to_ask_again`.
        if wait::interrupted().is_some() || limit.passed() {
            cancelling = true;
            ring.cancel(op);
        }
    };
    (completion, cancelling)
}

/// Parks for an operation that has been asked to end, and not for ever: the asking may have met it between two states, on its way to
/// a worker of the kernel for instance, and found nothing.
#[cold]
pub(super) fn park_to_ask_again(what_for: &'static str) {
    wait::with_alarm(ASK_AGAIN, |_| wait::park(what_for));
}

#[inline]
fn result_of(completion: Completion, cancelling: bool) -> io::Result<u32> {
    match u32::try_from(completion.result) {
        Ok(result) => Ok(result),
        Err(_) => Err(failed(-completion.result, cancelling)),
    }
}

/// The error of an operation. One that ended because we asked for it says why we did.
#[cold]
pub(crate) fn failed(errno: i32, cancelling: bool) -> io::Error {
    // A FIFO whose open is ended in a kernel worker says ERESTARTSYS and its kin, which are meant for the kernel's way
    // back from a system call (Linux 6.18).
    let errno = match errno {
        512..=516 => libc::EINTR,
        errno => errno,
    };
    let ended_by_us = cancelling && matches!(errno, libc::ECANCELED | libc::EINTR);
    io::Error::from_raw_os_error(match ended_by_us {
        false => errno,
        true if wait::interrupted().is_some() => return interrupted(wait::refuse_current()),
        true => libc::EAGAIN,
    })
}
