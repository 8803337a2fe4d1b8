//! How an argument becomes bytes in the ring: one tag byte, then the raw value.
//!
//! ```text
//!   7_u64     07 07 00 00 00 00 00 00 00
//!   "abc"     83 61 62 63                      0x80 | length, for less than 128 bytes
//!   Some(1u8) 1a 04 01                         the tag, then the value
//! ```
//!
//! Every value says its own type, so a record can be decoded without the program that wrote it, and one line of generic code
//! may log different types from call to call.
//!
//! Two traits, on purpose:
//!
//! - [`Loggable`] is for you: it turns `&self` into a *view*, a small `Copy` snapshot made of the types below.
//! - [`Arg`] is sealed: a view can say its size and write itself. A snapshot cannot change between the two calls, which is
//!   why [`Arg::put`] needs no bounds check and why no user code runs while a record is half written.

#![expect(unsafe_code, reason = "writes raw bytes into reserved ring memory")]

mod text;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longest text or byte slice kept of one argument; the rest is cut, and the line says so.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The tag bytes. A tag with the high bit set is a text of `tag & 0x7f` bytes.
pub(crate) mod tag {
    pub(crate) const NONE: u8 = 0x01;
    pub(crate) const FALSE: u8 = 0x02;
    pub(crate) const TRUE: u8 = 0x03;
    pub(crate) const U8: u8 = 0x04;
    pub(crate) const U16: u8 = 0x05;
    pub(crate) const U32: u8 = 0x06;
    pub(crate) const U64: u8 = 0x07;
    pub(crate) const U128: u8 = 0x08;
    pub(crate) const I8: u8 = 0x09;
    pub(crate) const I16: u8 = 0x0a;
    pub(crate) const I32: u8 = 0x0b;
    pub(crate) const I64: u8 = 0x0c;
    pub(crate) const I128: u8 = 0x0d;
    pub(crate) const F32: u8 = 0x0e;
    pub(crate) const F64: u8 = 0x0f;
    pub(crate) const CHAR: u8 = 0x10;
    pub(crate) const TEXT: u8 = 0x11;
    pub(crate) const TEXT_CUT: u8 = 0x12;
    pub(crate) const BYTES: u8 = 0x13;
    pub(crate) const BYTES_CUT: u8 = 0x14;
    pub(crate) const NAME: u8 = 0x15;
    pub(crate) const DURATION: u8 = 0x16;
    pub(crate) const IPV4: u8 = 0x17;
    pub(crate) const IPV6: u8 = 0x18;
    pub(crate) const SOCKET_V4: u8 = 0x19;
    pub(crate) const SOME: u8 = 0x1a;
    pub(crate) const TUPLE: u8 = 0x1b;
    pub(crate) const SOCKET_V6: u8 = 0x1c;
    pub(crate) const SHORT_TEXT: u8 = 0x80;
}

mod sealed {
    pub trait Sealed {}
}

/// A snapshot of one argument that can write itself into a ring. Sealed: implement [`Loggable`] for your own types.
pub trait Arg: Copy + sealed::Sealed {
    #[doc(hidden)]
    const DEFERRED: bool = true;
    #[doc(hidden)]
    fn size(self) -> usize;
    /// # Safety
    /// `at` must be valid for writes of [`Arg::size`] bytes. Returns the address just behind them.
    #[doc(hidden)]
    unsafe fn put(self, at: *mut u8) -> *mut u8;
    /// Whether [`Arg::put_brief`] may be called.
    #[doc(hidden)]
    #[inline(always)]
    fn is_brief(self) -> bool {
        true
    }
    /// [`Arg::put`] in a few instructions that are worth repeating at each call site, without a call.
    ///
    /// # Safety
    /// As [`Arg::put`], and [`Arg::is_brief`].
    #[doc(hidden)]
    #[inline(always)]
    unsafe fn put_brief(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { self.put(at) }
    }
}

/// A type whose values go into the log as raw bytes, to be formatted later by the drain.
///
/// All integers, floats, `bool`, `char`, strings, byte slices, [`Duration`], addresses, and options, references and boxes of
/// those are loggable. For a type of your own, say which view stands for it ([`loggable!`](crate::loggable) does the writing); where formatted text must agree with your
/// `Display` and `Debug`, choose the view accordingly ([`Name`] suits field-less enums).
///
/// A type without this trait can still be an argument of any message: the whole line is then formatted at the call, as
/// `format!` would do. For the line of `benches/log.rs` that is 80 ns instead of 8 (AMD Zen 5).
///
/// # Examples
/// ```
/// use coring_logger::{Loggable, Name};
///
/// #[derive(Debug)]
/// enum Side { Buy, Sell }
///
/// impl Loggable for Side {
///     type View<'a> = Name<'static>;
///     fn view(&self) -> Name<'static> {
///         Name(match self { Side::Buy => "Buy", Side::Sell => "Sell" })
///     }
/// }
///
/// struct OrderId(u64);
/// impl Loggable for OrderId {
///     type View<'a> = u64;
///     fn view(&self) -> u64 { self.0 }
/// }
///
/// coring_logger::info!(order = OrderId(7); "accepted {:?}", Side::Sell);
/// # let _ = Side::Buy;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be logged as a raw value",
    note = "write `key:% = value` to log its `Display` text, `key:? = value` for `Debug`, or implement `coring_logger::Loggable`"
)]
pub trait Loggable {
    /// What is copied into the ring.
    type View<'a>: Arg
    where
        Self: 'a;
    /// Takes the snapshot. Runs before any room is reserved in the ring, so it may do what it likes, even log.
    fn view(&self) -> Self::View<'_>;
}

/// A text shown bare under `{}` and `{:?}` alike: the name of an enum's variant, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(pub &'a str);

/// Stands for an argument that is not [`Loggable`]: the line is formatted at the call. See [`crate::__private::Probe`].
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Opaque;

/// Writes `bytes` and returns the address behind them.
///
/// # Safety
/// `at` must be valid for writes of that many bytes.
#[inline(always)]
unsafe fn put_bytes(at: *mut u8, bytes: &[u8]) -> *mut u8 {
    // SAFETY: the caller's; a `&[u8]` of the caller cannot overlap ring memory that is being reserved for it.
    unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    // SAFETY: one past the bytes just written, inside the reservation or at its end.
    unsafe { at.add(bytes.len()) }
}

macro_rules! scalar_args {
    ($($kind:ty => $tag:ident),* $(,)?) => {$(
        impl sealed::Sealed for $kind {}
        impl Arg for $kind {
            #[inline(always)]
            fn size(self) -> usize {
                1 + size_of::<$kind>()
            }
            #[inline(always)]
            unsafe fn put(self, at: *mut u8) -> *mut u8 {
                // SAFETY: the caller gives `size()` valid bytes; this is the first.
                let at = unsafe { put_bytes(at, &[tag::$tag]) };
                // SAFETY: and these are the rest.
                unsafe { put_bytes(at, &self.to_le_bytes()) }
            }
        }
        impl Loggable for $kind {
            type View<'a> = $kind;
            #[inline(always)]
            fn view(&self) -> $kind {
                *self
            }
        }
    )*};
}
scalar_args! {
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, u128 => U128,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64, i128 => I128,
    f32 => F32, f64 => F64,
}

/// A tag and a fixed number of bytes.
#[derive(Clone, Copy)]
struct Tagged<const N: usize>(u8, [u8; N]);

impl<const N: usize> sealed::Sealed for Tagged<N> {}
impl<const N: usize> Arg for Tagged<N> {
    #[inline(always)]
    fn size(self) -> usize {
        1 + N
    }
    #[inline(always)]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller gives 1 + N bytes.
        let at = unsafe { put_bytes(at, &[self.0]) };
        // SAFETY: as above.
        unsafe { put_bytes(at, &self.1) }
    }
}

/// Joins two arrays: `N` must be `A + B`.
fn join<const A: usize, const B: usize, const N: usize>(
    first: [u8; A],
    second: [u8; B],
) -> [u8; N] {
    const { assert!(A + B == N) };
    let mut both = [0; N];
    both[..A].copy_from_slice(&first);
    both[A..].copy_from_slice(&second);
    both
}

/// Types that are written as another type.
macro_rules! forwarded_args {
    ($($kind:ty => |$self:ident| $inner:expr),* $(,)?) => {$(
        impl sealed::Sealed for $kind {}
        impl Arg for $kind {
            #[inline(always)]
            fn size($self) -> usize {
                $inner.size()
            }
            #[inline(always)]
            unsafe fn put($self, at: *mut u8) -> *mut u8 {
                // SAFETY: same size, same contract.
                unsafe { $inner.put(at) }
            }
        }
        impl Loggable for $kind {
            type View<'a> = $kind;
            #[inline(always)]
            fn view(&self) -> $kind {
                *self
            }
        }
    )*};
}
forwarded_args! {
    usize => |self| (self as u64),
    isize => |self| (self as i64),
    bool => |self| Tagged(if self { tag::TRUE } else { tag::FALSE }, []),
    char => |self| Tagged(tag::CHAR, u32::from(self).to_le_bytes()),
    Duration => |self| Tagged(tag::DURATION, self.as_nanos().to_le_bytes()),
    Ipv4Addr => |self| Tagged(tag::IPV4, self.octets()),
    Ipv6Addr => |self| Tagged(tag::IPV6, self.octets()),
    SocketAddrV4 => |self| Tagged::<6>(tag::SOCKET_V4, join(self.ip().octets(), self.port().to_le_bytes())),
    SocketAddrV6 => |self| Tagged::<22>(
        tag::SOCKET_V6,
        join(self.ip().octets(), join::<2, 4, 6>(self.port().to_le_bytes(), self.scope_id().to_le_bytes())),
    ),
}

/// Enums whose variants are written as themselves.
macro_rules! either_args {
    ($($kind:ident: $first:ident | $second:ident),* $(,)?) => {$(
        impl sealed::Sealed for $kind {}
        impl Arg for $kind {
            fn size(self) -> usize {
                match self {
                    $kind::$first(inner) => inner.size(),
                    $kind::$second(inner) => inner.size(),
                }
            }
            unsafe fn put(self, at: *mut u8) -> *mut u8 {
                match self {
                    // SAFETY: same size, same contract.
                    $kind::$first(inner) => unsafe { inner.put(at) },
                    // SAFETY: same size, same contract.
                    $kind::$second(inner) => unsafe { inner.put(at) },
                }
            }
            #[inline(always)]
            fn is_brief(self) -> bool {
                false
            }
        }
        impl Loggable for $kind {
            type View<'a> = $kind;
            fn view(&self) -> $kind {
                *self
            }
        }
    )*};
}
either_args!(IpAddr: V4 | V6, SocketAddr: V4 | V6);

impl<A: Arg> sealed::Sealed for Option<A> {}
impl<A: Arg> Arg for Option<A> {
    const DEFERRED: bool = A::DEFERRED;
    #[inline(always)]
    fn size(self) -> usize {
        1 + self.map_or(0, A::size)
    }
    #[inline(always)]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        let first = if self.is_some() { tag::SOME } else { tag::NONE };
        // SAFETY: the caller gives `size()` bytes, at least one.
        let at = unsafe { put_bytes(at, &[first]) };
        match self {
            // SAFETY: and these are the rest.
            Some(inner) => unsafe { inner.put(at) },
            None => at,
        }
    }
    #[inline(always)]
    fn is_brief(self) -> bool {
        false
    }
}
impl<T: Loggable> Loggable for Option<T> {
    type View<'a>
        = Option<T::View<'a>>
    where
        T: 'a;
    #[inline(always)]
    fn view(&self) -> Self::View<'_> {
        self.as_ref().map(T::view)
    }
}

impl sealed::Sealed for Opaque {}
impl Arg for Opaque {
    const DEFERRED: bool = false;
    fn size(self) -> usize {
        0
    }
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        at
    }
}

/// Types seen through another loggable type.
macro_rules! seen_as {
    ($($kind:ty as $view:ty : |$self:ident| $inner:expr),* $(,)?) => {$(
        impl Loggable for $kind {
            type View<'a> = $view where Self: 'a;
            #[inline(always)]
            fn view(&$self) -> Self::View<'_> {
                $inner
            }
        }
    )*};
}
seen_as! {
    str as &'a str: |self| self,
    String as &'a str: |self| self,
    Cow<'_, str> as &'a str: |self| self,
    [u8] as &'a [u8]: |self| self,
    Vec<u8> as &'a [u8]: |self| self,
    Name<'_> as Name<'a>: |self| *self,
}
impl<const N: usize> Loggable for [u8; N] {
    type View<'a> = &'a [u8];
    #[inline(always)]
    fn view(&self) -> &[u8] {
        self
    }
}

/// Pointers are transparent.
macro_rules! transparent {
    ($($pointer:ty),*) => {$(
        impl<T: Loggable + ?Sized> Loggable for $pointer {
            type View<'a> = T::View<'a> where Self: 'a;
            #[inline(always)]
            fn view(&self) -> Self::View<'_> {
                T::view(self)
            }
        }
    )*};
}
transparent!(&T, &mut T, Box<T>, Rc<T>, Arc<T>);

macro_rules! non_zero {
    ($($kind:ty),*) => {$(
        impl Loggable for NonZero<$kind> {
            type View<'a> = $kind;
            fn view(&self) -> $kind {
                self.get()
            }
        }
    )*};
}
non_zero!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

macro_rules! tuples {
    ($($count:literal: $($name:ident $index:tt),+;)*) => {$(
        impl<$($name: Arg),+> sealed::Sealed for ($($name,)+) {}
        impl<$($name: Arg),+> Arg for ($($name,)+) {
            const DEFERRED: bool = true $(&& $name::DEFERRED)+;
            #[inline(always)]
            fn size(self) -> usize {
                2 $(+ self.$index.size())+
            }
            #[inline(always)]
            unsafe fn put(self, at: *mut u8) -> *mut u8 {
                // SAFETY: the caller gives `size()` bytes; these are the first two.
                let at = unsafe { put_bytes(at, &[tag::TUPLE, $count]) };
                $(
                    // SAFETY: each field writes the bytes it was counted for.
                    let at = unsafe { self.$index.put(at) };
                )+
                at
            }
            #[inline(always)]
            fn is_brief(self) -> bool {
                false
            }
        }
        impl<$($name: Loggable),+> Loggable for ($($name,)+) {
            type View<'a> = ($($name::View<'a>,)+) where Self: 'a;
            #[inline(always)]
            fn view(&self) -> Self::View<'_> {
                ($(self.$index.view(),)+)
            }
        }
    )*};
}
tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
}

/// All views of one line. Unlike a tuple argument it has no tag of its own.
#[doc(hidden)]
pub trait Args: Copy {
    const DEFERRED: bool;
    fn size(self) -> usize;
    /// # Safety
    /// As [`Arg::put`].
    unsafe fn put(self, at: *mut u8) -> *mut u8;
    /// As [`Arg::is_brief`].
    fn is_brief(self) -> bool;
    /// # Safety
    /// As [`Arg::put_brief`].
    unsafe fn put_brief(self, at: *mut u8) -> *mut u8;
}

/// One link of the list `(first, (second, (third, ())))` that the macros build.
impl<A: Arg, Rest: Args> Args for (A, Rest) {
    const DEFERRED: bool = A::DEFERRED && Rest::DEFERRED;
    #[inline(always)]
    fn size(self) -> usize {
        self.0.size() + self.1.size()
    }
    #[inline(always)]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller gives the bytes both parts counted.
        let at = unsafe { self.0.put(at) };
        // SAFETY: and here begin those of the rest.
        unsafe { self.1.put(at) }
    }
    #[inline(always)]
    fn is_brief(self) -> bool {
        self.0.is_brief() & self.1.is_brief()
    }
    #[inline(always)]
    unsafe fn put_brief(self, at: *mut u8) -> *mut u8 {
        // SAFETY: as in `put`; both are brief if the list is.
        let at = unsafe { self.0.put_brief(at) };
        // SAFETY: as above.
        unsafe { self.1.put_brief(at) }
    }
}
impl Args for () {
    const DEFERRED: bool = true;
    #[inline(always)]
    fn size(self) -> usize {
        0
    }
    #[inline(always)]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        at
    }
    #[inline(always)]
    fn is_brief(self) -> bool {
        true
    }
    #[inline(always)]
    unsafe fn put_brief(self, at: *mut u8) -> *mut u8 {
        at
    }
}

/// Values that were encoded before.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a>(pub(crate) &'a [u8]);
impl Args for Encoded<'_> {
    const DEFERRED: bool = true;
    fn size(self) -> usize {
        self.0.len()
    }
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller gives `size()` bytes.
        unsafe { put_bytes(at, self.0) }
    }
    fn is_brief(self) -> bool {
        false
    }
    unsafe fn put_brief(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { self.put(at) }
    }
}

/// Appends an encoded value to a buffer; for the slow paths.
pub(crate) fn push(out: &mut Vec<u8>, arg: impl Arg) {
    let size = arg.size();
    out.reserve(size);
    let start = out.len();
    // SAFETY: `reserve` made room for `size` bytes behind the initialised ones.
    let at = unsafe { out.as_mut_ptr().add(start) };
    // SAFETY: those bytes are valid for writes.
    unsafe { arg.put(at) };
    // SAFETY: `put` has initialised exactly `size` bytes.
    unsafe { out.set_len(start + size) };
}
