//! corosensei's own switch.
#![expect(unsafe_code, reason = "reaches what the block holds")]

use super::{ControlBlock, Switch};
use corosensei::CoroutineResult;

/// # Safety
///
/// As [`super::resume`].
#[inline(always)]
pub(super) unsafe fn resume(block: &ControlBlock) -> bool {
    // SAFETY: initialised from spawn to end; the caller says that nobody else uses it. It stays borrowed while the coroutine runs,
    // which itself uses only the other fields of its block.
    let switch = unsafe { &mut *block.switch.get().cast::<Switch>() };
    matches!(switch.resume(()), CoroutineResult::Return(()))
}

/// # Safety
///
/// As [`super::suspend`].
#[inline(always)]
pub(super) unsafe fn suspend(block: &ControlBlock) {
    // SAFETY: set when the coroutine started, and valid until its root returns; the caller says that we are on that stack.
    let yielder = unsafe { &*block.yielder() };
    yielder.suspend(());
}
