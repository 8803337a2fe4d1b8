//! Values that are made once, by the first who needs them, while the others wait.
#![expect(
    unsafe_code,
    reason = "a value that is there is never changed again, so it can be shared"
)]

use super::WaitError;
use super::queue::WaitQueue;
use crate::scheduler::current;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::time::Duration;

/// As [`std::sync::OnceLock`], for the coroutines of one core: the initialiser may wait.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let config = coro::sync::OnceCell::new();
/// let made = std::cell::Cell::new(0);
/// let make = || {
///     coro::yield_now();
///     made.set(made.get() + 1);
///     "config"
/// };
/// coro::join_all((0..3).map(|_| || *config.get_or_init(make)));
/// assert_eq!(made.get(), 1);
/// # });
/// ```
pub struct OnceCell<T> {
    value: UnsafeCell<Option<T>>,
    /// The coroutine (zero: not one) that makes the value now.
    maker: Cell<Option<u64>>,
    queue: WaitQueue,
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceCell<T> {
    /// Without a value.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            value: UnsafeCell::new(None),
            maker: Cell::new(None),
            queue: WaitQueue::new(),
        }
    }

    /// The value, if there is one.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: only `put` writes, and only while there is no value, hence no reference to it.
        unsafe { &*self.value.get() }.as_ref()
    }

    /// Sets the value.
    ///
    /// # Errors
    ///
    /// Gives `value` back when there is one already, or one is being made.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.get().is_some() || self.maker.get().is_some() {
            return Err(value);
        }
        self.put(value);
        // Behind one who was told that it is its turn to make the value, others may wait.
        self.queue.grant_all();
        Ok(())
    }

    /// The value, made by `f` if there is none. When `f` panics or is cancelled, the next one in line makes it.
    ///
    /// # Parks
    ///
    /// While another coroutine makes it.
    ///
    /// # Cancellation
    ///
    /// A waiting coroutine is unwound.
    ///
    /// # Panics
    ///
    /// With the panic of `f`. When `f` asks for the value it is to make. When it would have to wait outside a
    /// coroutine or while unwinding.
    pub fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        enum Never {}
        let made: Result<&T, Never> = self.get_or_try_init(|| Ok(f()));
        let Ok(value) = made;
        value
    }

    /// As [`get_or_init`](Self::get_or_init), with an initialiser that may fail: then the next one in line tries.
    ///
    /// # Errors
    ///
    /// The error of `f`.
    ///
    /// # Panics
    ///
    /// As [`get_or_init`](Self::get_or_init).
    pub fn get_or_try_init<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        loop {
            if let Some(value) = self.get() {
                return Ok(value);
            }
            if self.maker.get().is_none() {
                return self.make(f);
            }
            self.refuse_recursion();
            let nothing = std::ptr::null_mut();
            self.queue
                .wait_or_unwind(0, nothing, "OnceCell::get_or_init", || ());
        }
    }

    /// As [`get_or_init`](Self::get_or_init), but waits for another coroutine's initialiser no longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait.
    ///
    /// # Panics
    ///
    /// With the panic of `f`. When `f` asks for the value it is to make.
    pub fn get_or_init_timeout(
        &self,
        limit: Duration,
        f: impl FnOnce() -> T,
    ) -> Result<&T, WaitError> {
        enum Never {}
        let made: Result<&T, Never> = self.get_or_try_init_timeout(limit, || Ok(f()))?;
        let Ok(value) = made;
        Ok(value)
    }

    /// As [`get_or_try_init`](Self::get_or_try_init), but waits for another coroutine's initialiser no longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: timed out, cancelled, or the caller cannot wait. The error of `f` is inside the `Ok`.
    ///
    /// # Panics
    ///
    /// With the panic of `f`. When `f` asks for the value it is to make.
    pub fn get_or_try_init_timeout<E>(
        &self,
        limit: Duration,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<&T, E>, WaitError> {
        let mut limit = Some(limit);
        loop {
            if let Some(value) = self.get() {
                return Ok(Ok(value));
            }
            if self.maker.get().is_none() {
                return Ok(self.make(f));
            }
            self.refuse_recursion();
            self.queue.wait_again("OnceCell::get_or_init", &mut limit)?;
        }
    }

    /// The value, out of a cell that nobody else can reach.
    #[must_use]
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    fn make<E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        struct Making<'a, T>(&'a OnceCell<T>);
        impl<T> Drop for Making<'_, T> {
            fn drop(&mut self) {
                self.0.maker.set(None);
                if self.0.get().is_some() {
                    self.0.queue.grant_all();
                } else if let Some(next) = self.0.queue.first_claim() {
                    self.0.queue.grant(next);
                }
            }
        }
        self.maker
            .set(Some(current().map_or(0, |block| block.id.get())));
        let making = Making(self);
        let value = f()?;
        self.put(value);
        drop(making);
        Ok(self.get().expect("just put there"))
    }

    fn put(&self, value: T) {
        assert!(self.get().is_none(), "a value is put at most once");
        // SAFETY: there is no value, hence no reference to it; and no code of the user runs in here: what is
        // overwritten is `None`.
        unsafe { *self.value.get() = Some(value) };
    }

    fn refuse_recursion(&self) {
        let me = current().map(|block| block.id.get());
        assert!(
            self.maker.get() != me,
            "an initialiser asked for the value it is to make"
        );
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}

/// As [`std::sync::Once`], for the coroutines of one core: the closure may wait.
#[derive(Debug, Default)]
pub struct Once(OnceCell<()>);

impl Once {
    /// Not yet done.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// Runs `f` if nobody has; returns when it has been run to its end. One that panicked does not count.
    ///
    /// # Parks
    ///
    /// While another coroutine runs it.
    ///
    /// # Panics
    ///
    /// As [`OnceCell::get_or_init`].
    pub fn call_once(&self, f: impl FnOnce()) {
        self.0.get_or_init(f);
    }

    /// As [`call_once`](Self::call_once), but waits for another coroutine no longer than `limit`.
    ///
    /// # Errors
    ///
    /// As [`OnceCell::get_or_init_timeout`].
    ///
    /// # Panics
    ///
    /// As [`OnceCell::get_or_init_timeout`].
    pub fn call_once_timeout(&self, limit: Duration, f: impl FnOnce()) -> Result<(), WaitError> {
        self.0.get_or_init_timeout(limit, f).copied()
    }

    /// Whether it has been run to its end.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.0.get().is_some()
    }
}
