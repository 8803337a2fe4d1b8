//! Calls: a closure runs on another core, and the caller waits for what it returns.
//!
//! Built on [`spawn_on`]. A call is one unit with its caller: a panic there goes on here, and a caller that is
//! cancelled while it waits cancels the closure, too.

use super::packet::{RemoteError, RemoteHandle};
use super::remote::{spawn_on, spawn_on_each};
use crate::report::Contained;
use std::mem;
use std::panic::resume_unwind;

/// Runs a closure on a core and returns its value.
///
/// # Parks
///
/// Until the closure has ended there.
///
/// # Cancellation
///
/// When the caller is cancelled the closure is cancelled, and [`RemoteError::Refused`] returned without waiting for
/// its end.
///
/// # Errors
///
/// [`RemoteError`], never `Panicked`.
///
/// # Panics
///
/// With the panic of the closure; outside a runtime; when there is no such core.
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     assert_eq!(coring::call(1, coring::current_core).unwrap(), Some(1));
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[track_caller]
pub fn call<F, T>(core: usize, f: F) -> Result<T, RemoteError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    finish(Calls(vec![spawn_on(core, f)])).map(|mut values| values.remove(0))
}

/// Runs a closure on every core at once and returns the values in the order of the cores.
///
/// # Parks
///
/// Until all have ended.
///
/// # Cancellation
///
/// As [`call`].
///
/// # Errors
///
/// The first [`RemoteError`], in the order of the cores; the others are cancelled then.
///
/// # Panics
///
/// With the first panic, in the order of the cores; outside a runtime.
#[track_caller]
pub fn call_all<F, T>(f: F) -> Result<Vec<T>, RemoteError>
where
    F: Fn(usize) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    finish(Calls(spawn_on_each(f)))
}

/// Runs `map` on every core at once and folds the values, in the order of the cores, on this one.
///
/// # Errors
///
/// As [`call_all`].
///
/// # Panics
///
/// As [`call_all`].
///
/// # Examples
///
/// ```
/// coring::Runtime::builder().cores(2).build()?.run(|| {
///     let sum = coring::map_reduce(|core| core + 1, 0, |sum, value| sum + value);
///     assert_eq!(sum.unwrap(), 3);
/// });
/// # Ok::<(), coring::StartError>(())
/// ```
#[track_caller]
pub fn map_reduce<M, T, A>(
    map: M,
    first: A,
    mut reduce: impl FnMut(A, T) -> A,
) -> Result<A, RemoteError>
where
    M: Fn(usize) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    let values = call_all(map)?;
    Ok(values.into_iter().fold(first, &mut reduce))
}

/// Closures under way; those that are left when it is dropped are cancelled.
struct Calls<T>(Vec<RemoteHandle<T>>);

impl<T> Drop for Calls<T> {
    fn drop(&mut self) {
        self.0.iter().for_each(RemoteHandle::cancel);
        // What has ended nevertheless.
        drop(Contained(self.0.drain(..)));
    }
}

/// Values that nobody gets, because of a panic or an error: a destructor's panic is not to come between, and would end the process inside of another.
struct Unclaimed<T>(Vec<T>);

impl<T> Drop for Unclaimed<T> {
    fn drop(&mut self) {
        drop(Contained(self.0.drain(..)));
    }
}

fn finish<T>(mut calls: Calls<T>) -> Result<Vec<T>, RemoteError> {
    let mut values = Unclaimed(Vec::with_capacity(calls.0.len()));
    while let Some(handle) = calls.0.first() {
        let outcome = handle.wait(None).map_err(|stop| match stop {
            super::Stop::Refused(refusal) => RemoteError::Refused(refusal),
            super::Stop::TimedOut => unreachable!("there is no limit"),
        })?;
        drop(calls.0.remove(0));
        match outcome {
            Ok(value) => values.0.push(value),
            Err(RemoteError::Panicked(payload)) => resume_unwind(payload.into_inner()),
            Err(error) => return Err(error),
        }
    }
    Ok(mem::take(&mut values.0))
}
