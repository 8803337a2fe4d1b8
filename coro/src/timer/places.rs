//! Places: what a timer's key names, since its entry moves.
//!
//! A place is two words of 32 bits: where the entry is, and how many timers have had this place. Which places are free is
//! said in [`free`](super::free); those of a word are asked for while those of the word before are taken.
//!
//! Among a million, whoever ends a timer out of turn waits for its place to come from memory: see [`discarded`](super::discarded).

use super::free::{FreePlaces, WORD};
use crate::prefetch;

const NOWHERE: u32 = u32::MAX;
/// Places of one cache line.
const LINE: usize = 64 / size_of::<Place>();

/// Names one live timer. A key of a timer that fired or was cancelled is recognised as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    pub(super) place: u32,
    generation: u32,
}

impl TimerKey {
    /// The key of no timer.
    pub(super) const NOBODY: Self = Self {
        place: NOWHERE,
        generation: 0,
    };
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where the entry is; [`NOWHERE`] when no timer has this place.
    at: u32,
    /// Advanced when the timer ends, so that old keys no longer match.
    generation: u32,
}

impl Place {
    #[inline]
    fn end(&mut self) {
        self.at = NOWHERE;
        self.generation = self.generation.wrapping_add(1);
    }
}

#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    free: FreePlaces,
    /// Generation of new places: above those of all places there ever were.
    first_generation: u32,
}

impl Places {
    pub(super) fn live(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// How many places there are.
    pub(super) fn room(&self) -> usize {
        self.places.len()
    }

    /// A place for a new timer.
    #[inline]
    pub(super) fn take(&mut self) -> TimerKey {
        let places = &self.places;
        let soon = |first| {
            for place in places[first..first + WORD].iter().step_by(LINE) {
                prefetch::line(place);
            }
        };
        let place = match self.free.take(soon) {
            Some(place) => place,
            None => self.grow(),
        };
        let generation = self.places[place].generation;
        #[expect(clippy::cast_possible_truncation, reason = "checked when it was made")]
        let place = place as u32;
        TimerKey { place, generation }
    }

    /// The timer of this place has ended.
    #[inline]
    pub(super) fn release(&mut self, place: u32) {
        self.places[place as usize].end();
        self.free.put(place as usize);
    }

    /// Ends a timer, if it is live; returns where its entry is.
    #[inline]
    pub(super) fn end(&mut self, key: TimerKey) -> Option<u32> {
        let place = self.places.get_mut(key.place as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let at = place.at;
        place.end();
        self.free.put(key.place as usize);
        Some(at)
    }

    /// Asks for the memory of this place; there need not be one.
    #[inline]
    pub(super) fn prefetch(&self, place: u32) {
        prefetch::line(self.places.as_ptr().wrapping_add(place as usize));
    }

    /// Whether a live timer has this place, and its entry is there.
    #[inline]
    pub(super) fn is_at(&self, place: u32, at: u32) -> bool {
        self.places[place as usize].at == at
    }

    #[inline]
    pub(super) fn set(&mut self, place: u32, at: u32) {
        self.places[place as usize].at = at;
    }

    /// Whether this timer is live.
    #[inline]
    pub(super) fn is_live(&self, key: TimerKey) -> bool {
        let place = self.places.get(key.place as usize);
        place.is_some_and(|place| place.generation == key.generation)
    }

    /// Forgets the places behind the last one that is in use.
    pub(super) fn shrink(&mut self) {
        let left = self.free.shrink();
        let forgotten = self.places.drain(left..);
        if let Some(newest) = forgotten.map(|place| place.generation).max() {
            self.first_generation = self.first_generation.max(newest);
            self.places.shrink_to_fit();
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> usize {
        let place = Place {
            at: NOWHERE,
            generation: self.first_generation,
        };
        let places = self.places.len() + WORD;
        assert!(
            u32::try_from(places).is_ok(),
            "fewer than 2^32 timers fit in memory"
        );
        self.places.resize(places, place);
        self.free.grow();
        let first = self.free.take(|_| ());
        first.expect("64 places have just been added")
    }
}
