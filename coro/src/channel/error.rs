//! What can go wrong with a channel.

use crate::sync::WaitError;
use crate::wait::Refusal;
use std::fmt;

/// A value could not be sent; here it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// Nobody will receive it any more.
    Closed(T),
    /// There was no room in time.
    TimedOut(T),
    /// The caller could not wait for room, or not any longer.
    Refused(T, Refusal),
}

/// A value could not be sent without waiting; here it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room.
    Full(T),
    /// Nobody will receive it any more.
    Closed(T),
}

/// There is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// There are no senders any more, and nothing is left.
    Closed,
    /// The receiver of a broadcast was too slow: this many values are gone. The next call goes on after them.
    Lagged(u64),
    /// None came in time.
    TimedOut,
    /// The caller could not wait for one, or not any longer.
    Refused(Refusal),
}

/// There is no value now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// None has come yet.
    Empty,
    /// There are no senders any more, and nothing is left.
    Closed,
    /// As [`RecvError::Lagged`].
    Lagged(u64),
}

impl<T> SendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            Self::Closed(value) | Self::TimedOut(value) | Self::Refused(value, _) => value,
        }
    }
}

impl<T> TrySendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }
}

impl From<WaitError> for RecvError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::TimedOut => Self::TimedOut,
            WaitError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

const CLOSED: &str = "the channel is closed";

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str(CLOSED),
            Self::TimedOut(_) => f.write_str("no room in the channel in time"),
            Self::Refused(_, refusal) => write!(f, "cannot wait for room: {refusal}"),
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the channel is full"),
            Self::Closed(_) => f.write_str(CLOSED),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str(CLOSED),
            Self::Lagged(missed) => write!(f, "missed {missed} values"),
            Self::TimedOut => f.write_str("no value came in time"),
            Self::Refused(refusal) => write!(f, "cannot wait for a value: {refusal}"),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the channel is empty"),
            Self::Closed => f.write_str(CLOSED),
            Self::Lagged(missed) => write!(f, "missed {missed} values"),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for SendError<T> {}
impl<T: fmt::Debug> std::error::Error for TrySendError<T> {}
impl std::error::Error for RecvError {}
impl std::error::Error for TryRecvError {}
