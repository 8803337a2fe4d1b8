//! Goal: the logger on the runtime: what waits parks its coroutine and not the core, and the drain needs no thread of its own.

use coring::coro;
use coring::logger::{Full, info, with_context};
use coring_tests::{alone, builder, until, until_outside};
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Lets others run while it is formatted, both ways a coroutine can.
struct Parks(u32);

impl fmt::Display for Parks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        coro::yield_now();
        coro::sleep(Duration::from_micros(100));
        write!(f, "parked {}", self.0)
    }
}

#[test]
fn a_display_that_parks_gives_whole_lines() {
    // Goal: a Display that parks in the middle of a log call switches coroutines there, and no line takes harm.
    // Method: ten coroutines log such values, each between fields and texts of its own; another logs plain lines all the time.
    alone(|| {
        let (logs, lines) = coring::logging::builder()
            .pattern("{coroutine}|{message}{fields}")
            .memory();
        let logger = logs.start().unwrap();
        let between = builder(1).build().unwrap().run(|| {
            let (left, between) = (Cell::new(10), Cell::new(0));
            coro::scope(|scope| {
                for number in 0..10_u32 {
                    let left = &left;
                    scope
                        .spawn(move || {
                            for round in 0..5 {
                                info!(number = number; "{} of {} in {}", Parks(round), number, "a text");
                            }
                            left.set(left.get() - 1);
                        });
                }
                while left.get() > 0 {
                    info!("between");
                    between.set(between.get() + 1);
                    coro::yield_now();
                }
            });
            between.get()
        });
        logger.shutdown();
        let text = lines.text();
        let (plain, parked): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.ends_with("|between"));
        assert_eq!(plain.len(), between, "and it ran while others were parked");
        assert!(between > 10, "{between}");
        let mut expected: Vec<String> = (0..10)
            .flat_map(|number| {
                (0..5).map(move |round| {
                    format!("parked {round} of {number} in a text number={number}")
                })
            })
            .collect();
        let mut found: Vec<&str> = parked
            .iter()
            .map(|line| line.split_once('|').unwrap().1)
            .collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let coroutines: HashSet<&str> = parked
            .iter()
            .map(|line| line.split_once('|').unwrap().0)
            .collect();
        assert_eq!(coroutines.len(), 10, "each line names its coroutine");
    });
}

#[test]
fn a_full_ring_parks_the_coroutine_and_not_the_core() {
    // Goal: with `Full::Wait` nothing is lost, and other coroutines of the core run while one waits for room.
    // Method: one coroutine floods the smallest ring, another counts how often it runs meanwhile.
    alone(|| {
        let (logs, lines) = coring::logging::builder()
            .full(Full::Wait)
            .core_ring_bytes(4096)
            .pattern("{message}")
            .memory();
        let logger = logs.start().unwrap();
        let before = logger.stats().dropped; // It counts for the process.
        let turns = builder(1).build().unwrap().run(|| {
            let (done, turns) = (Cell::new(false), Cell::new(0));
            coro::scope(|scope| {
                let done = &done;
                scope.spawn(move || {
                    for number in 0..20_000 {
                        info!("{}", number);
                    }
                    done.set(true);
                });
                while !done.get() {
                    turns.set(turns.get() + 1);
                    coro::yield_now();
                }
            });
            turns.get()
        });
        let dropped = logger.stats().dropped;
        logger.shutdown();
        assert_eq!(dropped, before);
        assert!(lines.text().lines().eq((0..20_000).map(|n| n.to_string())));
        assert!(turns > 100, "{turns} turns of the other coroutine");
    });
}

#[test]
fn fields_end_with_their_own_coroutine() {
    // Goal: fields of coroutines that overlap in time, neither within the other, begin and end with their own.
    // Method: one takes a field, then the other; the first lets go of its own while the second still has one.
    alone(|| {
        let (logs, lines) = coring::logging::builder()
            .pattern("{message}{fields}")
            .memory();
        let logger = logs.start().unwrap();
        builder(1).build().unwrap().run(|| {
            let (second_has, first_has_not) = (Cell::new(false), Cell::new(false));
            let until = |flag: &Cell<bool>| {
                while !flag.get() {
                    coro::yield_now();
                }
            };
            coro::scope(|scope| {
                scope.spawn(|| {
                    with_context("first", 1, || {
                        info!("first, within");
                        until(&second_has);
                        info!("first, still within");
                    });
                    info!("first, over");
                    first_has_not.set(true);
                });
                scope.spawn(|| {
                    with_context("second", 2, || {
                        info!("second, within");
                        second_has.set(true);
                        until(&first_has_not);
                        info!("second, still within");
                    });
                    info!("second, over");
                });
            });
        });
        logger.shutdown();
        assert_eq!(
            lines.text(),
            "first, within first=1\nsecond, within second=2\nfirst, still within first=1\nfirst, over\n\
             second, still within second=2\nsecond, over\n"
        );
    });
}

/// Names of this process's threads.
fn threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .collect()
}

#[test]
fn a_flush_waits_for_the_turns_of_other_cores() {
    // Goal: who has heard from another core that something was done finds its lines after a flush, although that core publishes what
    // it logs at the end of its turn only.
    // Method: a core logs, says so, and does not end its turn until the flush has been waited for.
    alone(|| {
        let (logs, lines) = coring::logging::builder().pattern("{message}").memory();
        let logger = logs.start().unwrap();
        builder(2).build().unwrap().run(|| {
            let (logged, go_on) = (
                Arc::new(AtomicBool::new(false)),
                Arc::new(AtomicBool::new(false)),
            );
            let busy = coring::spawn_on(1, {
                let (logged, go_on) = (Arc::clone(&logged), Arc::clone(&go_on));
                move || {
                    info!("done");
                    logged.store(true, Ordering::Release);
                    until_outside("the other core lets it go", || {
                        go_on.load(Ordering::Acquire)
                    });
                }
            });
            until("it has logged", || logged.load(Ordering::Acquire));
            let waits = coro::spawn(move || {
                coro::sleep(Duration::from_millis(20));
                go_on.store(true, Ordering::Release);
            });
            logger.flush().unwrap();
            assert_eq!(lines.text(), "done\n");
            waits.join().unwrap();
            busy.join().unwrap();
        });
        logger.shutdown();
    });
}

#[test]
fn a_coroutine_drains_all_cores_without_a_thread() {
    // Goal: `Builder::build` and a coroutine that drains in the time its core has left serve every core; flush parks until it has.
    // Method: three cores log, one of them drains; all lines are there after the flush, and no thread is called after the logger.
    alone(|| {
        let (logs, lines) = coring::logging::builder()
            .pattern("{core} {message}")
            .memory();
        let (logger, mut drain) = logs.build().unwrap();
        builder(3).build().unwrap().run(|| {
            let done = Cell::new(false);
            coro::scope(|scope| {
                scope.spawn(|| {
                    while !done.get() {
                        if !drain.drain(256).more {
                            coro::sleep(Duration::from_millis(1));
                        }
                    }
                });
                let cores: Vec<_> = (0..3)
                    .map(|core| {
                        coring::spawn_on(core, || {
                            for number in 0..1000 {
                                info!("{}", number);
                                coro::yield_now();
                            }
                        })
                    })
                    .collect();
                cores.into_iter().for_each(|core| core.join().unwrap());
                logger.flush().unwrap();
                assert_eq!(lines.text().lines().count(), 3000, "before anything ends");
                assert!(!threads().iter().any(|name| name.contains("coring-logger")));
                done.set(true);
            });
        });
        drain.finish();
        logger.shutdown();
        let text = lines.text();
        for core in 0..3 {
            let of_core = text
                .lines()
                .filter_map(|line| line.strip_prefix(&format!("{core} "))?.parse::<u32>().ok());
            assert!(of_core.eq(0..1000), "core {core}");
        }
    });
}
