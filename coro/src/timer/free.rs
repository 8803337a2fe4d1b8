//! Which places are free: a set of small numbers that gives out the low ones first.
//!
//! A bit a place, a bit for each word of those, and a bit for each word of these; a million places are 16,000 words, 245 and 4.
//!
//! ```text
//!   groups   [ ...1 ]                        64 words of the next line a word: scanned, one word for 262,144 places
//!   words    [ .1.. | .... | 1... ]          64 words of the next line a word
//!   places   [ .... | 11.1 | .... | ... ]    64 places a word: the lowest bit of the current word is the next place
//! ```
//!
//! So places are taken in runs of neighbours, in whatever order they came back, and the runs follow each other in memory. A
//! plain stack of free places would hand them out in the order in which timers ended, and each timer would miss the
//! cache at its start and again at its end. And low places first means that the high ones empty out, which is where
//! memory can be given back.
//!
//! To give a place back takes no branch that cannot be predicted: nobody can say in which order timers end.
//!
//! Invariants: the bit of a place is set exactly while it is free. The bit of a word of the upper two lines is set if there is
//! a bit in it; perhaps it is set if there is none, until someone looks.

/// Places of one word.
pub(super) const WORD: usize = u64::BITS as usize;

#[derive(Debug, Default)]
pub(super) struct FreePlaces {
    places: Vec<u64>,
    words: Vec<u64>,
    groups: Vec<u64>,
    /// The word that places are taken from until it has none.
    current: usize,
    free: usize,
}

impl FreePlaces {
    /// How many are free.
    pub(super) fn len(&self) -> usize {
        self.free
    }

    /// A free place, if there is one. When it is the first of its word, `soon` is told where the word after it begins.
    #[inline]
    pub(super) fn take(&mut self, soon: impl FnOnce(usize)) -> Option<usize> {
        let mut number = self.current;
        if self.places.get(number).is_none_or(|word| *word == 0) {
            number = self.find(soon)?;
        }
        let word = &mut self.places[number];
        let place = number * WORD + lowest(*word);
        *word = without_lowest(*word);
        self.free -= 1;
        Some(place)
    }

    /// This place is free from now on.
    #[inline]
    pub(super) fn put(&mut self, place: usize) {
        let (number, group) = (place / WORD, place / WORD / WORD);
        self.places[number] |= bit(place);
        let words = &mut self.words[group];
        let before = *words;
        *words = before | bit(number);
        if before == 0 {
            self.groups[group / WORD] |= bit(group);
        }
        self.free += 1;
    }

    /// Makes the lowest word that has free places the current one. Once a word: it does not deserve the registers of [`take`](Self::take).
    #[inline(never)]
    fn find(&mut self, soon: impl FnOnce(usize)) -> Option<usize> {
        loop {
            let (index, groups) = self.groups.iter_mut().enumerate().find(|(_, w)| **w != 0)?;
            let group = index * WORD + lowest(*groups);
            let Some(words) = self.words.get_mut(group).filter(|words| **words != 0) else {
                *groups = without_lowest(*groups);
                continue;
            };
            let number = group * WORD + lowest(*words);
            let others = without_lowest(*words);
            if self.places[number] == 0 {
                *words = others;
                continue;
            }
            if others != 0 {
                soon((group * WORD + lowest(others)) * WORD);
            }
            self.current = number;
            return Some(number);
        }
    }

    /// A word more of places, all of them free.
    pub(super) fn grow(&mut self) {
        self.places.push(0);
        self.make_upper_lines();
        let end = self.places.len() * WORD;
        (end - WORD..end).for_each(|place| self.put(place));
    }

    /// Forgets the words behind the last place that is in use; returns how many places are left.
    pub(super) fn shrink(&mut self) -> usize {
        let used = self.places.iter().rposition(|word| *word != u64::MAX);
        let left = used.map_or(0, |last| last + 1);
        if left < self.places.len() {
            self.free -= (self.places.len() - left) * WORD;
            self.places.truncate(left);
            self.places.shrink_to_fit();
            self.words.clear();
            self.groups.clear();
            self.make_upper_lines();
            for number in 0..left {
                self.words[number / WORD] |= bit(number);
                self.groups[number / WORD / WORD] |= bit(number / WORD);
            }
        }
        left * WORD
    }

    fn make_upper_lines(&mut self) {
        self.words.resize(self.places.len().div_ceil(WORD), 0);
        self.groups.resize(self.words.len().div_ceil(WORD), 0);
    }
}

#[inline]
fn bit(number: usize) -> u64 {
    1 << (number % WORD)
}

/// The number of the lowest bit of a word that has one.
#[inline]
fn lowest(word: u64) -> usize {
    word.trailing_zeros() as usize
}

#[inline]
fn without_lowest(word: u64) -> u64 {
    word & word.wrapping_sub(1)
}
