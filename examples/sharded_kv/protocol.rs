//! Requests as they come from a connection, another core, or the log: always in this one format.
//!
//! ```text
//!   *2\r\n  $3\r\n GET \r\n  $1\r\n k \r\n        a multibulk request: count, then each argument behind its length
//!   GET k\r\n                                     an inline request: what a person types
//! ```
//!
//! [`Parser`] is resumable: bytes come in pieces of any size, and what was understood is not looked at again. It copies
//! nothing - the arguments are places in the caller's bytes - and trusts no length: memory is taken for bytes that have
//! come, never for bytes that were announced. Errors are worded as Redis words them.

#[cfg(test)]
#[path = "protocol/tests.rs"]
mod tests;

use std::fmt;

/// The longest argument of a client.
pub(crate) const LONGEST_ARGUMENT: usize = 64 << 20;
/// The longest request of a client: so much memory one connection can make us take for what it sends.
pub(crate) const LONGEST_REQUEST: usize = 64 << 20;
/// The most arguments of a request.
const MOST_ARGUMENTS: i64 = 1 << 20;
/// The longest line: an inline request, or the digits of a count.
const LONGEST_LINE: usize = 64 << 10;

/// What is wrong with a request. What follows in the connection cannot be understood any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

fn malformed<T>(what: &str) -> Result<T, Malformed> {
    Err(Malformed(what.to_owned()))
}

/// A request: a command's name and its arguments. Has none at all if it was an empty line, which is to be ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    text: &'a [u8],
    places: &'a [(usize, usize)],
}

impl<'a> Request<'a> {
    /// The words at these places of a text.
    pub(crate) fn new(text: &'a [u8], places: &'a [(usize, usize)]) -> Self {
        Self { text, places }
    }

    /// How many words it has, the command's name included.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// A word; the name is number 0.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> &'a [u8] {
        let (start, end) = self.places[number];
        &self.text[start..end]
    }

    /// The words from a number on.
    pub(crate) fn from(self, number: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let text = self.text;
        let places = self.places.get(number..).unwrap_or_default();
        places.iter().map(move |&(start, end)| &text[start..end])
    }
}

/// How far the next request is understood.
#[derive(Debug)]
pub(crate) struct Parser {
    longest_request: usize,
    /// The next byte to look at.
    at: usize,
    /// Arguments that are still to come; `None` before the count is known.
    missing: Option<usize>,
    /// The length of the argument that is to come, when it is known.
    length: Option<usize>,
    places: Vec<(usize, usize)>,
    /// The words of an inline request, without their quotes.
    inline: Option<Vec<u8>>,
}

impl Parser {
    /// For what a client sends.
    pub(crate) fn new() -> Self {
        Self {
            longest_request: LONGEST_REQUEST,
            at: 0,
            missing: None,
            length: None,
            places: Vec::new(),
            inline: None,
        }
    }

    /// For what we wrote ourselves, which may be a little longer than what the client had sent.
    pub(crate) fn trusting() -> Self {
        Self {
            longest_request: usize::MAX,
            ..Self::new()
        }
    }

    /// Goes on with the request at the start of `bytes`, of which there may be more than at the last call. Its length
    /// when it is complete: then [`request`](Self::request) gives it.
    ///
    /// # Errors
    ///
    /// When this is no request.
    #[inline]
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => match bytes.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(count) = number(bytes, &mut self.at, Line::Count)? else {
                        return Ok(None);
                    };
                    // Less than one is a request without words, as an empty line is.
                    usize::try_from(count).unwrap_or(0)
                }
                Some(_) => return self.parse_inline(bytes),
            },
        };
        while missing > 0 {
            if !self.parse_argument(bytes)? {
                self.missing = Some(missing);
                return Ok(None);
            }
            missing -= 1;
        }
        Ok(Some(self.at))
    }

    /// One argument; whether all of it is here.
    #[inline]
    fn parse_argument(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        let length = match self.length {
            Some(length) => length,
            None => {
                match bytes.get(self.at) {
                    None => return Ok(false),
                    Some(b'$') => {}
                    Some(&other) => {
                        let other = other.escape_ascii();
                        return malformed(&format!("expected '$', got '{other}'"));
                    }
                }
                let Some(length) = number(bytes, &mut self.at, Line::Length)? else {
                    return Ok(false);
                };
                // The number is checked against the limit, which fits.
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if self.at + length > self.longest_request {
                    return malformed("too big request");
                }
                self.length = Some(length);
                length
            }
        };
        let end = self.at + length;
        match bytes.get(end..end + 2) {
            None => return Ok(false),
            Some(b"\r\n") => {}
            Some(_) => return malformed("expected CRLF behind an argument"),
        }
        self.places.push((self.at, end));
        self.at = end + 2;
        self.length = None;
        Ok(true)
    }

    #[cold]
    fn parse_inline(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let found = bytes[self.at..].iter().position(|byte| *byte == b'\n');
        let end = self.at + found.unwrap_or(bytes.len() - self.at);
        if end > LONGEST_LINE {
            return malformed("too big inline request");
        }
        self.at = end;
        if found.is_none() {
            return Ok(None);
        }
        let line = &bytes[..end];
        let mut words = Vec::new();
        split(
            line.strip_suffix(b"\r").unwrap_or(line),
            &mut words,
            &mut self.places,
        )?;
        self.inline = Some(words);
        Ok(Some(end + 1))
    }

    /// The request that [`parse`](Self::parse) has just found complete at the start of the same bytes.
    #[inline]
    pub(crate) fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        Request {
            text: self.inline.as_deref().unwrap_or(bytes),
            places: &self.places,
        }
    }

    /// Starts with the next request. Keeps its memory, unless that is much.
    #[inline]
    pub(crate) fn next(&mut self) {
        self.at = 0;
        self.missing = None;
        self.inline = None;
        self.places.clear();
        self.places.shrink_to(1024);
    }
}

/// Which number a line holds.
#[derive(Clone, Copy)]
enum Line {
    Count,
    Length,
}

/// The number in the line at `at`, behind its first byte; moves behind the line when it is all there.
#[inline]
fn number(bytes: &[u8], at: &mut usize, line: Line) -> Result<Option<i64>, Malformed> {
    let rest = &bytes[*at + 1..];
    let found = rest.iter().position(|byte| *byte == b'\r');
    let length = found.unwrap_or(rest.len());
    if length > LONGEST_LINE {
        return match line {
            Line::Count => malformed("too big mbulk count string"),
            Line::Length => malformed("too big bulk count string"),
        };
    }
    if found.is_none() {
        return Ok(None);
    }
    let Some(after) = rest.get(length + 1) else {
        return Ok(None);
    };
    let number = integer(&rest[..length]).filter(|number| match line {
        Line::Count => *number <= MOST_ARGUMENTS,
        Line::Length => (0..=LONGEST_ARGUMENT as i64).contains(number),
    });
    match (number, line) {
        (Some(number), _) if *after == b'\n' => {
            *at += 1 + length + 2;
            Ok(Some(number))
        }
        (_, Line::Count) => malformed("invalid multibulk length"),
        (_, Line::Length) => malformed("invalid bulk length"),
    }
}

/// A number in the one way to write it: no sign but a minus, no zeroes in front, no spaces.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] => return (!negative).then_some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // At most 19 digits: less than 10^19, which fits.
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative {
        0i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// Splits a line into words. Quotes keep spaces; inside double ones there are escapes.
fn split(
    line: &[u8],
    words: &mut Vec<u8>,
    places: &mut Vec<(usize, usize)>,
) -> Result<(), Malformed> {
    const UNBALANCED: &str = "unbalanced quotes in request";
    let mut rest = line.trim_ascii_start();
    while let Some(mut first) = rest.first() {
        let start = words.len();
        // A word may be made of several parts, quoted and not: `a"b c"`.
        while !first.is_ascii_whitespace() {
            let quote = *first;
            rest = &rest[1..];
            match quote {
                b'"' => rest = unquote(rest, words).ok_or(Malformed(UNBALANCED.to_owned()))?,
                b'\'' => loop {
                    match rest {
                        [b'\\', b'\'', more @ ..] => {
                            words.push(b'\'');
                            rest = more;
                        }
                        [b'\'', more @ ..] => {
                            rest = more;
                            break;
                        }
                        [byte, more @ ..] => {
                            words.push(*byte);
                            rest = more;
                        }
                        [] => return malformed(UNBALANCED),
                    }
                },
                byte => words.push(byte),
            }
            let Some(next) = rest.first() else { break };
            // What closes a quoted part also closes the word.
            if matches!(quote, b'"' | b'\'') && !next.is_ascii_whitespace() {
                return malformed(UNBALANCED);
            }
            first = next;
        }
        places.push((start, words.len()));
        rest = rest.trim_ascii_start();
    }
    Ok(())
}

/// Copies up to the closing double quote, with escapes undone. What is behind it; `None` when it is missing.
fn unquote<'a>(mut rest: &'a [u8], words: &mut Vec<u8>) -> Option<&'a [u8]> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    loop {
        (rest, _) = match rest {
            [b'\\', b'x', high, low, more @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                let value = hex(*high)? * 16 + hex(*low)?;
                (more, words.push(u8::try_from(value).ok()?))
            }
            [b'\\', escaped, more @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (more, words.push(byte))
            }
            [b'"', more @ ..] => return Some(more),
            [byte, more @ ..] => (more, words.push(*byte)),
            [] => return None,
        };
    }
}

/// Appends a request as a client would send it.
pub(crate) fn encode<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>, into: &mut Vec<u8>) {
    into.push(b'*');
    decimal(words.len() as i64, into);
    into.extend_from_slice(b"\r\n");
    for word in words {
        bulk(word, into);
    }
}

/// Appends bytes behind their length.
#[inline]
pub(crate) fn bulk(bytes: &[u8], into: &mut Vec<u8>) {
    into.push(b'$');
    decimal(bytes.len() as i64, into);
    into.extend_from_slice(b"\r\n");
    into.extend_from_slice(bytes);
    into.extend_from_slice(b"\r\n");
}

/// Appends a number as text.
#[inline]
pub(crate) fn decimal(number: i64, into: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        into.push(b'-');
    }
    into.extend_from_slice(&digits[at..]);
}
