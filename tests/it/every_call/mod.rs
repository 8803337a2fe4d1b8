//! Every call that goes to the kernel, cancelled and out of time.
//!
//! ```text
//!   waiting    calls that wait for as long as it takes: each is seen waiting, then ended
//!   brief      calls that end by themselves: each is refused before it has done anything
//! ```

mod brief;
mod waiting;

use coring::coro;
use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// A call with all that it needs, its peers included: nothing but a cancellation or a deadline can end it early.
///
/// What it needs lives as long as it does: dropping a file is an operation, too.
type Call = Box<dyn FnMut() -> io::Result<()>>;

/// A call by name, and how its stage is set in an empty directory.
type Row = (&'static str, fn(&Path) -> Call);

fn boxed<T>(mut call: impl FnMut() -> io::Result<T> + 'static) -> Call {
    Box::new(move || call().map(drop))
}

/// The outcome of a call by a coroutine that was cancelled before.
fn called_too_late(mut call: Call) -> (io::Result<()>, Call) {
    let cancelled = Rc::new(Cell::new(false));
    let victim = coro::spawn({
        let cancelled = Rc::clone(&cancelled);
        move || {
            coro::shield(|| {
                while !cancelled.get() {
                    coro::yield_now();
                }
            });
            (call(), call)
        }
    });
    coro::yield_now();
    victim.cancel();
    cancelled.set(true);
    victim.join().expect("an error is enough to end it")
}

/// The outcome of a call whose deadline has passed before, and whether the deadline saw it.
fn called_after_the_deadline(call: &mut Call) -> (io::Result<()>, bool) {
    let mut outcome = Ok(());
    let elapsed = coro::timeout(std::time::Duration::ZERO, || outcome = call());
    (outcome, elapsed.is_err())
}
