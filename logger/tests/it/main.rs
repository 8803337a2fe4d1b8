//! The logger through its public API. There is one logger per process, so tests take turns (see `exclusive`); what needs a process of
//! its own (kill, fork, signals) runs this binary again with an environment variable that names the part to play.

mod basics;
mod command;
mod context;
mod crash;
mod exactness;
mod held;
mod hot;
mod json;
mod loss;
mod rotation;
mod sinks;
#[expect(unreachable_pub, reason = "the behaviour tests have it in a library")]
#[path = "../../../tests/src/skips.rs"]
mod skips;
mod trouble;
mod wrap;

use skips::count_skip;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time; a test that failed must not fail the others.
fn exclusive() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
