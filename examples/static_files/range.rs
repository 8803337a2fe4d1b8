//! The header `Range: bytes=..`, RFC 9110 section 14.

use std::ops::Range;

/// Which bytes are wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them: no range was asked for, or one that is to be ignored.
    Whole,
    /// These.
    Some(Range<u64>),
    /// None that are there.
    Impossible,
}

/// The part of a file of so many bytes that the header's value asks for. Several ranges are answered with the whole.
pub(crate) fn part(asked: Option<&str>, bytes: u64) -> Part {
    let Some((first, last)) = asked
        .and_then(|value| value.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Part::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => return Part::Whole,
        (Ok(first), Ok(last)) => first..bytes.min(last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => first..bytes,
        (Err(_), Ok(suffix)) if first.is_empty() => bytes.saturating_sub(suffix)..bytes,
        _ => return Part::Whole,
    };
    if range.start < range.end {
        Part::Some(range)
    } else {
        Part::Impossible
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, part};

    #[test]
    fn ranges_as_the_standard_has_them() {
        for (value, expected) in [
            ("bytes=0-99", Part::Some(0..100)),
            ("bytes=10-10", Part::Some(10..11)),
            ("bytes=990-2000", Part::Some(990..1000)),
            ("bytes=990-", Part::Some(990..1000)),
            ("bytes=-10", Part::Some(990..1000)),
            ("bytes=-5000", Part::Some(0..1000)),
            ("bytes=1000-", Part::Impossible),
            ("bytes=-0", Part::Impossible),
            ("bytes=5-1", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("lines=1-2", Part::Whole),
        ] {
            assert_eq!(part(Some(value), 1000), expected, "{value}");
        }
        assert_eq!(part(None, 1000), Part::Whole);
    }
}
