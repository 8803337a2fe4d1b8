//! Time stamps: a counter read on the hot path, turned into wall time by the drain.
//!
//! A log call reads the processor's time-stamp counter (`rdtsc`, `cntvct_el0`), nothing else. The drain keeps pairs of
//! (counter, wall clock), measures a new one every half second, and draws a line through them:
//!
//! ```text
//!  wall ^                     . truth
//!       |              ..o'''
//!       |        o''''        o  a measured pair: here the line bends, it never jumps
//!       |  o''''                 unless the wall clock itself was stepped
//!       +---------------------------> ticks
//! ```
//!
//! Each new line starts where the old one stands now and is aimed at where the truth will be at the next pair, so output stays
//! continuous. A step of the wall clock (settimeofday, resume from suspend) is larger than [`STEP_NS`]: the line jumps and
//! the drain says so in the log. The order of records is by counter, so a step changes no order.

#![expect(unsafe_code, reason = "reads the processor's counter")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A difference between line and truth beyond this is a step, not drift: 50 ms is 100,000 ppm of the half second between pairs.
const STEP_NS: i128 = 50_000_000;

/// Distance between two calibrations.
pub(crate) const CALIBRATE_EVERY: Duration = Duration::from_millis(500);

/// The counter of this core. Modern processors keep it in step across cores and at a constant rate.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86_64 processor has rdtsc; Linux lets user mode execute it (unless prctl(PR_SET_TSC) forbids it).
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: reads the virtual counter; no memory, no flags.
        unsafe {
            std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags))
        };
        ticks
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        u64::try_from(
            START
                .get_or_init(std::time::Instant::now)
                .elapsed()
                .as_nanos(),
        )
        .expect("584 years")
    }
}

/// One simultaneous reading of counter and wall clock (nanoseconds since 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) ticks: u64,
    pub(crate) wall_ns: u64,
}

impl Pair {
    /// The tightest of five readings: a preempted one shows as a wide bracket.
    pub(crate) fn read() -> Self {
        let mut best: Option<(u64, Self)> = None;
        for _ in 0..5 {
            let before = ticks();
            let wall = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let width = ticks().wrapping_sub(before);
            let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((
                    width,
                    Self {
                        ticks: before.wrapping_add(width / 2),
                        wall_ns,
                    },
                ));
            }
        }
        best.expect("five readings were taken").1
    }
}

/// A line from counter to wall time: through `from`, with a slope in nanoseconds per tick, as 32.32 fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) from: Pair,
    pub(crate) slope: u64,
}

impl Line {
    /// The line through two measured pairs.
    pub(crate) fn through(from: Pair, to: Pair) -> Self {
        let ticks = to.ticks.saturating_sub(from.ticks).max(1);
        let ns = to.wall_ns.saturating_sub(from.wall_ns).max(1);
        Self {
            from,
            slope: slope(u128::from(ns), u128::from(ticks)),
        }
    }

    /// Wall time (nanoseconds since 1970) of a counter value, which may lie before `from`.
    #[inline]
    pub(crate) fn wall_ns(&self, ticks: u64) -> u64 {
        if let Some(distance) = ticks.checked_sub(self.from.ticks) {
            // The common case, in one multiplication of 64 by 64 bits.
            let rise = (u128::from(distance) * u128::from(self.slope)) >> 32;
            return self
                .from
                .wall_ns
                .saturating_add(u64::try_from(rise).unwrap_or(u64::MAX));
        }
        let distance = i128::from(ticks) - i128::from(self.from.ticks);
        let wall = i128::from(self.from.wall_ns) + ((distance * i128::from(self.slope)) >> 32);
        u64::try_from(wall.max(0)).unwrap_or(u64::MAX)
    }

    /// How many ticks pass in `duration`.
    pub(crate) fn ticks_in(&self, duration: Duration) -> u64 {
        let ticks = (duration.as_nanos() << 32) / u128::from(self.slope.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// The slope that the last drain measured, for rate limits; 1 tick per nanosecond before there was one.
static ROUGH_SLOPE: AtomicU64 = AtomicU64::new(1 << 32);

/// Ticks in `duration`, within the jitter of the first measurement.
pub(crate) fn rough_ticks_in(duration: Duration) -> u64 {
    Line {
        from: Pair {
            ticks: 0,
            wall_ns: 0,
        },
        slope: ROUGH_SLOPE.load(Ordering::Relaxed),
    }
    .ticks_in(duration)
}

fn slope(ns: u128, ticks: u128) -> u64 {
    u64::try_from((ns << 32) / ticks.max(1))
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The drain's clock: the current line, bent at every calibration.
#[derive(Debug)]
pub(crate) struct Calibration {
    line: Line,
    /// First pair ever: the longer the base, the better the rate.
    first: Pair,
    due_ticks: u64,
}

impl Calibration {
    /// Measures for two milliseconds (a jitter of 50 ns is then 25 ppm, corrected half a second later).
    pub(crate) fn measure() -> Self {
        let first = Pair::read();
        std::thread::sleep(Duration::from_millis(2));
        let line = Line::through(first, Pair::read());
        ROUGH_SLOPE.store(line.slope, Ordering::Relaxed);
        Self {
            line,
            first,
            due_ticks: first.ticks.saturating_add(line.ticks_in(CALIBRATE_EVERY)),
        }
    }

    pub(crate) fn line(&self) -> Line {
        self.line
    }

    /// Bends the line if half a second has passed. Returns the size of the step if the wall clock was stepped.
    pub(crate) fn update(&mut self, now_ticks: u64) -> Option<i128> {
        if now_ticks < self.due_ticks {
            None
        } else {
            self.bend(Pair::read())
        }
    }

    /// Makes the shown time wrong by so much, until the next calibration.
    #[cfg(test)]
    pub(crate) fn shift(&mut self, ns: i64) {
        self.line.from.wall_ns = self.line.from.wall_ns.saturating_add_signed(ns);
    }

    /// Makes the next calibration due.
    #[cfg(test)]
    pub(crate) fn expire(&mut self) {
        self.due_ticks = 0;
    }

    fn bend(&mut self, now: Pair) -> Option<i128> {
        let shown = self.line.wall_ns(now.ticks);
        let error = i128::from(now.wall_ns) - i128::from(shown);
        let interval_ns = i128::try_from(CALIBRATE_EVERY.as_nanos()).expect("half a second");
        if error.abs() > STEP_NS {
            self.first = now;
            self.line.from = now;
            self.due_ticks = now
                .ticks
                .saturating_add(self.line.ticks_in(CALIBRATE_EVERY));
            return Some(error);
        }
        // The true rate since the first pair, then aim at the truth one interval ahead.
        let rate = Line::through(self.first, now);
        let interval_ticks = rate.ticks_in(CALIBRATE_EVERY);
        let rise = u128::try_from((interval_ns + error).max(1)).expect("positive");
        self.line = Line {
            from: Pair {
                ticks: now.ticks,
                wall_ns: shown,
            },
            slope: slope(rise, u128::from(interval_ticks)),
        };
        self.due_ticks = now.ticks.saturating_add(interval_ticks);
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: shown time is continuous, tracks a drifting clock, and jumps only on a step.
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_clock_is_tracked_within_a_millisecond() {
        let calibration = Calibration::measure();
        let pair = Pair::read();
        assert!(
            calibration
                .line()
                .wall_ns(pair.ticks)
                .abs_diff(pair.wall_ns)
                < 1_000_000
        );
    }

    proptest! {
        #[test]
        fn drift_is_followed_without_running_back(rate in 1u64..4, ppm in -500i64..500, errors in prop::collection::vec(-20_000i64..20_000, 2..50)) {
            let from = Pair { ticks: 1_000_000, wall_ns: 1_700_000_000_000_000_000 };
            let true_wall = |ticks: u64| {
                let ns = (ticks - from.ticks) / rate;
                from.wall_ns + ns.saturating_add_signed((i128::from(ns) * i128::from(ppm) / 1_000_000).try_into().expect("small"))
            };
            let mut calibration = Calibration {
                line: Line { from, slope: (1 << 32) / rate },
                first: from,
                due_ticks: 0,
            };
            let mut last = 0;
            let mut ticks = from.ticks;
            for error in errors {
                for _ in 0..10 {
                    ticks += 50_000_000 * rate;
                    let shown = calibration.line.wall_ns(ticks);
                    prop_assert!(shown >= last, "ran back");
                    last = shown;
                }
                let wall_ns = true_wall(ticks).saturating_add_signed(error);
                prop_assert_eq!(calibration.bend(Pair { ticks, wall_ns }), None);
                prop_assert!(calibration.line.wall_ns(ticks).abs_diff(last) <= 1, "jumped");
            }
            prop_assert!(calibration.line.wall_ns(ticks).abs_diff(true_wall(ticks)) < 600_000);
        }
    }

    #[test]
    fn a_step_is_reported_and_followed() {
        let mut calibration = Calibration::measure();
        let mut pair = Pair::read();
        pair.wall_ns -= 3_600_000_000_000;
        let step = calibration.bend(pair).expect("an hour is a step");
        assert!(step < -3_599_000_000_000);
        assert_eq!(calibration.line().wall_ns(pair.ticks), pair.wall_ns);
    }
}
