//! Advisory locks: flock(2) with std's names.
//!
//! There is no opcode for flock, and a thread that waits in it cannot be called back. So nobody waits in it: the
//! lock is tried, which never blocks, again and again with growing pauses. That can be cancelled and timed out and
//! holds up no thread; the price is that the lock is taken some milliseconds late, and that it is not fair.

use super::{File, TryLockError};
use crate::io::{Limit, pause};
use std::io;
use std::time::Duration;

/// The first pause between two attempts; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

type Attempt = fn(&std::fs::File) -> Result<(), TryLockError>;

impl File {
    /// Takes the exclusive lock. It belongs to the open file: clones share it, and it ends with the last of them.
    ///
    /// # Parks
    ///
    /// Until nobody else has a lock. Not fair.
    ///
    /// # Cancellation
    ///
    /// Returns an error for which [`is_cancelled`](crate::io::is_cancelled) holds, without the lock.
    ///
    /// # Errors
    ///
    /// As flock(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::fs::File;
    ///
    /// # let path = std::env::temp_dir().join(format!("coring-lock-{}", std::process::id()));
    /// # std::fs::write(&path, "")?;
    /// coring::Runtime::builder().cores(1).build()?.run(|| {
    ///     let (one, other) = (File::open(&path)?, File::open(&path)?);
    ///     one.lock()?;
    ///     assert!(other.try_lock().is_err());
    ///     one.unlock()?;
    ///     other.lock()
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock(&self) -> io::Result<()> {
        self.keep_trying(std::fs::File::try_lock)
    }

    /// Takes a lock that others may share. As [`lock`](Self::lock) otherwise.
    ///
    /// # Parks
    ///
    /// Until nobody has the exclusive lock.
    ///
    /// # Errors
    ///
    /// As flock(2).
    pub fn lock_shared(&self) -> io::Result<()> {
        self.keep_trying(std::fs::File::try_lock_shared)
    }

    /// Takes the exclusive lock if that is possible now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if somebody has a lock, else as flock(2).
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.attempt(std::fs::File::try_lock)
    }

    /// Takes a shared lock if that is possible now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if somebody has the exclusive lock, else as flock(2).
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.attempt(std::fs::File::try_lock_shared)
    }

    /// Gives the lock back.
    ///
    /// # Errors
    ///
    /// As flock(2).
    pub fn unlock(&self) -> io::Result<()> {
        self.with_std(std::fs::File::unlock)
    }

    fn attempt(&self, attempt: Attempt) -> Result<(), TryLockError> {
        self.with_std(attempt)
    }

    fn keep_trying(&self, attempt: Attempt) -> io::Result<()> {
        let mut time = FIRST_PAUSE;
        loop {
            match self.attempt(attempt) {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => pause(time, "file lock", Limit::NONE)?,
            }
            time = (2 * time).min(LONGEST_PAUSE);
        }
    }
}
