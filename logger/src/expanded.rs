//! What the macros expand to. Public for them alone; no promises.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::Level;

pub use crate::callsite::Callsite;
pub use crate::encode::Opaque;
use crate::encode::{Args, Loggable, MAX_TEXT_BYTES};
pub use crate::plan::deferrable;
use crate::{clock, producer, state};

/// Whether lines of this level are compiled at all. For the compiler to ask, so that what is not leaves nothing behind, optimised or not.
#[must_use]
pub const fn is_compiled(level: Level) -> bool {
    level as usize <= log::STATIC_MAX_LEVEL as usize
}

/// Asks whether `T` is loggable: `(&Probe(x)).view()` finds [`ByValue::view`] if it is, else [`ByText::view`].
#[derive(Debug)]
pub struct Probe<'a, T: ?Sized>(pub &'a T);

/// Loggable types give their view.
pub trait ByValue<'a> {
    type View;
    fn view(&self) -> Self::View;
}

impl<'a, T: Loggable + ?Sized> ByValue<'a> for Probe<'a, T> {
    type View = T::View<'a>;
    #[inline(always)]
    fn view(&self) -> T::View<'a> {
        self.0.view()
    }
}

/// All others say that the line must be formatted now.
pub trait ByText {
    fn view(&self) -> Opaque;
}

impl<T: ?Sized> ByText for &Probe<'_, T> {
    #[inline(always)]
    fn view(&self) -> Opaque {
        Opaque
    }
}

/// A constant of the argument list's type.
#[inline(always)]
pub fn is_deferred<A: Args>(_: &A) -> bool {
    A::DEFERRED
}

/// Writes a line of raw arguments.
#[inline(always)]
pub fn write<A: Args, F: Args>(id: u32, level: Level, args: A, fields: F) {
    producer::emit(id, 0, level, Chain(args, fields));
}

/// One list after another.
#[derive(Clone, Copy)]
struct Chain<A, B>(A, B);

#[expect(unsafe_code, reason = "forwards the contract of Args")]
impl<A: Args, B: Args> Args for Chain<A, B> {
    const DEFERRED: bool = A::DEFERRED && B::DEFERRED;
    #[inline(always)]
    fn size(self) -> usize {
        self.0.size() + self.1.size()
    }
    #[inline(always)]
    unsafe fn put(self, at: *mut u8) -> *mut u8 {
        // SAFETY: the caller gives the bytes that both lists counted.
        let at = unsafe { self.0.put(at) };
        // SAFETY: the second list's bytes begin where the first ends.
        unsafe { self.1.put(at) }
    }
    #[inline(always)]
    fn is_brief(self) -> bool {
        self.0.is_brief() & self.1.is_brief()
    }
    #[inline(always)]
    unsafe fn put_brief(self, at: *mut u8) -> *mut u8 {
        // SAFETY: as in `put`; both are brief if the chain is.
        let at = unsafe { self.0.put_brief(at) };
        // SAFETY: as above.
        unsafe { self.1.put_brief(at) }
    }
}

/// Writes a line that is formatted here and now. The text is finished before any room is reserved, so a `Display` that panics,
/// logs or parks does no harm.
#[inline(never)]
pub fn write_text<F: Args>(id: u32, level: Level, message: fmt::Arguments<'_>, fields: F) {
    if let Some(text) = message.as_str() {
        return producer::emit_text(id, level, text, fields);
    }
    let Some(_depth) = Depth::enter() else {
        return state::count_refused();
    };
    let mut text = Scratch::<512>::new();
    text.format(message);
    producer::emit_text(id, level, text.as_str(), fields);
}

/// A formatted field.
#[derive(Debug)]
pub struct Text(Scratch<128>);

impl Text {
    #[must_use]
    pub fn new(value: fmt::Arguments<'_>) -> Self {
        let mut text = Scratch::new();
        match Depth::enter() {
            Some(_depth) => text.format(value),
            None => state::count_refused(),
        }
        Self(text)
    }
}

impl Loggable for Text {
    type View<'a> = &'a str;
    fn view(&self) -> &str {
        self.0.as_str()
    }
}

/// A text on the stack, which moves to the heap when it grows beyond `N` bytes. Coroutine stacks are small: keep `N` so.
#[derive(Debug)]
pub(crate) struct Scratch<const N: usize> {
    inline: [u8; N],
    length: usize,
    /// All of the text once it has outgrown `inline`.
    spilled: String,
}

impl<const N: usize> Scratch<N> {
    pub(crate) fn new() -> Self {
        Self {
            inline: [0; N],
            length: 0,
            spilled: String::new(),
        }
    }

    pub(crate) fn format(&mut self, value: fmt::Arguments<'_>) {
        if self.write_fmt(value).is_err() && !self.is_full() {
            let _ = self.write_str("[a Display or Debug returned an error]");
        }
    }

    fn is_full(&self) -> bool {
        self.spilled.len() > MAX_TEXT_BYTES
    }

    pub(crate) fn as_str(&self) -> &str {
        if self.spilled.is_empty() {
            std::str::from_utf8(&self.inline[..self.length]).expect("whole strings were copied")
        } else {
            &self.spilled
        }
    }
}

impl<const N: usize> fmt::Write for Scratch<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.spilled.is_empty() {
            if let Some(room) = self.inline.get_mut(self.length..self.length + text.len()) {
                room.copy_from_slice(text.as_bytes());
                self.length += text.len();
                return Ok(());
            }
            let so_far = self.as_str().to_owned();
            self.spilled = so_far;
        }
        // One byte more than is kept, so that the cut is seen. An error stops a Display that would write for ever.
        let keep =
            text.floor_char_boundary((MAX_TEXT_BYTES + 4).saturating_sub(self.spilled.len()));
        self.spilled.push_str(&text[..keep]);
        if keep < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// How many `Display`s are running inside each other on this thread: one that logs itself would recurse until the stack ends.
struct Depth;

const MAX_DEPTH: u32 = 32;

thread_local! {
    static DEPTH: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Depth {
    fn enter() -> Option<Self> {
        let depth = DEPTH.get();
        (depth < MAX_DEPTH).then(|| {
            DEPTH.set(depth + 1);
            Self
        })
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// The state of one `every_n!`, `every!` or `once!`.
#[derive(Debug)]
pub struct Sampler(AtomicU64);

impl Sampler {
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// True the first time and every `n`th time after.
    pub fn every_n(&self, n: u64) -> bool {
        self.0
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(n.max(1))
    }

    /// True once per interval, by the counter.
    pub fn every(&self, interval: Duration) -> bool {
        let now = clock::ticks().max(1);
        let due = self.0.load(Ordering::Relaxed);
        now >= due && {
            let next = now.saturating_add(clock::rough_ticks_in(interval));
            self.0
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        }
    }

    /// True the first time.
    pub fn once(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0 && self.0.swap(1, Ordering::Relaxed) == 0
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}
