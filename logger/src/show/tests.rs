//! Goal: the drain's text equals `format!`'s, for every specification it accepts.

use super::*;
use crate::encode::{Loggable, push};
use crate::plan::{Piece, Plan, deferrable};
use crate::value::Values;
use proptest::prelude::*;
use std::time::Duration;

fn shown(format: &str, value: &impl Loggable) -> String {
    assert!(deferrable(format, 1), "{format}");
    let mut bytes = Vec::new();
    push(&mut bytes, value.view());
    let mut out = Vec::new();
    for piece in &*Plan::parse(format).pieces {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Plain(_) => show_next(&mut out, &mut Values::new(&bytes)).expect("decodes"),
            Piece::Arg(_, spec) => show(
                &mut out,
                Values::new(&bytes).value().expect("decodes"),
                spec,
            ),
        }
    }
    String::from_utf8(out).expect("text")
}

macro_rules! same {
    ($value:expr, $($format:literal),* $(,)?) => {{
        let value = $value;
        $(prop_assert_eq!(shown($format, &value), format!($format, value), "{}", $format);)*
    }};
}

proptest! {
    #[test]
    fn integers(a: u8, b: u16, c: u32, d: u64, e: u128, f: i8, g: i16, h: i32, i: i64, j: i128) {
        macro_rules! all { ($($value:expr),*) => {$(
            same!($value, "{}", "{:?}", "{:5}", "{:<5}|", "{:^9}", "{:*>12}", "{:+}", "{:+012}", "{:x}", "{:X}", "{:#x}", "{:#010x}",
                "{:o}", "{:#b}", "{:b}", "{:e}", "{:E}", "{:.2e}", "{:+.1E}", "{:08}", "{:-<08}", "{:.3}");
        )*}; }
        all!(a, b, c, d, e, f, g, h, i, j);
    }

    #[test]
    fn floats(bits: u64, nice in -1000.0f64..1000.0, single: f32) {
        for value in [f64::from_bits(bits), nice, 0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            same!(value, "{}", "{:?}", "{:.2}", "{:8.3}", "{:<12.1}|", "{:+}", "{:+.3}", "{:010.2}", "{:e}", "{:.3e}", "{:E}", "{:^30}",
                "{:*^12.2}", "{:.0}", "{:+09.1}", "{:.2?}", "{:012}");
        }
        for decimals in [1.0, 10.0, 100.0, 1000.0, 1e4, 1e5, 1e6, 1e7] {
            let short = (nice * decimals).round() / decimals;
            same!(short, "{}");
            same!(short * 1e9, "{}");
            same!((short * 1e12).round() / decimals, "{}");
        }
        same!(single, "{}", "{:?}", "{:.3}", "{:12}");
    }

    #[test]
    fn texts(text in "\\PC{0,20}", letter: char, flag: bool) {
        same!(text.as_str(), "{}", "{:?}", "{:10}", "{:>10}", "{:-^11}", "{:.3}", "{:>8.2}", "{:010}", "{:20?}");
        same!(letter, "{}", "{:?}", "{:3}", "{:>3}", "{:.0}");
        same!(flag, "{}", "{:?}", "{:7}", "{:>7}", "{:.2}");
    }

    #[test]
    fn others(seconds in 0u64..10_000_000, nanos in 0u32..1_000_000_000, ip: std::net::IpAddr, address: std::net::SocketAddr, option: Option<i32>, bytes: [u8; 5]) {
        same!(Duration::new(seconds, nanos), "{:?}", "{:.1?}", "{:20?}", "{:>20.3?}", "{:+?}");
        same!(ip, "{}", "{:?}", "{:45}", "{:>45}");
        if !matches!(address, std::net::SocketAddr::V6(address) if address.flowinfo() != 0) {
            same!(address, "{}", "{:?}", "{:60}");
        }
        same!(option, "{:?}", "{:5?}", "{:05?}");
        same!(bytes, "{:?}", "{:3?}");
        same!((option, "a\nb"), "{:?}");
        same!((option,), "{:?}");
    }
}

#[test]
fn decimal_at_the_edges() {
    for number in [0, 9, 10, 99, 100, 101, 999, 1000, 12345, u64::MAX] {
        let mut out = Vec::new();
        decimal(&mut out, number);
        assert_eq!(out, number.to_string().as_bytes());
    }
}

#[test]
fn signs_at_the_edges() {
    for number in [0, -1, 1, -9, -10, i64::from(i32::MIN), i64::MIN, i64::MAX] {
        assert_eq!(shown("{}", &number), number.to_string());
        let narrow = i32::try_from(number).unwrap_or(-7);
        assert_eq!(shown("{}", &narrow), narrow.to_string());
    }
}

#[test]
fn what_is_no_text_is_torn() {
    let mut bytes = Vec::new();
    push(&mut bytes, "abc");
    bytes[2] = 0xff;
    for length in 0..=bytes.len() {
        let shown = show_next(&mut Vec::new(), &mut Values::new(&bytes[..length]));
        assert_eq!(shown, Err(Torn), "{length} of {bytes:x?}");
    }
}
