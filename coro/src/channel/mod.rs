//! Channels between the coroutines of one core: bounded, allocation-free in use, first come first served.
//!
//! | channel | senders | receivers | what is kept |
//! |---|---|---|---|
//! | [`bounded()`] | many | one or many | up to a number of values; senders wait for room |
//! | [`oneshot()`] | one | one | one value, once |
//! | [`broadcast()`] | one or many | many, each gets every value | the last values; who lags behind is told how many it missed |
//! | [`watch()`] | one | many | the latest value |
//!
//! The ends are `!Send`: for other cores there are mailboxes. A value that could not be sent comes back in the
//! error. All receiving ends, and the sending end of [`bounded()`], are branches for [`select!`](crate::select!).
//!
//! A call that does not have to wait lets nobody else run: a loop that may find everything ready each time calls
//! [`checkpoint`](crate::checkpoint()).

pub mod bounded;
pub mod broadcast;
mod error;
pub mod oneshot;
pub mod watch;

pub use bounded::bounded;
pub use broadcast::broadcast;
pub use error::{RecvError, SendError, TryRecvError, TrySendError};
pub use oneshot::oneshot;
pub use watch::watch;
