//! The way back: bytes of a record to [`Value`]s. Safe code over a slice, so that arbitrary bytes (a torn record, a forged file)
//! give [`Torn`] and nothing worse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use crate::encode::tag;

/// A decoded argument or field of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `Some(value)`.
    Some(Nested<'a>),
    /// A tuple.
    Tuple(Nested<'a>),
    /// A boolean.
    Bool(bool),
    /// An unsigned integer of 8 bits.
    U8(u8),
    /// An unsigned integer of 16 bits.
    U16(u16),
    /// An unsigned integer of 32 bits.
    U32(u32),
    /// An unsigned integer of 64 bits, or a `usize`.
    U64(u64),
    /// An unsigned integer of 128 bits.
    U128(u128),
    /// A signed integer of 8 bits.
    I8(i8),
    /// A signed integer of 16 bits.
    I16(i16),
    /// A signed integer of 32 bits.
    I32(i32),
    /// A signed integer of 64 bits, or an `isize`.
    I64(i64),
    /// A signed integer of 128 bits.
    I128(i128),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
    /// A character.
    Char(char),
    /// A text; the flag says that it was cut at [`crate::MAX_TEXT_BYTES`].
    Text(&'a str, bool),
    /// A name, shown without quotes.
    Name(&'a str),
    /// Bytes; the flag says that they were cut at [`crate::MAX_TEXT_BYTES`].
    Bytes(&'a [u8], bool),
    /// A span of time.
    Duration(Duration),
    /// An IP address.
    Ip(IpAddr),
    /// A socket address.
    Socket(SocketAddr),
}

/// Values inside a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nested<'a>(&'a [u8]);

impl<'a> Nested<'a> {
    /// The values, in order.
    pub fn values(self) -> Values<'a> {
        Values { bytes: self.0 }
    }
}

/// The bytes are not an encoded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn;

impl std::fmt::Display for Torn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("torn record: its bytes are not a sequence of values")
    }
}
impl std::error::Error for Torn {}

/// Nesting beyond this is taken for garbage, so that a forged file cannot overflow the stack.
const MAX_DEPTH: usize = 16;

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Torn> {
    let (head, rest) = bytes.split_at_checked(count).ok_or(Torn)?;
    *bytes = rest;
    Ok(head)
}

#[inline]
fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Torn> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Torn)?;
    *bytes = rest;
    Ok(*head)
}

fn counted<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Torn> {
    let length = u16::from_le_bytes(array(bytes)?);
    take(bytes, usize::from(length))
}

fn text(bytes: &[u8]) -> Result<&str, Torn> {
    std::str::from_utf8(bytes).map_err(|_| Torn)
}

/// Takes `count` values off `bytes` and returns the bytes they occupied.
fn skip<'a>(bytes: &mut &'a [u8], count: usize, depth: usize) -> Result<Nested<'a>, Torn> {
    let before = *bytes;
    for _ in 0..count {
        decode(bytes, depth + 1)?;
    }
    Ok(Nested(&before[..before.len() - bytes.len()]))
}

/// Takes one value off `bytes`.
#[inline]
fn decode<'a>(bytes: &mut &'a [u8], depth: usize) -> Result<Value<'a>, Torn> {
    let [tag] = array(bytes)?;
    if tag & tag::SHORT_TEXT != 0 {
        let length = usize::from(tag & !tag::SHORT_TEXT);
        return Ok(Value::Text(text(take(bytes, length)?)?, false));
    }
    Ok(match tag {
        tag::U8 => Value::U8(u8::from_le_bytes(array(bytes)?)),
        tag::U16 => Value::U16(u16::from_le_bytes(array(bytes)?)),
        tag::U32 => Value::U32(u32::from_le_bytes(array(bytes)?)),
        tag::U64 => Value::U64(u64::from_le_bytes(array(bytes)?)),
        tag::U128 => Value::U128(u128::from_le_bytes(array(bytes)?)),
        tag::I8 => Value::I8(i8::from_le_bytes(array(bytes)?)),
        tag::I16 => Value::I16(i16::from_le_bytes(array(bytes)?)),
        tag::I32 => Value::I32(i32::from_le_bytes(array(bytes)?)),
        tag::I64 => Value::I64(i64::from_le_bytes(array(bytes)?)),
        tag::I128 => Value::I128(i128::from_le_bytes(array(bytes)?)),
        tag::F32 => Value::F32(f32::from_le_bytes(array(bytes)?)),
        tag::F64 => Value::F64(f64::from_le_bytes(array(bytes)?)),
        tag::FALSE => Value::Bool(false),
        tag::TRUE => Value::Bool(true),
        tag::CHAR => Value::Char(char::from_u32(u32::from_le_bytes(array(bytes)?)).ok_or(Torn)?),
        tag::TEXT => Value::Text(text(counted(bytes)?)?, false),
        tag::TEXT_CUT => Value::Text(text(counted(bytes)?)?, true),
        tag::NAME => Value::Name(text(counted(bytes)?)?),
        tag::BYTES => Value::Bytes(counted(bytes)?, false),
        tag::BYTES_CUT => Value::Bytes(counted(bytes)?, true),
        tag::DURATION => {
            let nanos = u128::from_le_bytes(array(bytes)?);
            let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| Torn)?;
            let rest = u32::try_from(nanos % 1_000_000_000).map_err(|_| Torn)?;
            Value::Duration(Duration::new(seconds, rest))
        }
        tag::IPV4 => Value::Ip(Ipv4Addr::from(array::<4>(bytes)?).into()),
        tag::IPV6 => Value::Ip(Ipv6Addr::from(array::<16>(bytes)?).into()),
        tag::SOCKET_V4 => {
            let ip = Ipv4Addr::from(array::<4>(bytes)?);
            Value::Socket(SocketAddrV4::new(ip, u16::from_le_bytes(array(bytes)?)).into())
        }
        tag::SOCKET_V6 => {
            let ip = Ipv6Addr::from(array::<16>(bytes)?);
            let port = u16::from_le_bytes(array(bytes)?);
            Value::Socket(SocketAddrV6::new(ip, port, 0, u32::from_le_bytes(array(bytes)?)).into())
        }
        tag::NONE => Value::None,
        tag::SOME | tag::TUPLE if depth >= MAX_DEPTH => return Err(Torn),
        tag::SOME => Value::Some(skip(bytes, 1, depth)?),
        tag::TUPLE => {
            let [count] = array(bytes)?;
            Value::Tuple(skip(bytes, usize::from(count), depth)?)
        }
        _ => return Err(Torn),
    })
}

/// Iterates over the values of a record.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next value, if there is one and it is intact.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Torn> {
        decode(&mut self.bytes, 0)
    }

    /// The next value, which must be a text.
    pub(crate) fn text(&mut self) -> Result<&'a str, Torn> {
        match self.value()? {
            Value::Text(text, _) => Ok(text),
            _ => Err(Torn),
        }
    }

    /// The next value, which must be a `u64`.
    pub(crate) fn number(&mut self) -> Result<u64, Torn> {
        match self.value()? {
            Value::U64(number) => Ok(number),
            _ => Err(Torn),
        }
    }

    /// What is left to decode.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Steps over `count` values.
    pub(crate) fn advance(&mut self, count: usize) -> Result<(), Torn> {
        skip(&mut self.bytes, count, 0).map(|_| ())
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;
    /// Stops at the end, and at the first torn value.
    fn next(&mut self) -> Option<Value<'a>> {
        if self.bytes.is_empty() {
            None
        } else {
            self.value().ok()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
