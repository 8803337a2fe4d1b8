//! How long an idle core looks at memory before it sleeps in the kernel.
//!
//! A sleep costs the CPU some microseconds of its own (leaving and entering the kernel, halting, being woken), and
//! whoever woke us waits for it: 20 to 30 us in a virtual machine. A core that still looks sees a completion at
//! once. So an idle core first looks for about as long as a sleep would cost, and while that pays, a lone request
//! is answered in half the time or less, for about the same CPU.
//!
//! It pays only when work nearly always comes back within the window: at 80,000 requests/s, with 8 us between
//! them, a window of 50 us fills the CPU with looking (1.86 times the CPU for a request), and a shorter one looks
//! in vain and sleeps as well. So the window keeps a score and closes itself:
//!
//! ```text
//!   looked and found work     score + 1   (at most 16)
//!   looked in vain            score - 4   (at least 0): four looks in five have to pay
//!   score 8 or more           open: look before each sleep
//!   below                     closed: look before one sleep in 32, and before the next as long as that finds work
//! ```
//!
//! The length is the builder's `spin`, and zero where there are more cores than CPUs: there a core that looks takes
//! the CPU from the one it waits for.

use std::time::Duration;

const HIGHEST: u8 = 16;
const OPEN_FROM: u8 = 8;
const IN_VAIN: u8 = 4;
const PROBE_EVERY: u8 = 32;

/// The adaptive window of one core.
#[derive(Debug)]
pub(crate) struct Window {
    length_ns: u64,
    score: u8,
    /// Sleeps since the last look, while closed.
    unlooked: u8,
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length_ns: u64::try_from(length.as_nanos()).unwrap_or(u64::MAX),
            score: HIGHEST,
            unlooked: 0,
        }
    }

    /// How long to look before this sleep; zero for not at all. Followed by [`looked`](Self::looked) if not zero.
    pub(crate) fn next(&mut self) -> u64 {
        if self.score >= OPEN_FROM || self.unlooked >= PROBE_EVERY {
            return self.length_ns;
        }
        self.unlooked += 1;
        0
    }

    /// A look ended, with work or in vain.
    pub(crate) fn looked(&mut self, found: bool) {
        if found {
            self.score = (self.score + 1).min(HIGHEST);
        } else {
            self.score = self.score.saturating_sub(IN_VAIN);
            self.unlooked = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PROBE_EVERY, Window};
    use std::time::Duration;

    fn idle(window: &mut Window, finds: bool) -> bool {
        let looks = window.next() > 0;
        if looks {
            window.looked(finds);
        }
        looks
    }

    #[test]
    fn looking_in_vain_closes_the_window_but_for_probes() {
        let mut window = Window::new(Duration::from_micros(6));
        for _ in 0..10 {
            idle(&mut window, false);
        }
        let rounds = 320;
        let looks = (0..rounds).filter(|_| idle(&mut window, false)).count();
        assert!(
            (1..=rounds / usize::from(PROBE_EVERY)).contains(&looks),
            "{looks} looks"
        );
    }

    #[test]
    fn work_that_comes_back_soon_opens_it_again() {
        let mut window = Window::new(Duration::from_micros(6));
        for _ in 0..10 {
            idle(&mut window, false);
        }
        for _ in 0..PROBE_EVERY + 8 {
            idle(&mut window, true);
        }
        assert!((0..100).all(|_| idle(&mut window, true)));
    }

    #[test]
    fn two_finds_in_three_are_not_enough() {
        let mut window = Window::new(Duration::from_micros(6));
        let looks = (0..3000)
            .filter(|round| idle(&mut window, round % 3 != 0))
            .count();
        assert!(looks < 600, "{looks} looks");
    }

    #[test]
    fn a_window_of_zero_stays_closed() {
        let mut window = Window::new(Duration::ZERO);
        assert!((0..100).all(|_| !idle(&mut window, true)));
    }
}
