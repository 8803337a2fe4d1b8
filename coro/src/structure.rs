//! Shapes built on scopes: do several things at once and wait for all of them, or for the first.

use crate::cancel;
use crate::scheduler::require_current;
use crate::scope::{Scope, scope};
use std::cell::Cell;

/// Runs both closures, `a` as a coroutine of its own, and returns both results.
///
/// # Parks
///
/// Until both have ended.
///
/// # Cancellation
///
/// Both are cancelled, and the caller is unwound once both have ended.
///
/// # Panics
///
/// With the panic of either, after both have ended. Outside a coroutine.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let text = String::from("shared");
/// let (length, upper) = coro::join2(|| text.len(), || text.to_uppercase());
/// assert_eq!((length, upper.as_str()), (6, "SHARED"));
/// # });
/// ```
pub fn join2<A, B>(a: impl FnOnce() -> A, b: impl FnOnce() -> B) -> (A, B) {
    let first = Cell::new(None);
    let second = scope(|s| {
        s.spawn(|| first.set(Some(a())));
        b()
    });
    match first.take() {
        Some(first) => (first, second),
        None => interrupted("join2"),
    }
}

/// Runs all closures as coroutines and returns their results, in their order.
///
/// # Parks
///
/// Until all have ended.
///
/// # Cancellation
///
/// All are cancelled, and the caller is unwound once all have ended, unless each had a result after all.
///
/// # Panics
///
/// With the first panic, after all have ended. Outside a coroutine, or at the bound of coroutines.
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # coro::testing::run(|| {
/// let squares = coro::join_all((1..=3).map(|n| move || n * n));
/// assert_eq!(squares, [1, 4, 9]);
/// # });
/// ```
pub fn join_all<F, T>(closures: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: FnOnce() -> T,
{
    let closures: Vec<F> = closures.into_iter().collect();
    let results: Vec<Cell<Option<T>>> = closures.iter().map(|_| Cell::new(None)).collect();
    scope(|s| {
        for (closure, result) in closures.into_iter().zip(&results) {
            s.spawn(move || result.set(Some(closure())));
        }
    });
    let all: Option<Vec<T>> = results.into_iter().map(Cell::into_inner).collect();
    all.unwrap_or_else(|| interrupted("join_all"))
}

/// Runs both closures; the first result wins, and the other one is cancelled and finished before it is returned.
///
/// As [`race_all`], for closures of two types.
///
/// # Panics
///
/// As [`race_all`].
///
/// # Examples
///
/// ```
/// # use coring_coro as coro;
/// # use std::time::Duration;
/// # coro::testing::run(|| {
/// let winner = coro::race(
///     || { coro::sleep(Duration::from_secs(9)); "slow" },
///     || { coro::sleep(Duration::from_secs(1)); "quick" },
/// );
/// assert_eq!(winner, "quick");
/// # });
/// ```
pub fn race<T>(a: impl FnOnce() -> T, b: impl FnOnce() -> T) -> T {
    let winner = Cell::new(None);
    scope(|s| {
        s.fail_fast();
        s.spawn(|| finish(s, &winner, a));
        s.spawn(|| finish(s, &winner, b));
    });
    winner.take().unwrap_or_else(|| interrupted("race"))
}

/// Runs all closures as coroutines; the first result wins, the others are cancelled and finished before it is
/// returned.
///
/// A loser that has a result all the same has it dropped. A panic ends the race at once: the others are cancelled.
///
/// # Parks
///
/// Until all have ended.
///
/// # Cancellation
///
/// All are cancelled; a result that one of them has all the same is returned: an error is one, such as that of a call which was
/// refused. Else the caller is unwound, as when it was cancelled before: then no branch begins, as no coroutine does that is
/// cancelled before its first run.
///
/// # Panics
///
/// With the first panic, after all have ended. Without closures. Outside a coroutine.
pub fn race_all<F, T>(closures: impl IntoIterator<Item = F>) -> T
where
    F: FnOnce() -> T,
{
    let winner = Cell::new(None);
    let mut runners = 0;
    scope(|s| {
        s.fail_fast();
        for closure in closures {
            runners += 1;
            let winner = &winner;
            s.spawn(move || finish(s, winner, closure));
        }
    });
    assert!(runners > 0, "a race without runners has no winner");
    winner.take().unwrap_or_else(|| interrupted("race"))
}

fn finish<T>(s: &Scope<'_, '_>, winner: &Cell<Option<T>>, run: impl FnOnce() -> T) {
    let result = run();
    let first = winner.take();
    if first.is_some() {
        winner.set(first);
        return;
    }
    winner.set(Some(result));
    s.cancel();
}

/// A result is missing because the children were interrupted: so is the caller, which has none to return either.
#[cold]
fn interrupted(what: &str) -> ! {
    let block = require_current(what);
    if cancel::is_interrupted(block) {
        cancel::unwind(block);
    }
    // Only with `panic = "abort"`, where a child that was cancelled before it began has no result.
    panic!("{what}: a branch was cancelled and has no result");
}
