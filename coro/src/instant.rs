//! A point in a core's time: what `std::time::Instant` is to the machine's clock, for the clock of the driver.
//!
//! A type of its own, because the driver's time need not be the machine's: a simulator's jumps.

use crate::scheduler;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in the time of a core, in nanoseconds of its [`Driver`](crate::Driver).
///
/// Instants of different cores must not be compared, unless their drivers share a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The current time.
    ///
    /// # Panics
    ///
    /// Outside a turn of a scheduler.
    #[must_use]
    pub fn now() -> Self {
        Self(scheduler::now("coro::Instant::now"))
    }

    /// From the driver's own scale.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// On the driver's own scale.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// How long ago this was; zero when it is yet to come.
    ///
    /// # Panics
    ///
    /// Outside a turn of a scheduler.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a time that far away never comes.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Zero when `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration on the scale of the wheel; 584 years and more saturate.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
