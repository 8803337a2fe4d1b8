//! One ring as the drain sees it: what comes next, whose lines these are, what was lost.
//!
//! ```text
//!   released        trail            position      head
//!      | kept for the flight recorder  |  to write   |
//! ```
//!
//! Without a flight recorder `released` follows `position`. With it, half of the ring is kept behind, and `trail_origin` is the context
//! that held at `released`, so that a dump can say whose the old lines are.

#![expect(unsafe_code, reason = "reads published ring memory")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::Line;
use crate::format::timestamp;
use crate::line::Origin;
use crate::memory::Ring;
use crate::record::{HEADER_BYTES, Head, id};
use crate::ring::{Reader, Since};
use crate::value::{Torn, Values};

#[derive(Debug)]
pub(super) struct Source {
    ring: Arc<Ring>,
    reader: Reader,
    /// What was published when we looked.
    head: u64,
    next: Option<Head>,
    origin: Origin,
    pub(super) trail_origin: Origin,
    /// Where `position` was at the last release.
    given: u64,
    /// Up to here a dump has shown everything.
    pub(super) dumped: u64,
}

impl Source {
    pub(super) fn new(ring: Arc<Ring>) -> Self {
        let reader = Reader::new(ring.shared());
        let label = &ring.label;
        let origin = Origin::of_ring(label.id, label.core, label.thread.clone());
        let head = reader.position;
        Self {
            reader,
            head,
            next: None,
            trail_origin: origin.clone(),
            origin,
            dumped: head,
            given: head,
            ring,
        }
    }

    pub(super) fn is(&self, ring: &Arc<Ring>) -> bool {
        Arc::ptr_eq(&self.ring, ring)
    }

    pub(super) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The producer has gone and everything it published has been read.
    pub(super) fn is_over(&self) -> bool {
        // Closed is asked first: what was published before it is then visible.
        self.ring.is_closed() && self.reader.published(self.ring.shared()) == self.reader.position
    }

    fn drops(&self) -> [u64; 5] {
        self.ring.shared().drops()
    }

    /// Takes notice of what has been published. Returns a time that no line is older than which is still to come, as far as its producer has
    /// said: `u64::MAX` if it has begun none.
    pub(super) fn look(&mut self) -> u64 {
        let since = self.ring.shared().unpublished_since();
        self.head = self.reader.published(self.ring.shared());
        self.ring.bring_in(self.head);
        self.find_next();
        match since {
            Since::Nothing => u64::MAX,
            Since::Ticks(ticks) => ticks,
            Since::Perhaps(ticks) => {
                // SAFETY: we are the ring's only reader, and release nothing in between.
                let begun = unsafe { self.ring.has_record_at(self.head) };
                if begun { ticks } else { u64::MAX }
            }
        }
    }

    #[inline]
    pub(super) fn next_ticks(&self) -> Option<u64> {
        self.next.map(|head| head.ticks)
    }

    #[inline]
    pub(super) fn next(&self) -> Option<Head> {
        self.next
    }

    /// Steps over the record that was next, or several.
    #[inline]
    pub(super) fn step(&mut self, size: usize) {
        self.reader.position += size as u64;
        self.find_next();
    }

    #[inline]
    fn find_next(&mut self) {
        self.next = loop {
            if self.reader.position == self.head {
                break None;
            }
            let head = self
                .head_at(self.reader.position)
                .expect("a published record has a valid head");
            if head.site != id::SKIP {
                break Some(head);
            }
            self.reader.position += head.size as u64;
        };
    }

    /// The head of the record at a position between `released` and `head`.
    #[inline]
    pub(super) fn head_at(&self, position: u64) -> Result<Head, Torn> {
        Head::read(self.bytes_from(position))
    }

    /// Bytes from a position to the end of the lap, or of what is published.
    #[inline]
    fn bytes_from(&self, position: u64) -> &[u8] {
        let capacity = self.ring.capacity() as u64;
        let lap_end = (position & !(capacity - 1)) + capacity;
        // SAFETY: we are the ring's only reader, the range lies between `released` and `published` and ends with the lap, and
        // `release` takes `&mut self`, so nothing is released while the slice lives.
        unsafe { self.ring.bytes(position, self.head.min(lap_end)) }
    }

    /// What is published from the next record on, up to the end of the lap.
    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes_from(self.reader.position)
    }

    /// The whole next record.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        let size = self.next.map_or(0, |head| head.size);
        &self.bytes_from(self.reader.position)[..size]
    }

    /// The whole record at a position.
    pub(super) fn record_at(&self, position: u64) -> Result<(Head, &[u8]), Torn> {
        let head = self.head_at(position)?;
        Ok((head, &self.bytes_from(position)[..head.size]))
    }

    pub(super) fn position(&self) -> u64 {
        self.reader.position
    }

    pub(super) fn released(&self) -> u64 {
        self.reader.released()
    }

    /// Takes over the context record that is next.
    pub(super) fn take_context(&mut self) {
        let mut origin = std::mem::take(&mut self.origin);
        let intact = origin.set_context(&self.bytes()[HEADER_BYTES..]);
        debug_assert_eq!(intact, Ok(()), "our own context record");
        self.origin = origin;
    }

    /// Takes the loss record that is next. Returns what to say, if it has not been said.
    pub(super) fn take_loss(&mut self, clock: &Line) -> Option<String> {
        let mut values = Values::new(&self.bytes()[HEADER_BYTES..]);
        let since = values.number().ok()?;
        let mut totals = [0; 5];
        for total in &mut totals {
            *total = values.number().ok()?;
        }
        let text = self.loss_text(
            totals,
            &format!(" since {}", timestamp(clock.wall_ns(since))),
        );
        self.mark_reported(totals);
        text
    }

    /// What to say of losses that no record tells of: nothing has got through since.
    pub(super) fn unreported_loss(&mut self) -> Option<String> {
        if self.next.is_some() {
            return None; // The record that tells of them may be still to come.
        }
        let totals = self.drops();
        let text = self.loss_text(totals, "");
        self.mark_reported(totals);
        text
    }

    fn mark_reported(&self, totals: [u64; 5]) {
        for (reported, total) in self.ring.reported().iter().zip(totals) {
            reported.fetch_max(total, Ordering::Relaxed);
        }
    }

    fn loss_text(&self, totals: [u64; 5], since: &str) -> Option<String> {
        let reported = self
            .ring
            .reported()
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        let new: Vec<u64> = totals
            .iter()
            .zip(reported)
            .map(|(total, known)| total.saturating_sub(known))
            .collect();
        let count: u64 = new.iter().sum();
        if count == 0 {
            return None;
        }
        let from = match (self.origin.core, self.origin.thread.as_str()) {
            (Some(core), _) => format!("core {core}"),
            (None, "") => format!("thread ring {}", self.origin.id),
            (None, name) => format!("thread {name}"),
        };
        let levels = ["error", "warn", "info", "debug", "trace"];
        let by_level: Vec<String> = new
            .iter()
            .zip(levels)
            .filter(|(count, _)| **count > 0)
            .map(|(count, level)| format!("{count} {level}"))
            .collect();
        Some(format!(
            "{count} lines of {from} lost{since}: the ring was full, or a line too long for it ({})",
            by_level.join(", ")
        ))
    }

    /// An eighth of the ring has been read: bytes should be given back in the middle of a pass, so that the producer need not wait for its end.
    #[inline]
    pub(super) fn has_read_much(&self) -> bool {
        self.reader.position - self.given >= self.ring.capacity() as u64 / 8
    }

    /// Gives read bytes back, all of them or, for the flight recorder, all but half a ring.
    pub(super) fn release(&mut self, keep_history: bool) {
        self.given = self.reader.position;
        if !keep_history {
            self.release_to(self.reader.position);
            return;
        }
        let keep = self.ring.capacity() as u64 / 2;
        let mut trail = self.reader.released();
        let mut origin = std::mem::take(&mut self.trail_origin);
        while self.reader.position - trail > keep {
            let (head, bytes) = self
                .record_at(trail)
                .expect("a published record has a valid head");
            if head.site == id::CONTEXT {
                let intact = origin.set_context(&bytes[HEADER_BYTES..]);
                debug_assert_eq!(intact, Ok(()), "our own context record");
            }
            trail += head.size as u64;
        }
        self.trail_origin = origin;
        self.release_to(trail);
    }

    /// Gives the bytes below `position` back, and lets this CPU's cache go of them: the writer need not take them from it.
    fn release_to(&mut self, position: u64) {
        self.ring.let_go(self.reader.released(), position);
        let _held = self.ring.hold();
        self.reader.release(self.ring.shared(), position);
    }
}
