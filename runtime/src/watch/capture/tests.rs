//! Goal: wherever a signal interrupts a switch of stacks, the handler's answer neither faults nor leads astray.
//! Method: single steps (the trap flag) through spawn, yield, park, wake and end; after each instruction the real answer is taken.

use super::{AlternateStack, FRAMES, Ordering, PLACE, answer, tables_need_no_lock, walk};
use coring_coro as coro;
use std::arch::asm;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::AtomicUsize;

const TRAP_FLAG: i64 = 0x100;

/// The outermost frame of the thread (zero as a rule), which each walk must reach.
static OUTERMOST: AtomicUsize = AtomicUsize::new(0);
static WALKED: AtomicUsize = AtomicUsize::new(0);
static NOT_WALKED: AtomicUsize = AtomicUsize::new(0);
static ASTRAY: AtomicUsize = AtomicUsize::new(0);

extern "C" fn step(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let by_breakpoint = unsafe { (*info).si_code } == libc::SI_KERNEL;
    if by_breakpoint {
        // SAFETY: likewise, and nobody else looks at it meanwhile.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        registers[libc::REG_EFL as usize] ^= TRAP_FLAG;
        return;
    }
    answer(context);
    let count = PLACE.frame_count.load(Ordering::Relaxed);
    let counter = match count.checked_sub(1) {
        None => &NOT_WALKED,
        Some(last) => {
            let reached = PLACE.frames[last].load(Ordering::Relaxed);
            let arrived = reached == OUTERMOST.load(Ordering::Relaxed) && count < FRAMES;
            if arrived { &WALKED } else { &ASTRAY }
        }
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Begins to step, or stops it.
fn toggle() {
    // SAFETY: `step` handles the breakpoint, and changes nothing but the trap flag.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

#[test]
fn each_instruction_of_a_switch_can_be_interrupted() {
    if !tables_need_no_lock() {
        println!("skipped: stacks are walked with glibc 2.35 or later only");
        return;
    }
    // SAFETY: a zeroed sigaction is a valid value of this plain C struct.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = step as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: it points to a valid struct; nobody else in this process uses the signal.
    let installed = unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, ptr::null_mut()) };
    assert_eq!(installed, 0);
    let stepped = std::thread::spawn(|| {
        let _stack = AlternateStack::install().expect("64 KiB");
        walk(|frame| {
            OUTERMOST.store(frame, Ordering::Relaxed);
            true
        });
        coro::testing::run(|| {
            // Twice: on a stack of its own, then on one that was used before.
            for _ in 0..2 {
                toggle();
                let parked = coro::spawn(|| {
                    coro::yield_now();
                    coro::park();
                });
                coro::yield_now();
                coro::yield_now();
                parked.cancel();
                let _ = parked.join();
                coro::spawn(coro::yield_now).join().unwrap();
                toggle();
            }
        });
    });
    stepped.join().unwrap();
    assert_eq!(ASTRAY.load(Ordering::Relaxed), 0);
    let counts = [&WALKED, &NOT_WALKED].map(|counter| counter.load(Ordering::Relaxed));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
