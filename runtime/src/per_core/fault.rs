//! A panic of a core's own loop, which nothing in a program can cause: for the test of what it does.

use std::sync::atomic::{AtomicUsize, Ordering};

static WHERE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// From now on the loop of this core panics.
pub(crate) fn panic_on(core: usize) {
    WHERE.store(core, Ordering::Relaxed);
}

/// In the loop.
pub(super) fn strike(core: usize) {
    assert_ne!(WHERE.load(Ordering::Relaxed), core, "the loop is broken");
}
