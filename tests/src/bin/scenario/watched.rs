//! Scenarios of cores that do not turn, and of those who watch them.

use coring::{Runtime, StartError, coro};
use std::error::Error;
use std::hint::{black_box, spin_loop};
use std::mem::ManuallyDrop;
use std::sync::{Condvar, Mutex, OnceLock, RwLock};
use std::thread;
use std::time::Duration;

/// Short, since each stall takes it; longer than a busy machine leaves a thread without a CPU, which is a stall, too. The
/// tests wait for what is counted and not for this.
const LIMIT: Duration = Duration::from_millis(200);

/// A coroutine on core 1 computes until it was noticed, three times.
pub(crate) fn stalls() -> Result<(), StartError> {
    let runtime = Runtime::builder().cores(2).stall_detector(LIMIT).build()?;
    let stats = runtime.run(|| {
        let stalls = coring::call(1, || {
            let cruncher = coro::Builder::new().name("cruncher");
            let cruncher = cruncher.spawn(|| (1..=3).for_each(crunch_numbers)).unwrap();
            cruncher.join().unwrap();
            coring::stats().unwrap()
        });
        // Core 0 was asleep all the while.
        (coring::stats().unwrap(), stalls.unwrap())
    });
    let counted = (stats.0.stalls, stats.1.stalls);
    println!("stalls {counted:?}, {}", stats.1.longest_stall >= LIMIT);
    Ok(())
}

/// Keeps the core until this many stalls were counted, then lets it turn. (A yield would not: with nobody else ready the
/// turn goes on.)
#[inline(never)]
fn crunch_numbers(stalls: u64) {
    while black_box(coring::stats().unwrap().stalls) < stalls {
        spin_loop();
    }
    coro::sleep(Duration::from_millis(1));
}

/// The same in a system call that blocks.
pub(crate) fn stall_in_a_call() -> Result<(), StartError> {
    let runtime = Runtime::builder().cores(1).stall_detector(LIMIT).build()?;
    runtime.run(|| {
        while coring::stats().unwrap().stalls == 0 {
            thread::park_timeout(LIMIT / 20);
        }
    });
    println!("noticed");
    Ok(())
}

/// A coroutine in a call that blocks its thread, for ever. What number 0 does is watched by default in debug builds.
pub(crate) fn blocked_in(call: usize) -> Result<(), StartError> {
    let mut builder = Runtime::builder().cores(1);
    if call > 0 || !cfg!(debug_assertions) {
        builder = builder.stall_detector(LIMIT);
    }
    builder.build()?.run(move || match call {
        0 => mutex_across_a_wait(),
        1 => drop(held_elsewhere(&RwLock::new(0)).read()),
        2 => {
            let mutex = Mutex::new(());
            drop(Condvar::new().wait(mutex.lock().unwrap()));
        }
        3 => initialised_elsewhere(),
        4 => thread::sleep(Duration::from_secs(3600)),
        _ => thread::park(),
    });
    println!("not reached");
    Ok(())
}

/// The first coroutine waits with the lock, the second one wants it and holds up the core, so the first never goes on.
fn mutex_across_a_wait() {
    static TOTAL: Mutex<u32> = Mutex::new(0);
    let holder = coro::Builder::new().name("holder").spawn(|| {
        let mut total = TOTAL.lock().unwrap();
        coro::sleep(Duration::from_millis(1));
        *total += 1;
    });
    coro::yield_now();
    let wanting = coro::Builder::new().name("wanting");
    let wanting = wanting.spawn(|| *TOTAL.lock().unwrap() += 1).unwrap();
    holder.unwrap().join().unwrap();
    wanting.join().unwrap();
}

/// The same lock, held for ever.
fn held_elsewhere<T>(lock: &RwLock<T>) -> &RwLock<T> {
    let _never_dropped = ManuallyDrop::new(lock.write());
    lock
}

/// Waits for a thread that never ends to initialise.
fn initialised_elsewhere() {
    static CELL: OnceLock<u32> = OnceLock::new();
    let (begun, has_begun) = std::sync::mpsc::channel();
    thread::spawn(move || {
        CELL.get_or_init(|| {
            begun.send(()).unwrap();
            loop {
                thread::park();
            }
        });
    });
    has_begun.recv().unwrap();
    CELL.get_or_init(|| 1);
}

/// Waits to be asked by SIGUSR2, with one core that turns and one that does not.
pub(crate) fn dump() -> Result<(), Box<dyn Error>> {
    Runtime::builder().cores(3).build()?.run(|| {
        coring::dump_on_signal(libc::SIGUSR2)?;
        let sleeper = || {
            drop(
                coro::Builder::new()
                    .name("sleeper")
                    .spawn(|| coro::sleep(Duration::MAX)),
            )
        };
        coring::call(1, sleeper).unwrap();
        let (busy, is_busy) = std::sync::mpsc::channel();
        coring::spawn_on(2, move || {
            busy.send(()).unwrap();
            turn_for_ever();
        });
        coring_tests::until("core 2 computes", || is_busy.try_recv().is_ok());
        println!("ready");
        coro::sleep(Duration::MAX);
        Ok(())
    })
}

#[inline(never)]
fn turn_for_ever() {
    loop {
        spin_loop();
    }
}
