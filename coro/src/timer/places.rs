//! Places: what a timer's key names, since its entry moves.
//!
//! A place is two words of 32 bits: where the entry is, and how many timers have had this place. Free places are bits, 64 a
//! word, and the words that have one are stacked:
//!
//! ```text
//!   words with free places:  [ 7, 2, 5 ]  <- top: its lowest bit is the next place
//!   bits of word 5:          0000 0110 1000 ...
//! ```
//!
//! So places are taken in runs of neighbours, in whatever order they came back. A plain stack of free places would hand them
//! out in the order in which timers fired, and each timer would miss the cache at its start and again at its end: with a
//! million live, 35 ns to insert instead of 10. The places of a word are asked for while those of the word before are taken.
//!
//! Among a million, whoever ends a timer out of turn waits for its place to come from memory. The processor ends several
//! timers meanwhile, as many as fit into its window: so an end is short, and takes no branch that cannot be predicted.
//!
//! Invariants: the bit of a place is set exactly while no timer has it; a word is on the stack exactly while it is not zero.

use crate::prefetch;

/// Places of one word.
const WORD: usize = u64::BITS as usize;
const NOWHERE: u32 = u32::MAX;

/// Names one live timer. A key of a timer that fired or was cancelled is recognised as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    pub(super) place: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where the entry is; [`NOWHERE`] when no timer has this place.
    at: u32,
    /// Advanced when the timer ends, so that old keys no longer match.
    generation: u32,
}

#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    free: Vec<u64>,
    /// Numbers of words that are not zero: the first `top` of as many as there are in `free`, and one.
    words: Vec<u32>,
    top: usize,
    live: usize,
    /// Generation of new places: above those of all places there ever were.
    first_generation: u32,
}

impl Places {
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// How many places there are.
    pub(super) fn room(&self) -> usize {
        self.places.len()
    }

    /// A place for a new timer.
    #[inline]
    pub(super) fn take(&mut self) -> TimerKey {
        let number = match self.top {
            0 => self.grow(),
            top => self.words[top - 1],
        };
        let word = &mut self.free[number as usize];
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        if *word == 0 {
            self.top -= 1;
            self.prefetch_next();
        }
        self.live += 1;
        let place = number * u64::BITS + bit;
        let generation = self.places[place as usize].generation;
        TimerKey { place, generation }
    }

    /// The timer has ended.
    #[inline]
    pub(super) fn release(&mut self, place: u32) {
        let Place { at, generation } = &mut self.places[place as usize];
        *at = NOWHERE;
        *generation = generation.wrapping_add(1);
        let word = &mut self.free[place as usize / WORD];
        // No branch: nobody can predict it when timers end in a random order.
        self.words[self.top] = place / u64::BITS;
        self.top += usize::from(*word == 0);
        *word |= 1 << (place % u64::BITS);
        self.live -= 1;
    }

    /// Asks for the places of the word that is next.
    #[inline]
    fn prefetch_next(&self) {
        if let Some(next) = self.top.checked_sub(2) {
            let first = self.words[next] as usize * WORD;
            for place in self.places[first..first + WORD].iter().step_by(8) {
                prefetch::line(place);
            }
        }
    }

    /// Asks for the memory of this place.
    #[inline]
    pub(super) fn prefetch(&self, place: u32) {
        prefetch::line(&self.places[place as usize]);
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

    /// Where the entry of this timer is, if it is live.
    #[inline]
    pub(super) fn find(&self, key: TimerKey) -> Option<u32> {
        let place = self.places.get(key.place as usize)?;
        (place.generation == key.generation).then_some(place.at)
    }

    /// Forgets the places behind the last one that is in use.
    pub(super) fn shrink(&mut self) {
        let used = self.free.iter().rposition(|word| *word != u64::MAX);
        let words = used.map_or(0, |last| last + 1);
        if words == self.free.len() {
            return;
        }
        let forgotten = self.places.drain(words * WORD..);
        let newest = forgotten.map(|place| place.generation).max();
        self.first_generation = self.first_generation.max(newest.unwrap_or(0));
        self.free.truncate(words);
        self.words.truncate(self.top);
        self.words.retain(|word| (*word as usize) < words);
        self.top = self.words.len();
        self.words.resize(words + 1, 0);
        self.places.shrink_to_fit();
        self.free.shrink_to_fit();
        self.words.shrink_to_fit();
    }

    #[cold]
    fn grow(&mut self) -> u32 {
        let word = u32::try_from(self.free.len()).expect("fewer than 2^32 timers fit in memory");
        let place = Place {
            at: NOWHERE,
            generation: self.first_generation,
        };
        self.places.resize(self.places.len() + WORD, place);
        self.free.push(u64::MAX);
        self.words.resize(self.free.len() + 1, 0);
        self.words[0] = word;
        self.top = 1;
        word
    }
}
