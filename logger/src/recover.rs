//! What was in the rings of a process that died: the reading side of [`crash.rs`](crate::Builder::crash_ring).
//!
//! ```text
//!   tail                 head
//!    |--- published ------|-- complete, not published --|-- older lap, or torn
//! ```
//!
//! From `tail` up to `head` every record is intact, unless the memory itself was damaged. Behind `head` the walk goes on as long as there are records
//! of this lap that are complete: the first word of a record is written last and carries the lap, so what an earlier
//! lap left, and a record that was being written, end the walk. All records are decoded in full before they are believed.

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::clock::Line as ClockLine;
use crate::crash::{self, DICTIONARY_BYTES, Overview, RingOverview};
use crate::decode::Known;
use crate::format::{Format, read_site};
use crate::line::{Line, Origin};
use crate::memory::HEADER_BYTES as RING_HEADER_BYTES;
use crate::record::{HEADER_BYTES, Head, id, lap};

/// Lines recovered from the crash ring of a dead process, in time order.
///
/// # Examples
/// ```no_run
/// use coring_logger::{Recovered, Text};
/// let recovered = Recovered::open("/dev/shm/server.ring".as_ref())?;
/// let mut text = Vec::new();
/// recovered.format(&mut Text::default(), &mut text);
/// for place in recovered.torn() {
///     eprintln!("torn record: {place}");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Recovered {
    bytes: Vec<u8>,
    process: u64,
    known: Known,
    origins: Vec<Origin>,
    /// Wall time, index of the origin, place in `bytes`.
    lines: Vec<(u64, usize, Range<usize>)>,
    torn: Vec<String>,
}

impl Recovered {
    /// Reads a crash ring.
    ///
    /// # Errors
    /// If the file cannot be read, is no crash ring, or belongs to a process that still lives.
    pub fn open(path: &Path) -> io::Result<Self> {
        let bytes = crash::take_over(path)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{}: there is no crash ring", path.display()),
            )
        })?;
        Self::read(bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: not a crash ring of this version", path.display()),
            )
        })
    }

    /// Reads the bytes of a crash ring; `None` if they are something else.
    pub(crate) fn read(bytes: Vec<u8>) -> Option<Self> {
        let overview = Overview::read(&bytes)?;
        let mut recovered = Self {
            bytes,
            process: overview.process,
            known: Known::default(),
            origins: Vec::new(),
            lines: Vec::new(),
            torn: Vec::new(),
        };
        recovered.read_dictionary();
        let mut at = RING_HEADER_BYTES + DICTIONARY_BYTES;
        for _ in 0..overview.rings {
            let Some(page) = recovered.bytes.get(at..at + RING_HEADER_BYTES) else {
                break;
            };
            let Some(ring) = RingOverview::read(page) else {
                break;
            };
            let data = at + RING_HEADER_BYTES;
            let Some(end) = usize::try_from(ring.capacity)
                .ok()
                .and_then(|capacity| data.checked_add(capacity))
            else {
                break;
            };
            if !ring.capacity.is_power_of_two() || end > recovered.bytes.len() {
                recovered.torn.push(format!("ring header at byte {at}"));
                break;
            }
            recovered.walk(&ring, data, &overview.clock);
            at = end;
        }
        recovered.lines.sort_by_key(|(time, ..)| *time);
        Some(recovered)
    }

    fn read_dictionary(&mut self) {
        let Some(mut rest) = self
            .bytes
            .get(RING_HEADER_BYTES..RING_HEADER_BYTES + DICTIONARY_BYTES)
        else {
            return;
        };
        while let Ok(head) = Head::read(rest) {
            if head.site == id::SITE
                && let Ok(site) = read_site(&rest[HEADER_BYTES..head.size])
            {
                self.known.sites.insert(site.id, site);
            }
            rest = &rest[head.size..];
        }
    }

    /// Collects the lines of one ring whose data begin at byte `data`.
    fn walk(&mut self, ring: &RingOverview, data: usize, clock: &ClockLine) {
        let Some(label) = &ring.label else { return };
        let name = label.core.map_or_else(
            || format!("thread {:?}", label.thread),
            |core| format!("core {core}"),
        );
        let RingOverview {
            capacity,
            head: published,
            tail,
            ..
        } = *ring;
        const FAR: u64 = 1 << 62; // no ring gets there; keeps the sums below from overflowing
        if published < tail
            || published > FAR
            || published - tail > capacity
            || published % 8 != 0
            || tail % 8 != 0
        {
            self.torn.push(format!(
                "{name}: its positions {tail} and {published} make no sense"
            ));
            return;
        }
        let origin = Origin::of_ring(label.id, label.core, label.thread.clone());
        self.origins.push(origin);
        let mut position = tail;
        let mut last_ticks = 0;
        let mut torn_since = None;
        while position - tail < capacity {
            let offset = usize::try_from(position & (capacity - 1)).expect("below the capacity");
            let lap_end = data + usize::try_from(capacity).expect("inside the file");
            let record = &self.bytes[data + offset..lap_end];
            let fresh = Head::read(record).ok().filter(|head| {
                head.lap == lap(position, capacity)
                    && position + head.size as u64 - tail <= capacity
                    && (position < published || head.site == id::SKIP || head.ticks >= last_ticks)
            });
            match fresh.and_then(|head| self.take(head, data + offset, clock).then_some(head)) {
                Some(head) => {
                    if let Some(since) = torn_since.take() {
                        self.torn
                            .push(format!("{name}: bytes {since} to {position} of the ring"));
                    }
                    if head.site != id::SKIP {
                        last_ticks = last_ticks.max(head.ticks);
                    }
                    position += head.size as u64;
                }
                // Damage among what was published: look for the next record. Behind that: the end.
                None if position < published => {
                    torn_since.get_or_insert(position);
                    position += 8;
                }
                None => break,
            }
        }
        if let Some(since) = torn_since {
            self.torn
                .push(format!("{name}: bytes {since} to {position} of the ring"));
        }
    }

    /// Takes one record over. False if it does not decode.
    fn take(&mut self, head: Head, at: usize, clock: &ClockLine) -> bool {
        let place = at..at + head.size;
        let record = &self.bytes[place.clone()];
        let origin = self.origins.last().expect("the walk has pushed one");
        match head.site {
            id::SKIP => true,
            id::LOSS => true,
            id::CONTEXT => {
                let mut changed = origin.clone();
                let intact = changed.set_context(&record[HEADER_BYTES..]).is_ok();
                if intact {
                    self.origins.push(changed);
                }
                intact
            }
            _ => {
                let wall_ns = clock.wall_ns(head.ticks);
                let intact = self.known.line(head, record, origin, wall_ns).is_ok();
                if intact {
                    self.lines.push((wall_ns, self.origins.len() - 1, place));
                }
                intact
            }
        }
    }

    /// The process that died.
    #[must_use]
    pub fn process(&self) -> u64 {
        self.process
    }

    /// How many lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing was left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Where the rings were damaged, in words.
    #[must_use]
    pub fn torn(&self) -> &[String] {
        &self.torn
    }

    /// Calls `each` with every line, in time order.
    pub fn for_each(&self, mut each: impl FnMut(&Line<'_>)) {
        for (wall_ns, origin, place) in &self.lines {
            let record = &self.bytes[place.clone()];
            // Both were checked when the line was taken over.
            let Ok(head) = Head::read(record) else {
                continue;
            };
            if let Ok(line) = self
                .known
                .line(head, record, &self.origins[*origin], *wall_ns)
            {
                each(&line);
            }
        }
    }

    /// Appends all lines in a format.
    pub fn format(&self, format: &mut impl Format, out: &mut Vec<u8>) {
        format.begin(out);
        self.for_each(|line| format.line(line, out));
    }
}
