//! Texts and byte slices: a tag, a length, the bytes.

use super::{Arg, MAX_TEXT_BYTES, Name, put_bytes, sealed, tag};

/// A counted run of bytes: `tag`, length as u16, bytes.
///
/// # Safety
/// `at` must be valid for `3 + bytes.len()` bytes.
#[inline]
unsafe fn put_counted(at: *mut u8, tag: u8, bytes: &[u8]) -> *mut u8 {
    let length = u16::try_from(bytes.len()).expect("cut to MAX_TEXT_BYTES before");
    let [low, high] = length.to_le_bytes();
    // SAFETY: the caller gives 3 + n bytes.
    let at = unsafe { put_bytes(at, &[tag, low, high]) };
    // SAFETY: as above.
    unsafe { put_bytes(at, bytes) }
}

/// The part of a text that is kept.
fn kept(text: &str) -> &str {
    if text.len() <= MAX_TEXT_BYTES {
        text
    } else {
        &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
    }
}

/// Writes 4 to 16 bytes by two words that may overlap, and returns the address behind them: half the time of a call of memcpy.
///
/// # Safety
/// `at` must be valid for writes of that many bytes.
#[inline(always)]
unsafe fn put_few<const WORD: usize>(at: *mut u8, bytes: &[u8]) -> *mut u8 {
    debug_assert!((WORD..=2 * WORD).contains(&bytes.len()));
    let rest = bytes.len() - WORD;
    let from = bytes.as_ptr();
    // SAFETY: a word at the beginning of the bytes, of which there are enough.
    let first = unsafe { from.cast::<[u8; WORD]>().read() };
    // SAFETY: `rest` is inside the bytes.
    let from = unsafe { from.add(rest) };
    // SAFETY: the word that ends with them.
    let last = unsafe { from.cast::<[u8; WORD]>().read() };
    // SAFETY: the caller gives room for as many bytes.
    unsafe { at.cast::<[u8; WORD]>().write(first) };
    // SAFETY: inside that room.
    let at = unsafe { at.add(rest) };
    // SAFETY: the word that ends with it.
    unsafe { at.cast::<[u8; WORD]>().write(last) };
    // SAFETY: one past the bytes just written, inside the reservation or at its end.
    unsafe { at.add(WORD) }
}

impl sealed::Sealed for &str {}
impl Arg for &str {
    #[inline(always)]
    fn size(self) -> usize {
        if self.len() < 128 {
            1 + self.len()
        } else {
            long_text_size(self)
        }
    }
    #[inline]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        if self.len() < 128 {
            // SAFETY: the caller gives 1 + n bytes.
            let at = unsafe { put_bytes(at, &[short_text_tag(self)]) };
            // SAFETY: as above.
            unsafe { put_bytes(at, self.as_bytes()) }
        } else {
            let text = kept(self);
            let tag = if text.len() == self.len() {
                tag::TEXT
            } else {
                tag::TEXT_CUT
            };
            // SAFETY: the caller gives 3 + n bytes.
            unsafe { put_counted(at, tag, text.as_bytes()) }
        }
    }
    #[inline(always)]
    fn is_brief(self) -> bool {
        (4..=16).contains(&self.len())
    }
    #[inline(always)]
    unsafe fn put_brief(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller gives 1 + n bytes.
        let at = unsafe { put_bytes(at, &[short_text_tag(self)]) };
        if self.len() >= 8 {
            // SAFETY: as above.
            unsafe { put_few::<8>(at, self.as_bytes()) }
        } else {
            // SAFETY: as above.
            unsafe { put_few::<4>(at, self.as_bytes()) }
        }
    }
}

/// The tag of a text of less than 128 bytes.
#[inline(always)]
fn short_text_tag(text: &str) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "less than 128")]
    let length = text.len() as u8;
    tag::SHORT_TEXT | length
}

#[cold]
#[inline(never)]
fn long_text_size(text: &str) -> usize {
    3 + kept(text).len()
}

impl sealed::Sealed for Name<'_> {}
impl Arg for Name<'_> {
    #[inline]
    fn size(self) -> usize {
        3 + kept(self.0).len()
    }
    #[inline]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller gives 3 + n bytes.
        unsafe { put_counted(at, tag::NAME, kept(self.0).as_bytes()) }
    }
    #[inline(always)]
    fn is_brief(self) -> bool {
        false
    }
}

impl sealed::Sealed for &[u8] {}
impl Arg for &[u8] {
    #[inline(always)]
    fn size(self) -> usize {
        3 + self.len().min(MAX_TEXT_BYTES)
    }
    #[inline(always)]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        let bytes = &self[..self.len().min(MAX_TEXT_BYTES)];
        let tag = if bytes.len() == self.len() {
            tag::BYTES
        } else {
            tag::BYTES_CUT
        };
        // SAFETY: the caller gives 3 + n bytes.
        unsafe { put_counted(at, tag, bytes) }
    }
    #[inline(always)]
    fn is_brief(self) -> bool {
        false
    }
}
