//! How long an idle core looks at memory before it sleeps in the kernel.
//!
//! Waking a sleeping core costs 25 us and more in a virtual machine; a core that still looks sees a completion at
//! once. So when work tends to come back soon, looking pays; when it does not, it only burns the CPU. The window
//! follows what was seen:
//!
//! ```text
//!   work came while we looked           keep the window
//!   slept, woken within the maximum     it would have paid: open to the maximum
//!   slept for longer                    halve the window, down to nothing
//! ```
//!
//! The maximum is the builder's `spin`, and zero where more cores were asked for than there are CPUs: there a
//! core that looks takes the CPU from the one it waits for.

use std::time::Duration;

/// Below this the window is closed: a look at the clock costs a fair part of it.
const SHORTEST_NS: u64 = 1_000;

/// The adaptive window of one core.
#[derive(Debug)]
pub(crate) struct Window {
    longest_ns: u64,
    now_ns: u64,
}

impl Window {
    pub(crate) fn new(longest: Duration) -> Self {
        let longest_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Self {
            longest_ns,
            now_ns: longest_ns,
        }
    }

    /// How long to look now.
    pub(crate) fn length_ns(&self) -> u64 {
        self.now_ns
    }

    /// We slept for so long before something came.
    pub(crate) fn slept(&mut self, for_ns: u64) {
        if for_ns <= self.longest_ns {
            self.now_ns = self.longest_ns;
        } else {
            let halved = self.now_ns / 2;
            self.now_ns = if halved < SHORTEST_NS { 0 } else { halved };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Window;
    use std::time::Duration;

    #[test]
    fn long_sleeps_close_the_window_and_a_short_one_opens_it() {
        let mut window = Window::new(Duration::from_micros(50));
        assert_eq!(window.length_ns(), 50_000);
        for _ in 0..10 {
            window.slept(1_000_000);
        }
        assert_eq!(window.length_ns(), 0);
        window.slept(40_000);
        assert_eq!(window.length_ns(), 50_000);
    }

    #[test]
    fn a_window_of_zero_stays_closed() {
        let mut window = Window::new(Duration::ZERO);
        window.slept(0);
        window.slept(10);
        assert_eq!(window.length_ns(), 0);
    }
}
