//! Randomness that can be repeated: every generator prints its seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (splitmix64): good enough to choose moments and sizes.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded from `CORING_TEST_SEED`, else from the clock. Prints the seed.
    ///
    /// # Panics
    ///
    /// When the variable is no number, or the clock is before 1970.
    #[must_use]
    pub fn new() -> Self {
        let seed = match std::env::var("CORING_TEST_SEED") {
            Ok(seed) => seed.parse().expect("CORING_TEST_SEED is a number"),
            Err(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                u64::from(since.expect("now is after 1970").subsec_nanos())
            }
        };
        println!("seed: repeat with CORING_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    #[expect(clippy::cast_possible_truncation, reason = "64-bit platforms only")]
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Another generator, for another thread or coroutine.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.bits())
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that tell their place: a message that lost, doubled or swapped something does not compare equal.
#[must_use]
pub fn pattern(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut random = Random(seed as u64);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
