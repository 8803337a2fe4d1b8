//! What the kernel can do, and what of it may be used.
//!
//! ```text
//!    Features (what may be used: all, minus switches)          one bit a feature
//!        AND  what setup, probe and trial calls say exists     one bit a feature
//!        =    Capabilities::features (what is used)
//! ```
//!
//! Every feature newer than the floor has one row in [`TABLE`]: its name, the kernel that brought it, and what is
//! done without it. A feature can be switched off by its name, so that a new kernel can be made to behave like an
//! old one and each fallback can be tested.
//!
//! The kernel has no single list of what it can do. Setup flags are found by trying (`setup.rs`), opcodes by
//! `IORING_REGISTER_PROBE`, enter flags by an enter that does nothing else: the kernel answers `EINVAL` to a flag
//! it does not know. What an opcode can do beyond its first version is invisible to all of these; such features
//! are taken from an opcode that came with the same kernel.
//!
//! Bundles are in 6.10 and incremental buffers in 6.12, but both are told apart by the order of completions, and that the
//! completions of one ring come in the order in which buffers were used is certain since 6.15 only
//! (`io_req_post_cqe` in io_uring/io_uring.c flushes what was deferred before).

use std::fmt;
use std::str::FromStr;

use crate::opcode;

/// A kernel feature that can be switched off by name. [`TABLE`] says what each one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each one is described by its row in TABLE")]
pub enum Feature {
    SingleIssuer,
    DeferTaskrun,
    CoopTaskrun,
    NoSqarray,
    RegisteredRingFd,
    AbsTimer,
    NoIowait,
    MsgRing,
    SyncMsgRing,
    MultishotAccept,
    MultishotRecv,
    BufferRing,
    SendZc,
    Futex,
    Waitid,
    Ftruncate,
    RegisteredBuffers,
    Restrictions,
    SqPoll,
    NapiBusyPoll,
    RecvBundle,
    IncrementalBuffers,
}

/// How the presence of a feature is found out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Detect {
    /// A setup flag; the ladder in `setup.rs` knows.
    Setup,
    /// A call at start-up that either works or is refused; `kernel.rs` makes it.
    Trial,
    /// The opcode itself, or one that came with the same kernel.
    Opcode(u8),
}

/// A row of [`TABLE`].
#[derive(Clone, Copy, Debug)]
pub struct FeatureInfo {
    /// The feature.
    pub feature: Feature,
    /// Its name in [`Features::from_str`].
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: &'static str,
    /// What happens without it.
    pub fallback: &'static str,
    pub(crate) detect: Detect,
}

const fn row(
    feature: Feature,
    name: &'static str,
    since: &'static str,
    detect: Detect,
    fallback: &'static str,
) -> FeatureInfo {
    FeatureInfo {
        feature,
        name,
        since,
        fallback,
        detect,
    }
}

/// Every feature, in the order of [`Feature`].
#[rustfmt::skip]
pub const TABLE: [FeatureInfo; 22] = [
    row(Feature::SingleIssuer, "single-issuer", "6.0", Detect::Setup, "the kernel takes a lock on every enter; no defer-taskrun"),
    row(Feature::DeferTaskrun, "defer-taskrun", "6.1", Detect::Setup, "completions are run at any return from the kernel (coop-taskrun)"),
    row(Feature::CoopTaskrun, "coop-taskrun", "5.19", Detect::Setup, "without defer-taskrun too: an interrupt for each completion"),
    row(Feature::NoSqarray, "no-sqarray", "6.6", Detect::Setup, "one more indirection for each submission"),
    row(Feature::RegisteredRingFd, "registered-ring-fd", "5.18", Detect::Trial, "each enter looks the ring's descriptor up"),
    row(Feature::AbsTimer, "abs-timer", "6.12", Detect::Trial, "the clock is read before each sleep to get a relative time"),
    row(Feature::NoIowait, "no-iowait", "6.15", Detect::Trial, "a sleeping core is accounted as waiting for I/O"),
    row(Feature::MsgRing, "msg-ring", "5.18", Detect::Opcode(opcode::MsgRingData::CODE), "peers are woken like foreign threads wake us"),
    row(Feature::SyncMsgRing, "sync-msg-ring", "6.13", Detect::Trial, "foreign threads wake us through an eventfd that a poll watches"),
    row(Feature::MultishotAccept, "multishot-accept", "5.19", Detect::Opcode(opcode::Socket::CODE), "one accept operation for each connection"),
    row(Feature::MultishotRecv, "multishot-recv", "6.0", Detect::Opcode(opcode::SendZc::CODE), "one recv operation for each message"),
    row(Feature::BufferRing, "buffer-ring", "5.19", Detect::Opcode(opcode::Socket::CODE), "a waiting recv holds its caller's buffer"),
    row(Feature::SendZc, "send-zc", "6.0", Detect::Opcode(opcode::SendZc::CODE), "send copies"),
    row(Feature::Futex, "futex", "6.7", Detect::Opcode(opcode::FutexWait::CODE), "a helper thread waits"),
    row(Feature::Waitid, "waitid", "6.7", Detect::Opcode(opcode::WaitId::CODE), "a pidfd is polled"),
    row(Feature::Ftruncate, "ftruncate", "6.9", Detect::Opcode(opcode::Ftruncate::CODE), "ftruncate(2)"),
    row(Feature::RegisteredBuffers, "registered-buffers", "5.1", Detect::Opcode(opcode::ReadFixed::CODE), "each read and write looks its pages up"),
    row(Feature::Restrictions, "restrictions", "5.10", Detect::Setup, "the ring takes every operation that the kernel has"),
    row(Feature::SqPoll, "sqpoll", "5.11", Detect::Setup, "opt-in: each batch is submitted by an enter, as without the option"),
    row(Feature::NapiBusyPoll, "napi-busy-poll", "6.9", Detect::Setup, "opt-in: a waiting enter sleeps at once, as without the option"),
    row(Feature::RecvBundle, "recv-bundle", "6.15", Detect::Opcode(opcode::EpollWait::CODE), "opt-in: a completion for each buffer of a multishot recv"),
    row(Feature::IncrementalBuffers, "incremental-buffers", "6.15", Detect::Opcode(opcode::EpollWait::CODE), "opt-in: each completion uses up a whole buffer"),
];

const _: () = {
    let mut row = 0;
    while row < TABLE.len() {
        assert!(
            TABLE[row].feature as usize == row,
            "TABLE is in the order of Feature"
        );
        row += 1;
    }
};

impl Feature {
    /// The feature's row in [`TABLE`].
    #[must_use]
    pub const fn info(self) -> &'static FeatureInfo {
        &TABLE[self as usize]
    }

    /// Whether it is only used by who asks for it with an option of its own.
    #[must_use]
    pub const fn is_opt_in(self) -> bool {
        matches!(
            self,
            Feature::SqPoll
                | Feature::NapiBusyPoll
                | Feature::RecvBundle
                | Feature::IncrementalBuffers
        )
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

/// A set of features: as an option, those that may be used; in [`Capabilities`], those that are.
///
/// Parsed from words separated by commas, applied left to right to the full set: `no-NAME` takes one out, `NAME`
/// puts it back, `none` empties the set, `all` fills it.
///
/// ```
/// use coring_uring::{Feature, Features};
///
/// let features: Features = "no-defer-taskrun, no-msg-ring".parse()?;
/// assert!(!features.has(Feature::MsgRing));
/// assert!(features.has(Feature::AbsTimer));
///
/// let oldest: Features = "none".parse()?;
/// assert_eq!(oldest, Features::NONE);
/// # Ok::<(), coring_uring::UnknownFeature>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features(u32);

impl Features {
    /// Everything that the kernel has.
    pub const ALL: Features = Features((1 << TABLE.len()) - 1);
    /// Nothing beyond the floor.
    pub const NONE: Features = Features(0);

    /// Whether `feature` is in the set.
    #[inline]
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// The set with `feature`.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Features {
        Features(self.0 | feature.bit())
    }

    /// The set without `feature`.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Features {
        Features(self.0 & !feature.bit())
    }

    /// The features of the set, in the order of [`TABLE`].
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        let all = TABLE.iter().map(|row| row.feature);
        all.filter(move |feature| self.has(*feature))
    }

    /// The set that the environment variable `name` describes, [`Features::ALL`] when it is not set.
    ///
    /// # Errors
    /// [`UnknownFeature`] for a word that is not in the table.
    pub fn from_env(name: &str) -> Result<Features, UnknownFeature> {
        match std::env::var_os(name) {
            None => Ok(Features::ALL),
            Some(words) => words.to_string_lossy().parse(),
        }
    }
}

impl Default for Features {
    fn default() -> Features {
        Features::ALL
    }
}

impl FromStr for Features {
    type Err = UnknownFeature;

    fn from_str(words: &str) -> Result<Features, UnknownFeature> {
        let mut features = Features::ALL;
        for word in words
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let find = |name: &str| TABLE.iter().find(|row| row.name == name);
            // The name first: "no-sqarray" and "no-iowait" are features.
            features = match (word, find(word)) {
                ("all", _) => Features::ALL,
                ("none", _) => Features::NONE,
                (_, Some(row)) => features.with(row.feature),
                (_, None) => match word.strip_prefix("no-").and_then(find) {
                    Some(row) => features.without(row.feature),
                    None => return Err(UnknownFeature(word.to_owned())),
                },
            };
        }
        Ok(features)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|feature| feature.info().name))
            .finish()
    }
}

/// A word in a feature list that names no feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFeature(String);

impl fmt::Display for UnknownFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no io_uring feature; write all, none, or any of these, each also with no- in front:",
            self.0
        )?;
        for row in &TABLE {
            write!(f, " {}", row.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFeature {}

/// What one ring can do: the result of setup and probing.
#[derive(Clone, Debug)]
pub struct Capabilities {
    pub(crate) features: Features,
    /// One bit an opcode.
    pub(crate) opcodes: [u64; 4],
    pub(crate) setup_flags: u32,
    pub(crate) sq_entries: u32,
    pub(crate) cq_entries: u32,
}

impl Capabilities {
    /// The features in use.
    #[inline]
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// Whether `feature` is there and not switched off.
    #[inline]
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// Whether the kernel knows the opcode, for example `opcode::Ftruncate::CODE`.
    #[inline]
    #[must_use]
    pub fn has_opcode(&self, code: u8) -> bool {
        self.opcodes[usize::from(code) / 64] >> (code % 64) & 1 != 0
    }

    /// The `IORING_SETUP_*` flags the ring was made with.
    #[must_use]
    pub fn setup_flags(&self) -> u32 {
        self.setup_flags
    }

    /// Size of the submission queue.
    #[must_use]
    pub fn sq_entries(&self) -> u32 {
        self.sq_entries
    }

    /// Size of the completion queue.
    #[must_use]
    pub fn cq_entries(&self) -> u32 {
        self.cq_entries
    }

    /// Adds what the opcode probe tells about features, as far as `allowed`.
    pub(crate) fn add_probed(&mut self, allowed: Features) {
        for row in &TABLE {
            if let Detect::Opcode(code) = row.detect
                && allowed.has(row.feature)
                && self.has_opcode(code)
            {
                self.features = self.features.with(row.feature);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_can_be_switched_off_and_on_by_name() {
        for row in &TABLE {
            let off: Features = format!("no-{}", row.name).parse().unwrap();
            assert_eq!(off, Features::ALL.without(row.feature));
            let on: Features = format!("none,{}", row.name).parse().unwrap();
            assert_eq!(on, Features::NONE.with(row.feature));
            assert_eq!(row.feature.to_string(), row.name);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = "no-such-thing".parse::<Features>().unwrap_err().to_string();
        assert!(
            error.contains("no-such-thing") && error.contains("defer-taskrun"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_list_is_everything() {
        assert_eq!(" , ".parse(), Ok(Features::ALL));
        assert_eq!(Features::ALL.iter().count(), TABLE.len());
    }
}
