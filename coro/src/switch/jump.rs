//! A switch by jumps, for coroutines that have suspended themselves.
//!
//! corosensei resumes by a `call` and suspends by a `ret`. The processor predicts a `ret` by the last `call` that has not returned, so
//! each function between the resume and the suspend is predicted to return into the wrong place once on the way out, and once more on
//! the way back: 17 to 20 ns where two jumps take 5. A jump is predicted by where it went last, and one of the two always goes to
//! the same place.
//!
//! What both sides leave on their stacks, top to the right:
//!
//! ```text
//!   whoever resumes:   rbx, where to go on, rbp    <- link      as corosensei's: it starts and ends coroutines on it, and unwinders
//!   a suspended one:   rbp, rbx, link, where to go on  <- sp    go from a coroutine to whoever resumed it by it
//! ```
//!
//! `link` is corosensei's word at the base of each coroutine's stack that says where the stack of whoever resumed it is: what a
//! `Yielder` points to. The block's `yielder` is null until the coroutine has started, `link` while it runs, and `sp` while it is suspended.
//!
//! corosensei's own resume does the first switch, so a coroutine that never suspends is not touched by any of this. Its last switch
//! is corosensei's as well; it comes back here if the last resume was ours, and then the object is told that it has ended.
//!
//! What is relied on beyond corosensei's interface, all of it in `arch/x86_64.rs` of version 0.3: what `switch_and_link` pushes, where
//! the link is, and that a last switch clears `rsi`.
#![expect(unsafe_code, reason = "assembly")]

use super::{ControlBlock, Switch};
use corosensei::CoroutineResult;
use std::arch::asm;

/// # Safety
///
/// As [`super::resume`].
#[inline(always)]
pub(super) unsafe fn resume(block: &ControlBlock) -> bool {
    let place = block.yielder();
    // SAFETY: initialised from spawn to end; the caller says that nobody else uses it. It stays borrowed while the coroutine runs,
    // which itself uses only the other fields of its block.
    let switch = unsafe { &mut *block.switch.get().cast::<Switch>() };
    if place.is_null() {
        return matches!(switch.resume(()), CoroutineResult::Return(()));
    }
    let is_alive: usize;
    // SAFETY: `place` is what `suspend` left: the stack of a suspended coroutine, whose top word is where it goes on. It comes back
    // to `3`, with our stack as it is there: by `suspend`, or by corosensei when it ends. All registers but two may have changed;
    // `rbx` is kept here, `rbp` by the other side.
    unsafe {
        asm!(
            "push rbx",
            "lea rax, [rip + 3f]",
            "push rax",
            "jmp [rdx]",
            "3:",
            "pop rbx",
            inlateout("rdx") place => _,
            lateout("rsi") is_alive,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    if is_alive == 0 {
        // SAFETY: its root has returned: nothing is left on its stack.
        unsafe { switch.force_reset() };
    }
    is_alive == 0
}

/// # Safety
///
/// As [`super::suspend`].
#[inline(always)]
pub(super) unsafe fn suspend(block: &ControlBlock) {
    let link = block.yielder();
    // SAFETY: `link` holds the top of the stack of whoever resumed us, where `rbp` and the place to go on at are. Whoever resumes us
    // goes to `3`, with its own stack and `rbp`, and the stack we leave in `rdx`. All other registers may have changed.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "push rdx",
            "lea rcx, [rip + 3f]",
            "push rcx",
            "mov [rax], rsp",
            "mov rsi, rsp",
            "mov rsp, [rdx]",
            "pop rbp",
            "pop rcx",
            "jmp rcx",
            "3:",
            "push rbp",
            "mov rcx, [rdx + 8]",
            "mov [rcx], rsp",
            "lea rsp, [rdx + 16]",
            "pop rbx",
            "pop rbp",
            inlateout("rdi") 0_usize => _,
            inlateout("rdx") link => _,
            inlateout("rax") block.yielder.as_ptr() => _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    block.set_yielder(link);
}
