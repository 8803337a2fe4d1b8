//! Values to text, exactly as `std::fmt` shows them.
//!
//! Two ways: `{}` and `{:?}` of the common types go straight into the output; everything else is shown without a width first,
//! then padded. A proptest holds both against `format!`.

use std::fmt::{Binary, Debug, Display, LowerExp, LowerHex, Octal, UpperExp, UpperHex};
use std::io::Write as _;

use crate::plan::{Align, Spec, Style};
use crate::value::{Nested, Value};

/// Shows `value` as `spec` says.
#[inline]
pub(crate) fn show(out: &mut Vec<u8>, value: Value<'_>, spec: &Spec) {
    match value {
        Value::Text(text, false) if spec.style == Style::Display && spec.is_plain() => {
            out.extend_from_slice(text.as_bytes());
        }
        Value::U64(number)
            if spec.is_plain() && matches!(spec.style, Style::Display | Style::Debug) =>
        {
            decimal(out, number);
        }
        Value::F64(number) if spec.is_plain() && spec.style == Style::Display => {
            if !short_float(out, number) {
                show_slowly(out, value, spec);
            }
        }
        _ => show_slowly(out, value, spec),
    }
}

/// Shows a float with up to four decimals and 15 digits, as prices and milliseconds have; returns false for all others.
///
/// Let `n` be `number * 10^k`, rounded. If `n / 10^k` gives `number` back, then `n` with its point moved is a text that reads as `number`:
/// both operands are exact, and IEEE division rounds as reading a decimal does. With at most 15 digits there is only one such text of
/// that length, and the smallest `k` gives the shortest, so it is the text that std shows. It takes a fifth of the time.
fn short_float(out: &mut Vec<u8>, number: f64) -> bool {
    let magnitude = number.abs();
    for (decimals, power) in [(0_usize, 1_u64), (1, 10), (2, 100), (3, 1000), (4, 10_000)] {
        let scaled = magnitude * power as f64;
        if scaled >= 1e15 || scaled.is_nan() {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "an integer below 1e15")]
        #[expect(clippy::cast_sign_loss, reason = "a magnitude")]
        let digits = (scaled + 0.5) as u64;
        if digits as f64 / power as f64 == magnitude {
            if number.is_sign_negative() {
                out.push(b'-');
            }
            decimal(out, digits / power);
            if decimals > 0 {
                let start = out.len();
                decimal(out, power + digits % power); // The leading 1 holds the zeros; it becomes the point.
                out[start] = b'.';
            }
            return true;
        }
    }
    false
}

/// Pairs of digits: one division gives two of them.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// Appends a number in decimal.
#[expect(
    clippy::cast_possible_truncation,
    reason = "remainders of 100 and digits"
)]
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number >= 100 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if number >= 10 {
        let pair = number as usize * 2;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

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

fn show_slowly(out: &mut Vec<u8>, value: Value<'_>, spec: &Spec) {
    match value {
        Value::U8(number) => integer(out, number, spec),
        Value::U16(number) => integer(out, number, spec),
        Value::U32(number) => integer(out, number, spec),
        Value::U64(number) => integer(out, number, spec),
        Value::U128(number) => integer(out, number, spec),
        Value::I8(number) => integer(out, number, spec),
        Value::I16(number) => integer(out, number, spec),
        Value::I32(number) => integer(out, number, spec),
        Value::I64(number) => integer(out, number, spec),
        Value::I128(number) => integer(out, number, spec),
        Value::F32(number) => float(out, number, spec),
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
