//! [`shared_oneshot`]: one value, once, from anywhere to anywhere. A packet (mailbox/packet.rs) without the work.

use crate::mailbox::{Completer, RemoteError, RemoteHandle, packet};
use coring_coro::wait::Refusal;
use std::fmt;
use std::time::Duration;

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OneshotError {
    /// The sender has gone without sending.
    Disconnected,
    /// The caller may not wait: it was cancelled, or is unwinding.
    Refused(Refusal),
}

impl fmt::Display for OneshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the sender has gone without sending"),
            Self::Refused(refusal) => write!(f, "cannot wait for the value: {refusal}"),
        }
    }
}

impl std::error::Error for OneshotError {}

/// A place for one value.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let (sender, receiver) = coring::sync::shared_oneshot();
///     coring::spawn_on(1, || sender.send("hello"));
///     assert_eq!(receiver.recv(), Ok("hello"));
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[must_use]
pub fn shared_oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
    let (completer, handle) = packet(None);
    (OneshotSender(completer), OneshotReceiver(handle))
}

/// Sends the value, once.
#[derive(Debug)]
pub struct OneshotSender<T>(Completer<T>);

impl<T> OneshotSender<T> {
    /// Sends. A value that nobody receives is dropped with the receiver.
    pub fn send(self, value: T) {
        self.0.complete(Ok(value));
    }
}

/// Receives the value, once.
#[derive(Debug)]
pub struct OneshotReceiver<T>(RemoteHandle<T>);

impl<T> OneshotReceiver<T> {
    /// Waits for the value.
    ///
    /// # Parks
    ///
    /// Until it was sent, or the sender has gone.
    ///
    /// # Errors
    ///
    /// [`OneshotError`].
    pub fn recv(self) -> Result<T, OneshotError> {
        self.0.join().map_err(without_value)
    }

    /// As [`recv`](Self::recv), for at the most `limit`; then the receiver comes back.
    ///
    /// # Errors
    ///
    /// The receiver itself, when there is no value yet. What `recv` returns is inside the `Ok`.
    pub fn recv_timeout(self, limit: Duration) -> Result<Result<T, OneshotError>, Self> {
        let outcome = self.0.join_timeout(limit).map_err(Self)?;
        Ok(outcome.map_err(without_value))
    }

    /// Whether [`recv`](Self::recv) will not wait.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_finished()
    }
}

fn without_value(error: RemoteError) -> OneshotError {
    match error {
        RemoteError::Refused(refusal) => OneshotError::Refused(refusal),
        _ => OneshotError::Disconnected,
    }
}
