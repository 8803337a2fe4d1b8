//! Goal: wherever a signal interrupts a switch of stacks, or a coroutine with a tiny one, the handler's answer neither faults nor
//! leads astray. Method: single steps (the trap flag) through spawn, yield, park, wake and end; after each instruction the real answer is taken.

use super::{
    ASKING, AlternateStack, FRAMES, Ordering, PLACE, PoisonError, answer, ask, tables_need_no_lock,
    thread_id, walk,
};
use coring_coro as coro;
use std::arch::asm;
use std::ffi::c_void;
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;
use std::time::Duration;

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
    // The place is written to without asking.
    let _turn = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Goal: captures from another thread hit coroutines with the smallest stacks wherever they are: beginning, deep in their stack,
/// waiting, ending, their stack being used anew. Method: a thread that does nothing else is asked thousands of times (100,000 in
/// the long lane); each answer names one of ours or the loop, and many have a stack that reaches the coroutine's own function.
#[test]
fn tiny_stacks_can_be_captured_from_another_thread() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let is_long = std::env::var_os("CORING_HEAVY").is_some_and(|value| value == "1");
    let captures = if is_long { 100_000 } else { 2_000 };
    let (tell, told) = mpsc::channel();
    let turning = std::thread::spawn(move || {
        let _stack = AlternateStack::install().expect("64 KiB");
        tell.send(thread_id()).unwrap();
        let config = coro::SchedulerConfig {
            stack: coro::StackConfig {
                stack_bytes: 16 * 1024,
                warm_stacks: 4,
                ..coro::StackConfig::default()
            },
            ..coro::SchedulerConfig::default()
        };
        coro::testing::run_with(config, || {
            while !STOP.load(Ordering::Relaxed) {
                let live: Vec<_> = (0..20).map(|deep| spawn_tiny(deep % 10)).collect();
                for (number, handle) in live.into_iter().enumerate() {
                    match number % 3 {
                        0 => drop(handle),
                        1 => handle.cancel(),
                        _ => assert!(handle.join().is_ok()),
                    }
                }
            }
        });
    });
    let thread = told.recv().unwrap();
    let (mut named, mut walked) = (0, 0);
    for _ in 0..captures {
        let captured = ask(thread).expect("the thread answers");
        if let Some((name, site)) = &captured.coroutine {
            assert!(site.file().ends_with(".rs"), "{site}");
            assert!(["main", "tiny"].contains(&name.as_str()), "{name}");
            named += 1;
        }
        walked += usize::from(captured.frames.len() > 1);
    }
    STOP.store(true, Ordering::Relaxed);
    turning.join().unwrap();
    println!("{captures} captures, {named} of a coroutine, {walked} with a stack");
    assert!(named > captures / 10, "{named} of {captures}");
    if tables_need_no_lock() {
        assert!(walked > captures / 10, "{walked} of {captures}");
    }
}

/// Runs, waits, runs deeper and ends, on a stack that a fifth to nine tenths of are used.
fn spawn_tiny(deep: usize) -> coro::JoinHandle<usize> {
    #[inline(never)]
    fn descend(deep: usize) -> usize {
        let bytes = black_box([1_u8; 1000]);
        coro::yield_now();
        let below = if deep > 0 { descend(deep - 1) } else { 0 };
        below + usize::from(bytes[black_box(deep)])
    }
    let tiny = coro::Builder::new().name("tiny");
    let tiny = tiny.spawn(move || {
        coro::sleep(Duration::from_nanos(1));
        descend(deep) + descend(deep / 2)
    });
    tiny.expect("twenty of 16 KiB")
}
