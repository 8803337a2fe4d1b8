//! A record as our logger lays it out, written word by word into a ring that another thread may read: what the raw rings share.

use std::sync::atomic::{AtomicU64, Ordering};

/// A record has so many words.
pub(super) const RECORD: usize = 6;
/// As much as a core's ring; a whole number of records.
pub(super) const RING: usize = (1 << 17) / RECORD * RECORD;

/// Writes the record whose first word is at `at`.
#[inline(always)]
pub(super) fn write(ring: &[AtomicU64], at: usize, id: u64, price: f64, symbol: &'static str) {
    let mut record = [0; RECORD * 8];
    record[8..16].copy_from_slice(&::coring::logger::ticks().to_le_bytes());
    record[17..25].copy_from_slice(&id.to_le_bytes());
    record[26..34].copy_from_slice(&price.to_le_bytes());
    let symbol: &[u8; 12] = symbol.as_bytes().try_into().expect("twelve bytes");
    record[35..47].copy_from_slice(symbol);
    let words = record.as_chunks::<8>().0;
    for (place, word) in ring[at..at + RECORD].iter().zip(words) {
        place.store(u64::from_le_bytes(*word), Ordering::Relaxed);
    }
}

/// Where a word is, counted from the first one ever written.
pub(super) fn place(word: u64) -> usize {
    usize::try_from(word % RING as u64).expect("an index")
}

/// Reads the words from `from` to `to`, and does nothing with them but what keeps the reads in the program.
pub(super) fn read(ring: &[AtomicU64], from: u64, to: u64) {
    let sum = (from..to).map(place).fold(0, |sum: u64, word| {
        sum.wrapping_add(ring[word].load(Ordering::Relaxed))
    });
    std::hint::black_box(sum);
}
