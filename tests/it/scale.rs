//! Scale: a million spawns in flat memory, a hundred thousand coroutines at once, and the bounds said aloud.

use coring::coro::{self, SpawnError};
use coring_tests::proc::{is_guarded, mappings, rss_kib};
use coring_tests::{alone, builder, check, heavy, runtime};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

#[test]
fn a_million_spawns_in_flat_memory() {
    // Goal: spawn and join of 1,000,000 coroutines in batches of 10,000 does not grow the process.
    // Method: resident memory after the third batch and after the last; each coroutine's value is checked.
    alone(|| {
        let (batches, batch) = (100, 10_000u64);
        let start = Instant::now();
        let after = runtime(1).run(|| {
            let mut after = Vec::new();
            for first in (0..batches).map(|number| number * batch) {
                let handles: Vec<_> = (first..first + batch)
                    .map(|number| coro::spawn(move || number))
                    .collect();
                let sum: u64 = handles
                    .into_iter()
                    .map(|handle| handle.join().unwrap())
                    .sum();
                assert_eq!(sum, first * batch + batch * (batch - 1) / 2);
                after.push(rss_kib());
            }
            after
        });
        let (early, late) = (after[2], after[99]);
        println!("{early} KiB, then {late} KiB; {:?} in all", start.elapsed());
        assert!(late <= early + 2048, "KiB after each batch: {after:?}");
    });
}

/// The default `stack_bytes`, and the middle of the default guard below it.
const STACK: usize = 256 * 1024;
const INTO_GUARD: usize = 32 * 1024;

#[test]
fn a_hundred_thousand_at_once_each_guarded() {
    // Goal: 100,000 coroutines parked at once on the default stack size, each with a guard, without more mappings
    // than any machine allows: vm.max_map_count is not touched, and hardly used.
    // Method: each tells the address of a local; the kernel is asked whether a load one stack below it would fault,
    // and for a few, that the rest of the stack would not. Mappings are counted while all are parked.
    alone(|| {
        let count = if heavy() { 500_000 } else { 100_000 };
        let (before, kib) = (mappings(), rss_kib());
        runtime(1).run(|| {
            let (locals, go) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
            let parked: Vec<_> = (0..count)
                .map(|_| {
                    let (locals, go) = (Rc::clone(&locals), Rc::clone(&go));
                    coro::spawn(move || {
                        let local = 0u8;
                        locals.borrow_mut().push((&raw const local).addr());
                        while !go.get() {
                            coro::park();
                        }
                        coro::current().id()
                    })
                })
                .collect();
            coring_tests::until("all are parked", || locals.borrow().len() == count);
            let more = mappings() - before;
            let each = (rss_kib() - kib) as f64 / count as f64;
            println!("{count} parked: {more} more mappings, {each:.1} KiB each");
            let markers_work = more < count / 10;
            if !markers_work {
                coring_tests::count_skip(
                    "no MADV_GUARD_INSTALL here (Linux 6.13): mappings not checked",
                );
            }
            assert!(each < 16.0, "{each} KiB for a coroutine that only parks");
            for (index, local) in locals.borrow().iter().enumerate() {
                assert!(is_guarded(local - STACK - INTO_GUARD), "coroutine {index}");
                if index % 1000 == 0 {
                    for below in (4096..STACK - 2 * INTO_GUARD).step_by(16 * 1024) {
                        assert!(!is_guarded(local - below), "{below} bytes down");
                    }
                }
            }
            go.set(true);
            for handle in &parked {
                handle.cancel();
            }
            let ended = parked
                .into_iter()
                .filter(|_| true)
                .map(|handle| handle.join());
            assert_eq!(ended.count(), count);
        });
        assert!(
            mappings() < before + 64,
            "the stacks are unmapped with their core"
        );
    });
}

#[test]
fn the_bound_on_coroutines_is_an_error() {
    // Goal: at `max_coroutines`, `try_spawn` says so and names the cure; an end makes room again.
    // Method: main and seven more fill a bound of eight.
    check(|| {
        let runtime = builder(1).max_coroutines(8).build().unwrap();
        runtime.run(|| {
            for _ in 0..3 {
                let sleepers: Vec<_> = (0..7).map(|_| coro::spawn(coro::park)).collect();
                let error = coro::try_spawn(|| ()).unwrap_err();
                assert!(
                    matches!(error, SpawnError::TooManyCoroutines { limit: 8 }),
                    "{error}"
                );
                assert!(error.to_string().contains("max_coroutines"), "{error}");
                sleepers.iter().for_each(|sleeper| sleeper.cancel());
                sleepers
                    .into_iter()
                    .for_each(|sleeper| drop(sleeper.join()));
            }
        });
    });
}

#[test]
fn the_bound_on_operations_is_an_error() {
    // Goal: at `max_operations` a call fails with QuotaExceeded, which is not the coroutine's end: later it works.
    // Method: four reads fill a bound of four.
    use std::io::Read;
    check(|| {
        let runtime = builder(1).max_operations(4).build().unwrap();
        runtime.run(|| {
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    let (mut ours, theirs) = coring_tests::tcp::pair();
                    let reader = coro::spawn(move || ours.read(&mut [0; 8]));
                    (reader, theirs)
                })
                .collect();
            coring_tests::until_in_flight(4);
            let error = coring::fs::File::open("/dev/null").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
            assert!(error.to_string().contains("max_operations"), "{error}");
            for (reader, theirs) in readers {
                drop(theirs);
                assert_eq!(reader.join().unwrap().unwrap(), 0);
            }
            coring::fs::File::open("/dev/null").unwrap();
        });
    });
}
