//! A glance before a park: whether what a coroutine is about to wait for comes within a moment.
//!
//! Between two cores that work for each other the next message is some 50 ns away. To park for it - a place in a queue,
//! two switches, a turn, and on the other side a wake list - takes ten times as long. So a coroutine that has to wait for
//! another core tries again for a moment first, on its own stack, as long as it keeps nothing waiting by that: nothing
//! else is ready, no operation waits to be submitted, and it stops when there is news for the core. When a glance finds
//! what it looked for it gives way as every call does that ends without waiting, so that the turn ends in time.
//!
//! ```text
//!   short    1 us   while most are in vain: a fraction of what the sleep costs that may follow
//!   full     2 us   while most find
//!   probe   50 us   once in 64 to 1,024 short ones
//! ```
//!
//! What the probe is for: two cores that wake each other from sleep answer in 20 to 50 us, so no short glance ever finds
//! anything, though both would answer at once if both were awake. A probe outlasts the other's waking; it finds, and so do
//! the glances that follow, on both sides. In vain it is tried half as often the next time.
//!
//! The idle window (idle.rs) is the same thought for a core that has nothing to do: it begins where the glance ends. Where
//! looking is switched off, or cores share CPUs, neither is done.

const SHORT_NS: u64 = 1_000;
const FULL_NS: u64 = 2_000;
const PROBE_NS: u64 = 50_000;
/// Attempts between two looks at the core's news and the clock.
pub(super) const LOOKS_PER_NEWS: u32 = 8;

const HIGHEST: u8 = 16;
/// From here on they are full.
const GOOD: u8 = 8;
const IN_VAIN: u8 = 2;
const SHORTEST_PAUSE: u32 = 64;
const LONGEST_PAUSE: u32 = 1024;

/// How long the next glance may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glance {
    enabled: bool,
    /// Up by one for a find, down by two in vain.
    score: u8,
    /// Short ones until the next probe.
    until_probe: u32,
    pause: u32,
}

impl Glance {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            score: GOOD,
            until_probe: 0,
            pause: SHORTEST_PAUSE,
        }
    }

    /// How long it may take; zero for not at all. Then [`found`](Self::found) or [`in_vain`](Self::in_vain) follows, or
    /// neither when it was interrupted.
    #[inline]
    pub(super) fn length_ns(&self) -> u64 {
        match self.score {
            _ if !self.enabled => 0,
            GOOD.. => FULL_NS,
            _ if self.until_probe == 0 => PROBE_NS,
            _ => SHORT_NS,
        }
    }

    #[inline]
    pub(super) fn found(mut self) -> Self {
        if self.score < GOOD && self.until_probe == 0 {
            self.score = GOOD;
        }
        self.score = (self.score + 1).min(HIGHEST);
        self.pause = SHORTEST_PAUSE;
        self.until_probe = self.until_probe.saturating_sub(1);
        self
    }

    pub(super) fn in_vain(mut self) -> Self {
        if self.score >= GOOD {
            self.score -= IN_VAIN;
        } else if self.until_probe > 0 {
            self.score = self.score.saturating_sub(IN_VAIN);
            self.until_probe -= 1;
        } else {
            self.until_probe = self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{FULL_NS, Glance, PROBE_NS, SHORT_NS};

    /// Goes through waits whose event comes after so many nanoseconds. How long glances took, on the average.
    fn look(glance: &mut Glance, waits: u64, mut event_ns: impl FnMut(u64) -> u64) -> u64 {
        let mut spent_ns = 0;
        for wait in 0..waits {
            let (length_ns, event_ns) = (glance.length_ns(), event_ns(wait));
            spent_ns += length_ns.min(event_ns);
            *glance = if event_ns <= length_ns {
                glance.found()
            } else {
                glance.in_vain()
            };
        }
        spent_ns / waits
    }

    /// Goal: what comes soon is found each time; what does not costs little more than the short glance.
    #[test]
    fn it_is_as_long_as_it_pays() {
        let mut glance = Glance::new(true);
        assert_eq!(look(&mut glance, 10_000, |_| 1_500), 1_500);
        assert!(look(&mut glance, 100_000, |_| 1_000_000) < SHORT_NS + 100);
        assert_eq!(look(&mut glance, 10_000, |_| 500), 500);
        assert_eq!(glance.length_ns(), FULL_NS);
        // Two finds in three are enough.
        let mut events = [100, 100, 1_000_000].into_iter().cycle();
        look(&mut glance, 10_000, |_| events.next().unwrap_or(0));
        assert!(glance.score >= super::GOOD - super::IN_VAIN, "{glance:?}");
    }

    /// Goal: two sides that wake each other find out that both could stay awake. Method: an answer comes after 30 us,
    /// or after 200 ns when its sender was found looking.
    #[test]
    fn a_probe_brings_both_together() {
        let mut sides = [Glance::new(true), Glance::new(true)];
        for side in &mut sides {
            look(side, 1_000, |_| 1_000_000);
            assert!(side.length_ns() < PROBE_NS);
        }
        let mut awake = false;
        for hop in 0..10_000 {
            let side = &mut sides[hop % 2];
            let answer_ns = if awake { 200 } else { 30_000 };
            awake = answer_ns <= side.length_ns();
            *side = if awake { side.found() } else { side.in_vain() };
        }
        assert!(awake);
        assert_eq!(sides.map(|side| side.length_ns()), [FULL_NS; 2]);
    }

    #[test]
    fn switched_off_there_is_none() {
        assert_eq!(look(&mut Glance::new(false), 1_000, |_| 100), 0);
    }
}
