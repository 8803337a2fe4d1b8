//! What many parked coroutines cost: processor time to make and to cancel each, and memory each.
//!
//! `cargo run --release -p coring-coro --example park -- 1000000`. Run it twice: pages that the machine does not own
//! yet cost more than everything else here.

use coring_coro as coro;
use coro::testing::VirtualDriver;
use coro::{Builder, Scheduler, SchedulerConfig};

/// Resident bytes of this process.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok());
    pages.expect("the second field is a number") * 4096.0
}

/// Nanoseconds of processor time this thread has had: time, whatever else runs on the machine.
fn processor_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc is mounted");
    let first = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    first.expect("the first field is a number")
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .map_or(100_000, |count| count.parse().expect("a number"));
    let each = f64::from(count);
    let mut config = SchedulerConfig::default();
    config.stack.max_coroutines = count as usize + 1;
    let (scheduler, driver) = (Scheduler::new(config), VirtualDriver::default());
    let before = resident();
    let main = scheduler.spawn(Builder::new(), move || {
        let mut handles = Vec::with_capacity(count as usize);
        let started = processor_ns();
        handles.extend((0..count).map(|_| coro::spawn(coro::park)));
        coro::yield_now();
        let made = processor_ns() - started;
        let parked = resident();
        let started = processor_ns();
        for handle in handles {
            handle.cancel();
            assert!(handle.join().is_err());
        }
        (made, parked, processor_ns() - started)
    });
    let main = main.expect("the first coroutine always finds a stack");
    scheduler.run(&driver, |_| main.is_finished());
    let (made, parked, ended) = main.join().expect("it only waits");
    println!(
        "{count} parked: {:.0} ns to make each, {:.0} bytes each",
        made / each,
        (parked - before) / each
    );
    println!("cancelled and joined: {:.0} ns each", ended / each);
}
