//! The short way of lines into a binary file: many at a time, without looking at what they say.
//!
//! ```text
//!   ring:   | line | line | line | context | ...
//!             \______ copied ____/ stop: this one takes the long way (`write_next`)
//!   block:  | .. | line | line | line |
//!                    ^ each counter becomes a wall time, in place
//! ```
//!
//! A binary file holds the records as they are, but for their times. So a stretch of the ring is copied at once, which reads memory that another
//! core has just written as fast as it can be read, and the copy, now near, is walked once. The walk stops at whatever is more than a line for
//! the file: a context, a loss, a site that the file does not know, a line that is not to be written or is an error, a
//! line whose turn has not come. What was copied from there on is taken back. Stretches begin short and double while nothing stops them, so
//! that rings whose lines alternate do not copy in vain.

use log::Level;

use super::{Drain, KnownSite};
use crate::callsite;
use crate::clock;
use crate::record::{self, Head};

/// The first stretch, and the longest: it stays in the nearest cache.
const STRETCH_BYTES: std::ops::RangeInclusive<usize> = 256..=16 << 10;

/// How much the next attempt copies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch(usize);

impl Stretch {
    pub(super) fn short() -> Self {
        Self(*STRETCH_BYTES.start())
    }

    /// After a stretch that gave so many lines.
    fn next(self, lines: usize) -> Self {
        if lines == 0 {
            Self::short()
        } else {
            Self((self.0 * 2).min(*STRETCH_BYTES.end()))
        }
    }
}

/// What decides whether a record is copied.
struct Walk<'a> {
    sites: &'a [Option<Box<KnownSite>>],
    described: &'a [bool],
    clock: clock::Line,
    /// The least and the greatest time that is in order.
    ticks: (u64, u64),
    wall_ns: u64,
    budget: usize,
}

impl Walk<'_> {
    /// Whether lines of this site go into the file as they are.
    fn takes(&self, site: u32) -> bool {
        let index = site as usize;
        let known = self.sites.get(index).and_then(Option::as_ref);
        site >= callsite::FIRST_ID
            && self.described.get(index).copied().unwrap_or(false)
            && known
                .is_some_and(|known| known.site.level != Level::Error && known.live.is_written())
    }

    /// Gives the records their wall times. Returns how many bytes and lines were in order.
    fn walk(&mut self, bytes: &mut [u8]) -> (usize, usize) {
        let (mut at, mut lines, mut last_site) = (0, 0, 0);
        while lines < self.budget {
            // Cut off by the end of the stretch, or a skip record without a time.
            let Ok(head) = Head::read(&bytes[at..]) else {
                break;
            };
            if head.site != last_site && !self.takes(head.site) {
                break;
            }
            last_site = head.site;
            if head.ticks < self.ticks.0 || head.ticks > self.ticks.1 {
                break;
            }
            self.ticks.0 = head.ticks;
            self.wall_ns = self.wall_ns.max(self.clock.wall_ns(head.ticks));
            record::set_time(&mut bytes[at..], self.wall_ns);
            at += head.size;
            lines += 1;
        }
        (at, lines)
    }
}

impl Drain {
    /// Copies lines of one source up to the time `bound`, at most `budget`. Returns how many: 0 if the next one has to take the long way.
    #[inline]
    pub(super) fn copy_lines(
        &mut self,
        index: usize,
        bound: u64,
        budget: usize,
        stretch: &mut Stretch,
    ) -> usize {
        let [output] = &mut *self.outputs else {
            return 0;
        };
        let source = &mut self.sources[index];
        let Some((binary, block)) = output.takes_records(source.origin()) else {
            return 0;
        };
        let mut walk = Walk {
            sites: &self.sites,
            described: binary.described(),
            clock: self.clock.line(),
            ticks: (self.last_ticks, bound),
            wall_ns: self.last_wall_ns,
            budget,
        };
        let start = block.len();
        let rest = source.rest();
        block.extend_from_slice(&rest[..rest.len().min(stretch.0)]);
        let (bytes, lines) = walk.walk(&mut block[start..]);
        block.truncate(start + bytes);
        *stretch = stretch.next(lines);
        if lines > 0 {
            (self.last_ticks, self.last_wall_ns) = (walk.ticks.0, walk.wall_ns);
            output.took_records(self.last_wall_ns);
            self.lines += lines as u64;
            source.step(bytes);
            #[cfg(test)]
            {
                self.copied += lines;
            }
        }
        lines
    }
}
