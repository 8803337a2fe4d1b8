//! Goal: what is encoded decodes to itself, and arbitrary bytes never panic.

use super::*;
use crate::encode::{Arg, Loggable, MAX_TEXT_BYTES, Name, push};
use proptest::prelude::*;

#[expect(unsafe_code, reason = "writes as a call site does")]
fn encoded(arg: impl Arg) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, arg);
    assert_eq!(bytes.len(), arg.size());
    if arg.is_brief() {
        // The same bytes, and not one more.
        let mut brief = vec![0xee; bytes.len() + 16];
        // SAFETY: room for what it says it needs.
        let end = unsafe { arg.put_brief(brief.as_mut_ptr()) };
        assert_eq!(end.addr() - brief.as_ptr().addr(), bytes.len());
        assert_eq!(brief[..bytes.len()], bytes);
        assert_eq!(brief[bytes.len()..], [0xee; 16]);
    }
    bytes
}

fn round_trip(bytes: &[u8]) -> Value<'_> {
    let mut values = Values::new(bytes);
    let value = values.value().expect("own encoding decodes");
    assert!(values.rest().is_empty(), "bytes left over");
    value
}

macro_rules! decodes {
    ($arg:expr, $value:expr) => {
        let bytes = encoded($arg);
        prop_assert_eq!(round_trip(&bytes), $value);
    };
}

proptest! {
    #[test]
    fn scalars(a: u8, b: u16, c: u32, d: u64, e: u128, f: i8, g: i16, h: i32, i: i64, j: i128, k: bool, l: char, m: usize) {
        decodes!(a, Value::U8(a));
        decodes!(b, Value::U16(b));
        decodes!(c, Value::U32(c));
        decodes!(d, Value::U64(d));
        decodes!(e, Value::U128(e));
        decodes!(f, Value::I8(f));
        decodes!(g, Value::I16(g));
        decodes!(h, Value::I32(h));
        decodes!(i, Value::I64(i));
        decodes!(j, Value::I128(j));
        decodes!(k, Value::Bool(k));
        decodes!(l, Value::Char(l));
        decodes!(m, Value::U64(m as u64));
    }

    #[test]
    fn floats_keep_their_bits(a: u32, b: u64) {
        let (single, double) = (encoded(f32::from_bits(a)), encoded(f64::from_bits(b)));
        let (Value::F32(x), Value::F64(y)) = (round_trip(&single), round_trip(&double))
        else { panic!("floats decode to floats") };
        prop_assert_eq!((x.to_bits(), y.to_bits()), (a, b));
    }

    #[test]
    fn short_texts(text in "[a-z]{0,20}") {
        decodes!(text.as_str(), Value::Text(&text, false));
    }

    #[test]
    fn texts_and_bytes(text in "\\PC{0,300}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decodes!(text.as_str(), Value::Text(&text, false));
        decodes!(Name(&text), Value::Name(&text));
        decodes!(bytes.as_slice(), Value::Bytes(&bytes, false));
    }

    #[test]
    fn addresses_and_durations(ip: IpAddr, port: u16, scope: u32, seconds: u64, nanos in 0u32..1_000_000_000) {
        let address = match ip {
            IpAddr::V4(ip) => SocketAddr::from((ip, port)),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
        };
        let duration = Duration::new(seconds, nanos);
        decodes!(ip, Value::Ip(ip));
        decodes!(address, Value::Socket(address));
        decodes!(duration, Value::Duration(duration));
    }

    #[test]
    fn nested(number: Option<u64>, text in "\\PC{0,40}", flag: bool) {
        let value = (Some((number, text.as_str())), flag);
        let bytes = encoded(value.view());
        let Value::Tuple(outer) = round_trip(&bytes) else { panic!("a tuple") };
        let outer: Vec<_> = outer.values().collect();
        let [Value::Some(some), Value::Bool(decoded_flag)] = outer[..] else { panic!("{outer:?}") };
        prop_assert_eq!(decoded_flag, flag);
        let Some(Value::Tuple(inner)) = some.values().next() else { panic!("a tuple") };
        let inner: Vec<_> = inner.values().collect();
        prop_assert_eq!(inner[1], Value::Text(&text, false));
        match number {
            Some(number) => {
                let Value::Some(some) = inner[0] else { panic!("{inner:?}") };
                prop_assert_eq!(some.values().next(), Some(Value::U64(number)));
            }
            None => prop_assert_eq!(inner[0], Value::None),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut values = Values::new(&bytes);
        while let Ok(value) = values.value() {
            let _ = format!("{value:?}");
        }
    }

    #[test]
    fn cut_texts_end_at_a_character(extra in 0usize..10, prefix in 0usize..4) {
        let text = format!("{}{}", "a".repeat(prefix), "é€😀".repeat(MAX_TEXT_BYTES / 9 + extra));
        let bytes = encoded(text.as_str());
        match round_trip(&bytes) {
            Value::Text(kept, cut) => {
                prop_assert!(text.starts_with(kept));
                prop_assert_eq!(cut, text.len() > MAX_TEXT_BYTES);
                prop_assert!(kept.len() + 4 > MAX_TEXT_BYTES.min(text.len()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn deep_nesting_is_torn_not_a_stack_overflow() {
    let bytes = vec![tag::SOME; 100_000];
    assert_eq!(Values::new(&bytes).value(), Err(Torn));
    // Wide nesting of empty tuples must not take exponential time either.
    let bytes: Vec<u8> = std::iter::repeat_n([tag::TUPLE, 255], 1000)
        .flatten()
        .collect();
    assert_eq!(Values::new(&bytes).value(), Err(Torn));
}
