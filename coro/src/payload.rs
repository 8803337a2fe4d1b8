//! What a coroutine panicked with, in an error that may go anywhere.
//!
//! A panic's payload is `Send` and not `Sync`. An error that holds one could not be put into `std::io::Error::other`,
//! `Box<dyn Error + Send + Sync>` or most libraries' error types. So the payload is out of reach as long as it is shared:
//! who owns it may have it, others only read its text.
#![expect(
    unsafe_code,
    reason = "Sync for a value that cannot be reached through a reference"
)]

use std::any::Any;
use std::fmt;

/// What a coroutine panicked with, for [`std::panic::resume_unwind`].
///
/// # Examples
///
/// ```
/// use coring_coro as coro;
///
/// # coro::testing::run(|| {
/// let error = coro::spawn(|| std::panic::resume_unwind(Box::new(7))).join().unwrap_err();
/// let coro::JoinError::Panicked(payload) = error else { panic!() };
/// assert_eq!(payload.into_inner().downcast_ref(), Some(&7));
/// # });
/// ```
pub struct PanicPayload(Box<dyn Any + Send>);

// SAFETY: through `&PanicPayload` only `message` reaches the payload. It asks for the payload's type, which is no method of
// the payload's own, and hands out nothing but the two types that are `Sync` themselves.
unsafe impl Sync for PanicPayload {}

impl PanicPayload {
    /// The payload.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        self.0
    }

    /// The text of the panic, where it had one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self.0.downcast_ref::<&'static str>() {
            Some(text) => Some(text),
            None => self.0.downcast_ref::<String>().map(String::as_str),
        }
    }
}

impl From<Box<dyn Any + Send>> for PanicPayload {
    fn from(payload: Box<dyn Any + Send>) -> Self {
        Self(payload)
    }
}

impl fmt::Debug for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.message().unwrap_or(".."))
    }
}
