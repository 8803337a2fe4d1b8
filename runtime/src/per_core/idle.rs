//! How long an idle core looks at memory before it sleeps in the kernel.
//!
//! A sleep costs whoever wakes us 20 to 30 us in a virtual machine (leaving and entering the kernel, halting, being
//! woken); a core that still looks sees a completion at once. Where the other side waits for our answer before it
//! goes on, that is three times the work in the same time. Where work comes at its own pace, nothing more gets done,
//! and the CPU time is burnt: 1.4 times as much for a request at 120,000 requests/s. Both find work within the window,
//! so what a look finds does not tell them apart. How much gets done does, and the core tries both:
//!
//! ```text
//!                 more done, by a quarter: look for longer the next time, then sleep 8 times to compare again
//!               .---------------------------------.
//!               v                                 |
//!   +----------------+  16 to 1,024 idle moments  |   +-----------------+
//!   |    looking     | ---------------------------+-> |    sleeping     |
//!   +----------------+  no more done, or two looks    +-----------------+
//!               ^       in vain: sleep for longer             |
//!               `---------------------------------------------'
//!                          8, or 32 to 512 idle moments
//! ```
//!
//! Phases double as long as they end in the same way. In vain means that the window closed without work; four looks in
//! five have to find some (a score: one up for a find, four down, the phase ends below half).
//!
//! The wait in an idle moment counts for four windows at most, what a sleep costs: a longer one, as for a disk, would have been as
//! long otherwise, and one of them must not decide. The work between waits counts whole.
//!
//! Who names a length in the builder wants the latency: then looks that find work are enough. The length is zero where
//! there are more cores than CPUs: there a core that looks takes the CPU from the one it waits for.

use std::time::Duration;

/// Idle moments of a phase.
const SHORTEST_LOOKING: u32 = 16;
const LONGEST_LOOKING: u32 = 1024;
const COMPARING_SLEEPS: u32 = 8;
const SHORTEST_SLEEPING: u32 = 32;
const LONGEST_SLEEPING: u32 = 512;
/// Windows that the wait in an idle moment counts for at most.
const LONGEST_WAIT: u64 = 4;
/// The score of looks.
const HIGHEST: u8 = 16;
const AT_FIRST: u8 = 12;
const LOWEST: u8 = 8;
const IN_VAIN: u8 = 4;

/// When an idle core may look, and how long each time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spin {
    /// Where more gets done that way.
    Paying(Duration),
    /// Where that finds work.
    Bought(Duration),
}

impl Spin {
    /// Whether no length was left.
    pub(crate) fn is_never(self) -> bool {
        let (Self::Paying(length) | Self::Bought(length)) = self;
        length.is_zero()
    }
}

/// What was done in which time.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    time_ns: u64,
    /// Coroutines that have been run.
    switches: u64,
}

impl Progress {
    fn since(self, before: Self) -> Self {
        Self {
            time_ns: self.time_ns.saturating_sub(before.time_ns),
            switches: self.switches.saturating_sub(before.switches),
        }
    }

    /// Whether at least five quarters of the other's work were done in the same time.
    fn outdoes(self, other: Self) -> bool {
        let done = u128::from(self.switches) * u128::from(other.time_ns);
        4 * done >= 5 * u128::from(other.switches) * u128::from(self.time_ns)
    }
}

/// The adaptive window of one core.
#[derive(Debug)]
pub(crate) struct Window {
    length_ns: u64,
    bought: bool,
    looking: bool,
    /// Idle moments left of this phase.
    left: u32,
    /// When the last wait began, or the work after it.
    since_ns: u64,
    /// By then, and when this phase began.
    now: Progress,
    begin: Progress,
    /// In the last phase of sleeping.
    slept: Progress,
    score: u8,
    next_looking: u32,
    next_sleeping: u32,
}

impl Window {
    pub(crate) fn new(spin: Spin) -> Self {
        let (length, bought) = match spin {
            Spin::Paying(length) => (length, false),
            Spin::Bought(length) => (length, true),
        };
        Self {
            length_ns: u64::try_from(length.as_nanos()).unwrap_or(u64::MAX),
            bought,
            looking: true,
            left: SHORTEST_LOOKING,
            since_ns: 0,
            now: Progress::default(),
            begin: Progress::default(),
            slept: Progress::default(),
            score: AT_FIRST,
            next_looking: SHORTEST_LOOKING,
            next_sleeping: SHORTEST_SLEEPING,
        }
    }

    /// An idle moment begins: how long to look in it; zero for not at all. Followed by [`looked`](Self::looked) if not zero, and
    /// by [`went_on`](Self::went_on). `switches` counts the coroutines that have been run; it is asked between two phases.
    #[inline]
    pub(crate) fn next(
        &mut self,
        now_ns: impl FnOnce() -> u64,
        switches: impl FnOnce() -> u64,
    ) -> u64 {
        if self.length_ns == 0 {
            return 0;
        }
        self.count(now_ns(), u64::MAX);
        if self.left == 0 {
            self.now.switches = switches();
            self.next_phase();
        }
        self.left -= 1;
        if self.looking { self.length_ns } else { 0 }
    }

    /// The idle moment ended.
    #[inline]
    pub(crate) fn went_on(&mut self, now_ns: impl FnOnce() -> u64) {
        if self.length_ns > 0 {
            self.count(now_ns(), self.length_ns.saturating_mul(LONGEST_WAIT));
        }
    }

    /// Counts the time since the last call, up to `longest_ns`.
    #[inline]
    fn count(&mut self, now_ns: u64, longest_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.since_ns).min(longest_ns);
        self.now.time_ns = self.now.time_ns.saturating_add(passed_ns);
        self.since_ns = now_ns;
    }

    /// A look ended, with work or in vain.
    #[inline]
    pub(crate) fn looked(&mut self, found: bool) {
        if found {
            self.score = (self.score + 1).min(HIGHEST);
        } else {
            self.score = self.score.saturating_sub(IN_VAIN);
            if self.score < LOWEST {
                self.left = 0;
            }
        }
    }

    #[cold]
    fn next_phase(&mut self) {
        let done = self.now.since(self.begin);
        self.begin = self.now;
        if !self.looking {
            self.slept = done;
            self.look();
            return;
        }
        let finds = self.score >= LOWEST;
        if finds && (self.bought || done.outdoes(self.slept)) {
            self.next_looking = (self.next_looking * 2).min(LONGEST_LOOKING);
            self.next_sleeping = SHORTEST_SLEEPING;
            if self.bought {
                self.look();
                return;
            }
            self.left = COMPARING_SLEEPS;
        } else {
            self.next_looking = SHORTEST_LOOKING;
            self.left = self.next_sleeping;
            self.next_sleeping = (self.next_sleeping * 2).min(LONGEST_SLEEPING);
        }
        self.looking = false;
    }

    fn look(&mut self) {
        self.looking = true;
        self.left = self.next_looking;
        self.score = AT_FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::{Spin, Window};
    use std::time::Duration;

    const LENGTH: Duration = Duration::from_micros(6);

    /// Goes through idle moments. `finds` says whether a look finds work, by its number; `look_ns` and `sleep_ns` how
    /// long it takes until there is work. Returns in how many moments it looked.
    fn looks(
        window: &mut Window,
        moments: u64,
        mut finds: impl FnMut(u64) -> bool,
        (look_ns, sleep_ns): (u64, u64),
    ) -> u64 {
        let waits_ns = |_, found| if found { look_ns } else { sleep_ns };
        looks_with(window, moments, &mut finds, waits_ns, 0)
    }

    /// The same; `waits_ns` says how long that takes, by the number of the moment and whether a look found the work, which takes
    /// `work_ns`.
    fn looks_with(
        window: &mut Window,
        moments: u64,
        mut finds: impl FnMut(u64) -> bool,
        waits_ns: impl Fn(u64, bool) -> u64,
        work_ns: u64,
    ) -> u64 {
        let (mut now_ns, mut looks) = (window.since_ns, 0);
        let before = window.now.switches;
        for moment in 0..moments {
            let is_found = window.next(|| now_ns, || before + moment) > 0 && {
                let found = finds(looks);
                looks += 1;
                window.looked(found);
                found
            };
            now_ns += waits_ns(moment, is_found);
            window.went_on(|| now_ns);
            now_ns += work_ns;
        }
        looks
    }

    /// Goal: a lone peer that waits for each answer is looked for nearly always. Method: a look takes a third of the
    /// time of a sleep.
    #[test]
    fn looks_where_more_gets_done() {
        let mut window = Window::new(Spin::Paying(LENGTH));
        let looked = looks(&mut window, 100_000, |_| true, (7_000, 25_000));
        assert!(looked > 98_000, "{looked} looks");
    }

    /// Goal: work that comes at its own pace is slept for, though every look would find it.
    #[test]
    fn sleeps_where_no_more_gets_done() {
        let mut window = Window::new(Spin::Paying(LENGTH));
        let looked = looks(&mut window, 100_000, |_| true, (8_300, 8_300));
        assert!((100..5_000).contains(&looked), "{looked} looks");
    }

    /// Goal: waits for something else than a peer do not decide. Method: work at its own pace, and each 257th moment takes 200
    /// times as long, as a file is synced.
    #[test]
    fn one_long_wait_decides_nothing() {
        let mut window = Window::new(Spin::Paying(LENGTH));
        let waits_ns = |moment: u64, _| match moment % 257 {
            0 => 11_000_000,
            _ => 55_000,
        };
        let looked = looks_with(&mut window, 100_000, |_| true, waits_ns, 500);
        assert!((100..5_000).contains(&looked), "{looked} looks");
    }

    /// Goal: where much is done after each wait, the wait still decides. Method: 60 us of work after 2 us of looking, or 20 of
    /// sleep.
    #[test]
    fn work_counts_whole() {
        let mut window = Window::new(Spin::Paying(LENGTH));
        let waits_ns = |_, found| if found { 2_000 } else { 20_000 };
        let looked = looks_with(&mut window, 100_000, |_| true, waits_ns, 60_000);
        assert!(looked > 98_000, "{looked} looks");
        let looked = looks_with(&mut window, 100_000, |_| true, waits_ns, 200_000);
        assert!(looked < 5_000, "{looked} looks, for a tenth more");
    }

    /// Goal: the same is looked for by who has asked for it.
    #[test]
    fn a_length_of_ones_own_needs_no_gain() {
        let mut window = Window::new(Spin::Bought(LENGTH));
        let looked = looks(&mut window, 100_000, |_| true, (8_300, 8_300));
        assert_eq!(looked, 100_000);
    }

    /// Goal: looks in vain are rare, and two finds in three are not enough, for either kind.
    #[test]
    fn looking_in_vain_closes_the_window_but_for_probes() {
        for spin in [Spin::Paying(LENGTH), Spin::Bought(LENGTH)] {
            let mut window = Window::new(spin);
            let looked = looks(&mut window, 100_000, |_| false, (1, 8_300));
            assert!((100..1_000).contains(&looked), "{looked} looks");
            let mut window = Window::new(spin);
            let looked = looks(&mut window, 100_000, |look| look % 3 != 2, (8_300, 8_300));
            assert!(looked < 5_000, "{looked} looks");
        }
    }

    /// Goal: it finds out when the other side changes. Method: from one load to the other and back.
    #[test]
    fn it_follows_the_load() {
        let mut window = Window::new(Spin::Paying(LENGTH));
        looks(&mut window, 10_000, |_| true, (8_300, 8_300));
        let looked = looks(&mut window, 10_000, |_| true, (7_000, 25_000));
        assert!(looked > 8_000, "{looked} looks");
        let looked = looks(&mut window, 10_000, |_| true, (8_300, 8_300));
        assert!(looked < 3_000, "{looked} looks");
    }

    /// Goal: a window of zero stays closed.
    #[test]
    fn a_window_of_zero_stays_closed() {
        let mut window = Window::new(Spin::Bought(Duration::ZERO));
        assert_eq!(looks(&mut window, 100, |_| true, (1, 1)), 0);
    }
}
