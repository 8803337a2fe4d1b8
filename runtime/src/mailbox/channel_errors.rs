//! Why a mailbox took no message or gave none: errors that give the caller's message back.

use coring_coro::wait::Refusal;
use std::fmt;

/// Why a message was not sent at once; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room in the sender's lane.
    Full(T),
    /// The receiver has gone.
    Disconnected(T),
}

/// Why a message was not sent; it comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The receiver has gone.
    Disconnected(T),
    /// The caller may not wait: it was cancelled, or is unwinding.
    Refused(T, Refusal),
    /// The time was over before there was room.
    TimedOut(T),
}

impl<T> TrySendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Disconnected(message) => message,
        }
    }
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Disconnected(message) | Self::Refused(message, _) | Self::TimedOut(message) => {
                message
            }
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Disconnected(_) => "the mailbox has no receiver any more",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(_) => f.write_str("the mailbox has no receiver any more"),
            Self::Refused(_, refusal) => write!(f, "cannot wait for room in a mailbox: {refusal}"),
            Self::TimedOut(_) => f.write_str("there was no room in the mailbox in time"),
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> std::error::Error for TrySendError<T> {}
impl<T> std::error::Error for SendError<T> {}

/// Why there is no message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None waits.
    Empty,
    /// None waits and all senders have gone.
    Disconnected,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// None waits and all senders have gone.
    Disconnected,
    /// The caller may not wait: it was cancelled, or is unwinding.
    Refused(Refusal),
    /// The time was over before one came.
    TimedOut,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the mailbox is empty",
            Self::Disconnected => "the mailbox is empty and has no sender any more",
        })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the mailbox is empty and has no sender any more"),
            Self::Refused(refusal) => write!(f, "cannot wait for a message: {refusal}"),
            Self::TimedOut => f.write_str("no message came in time"),
        }
    }
}

impl std::error::Error for TryRecvError {}
impl std::error::Error for RecvError {}
