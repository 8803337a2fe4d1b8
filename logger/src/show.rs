//! Values to text, exactly as `std::fmt` shows them.
//!
//! Two ways: what `{}` makes of numbers and of texts in ASCII goes straight from a record's bytes into the output; everything else is shown
//! without a width first, then padded. A proptest holds both against `format!`.

use std::fmt::{Binary, Debug, Display, LowerExp, LowerHex, Octal, UpperExp, UpperHex};
use std::io::Write as _;

use crate::append::{append, append_fraction, decimal};
use crate::encode::tag;
use crate::plan::{Align, Spec, Style};
use crate::value::{Nested, Torn, Value, Values};

/// Shows the next of `values` as `{}` does.
///
/// What most lines are made of goes straight from its bytes into the output. All else, and what is not intact, is taken apart first.
#[inline]
pub(crate) fn show_next(out: &mut Vec<u8>, values: &mut Values<'_>) -> Result<(), Torn> {
    match show_simple(out, values.rest()) {
        Some(rest) => *values = Values::new(rest),
        None => show(out, values.value()?, &Spec::DISPLAY),
    }
    Ok(())
}

/// Shows a number or a text of ASCII. Returns what follows it, or None for anything else.
#[inline]
fn show_simple<'a>(out: &mut Vec<u8>, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (tag, bytes) = bytes.split_first()?;
    match *tag {
        tag::U64 => {
            let (number, rest) = bytes.split_first_chunk()?;
            decimal(out, u64::from_le_bytes(*number));
            Some(rest)
        }
        tag::U32 => {
            let (number, rest) = bytes.split_first_chunk()?;
            decimal(out, u32::from_le_bytes(*number).into());
            Some(rest)
        }
        tag::I64 => {
            let (number, rest) = bytes.split_first_chunk()?;
            signed(out, i64::from_le_bytes(*number));
            Some(rest)
        }
        tag::I32 => {
            let (number, rest) = bytes.split_first_chunk()?;
            signed(out, i32::from_le_bytes(*number).into());
            Some(rest)
        }
        tag::F64 => {
            let (number, rest) = bytes.split_first_chunk()?;
            show_float(out, f64::from_le_bytes(*number));
            Some(rest)
        }
        tag if tag & tag::SHORT_TEXT != 0 => {
            let (text, rest) = bytes.split_at_checked(usize::from(tag & !tag::SHORT_TEXT))?;
            if !text.is_ascii() {
                return None;
            }
            append(out, text);
            Some(rest)
        }
        _ => None,
    }
}

fn signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    decimal(out, number.unsigned_abs());
}

fn show_float(out: &mut Vec<u8>, number: f64) {
    if !short_float(out, number) {
        float(out, number, &Spec::DISPLAY);
    }
}

/// Shows a float with up to six decimals and 15 digits, as prices and times have; returns false for all others.
///
/// Let `n` be `number * 10^k`, rounded. If `n / 10^k` gives `number` back, then `n` with its point moved is a text that reads as `number`:
/// both operands are exact, and IEEE division rounds as reading a decimal does. With at most 15 digits no other text of as few reads as that
/// number, so without the zeros at its end it is the shortest, and what std shows.
#[inline]
fn short_float(out: &mut Vec<u8>, number: f64) -> bool {
    let magnitude = number.abs();
    let power = match magnitude {
        ..1e9 => MILLION,
        ..1e12 => 1000,
        ..1e15 => 1,
        _ => return false,
    };
    #[expect(clippy::cast_possible_truncation, reason = "an integer up to 1e15")]
    #[expect(clippy::cast_sign_loss, reason = "a magnitude")]
    let digits = (magnitude * power as f64 + 0.5) as u64;
    if digits as f64 / power as f64 != magnitude {
        return false;
    }
    if number.is_sign_negative() {
        out.push(b'-');
    }
    decimal(out, digits / power);
    let fraction = digits % power * (MILLION / power);
    if fraction > 0 {
        append_fraction(out, fraction);
    }
    true
}

const MILLION: u64 = 1_000_000;

impl std::fmt::Display for Value<'_> {
    /// As `{}` would have shown the argument.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = Vec::new();
        show(&mut out, *self, &Spec::DISPLAY);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// `write!` into a `Vec` fails only if a `Display` does, and those of the standard library do not.
macro_rules! put {
    ($out:expr, $($format:tt)+) => {
        write!($out, $($format)+).expect("writing to memory succeeds")
    };
}

/// Shows `value` as `spec` says.
pub(crate) fn show(out: &mut Vec<u8>, value: Value<'_>, spec: &Spec) {
    match value {
        Value::U8(number) => integer(out, number, spec),
        Value::U16(number) => integer(out, number, spec),
        Value::U32(number) => integer(out, number, spec),
        Value::U64(number) if *spec == Spec::DISPLAY => decimal(out, number),
        Value::U64(number) => integer(out, number, spec),
        Value::U128(number) => integer(out, number, spec),
        Value::I8(number) => integer(out, number, spec),
        Value::I16(number) => integer(out, number, spec),
        Value::I32(number) => integer(out, number, spec),
        Value::I64(number) => integer(out, number, spec),
        Value::I128(number) => integer(out, number, spec),
        Value::F32(number) => float(out, number, spec),
        Value::F64(number) if *spec == Spec::DISPLAY => show_float(out, number),
        Value::F64(number) => float(out, number, spec),
        Value::Bool(value) => text(out, if value { "true" } else { "false" }, spec),
        Value::Char(value) if spec.style == Style::Debug => put!(out, "{value:?}"),
        Value::Char(value) => text(out, value.encode_utf8(&mut [0; 4]), spec),
        Value::Text(value, cut) => {
            if spec.style == Style::Debug {
                put!(out, "{value:?}")
            } else {
                text(out, value, spec)
            }
            mark_cut(out, cut);
        }
        Value::Name(value) => text(out, value, spec),
        Value::Bytes(bytes, cut) => {
            list(
                out,
                bytes.iter().map(|byte| Value::U8(*byte)),
                spec,
                (b"[", b"]"),
            );
            mark_cut(out, cut);
        }
        Value::Duration(value) => {
            let start = out.len();
            match (spec.plus, spec.precision) {
                (false, None) => put!(out, "{value:?}"),
                (true, None) => put!(out, "{value:+?}"),
                (false, Some(precision)) => put!(out, "{value:.*?}", usize::from(precision)),
                (true, Some(precision)) => put!(out, "{value:+.*?}", usize::from(precision)),
            }
            pad(out, start, spec, Align::Left);
        }
        Value::Ip(value) => {
            let start = out.len();
            put!(out, "{value}");
            pad(out, start, spec, Align::Left);
        }
        Value::Socket(value) => {
            let start = out.len();
            put!(out, "{value}");
            pad(out, start, spec, Align::Left);
        }
        Value::None => out.extend_from_slice(b"None"),
        Value::Some(inner) => {
            out.extend_from_slice(b"Some");
            list(out, inner.values(), spec, (b"(", b")"));
        }
        Value::Tuple(inner) => {
            let single = Nested::values(inner).count() == 1;
            list(
                out,
                inner.values(),
                spec,
                (b"(", if single { b",)" } else { b")" }),
            );
        }
    }
}

fn mark_cut(out: &mut Vec<u8>, cut: bool) {
    if cut {
        out.extend_from_slice("…[cut]".as_bytes());
    }
}

fn list<'a>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = Value<'a>>,
    spec: &Spec,
    (open, close): (&[u8], &[u8]),
) {
    out.extend_from_slice(open);
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        show(out, value, spec);
    }
    out.extend_from_slice(close);
}

/// A text: the precision cuts it, the width pads it on the right.
fn text(out: &mut Vec<u8>, text: &str, spec: &Spec) {
    let start = out.len();
    let end = spec
        .precision
        .and_then(|count| text.char_indices().nth(usize::from(count)))
        .map_or(text.len(), |(end, _)| end);
    out.extend_from_slice(&text.as_bytes()[..end]);
    pad(out, start, spec, Align::Left);
}

trait Integer:
    Display + Debug + LowerHex + UpperHex + Octal + Binary + LowerExp + UpperExp + Copy
{
}
impl<T: Display + Debug + LowerHex + UpperHex + Octal + Binary + LowerExp + UpperExp + Copy> Integer
    for T
{
}

/// The four combinations of `+` and `#`, which std takes only as literals.
macro_rules! put_signed {
    ($out:expr, $value:expr, $spec:expr, $style:literal) => {
        match ($spec.plus, $spec.alternate) {
            (false, false) => put!($out, concat!("{:", $style, "}"), $value),
            (true, false) => put!($out, concat!("{:+", $style, "}"), $value),
            (false, true) => put!($out, concat!("{:#", $style, "}"), $value),
            (true, true) => put!($out, concat!("{:+#", $style, "}"), $value),
        }
    };
}

fn integer<T: Integer>(out: &mut Vec<u8>, number: T, spec: &Spec) {
    let start = out.len();
    match (spec.style, spec.precision) {
        (Style::Display, _) => put_signed!(out, number, spec, ""),
        (Style::Debug, _) => put_signed!(out, number, spec, "?"),
        (Style::LowerHex, _) => put_signed!(out, number, spec, "x"),
        (Style::UpperHex, _) => put_signed!(out, number, spec, "X"),
        (Style::Octal, _) => put_signed!(out, number, spec, "o"),
        (Style::Binary, _) => put_signed!(out, number, spec, "b"),
        (Style::LowerExp, None) => put_signed!(out, number, spec, "e"),
        (Style::UpperExp, None) => put_signed!(out, number, spec, "E"),
        (Style::LowerExp, Some(precision)) if spec.plus => {
            put!(out, "{number:+.*e}", usize::from(precision))
        }
        (Style::LowerExp, Some(precision)) => put!(out, "{number:.*e}", usize::from(precision)),
        (Style::UpperExp, Some(precision)) if spec.plus => {
            put!(out, "{number:+.*E}", usize::from(precision))
        }
        (Style::UpperExp, Some(precision)) => put!(out, "{number:.*E}", usize::from(precision)),
    }
    pad_number(out, start, spec);
}

fn float<T: Display + Debug + LowerExp + UpperExp>(out: &mut Vec<u8>, number: T, spec: &Spec) {
    let start = out.len();
    match (spec.style, spec.precision) {
        (Style::Debug, None) => put_signed!(out, number, spec, "?"),
        (Style::LowerExp, None) => put_signed!(out, number, spec, "e"),
        (Style::UpperExp, None) => put_signed!(out, number, spec, "E"),
        (_, None) => put_signed!(out, number, spec, ""),
        (Style::LowerExp, Some(precision)) if spec.plus => {
            put!(out, "{number:+.*e}", usize::from(precision))
        }
        (Style::LowerExp, Some(precision)) => put!(out, "{number:.*e}", usize::from(precision)),
        (Style::UpperExp, Some(precision)) if spec.plus => {
            put!(out, "{number:+.*E}", usize::from(precision))
        }
        (Style::UpperExp, Some(precision)) => put!(out, "{number:.*E}", usize::from(precision)),
        (_, Some(precision)) if spec.plus => put!(out, "{number:+.*}", usize::from(precision)),
        (_, Some(precision)) => put!(out, "{number:.*}", usize::from(precision)),
    }
    pad_number(out, start, spec);
}

/// Numbers stand right; with `0` the zeros go between sign or prefix and digits, and alignment is ignored.
fn pad_number(out: &mut Vec<u8>, start: usize, spec: &Spec) {
    if !spec.zero {
        return pad(out, start, spec, Align::Right);
    }
    let missing = usize::from(spec.width.unwrap_or(0)).saturating_sub(out.len() - start);
    let mut at = start;
    if matches!(out[at], b'+' | b'-') {
        at += 1;
    }
    if spec.alternate
        && matches!(
            spec.style,
            Style::LowerHex | Style::UpperHex | Style::Octal | Style::Binary
        )
    {
        at += 2;
    }
    out.splice(at..at, std::iter::repeat_n(b'0', missing));
}

/// Pads what was written since `start`. Characters count, not bytes.
fn pad(out: &mut Vec<u8>, start: usize, spec: &Spec, default: Align) {
    let Some(width) = spec.width else { return };
    let shown = out[start..]
        .iter()
        .filter(|byte| **byte & 0xc0 != 0x80)
        .count();
    let missing = usize::from(width).saturating_sub(shown);
    let before = match spec.align.unwrap_or(default) {
        Align::Left => 0,
        Align::Center => missing / 2,
        Align::Right => missing,
    };
    let mut fill = [0; 4];
    let fill = spec.fill.encode_utf8(&mut fill).as_bytes();
    out.splice(
        start..start,
        fill.iter().copied().cycle().take(before * fill.len()),
    );
    out.extend(
        fill.iter()
            .copied()
            .cycle()
            .take((missing - before) * fill.len()),
    );
}

#[cfg(all(test, not(loom)))]
mod tests;
