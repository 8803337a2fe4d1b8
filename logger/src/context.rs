//! Whose line is this? Core, coroutine, and fields of the user's own, without knowing what a coroutine is.
//!
//! The runtime gives two plain functions ([`Hooks`]): the id of the running coroutine, and its name. A line does not carry
//! them. A ring carries a *context record* where the id changes, and the drain remembers it for the lines that follow:
//!
//! ```text
//!   | context 7 "session" user=ann | line | line | line | context 9 "timer" | line | ...
//! ```
//!
//! So a coroutine that logs ten lines in a row pays once. [`with_context`] adds fields to all lines of the calling coroutine
//! for the length of a call; they are kept per coroutine id in a thread-local (coroutines never change their thread), and
//! are looked up only when a context record is written.

#![expect(
    unsafe_code,
    reason = "reads the running coroutine's id where the runtime keeps it"
)]

use std::cell::RefCell;
use std::time::Duration;

use crate::encode::{Loggable, push};
use crate::producer;

/// Takes a coroutine's name from [`Hooks::context_name`].
pub type NameTaker<'a> = &'a mut dyn FnMut(&str);

/// How the logger learns the id of the coroutine that runs on the calling thread: 0 if none does. An id must not be used again by another
/// coroutine (a counter serves), and be less than `u64::MAX - 1`.
#[derive(Debug, Clone, Copy)]
pub struct ContextId {
    call: fn() -> u64,
    word: fn() -> ContextWord,
}

/// A word of a thread that says which coroutine runs on it: null, or the address of something that holds its id some bytes further on.
#[derive(Debug, Clone, Copy)]
pub struct ContextWord {
    pub(crate) word: *const *const u8,
    pub(crate) offset: u32,
}

/// No coroutine has this id: a line that meets it asks by a call.
const ASK: u64 = u64::MAX - 1;

/// A word that never changes.
struct Fixed(*const u8);
// SAFETY: points to a constant, or to nothing.
unsafe impl Sync for Fixed {}

impl ContextId {
    /// No coroutines: threads only.
    pub const NONE: Self = Self {
        call: || 0,
        word: || {
            static NOBODY: Fixed = Fixed(std::ptr::null());
            ContextWord {
                word: &raw const NOBODY.0,
                offset: 0,
            }
        },
    };

    /// By a call, which should be a load or two. Calls cost a line more than their own time: see [`ContextId::in_memory`].
    #[must_use]
    pub const fn by_call(call: fn() -> u64) -> Self {
        Self {
            call,
            word: || ContextWord::ASK,
        }
    }

    /// Where the id can be read without a call, which saves a line some nanoseconds. `word` is called once for each thread, or core.
    ///
    /// # Safety
    /// `word` returns a word that belongs to the calling thread and can be read until its thread-locals are gone. That word is null where
    /// `call` would return 0, else what it points to holds, at the offset, what `call` would return. Nobody but that thread writes either.
    #[must_use]
    pub const unsafe fn in_memory(call: fn() -> u64, word: fn() -> ContextWord) -> Self {
        Self { call, word }
    }

    pub(crate) fn ask(self) -> u64 {
        (self.call)()
    }

    pub(crate) fn word(self) -> ContextWord {
        (self.word)()
    }
}

impl ContextWord {
    /// For who has no thread of its own.
    pub(crate) const ASK: Self = {
        static ID: u64 = ASK;
        static WORD: Fixed = Fixed((&raw const ID).cast());
        Self {
            word: &raw const WORD.0,
            offset: 0,
        }
    };

    /// A word, and how far behind what it points to the id is.
    #[must_use]
    pub const fn new(word: *const *const u8, offset: u32) -> Self {
        Self { word, offset }
    }

    /// The id, or [`ASK`].
    #[inline(always)]
    pub(crate) fn read(self) -> u64 {
        // SAFETY: the word may be read on its thread, by the contract of `in_memory`; that of `NONE` and `ASK` is a constant.
        let coroutine = unsafe { self.word.read() };
        if coroutine.is_null() {
            return 0;
        }
        // SAFETY: as above: what it points to holds an id there.
        let id = unsafe { coroutine.add(self.offset as usize) };
        // SAFETY: as above.
        unsafe { id.cast::<u64>().read() }
    }
}

/// What a runtime tells the logger about itself.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// Says which coroutine runs on the calling thread. Asked for every line.
    pub context_id: ContextId,
    /// Gives the name of the coroutine with this id, if it has one, to the function.
    pub context_name: fn(u64, NameTaker<'_>),
    /// Parks the calling coroutine for about so long and returns true; returns false at once where that is impossible
    /// (no coroutine, or a panic is unwinding). Used by `flush()` and by [`crate::Full::Wait`].
    pub pause: fn(Duration) -> bool,
}

impl Default for Hooks {
    /// No coroutines: threads only.
    fn default() -> Self {
        Self {
            context_id: ContextId::NONE,
            context_name: |_, _| {},
            pause: |_| false,
        }
    }
}

/// Encoded keys and values of one `with_context`, and the coroutine it belongs to.
struct Frame {
    owner: u64,
    values: Vec<u8>,
}

thread_local! {
    /// Frames of all coroutines of this thread; those of one coroutine are in order.
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// Ends a frame, also when the call unwinds.
struct Leave(u64);

impl Drop for Leave {
    fn drop(&mut self) {
        let _ = FRAMES.try_with(|frames| {
            let mut frames = frames.borrow_mut();
            if let Some(last) = frames.iter().rposition(|frame| frame.owner == self.0) {
                frames.remove(last);
            }
        });
        producer::context_changed();
    }
}

/// Calls `body`; every line that the calling coroutine (or thread) logs meanwhile carries the field `key = value`.
///
/// The field follows the coroutine: lines of other coroutines that run on the core meanwhile do not carry it, nor do coroutines
/// spawned inside. Nest calls for more fields. Costs an allocation and a context record, so it belongs around a request, not a line.
///
/// # Examples
/// ```
/// use coring_logger::{Logger, info, with_context};
///
/// let (builder, lines) = Logger::builder().pattern("{message}{fields}").memory();
/// let logger = builder.start()?;
/// with_context("request", 17, || info!("begins"));
/// info!("over");
/// logger.flush()?;
/// assert_eq!(lines.text(), "begins request=17\nover\n");
/// # logger.shutdown();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn with_context<T>(key: &str, value: impl Loggable, body: impl FnOnce() -> T) -> T {
    let owner = crate::state::hooks().context_id.ask();
    let mut values = Vec::new();
    push(&mut values, key);
    push(&mut values, value.view());
    let stored = FRAMES
        .try_with(|frames| frames.borrow_mut().push(Frame { owner, values }))
        .is_ok();
    producer::context_changed();
    let _leave = stored.then_some(Leave(owner));
    body()
}

/// Whether any coroutine of this thread has fields.
pub(crate) fn has_fields() -> bool {
    FRAMES
        .try_with(|frames| !frames.borrow().is_empty())
        .unwrap_or(false)
}

/// Appends the values of a context record: id, name, then keys and values.
pub(crate) fn encode(id: u64, out: &mut Vec<u8>) {
    push(out, id);
    let mut named = false;
    (crate::state::hooks().context_name)(id, &mut |name| {
        if !std::mem::replace(&mut named, true) {
            push(out, name);
        }
    });
    if !named {
        push(out, "");
    }
    let _ = FRAMES.try_with(|frames| {
        for frame in frames.borrow().iter().filter(|frame| frame.owner == id) {
            out.extend_from_slice(&frame.values);
        }
    });
}
