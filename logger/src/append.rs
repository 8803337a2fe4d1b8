//! Short texts and numbers at the end of a buffer, without a call for each.
//!
//! A line of text is some fifteen pieces, most of them a word or two long, for which a call of memmove takes longer than the copy. Here they
//! are copied in place, as two pieces of a fixed size that overlap in the middle:
//!
//! ```text
//!   order id=      first 8 |order id|
//!                   last 8  |rder id=|
//! ```
//!
//! Digits are made in a register, eight at a time: a word is taken apart into halves, pairs and digits, all lanes at once.

#![expect(unsafe_code, reason = "says how much of a buffer has been written")]

use std::mem::MaybeUninit;

/// The longest run that is copied in place.
const SHORT: usize = 64;

/// Appends `bytes`.
///
/// Out of line on purpose: a loop over pieces into which this is inlined works out the ends of all of them before it knows which it wants.
#[inline(never)]
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let (start, count) = (out.len(), bytes.len());
    let room = out.spare_capacity_mut();
    if count > SHORT || room.len() < SHORT {
        return append_long(out, bytes);
    }
    match count {
        32.. => copy_both_ends::<32>(room, bytes),
        16.. => copy_both_ends::<16>(room, bytes),
        8.. => copy_both_ends::<8>(room, bytes),
        4.. => copy_both_ends::<4>(room, bytes),
        2.. => copy_both_ends::<2>(room, bytes),
        1 => copy_both_ends::<1>(room, bytes),
        0 => {}
    }
    // SAFETY: there is room for `SHORT` bytes, and `count`, which is not more, have just been written: those who copy `N` to `2 * N` bytes by
    // both ends leave none out.
    unsafe { out.set_len(start + count) };
}

/// Copies `N` to `2 * N` bytes to the start of `room`.
#[inline(always)]
fn copy_both_ends<const N: usize>(room: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    let (first, last) = (bytes.first_chunk::<N>(), bytes.last_chunk::<N>());
    let (first, last) = first.zip(last).expect("as long as asked for");
    room[bytes.len() - N..][..N].write_copy_of_slice(last);
    room[..N].write_copy_of_slice(first);
}

/// Out of line, so that the short way needs no registers saved.
#[cold]
#[inline(never)]
fn append_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// Eight digits fit into a word.
const WORD: u64 = 100_000_000;

/// Appends a number in decimal.
#[inline]
pub(crate) fn decimal(out: &mut Vec<u8>, number: u64) {
    if number >= WORD {
        let high = number / WORD;
        if high >= WORD {
            leading(out, high / WORD);
            padded(out, high % WORD);
        } else {
            leading(out, high);
        }
        padded(out, number % WORD);
    } else {
        leading(out, number);
    }
}

/// Appends a number below [`WORD`] without zeros in front.
#[inline(always)]
fn leading(out: &mut Vec<u8>, number: u64) {
    let digits = digits(number);
    let zeros = (digits | 1 << 56).trailing_zeros() / 8;
    let start = out.len();
    out.extend_from_slice(&((digits | ASCII) >> (8 * zeros)).to_le_bytes());
    out.truncate(start + 8 - zeros as usize);
}

/// Appends a number below [`WORD`] as eight digits.
#[inline(always)]
fn padded(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&text8(number));
}

/// Appends a point and the millionths behind it, without zeros at the end.
#[inline(always)]
pub(crate) fn append_fraction(out: &mut Vec<u8>, millionths: u64) {
    let mut text = text8(millionths);
    text[1] = b'.';
    let text = u64::from_be_bytes(text);
    let zeros = (text ^ ASCII).trailing_zeros() / 8;
    let start = out.len();
    out.extend_from_slice(&(text << 8).to_be_bytes());
    out.truncate(start + 7 - zeros as usize);
}

const ASCII: u64 = 0x3030_3030_3030_3030;

/// The eight digits of a number below 10^8, as text.
#[inline(always)]
pub(crate) fn text8(number: u64) -> [u8; 8] {
    (digits(number) | ASCII).to_le_bytes()
}

/// The eight digits of a number below 10^8, one a byte, the first in the lowest.
///
/// Dividing each lane by a constant is a multiplication and a shift. `10486 / 2^20` gives hundreds of numbers below 10^4, and `103 / 2^10` tens of numbers
/// below 100, as the tests check for all of them; no product reaches the next lane.
#[inline(always)]
fn digits(number: u64) -> u64 {
    debug_assert!(number < WORD);
    let halves = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = (halves * 10_486) >> 20 & 0x0000_007f_0000_007f;
    let pairs = hundreds | (halves - hundreds * 100) << 16;
    let tens = (pairs * 103) >> 10 & 0x000f_000f_000f_000f;
    tens | (pairs - tens * 10) << 8
}

#[cfg(all(test, not(loom)))]
mod tests {
    //! Goal: what is appended is what the plain way appends.
    use super::*;
    use proptest::prelude::*;

    fn shown(number: u64) -> String {
        let mut out = b"|".to_vec();
        decimal(&mut out, number);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn numbers_at_every_lane_and_edge() {
        // All values of each half, which is all that a lane sees; and both sides of each power of ten.
        for half in 0..10_000_u64 {
            for number in [half, half * 10_000, half * 10_001] {
                assert_eq!(text8(number).as_slice(), format!("{number:08}").as_bytes());
            }
        }
        for power in 0..20 {
            let power = 10_u64.pow(power);
            for number in [power - 1, power, power + 1, u64::MAX - power] {
                assert_eq!(shown(number), format!("|{number}"));
            }
        }
    }

    #[test]
    fn texts_of_every_length() {
        // Into a buffer with room, where what is not written keeps showing an old byte, and into one that has to grow.
        let text: Vec<u8> = (1..=200).collect();
        for (length, room) in (0..text.len()).flat_map(|length| [(length, 300), (length, 6)]) {
            let mut out = vec![0; room];
            out.clear();
            append(&mut out, b"before");
            append(&mut out, &text[..length]);
            append(&mut out, b"after");
            assert_eq!(out, [b"before", &text[..length], b"after"].concat());
        }
    }

    proptest! {
        #[test]
        fn numbers(number: u64, shift in 0..64) {
            prop_assert_eq!(shown(number >> shift), format!("|{}", number >> shift));
        }
    }
}
