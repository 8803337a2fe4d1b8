//! Chance, and what goes wrong by it.
//!
//! Every decision of the simulated kernel that the real one leaves open is drawn here, from one generator with one
//! seed. A fault has a rate in 1024ths per occasion. [`Faults::swarm`] draws a different set of kinds and rates
//! for each seed: bugs hide behind each other's symptoms, and a run with every fault at once seldom gets far.

/// How often each thing goes wrong, in 1024ths of its occasions. Zero is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A transfer moves fewer bytes than it could, often only one.
    pub short_io: u16,
    /// A completion arrives later than it could, up to a millisecond. A cancel in between comes too late, so this
    /// also makes operations succeed after they were cancelled.
    pub delay: u16,
    /// A completion overtakes others that are ready, or an operation others that wait.
    pub reorder: u16,
    /// A sleep ends with nothing to show for it, as after a signal.
    pub early_return: u16,
    /// An enter is refused with `EAGAIN`.
    pub busy: u16,
    /// An enter takes only some of the queued SQEs.
    pub partial_submit: u16,
    /// A TCP connection is reset by the network while a transfer waits on it.
    pub reset: u16,
    /// There is no descriptor for an accept, open or socket: `EMFILE`.
    pub no_descriptor: u16,
    /// There is no space for a write to a file: `ENOSPC`.
    pub no_space: u16,
    /// The disk fails a read, write or fsync of a file: `EIO`.
    pub io_error: u16,
}

impl Faults {
    /// Nothing goes wrong, and everything happens at once and in order.
    pub const NONE: Faults = Faults {
        short_io: 0,
        delay: 0,
        reorder: 0,
        early_return: 0,
        busy: 0,
        partial_submit: 0,
        reset: 0,
        no_descriptor: 0,
        no_space: 0,
        io_error: 0,
    };

    /// Everything that a correct program does not notice except by its timing: no errors, only short transfers,
    /// delays, disorder and interruptions. Kinds and rates are drawn from `seed`.
    #[must_use]
    pub fn benign(seed: u64) -> Faults {
        let mut chance = Chance::new(seed ^ 0xbe01_6e00);
        let mut rate = |most| {
            if chance.below(3) == 0 {
                0
            } else {
                chance.rate(most)
            }
        };
        Faults {
            short_io: rate(1024),
            delay: rate(512),
            reorder: rate(512),
            early_return: rate(256),
            busy: rate(256),
            partial_submit: rate(512),
            ..Faults::NONE
        }
    }

    /// The benign ones and real errors, as `seed` draws them.
    #[must_use]
    pub fn swarm(seed: u64) -> Faults {
        let mut chance = Chance::new(seed ^ 0x5a_4a12);
        let mut rate = || {
            if chance.below(2) == 0 {
                0
            } else {
                chance.rate(32)
            }
        };
        Faults {
            reset: rate(),
            no_descriptor: rate(),
            no_space: rate(),
            io_error: rate(),
            ..Faults::benign(seed)
        }
    }
}

/// A small generator (splitmix64): equal seeds give equal runs.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A rate below `bound`.
    fn rate(&mut self, bound: u16) -> u16 {
        u16::try_from(self.below(bound.into())).expect("below a u16")
    }

    /// An index of a sequence of `length`, which is not zero.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }

    /// True in `rate` of 1024 cases. A rate of zero draws nothing, so that switching a fault off does not shift
    /// the others' luck more than necessary.
    pub(super) fn strikes(&mut self, rate: u16) -> bool {
        rate != 0 && self.below(1024) < u64::from(rate)
    }
}
