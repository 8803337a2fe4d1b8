//! The bytes of a record, in rings, in crash files and in binary log files alike.
//!
//! ```text
//!   byte  0        2     3       4              8                    16
//!         | size/8 | lap | flags | site         | ticks              | values ...  padding to 8 |
//! ```
//!
//! *size* counts the whole record. *lap* is the low byte of how often the ring has been gone round: a reader that walks past the
//! published head (after a crash) tells fresh records from what an earlier lap left. The first eight bytes are written last,
//! with one store, so a record whose first word is right is complete. *site* is a call site's id, or one of [`id`].

use log::Level;

use crate::format::MAGIC;
use crate::value::Torn;

pub(crate) const HEADER_BYTES: usize = 16;

/// No record is longer, however large the ring: bounds what one line can take, and keeps *size* in its 16 bits.
pub(crate) const MAX_RECORD_BYTES: u64 = 256 * 1024;

/// The message is finished text, one value, instead of the arguments of the site's format string.
pub(crate) const FINISHED: u8 = 1;

/// A line without call site that is for the flight recorder only. (A call site says so itself.)
pub(crate) const RECORDED: u8 = 2;

/// Records that are not a line of a call site.
pub(crate) mod id {
    /// Nothing, up to the end of the ring. May be 8 bytes short: it has no ticks.
    pub(crate) const SKIP: u32 = 1;
    /// Lines were lost: ticks of the first, then the ring's totals by level.
    pub(crate) const LOSS: u32 = 2;
    /// From here on lines belong to: id, name, (key, value)*.
    pub(crate) const CONTEXT: u32 = 3;
    /// Only in files: the description of a call site.
    pub(crate) const SITE: u32 = 4;
    /// Only in files: the ring from which the following records come.
    pub(crate) const SOURCE: u32 = 6;
    /// A line without a call site (from the `log` facade or from `tracing`); the level (1 = error) is added to the id.
    pub(crate) const DYNAMIC: u32 = 8;
}

/// What a record's first sixteen bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size: usize,
    pub(crate) lap: u8,
    pub(crate) flags: u8,
    pub(crate) site: u32,
    pub(crate) ticks: u64,
}

/// The first word of a record.
#[inline(always)]
pub(crate) fn first_word(size: u64, lap: u8, flags: u8, site: u32) -> u64 {
    (size / 8) | u64::from(lap) << 16 | u64::from(flags) << 24 | u64::from(site) << 32
}

/// The lap byte of a position in a ring of `capacity` bytes. Starts at 1, so that zeroed memory is never a fresh record.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low byte is what is wanted"
)]
pub(crate) fn lap(position: u64, capacity: u64) -> u8 {
    (position / capacity) as u8 ^ 0x5a
}

/// Whether a first word begins a record of this lap.
pub(crate) fn is_of_lap(first: u64, lap: u8) -> bool {
    first & 0xffff != 0 && first.to_le_bytes()[2] == lap
}

impl Head {
    /// Reads the head of the record at the start of `bytes`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Torn> {
        let (first, rest) = bytes.split_first_chunk::<8>().ok_or(Torn)?;
        let first = u64::from_le_bytes(*first);
        let size = (first & 0xffff) as usize * 8;
        let site = (first >> 32) as u32;
        if size > bytes.len() || size < 8 || (size < HEADER_BYTES && site != id::SKIP) {
            return Err(Torn);
        }
        let ticks = rest
            .first_chunk::<8>()
            .map_or(0, |ticks| u64::from_le_bytes(*ticks));
        Ok(Self {
            size,
            lap: (first >> 16) as u8,
            flags: (first >> 24) as u8,
            site,
            ticks,
        })
    }

    /// The level of a [`id::DYNAMIC`] record.
    pub(crate) fn dynamic_level(&self) -> Option<Level> {
        Level::iter().find(|level| dynamic_id(*level) == self.site)
    }
}

/// The record id for lines of `level` that have no call site.
pub(crate) fn dynamic_id(level: Level) -> u32 {
    id::DYNAMIC + level as u32
}

/// Index of a level in counters: error is 0.
#[inline(always)]
pub(crate) fn level_index(level: Level) -> usize {
    level as usize - 1
}

/// Replaces the time of the record at the start of `bytes`.
#[inline(always)]
pub(crate) fn set_time(bytes: &mut [u8], time: u64) {
    bytes[8..HEADER_BYTES].copy_from_slice(&time.to_le_bytes());
}

/// Of the records of a file that begin at the start of `bytes`: whether each is a line, and where it ends.
pub(crate) fn ends(bytes: &[u8]) -> impl Iterator<Item = (bool, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[at..];
        if rest.starts_with(&MAGIC) {
            at += MAGIC.len();
            return Some((false, at));
        }
        let head = Head::read(rest).ok()?;
        at += head.size;
        let line = !matches!(head.site, id::SITE | id::SOURCE | id::CONTEXT);
        Some((line, at))
    })
}

/// Appends a record to a buffer; for files and tests.
pub(crate) fn push(out: &mut Vec<u8>, flags: u8, site: u32, ticks: u64, values: &[u8]) {
    let size = (HEADER_BYTES + values.len()).next_multiple_of(8);
    let end = out.len() + size;
    out.extend_from_slice(&first_word(size as u64, 0, flags, site).to_le_bytes());
    out.extend_from_slice(&ticks.to_le_bytes());
    out.extend_from_slice(values);
    out.resize(end, 0);
}
