//! Coroutine-locals: what `thread_local!` is to a thread.
//!
//! A key is a static; its address is its name, together with the type of its values: a linker may merge constants
//! that look alike, and what is found by a key must have its type. A coroutine's values hang in a list from its control block, newest
//! first, one heap allocation each, made at first use:
//!
//! ```text
//!   control block --> Entry { name, value } --> Entry { name, value } --> nothing
//! ```
//!
//! A lookup walks the list: for the handful of keys a program has, that beats a map. The values are dropped when
//! the coroutine's closure has ended, newest first, on its own stack; a destructor may use the values that are
//! still there, and no others.
#![expect(
    unsafe_code,
    reason = "the list is type-erased: the key says what type a value has"
)]

use crate::coroutine::{ControlBlock, Marks};
use crate::scheduler::current;
use std::any::TypeId;
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;

/// Declares coroutine-locals: `coro::local! { static NAME: Type = init; }`. See [`LocalKey`].
#[macro_export]
macro_rules! local {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr);* $(;)?) => {
        $($(#[$attribute])* $visibility static $name: $crate::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::LocalKey::new(init)
        };)*
    };
}

/// A value of its own for every coroutine. Declared with [`coro::local!`](crate::local!).
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// use std::cell::Cell;
///
/// coro::local! {
///     static REQUEST: Cell<u64> = Cell::new(0);
/// }
/// # coro::testing::run(|| {
/// REQUEST.with(|id| id.set(7));
/// let other = coro::spawn(|| REQUEST.with(Cell::get)).join();
/// assert_eq!(other.unwrap(), 0);
/// assert_eq!(REQUEST.with(Cell::get), 7);
/// # });
/// ```
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
}

/// There is no value: the caller is no coroutine, or its locals have been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAccessError;

impl fmt::Display for LocalAccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a coroutine-local was used outside a coroutine, or after it was dropped")
    }
}

impl std::error::Error for LocalAccessError {}

#[repr(C)]
struct Entry<T> {
    header: Header,
    value: T,
}

/// What tells keys apart: the address of the key and the type of its values.
type Name = (*const (), TypeId);

/// The part of an entry that does not depend on its type. First in it, so that a pointer to one is one to the other.
pub(crate) struct Header {
    name: Name,
    next: Option<NonNull<Header>>,
    drop: unsafe fn(NonNull<Header>),
}

/// The values of one coroutine.
pub(crate) struct Locals {
    first: Cell<Option<NonNull<Header>>>,
}

impl Locals {
    pub(crate) const fn new() -> Self {
        Self {
            first: Cell::new(None),
        }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    fn find(&self, name: Name) -> Option<NonNull<Header>> {
        let mut next = self.first.get();
        while let Some(entry) = next {
            // SAFETY: entries on the list are alive; only this coroutine uses them.
            let header = unsafe { entry.as_ref() };
            if header.name == name {
                return Some(entry);
            }
            next = header.next;
        }
        None
    }
}

/// Drops all values of a coroutine, newest first. When a destructor panics, the next call goes on with the rest.
#[cold]
pub(crate) fn clear(block: &ControlBlock) {
    block.mark(Marks::LOCALS_CLOSED);
    while let Some(entry) = block.locals.first.get() {
        // SAFETY: entries on the list are alive.
        let header = unsafe { entry.as_ref() };
        let drop_entry = header.drop;
        block.locals.first.set(header.next);
        // SAFETY: just unlinked, and the function was made for its type.
        unsafe { drop_entry(entry) };
    }
}

impl fmt::Debug for Locals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locals").finish_non_exhaustive()
    }
}

/// # Safety
///
/// `entry` is the header of an `Entry<T>` from `Box::leak`, and nobody else uses it.
unsafe fn drop_entry<T>(entry: NonNull<Header>) {
    // SAFETY: the header is the first field of the entry (`repr(C)`).
    drop(unsafe { Box::from_raw(entry.cast::<Entry<T>>().as_ptr()) });
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(init: fn() -> T) -> Self {
        Self { init }
    }

    /// Runs `f` with the current coroutine's value, made by the initialiser at first use.
    ///
    /// # Panics
    ///
    /// Where [`try_with`](Self::try_with) returns an error.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`with`](Self::with).
    ///
    /// # Errors
    ///
    /// [`LocalAccessError`]: the caller is no coroutine, or the value was dropped at the end of it.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, LocalAccessError> {
        let block = current().ok_or(LocalAccessError)?;
        let locals = &block.locals;
        let name = (std::ptr::from_ref(self).cast(), TypeId::of::<T>());
        let header = match locals.find(name) {
            Some(header) => header,
            None if block.is(Marks::LOCALS_CLOSED) => return Err(LocalAccessError),
            None => {
                // Before it is linked: the initialiser may use other keys, and itself at its own peril.
                let value = (self.init)();
                let header = Header {
                    name,
                    next: locals.first.get(),
                    drop: drop_entry::<T>,
                };
                let entry = NonNull::from(Box::leak(Box::new(Entry { header, value })));
                locals.first.set(Some(entry.cast()));
                block.mark(Marks::LOCALS);
                entry.cast()
            }
        };
        // SAFETY: an entry of that name was made here, with the type that is part of the name.
        let value = unsafe { &raw const (*header.cast::<Entry<T>>().as_ptr()).value };
        // SAFETY: the entry lives until the coroutine's closure has ended, and `f` runs inside it; values are only
        // handed out as shared references.
        Ok(f(unsafe { &*value }))
    }
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
