//! A driver without a kernel: virtual time, no I/O. For tests and examples.
//!
//! Time stands still while coroutines run and jumps to the next timer when all of them wait. When none is ready
//! and there is no timer either, nothing can ever happen again: the run panics and names who waits for what.

use crate::driver::Driver;
use crate::scheduler::{Scheduler, SchedulerConfig};
use crate::spawn::Builder;
use std::cell::Cell;

/// Virtual time, in nanoseconds.
#[derive(Debug, Default)]
pub struct VirtualDriver {
    now_ns: Cell<u64>,
}

impl Driver for VirtualDriver {
    fn now(&self) -> u64 {
        self.now_ns.get()
    }

    fn poll(&self, _scheduler: &Scheduler) {}

    fn park(&self, scheduler: &Scheduler, deadline_ns: Option<u64>) {
        match deadline_ns {
            Some(deadline_ns) => self.now_ns.set(deadline_ns.max(self.now_ns.get())),
            None => panic!(
                "deadlock: no coroutine is ready and no timer is set; {:#?}",
                scheduler.survivors()
            ),
        }
    }
}

/// Runs `main` as a coroutine on a scheduler of its own, in virtual time, until it has ended; then cancels what
/// it left behind and waits for that.
///
/// With a number in the environment variable `CORING_SEED`, ready coroutines run in an order drawn from it: so a
/// whole suite can be run in other orders.
///
/// # Panics
///
/// With the panic of `main`; when everything waits for ever; when `main` was cancelled.
pub fn run<T: 'static>(main: impl FnOnce() -> T + 'static) -> T {
    run_with(SchedulerConfig::default(), main)
}

/// As [`run`], with bounds and sizes of one's own.
///
/// # Panics
///
/// As [`run`].
pub fn run_with<T: 'static>(config: SchedulerConfig, main: impl FnOnce() -> T + 'static) -> T {
    let seed = std::env::var("CORING_SEED").ok();
    let seed = seed.map(|seed| seed.parse().expect("CORING_SEED is a number"));
    run_on(&Scheduler::new(config), seed, main)
}

/// As [`run`], with ready coroutines in an order drawn from `seed`. Names the seed when it panics.
///
/// # Panics
///
/// As [`run`].
pub fn run_seeded<T: 'static>(seed: u64, main: impl FnOnce() -> T + 'static) -> T {
    struct Name(u64);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the panic came with CORING_SEED={}", self.0);
            }
        }
    }
    let _name = Name(seed);
    run_on(
        &Scheduler::new(SchedulerConfig::default()),
        Some(seed),
        main,
    )
}

fn run_on<T: 'static>(
    scheduler: &Scheduler,
    seed: Option<u64>,
    main: impl FnOnce() -> T + 'static,
) -> T {
    if let Some(seed) = seed {
        scheduler.shuffle(seed);
    }
    let driver = VirtualDriver::default();
    let main = scheduler
        .spawn(Builder::new().name("main"), main)
        .expect("the first coroutine always finds a stack");
    scheduler.run(&driver, |_| main.is_finished());
    scheduler.cancel_all();
    scheduler.run(&driver, |scheduler| scheduler.live() == 0);
    match main.join() {
        Ok(value) => value,
        Err(crate::JoinError::Panicked(payload)) => std::panic::resume_unwind(payload.into_inner()),
        Err(error) => panic!("main did not end: {error}"),
    }
}
