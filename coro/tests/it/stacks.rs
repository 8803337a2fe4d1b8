//! Goal: stacks are bounded, reused, given back, and never mixed up. What measures memory runs alone, in a child.

use coring_coro as coro;
use coro::testing::VirtualDriver;
use coro::{Builder, Scheduler, SchedulerConfig, SpawnError, StackConfig};
use proptest::prelude::*;
use std::process::Command;

fn stack_config(stack: StackConfig) -> SchedulerConfig {
    SchedulerConfig {
        stack,
        ..SchedulerConfig::default()
    }
}

#[test]
fn bounds_are_errors_and_leave_everything_as_it_was() {
    let config = StackConfig {
        max_coroutines: 3,
        ..StackConfig::default()
    };
    coro::testing::run_with(stack_config(config), || {
        let kept = [coro::spawn(coro::park), coro::spawn(coro::park)];
        let refused = coro::try_spawn(|| ());
        assert!(matches!(
            refused,
            Err(SpawnError::TooManyCoroutines { limit: 3 })
        ));
        kept.iter().for_each(coro::JoinHandle::cancel);
        kept.into_iter()
            .for_each(|handle| assert!(handle.join().is_err()));
        coro::spawn(|| ()).join().unwrap();

        let refused = Builder::new().stack_bytes(usize::MAX / 2).spawn(|| ());
        assert!(matches!(refused, Err(SpawnError::StackTooLarge { .. })));
        let large = [1u8; 100_000];
        let refused = coro::try_spawn(move || large.len());
        assert!(matches!(refused, Err(SpawnError::ClosureTooLarge { .. })));
        let more = Builder::new().stack_bytes(1 << 20);
        assert_eq!(
            more.spawn(move || large.len()).unwrap().join().unwrap(),
            100_000
        );
    });
}

#[test]
fn closures_and_results_of_any_size_and_alignment() {
    #[repr(align(4096))]
    struct Aligned(u8);
    #[repr(align(64))]
    struct Line([u8; 3]);
    struct Nothing;
    coro::testing::run(|| {
        for _ in 0..40 {
            // Forty: every colour.
            let page = Aligned(7);
            let handle = coro::spawn(move || {
                assert_eq!((&raw const page).addr() % 4096, 0);
                Line([page.0; 3])
            });
            let line = handle.join().unwrap();
            assert_eq!(((&raw const line).addr() % 64, line.0), (0, [7; 3]));
            let Nothing = coro::spawn(|| Nothing).join().unwrap();
            coro::spawn(|| ()).join().unwrap();
            let array = coro::spawn(|| [9u8; 20_000]).join().unwrap();
            assert!(array.iter().all(|byte| *byte == 9));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Goal: no two live coroutines share memory, whatever comes and goes in which size. Method: each fills a part of
    /// its stack with its number and looks at it again whenever it runs.
    #[test]
    fn live_stacks_never_overlap(steps in prop::collection::vec((0usize..4, any::<prop::sample::Index>()), 1..120)) {
        let config = StackConfig { warm_stacks: 2, ..StackConfig::default() };
        coro::testing::run_with(stack_config(config), move || {
            let mut live = Vec::new();
            for (number, (size, which)) in steps.into_iter().enumerate() {
                if size == 3 {
                    if !live.is_empty() {
                        let handle: coro::JoinHandle<()> = live.swap_remove(which.index(live.len()));
                        handle.cancel();
                        handle.join().unwrap();
                    }
                    continue;
                }
                let bytes = [16 << 10, 64 << 10, 300 << 10][size];
                let handle = Builder::new().stack_bytes(bytes).spawn(move || {
                    let mut pattern = [0usize; 1000];
                    pattern.fill(number);
                    let watched = std::hint::black_box(&mut pattern);
                    while !coro::is_cancelled() {
                        coro::shield(|| coro::sleep(std::time::Duration::from_millis(1)));
                        assert!(watched.iter().all(|word| *word == number));
                    }
                });
                live.push(handle.unwrap());
                coro::sleep(std::time::Duration::from_millis(1));
            }
            for handle in live {
                handle.cancel();
                handle.join().unwrap();
            }
        });
    }
}

/// Resident bytes of this process. The kernel counts them for each CPU apart; only this file adds them up exactly.
fn resident() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.expect("the kernel says how much is resident") * 1024
}

/// Parks `count` coroutines, wakes and joins all; prints what that took.
fn park_and_wake(count: usize) {
    let scheduler = Scheduler::new(SchedulerConfig {
        stack: StackConfig {
            max_coroutines: count + 1,
            ..StackConfig::default()
        },
        ..SchedulerConfig::default()
    });
    let driver = VirtualDriver::default();
    // The same with few: their text, their stacks that stay warm and malloc's first arena are part of the start.
    crowd(&scheduler, &driver, 1_000);
    let before = resident();
    let (parked, mappings) = crowd(&scheduler, &driver, count);
    let each = (parked - before) / count;
    let kept = resident().saturating_sub(before);
    println!(
        "{each} bytes each, {mappings} mappings, {kept} bytes kept after trimming, {before} at the start"
    );
    assert!(each <= 4_600, "{each} bytes each");
    assert!(mappings < 3_000, "{mappings} mappings");
    assert!(kept <= before / 20, "{kept} bytes more than {before}");
}

/// Half of them sleep, half wait for a channel; returns what is resident, and how many mappings there are, while all do.
fn crowd(scheduler: &Scheduler, driver: &VirtualDriver, count: usize) -> (usize, usize) {
    let (sender, receiver) = coro::channel::bounded::<u8>(1);
    let waiting = std::rc::Rc::new(std::cell::Cell::new(0));
    let main = scheduler.spawn(Builder::new(), move || {
        let mut handles = Vec::with_capacity(count);
        for index in 0..count {
            let (receiver, waiting) = (receiver.clone(), waiting.clone());
            handles.push(coro::spawn(move || {
                waiting.set(waiting.get() + 1);
                if index % 2 == 0 {
                    coro::sleep(std::time::Duration::from_secs(1));
                } else {
                    assert!(receiver.recv().is_err());
                }
                waiting.set(waiting.get() - 1);
            }));
        }
        while waiting.get() < count {
            coro::yield_now();
        }
        let parked = resident();
        let mappings = mappings();
        coro::sleep(std::time::Duration::from_secs(2));
        drop(sender);
        handles
            .into_iter()
            .for_each(|handle| handle.join().unwrap());
        assert_eq!(waiting.get(), 0, "all of them went on");
        (parked, mappings)
    });
    let main = main.unwrap();
    scheduler.run(driver, |_| main.is_finished());
    let outcome = main.join().unwrap();
    idle(scheduler, count);
    outcome
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

/// Parks often enough to give back what so many coroutines had: that happens bit by bit.
fn idle(scheduler: &Scheduler, count: usize) {
    struct Idle;
    impl coro::Driver for Idle {
        fn now(&self) -> u64 {
            0
        }
        fn poll(&self, _: &Scheduler) {}
        fn park(&self, _: &Scheduler, _: Option<u64>) {}
    }
    for _ in 0..count / 64 + 10 {
        scheduler.park(&Idle);
    }
}

fn spawn_a_million() {
    coro::testing::run(|| {
        let mut handles = Vec::with_capacity(10_000);
        let mut after_first = 0;
        for batch in 0..100u32 {
            handles.extend((0..10_000u32).map(|n| coro::spawn(move || batch + n)));
            handles
                .drain(..)
                .for_each(|handle| assert!(handle.join().is_ok()));
            if batch == 1 {
                after_first = resident();
            }
        }
        let grown = resident().saturating_sub(after_first);
        assert!(grown < 1 << 20, "grew by {grown} bytes");
    });
}

/// Guards by `mprotect` until the kernel has no more mappings: the error says which limit it was, and how far it went.
fn exhaust_mappings() {
    let config = StackConfig {
        guard_markers: false,
        ..StackConfig::default()
    };
    coro::testing::run_with(stack_config(config), || {
        let mut handles = Vec::new();
        let error = loop {
            match coro::try_spawn(coro::park) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
        };
        assert!(handles.len() > 20_000, "only {}", handles.len());
        let SpawnError::NoMemory {
            stacks,
            two_mappings_each,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert!(*two_mappings_each && *stacks == handles.len() + 1);
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
        println!("{error}");
        coro::yield_now();
        handles.iter().for_each(coro::JoinHandle::cancel);
        handles
            .into_iter()
            .for_each(|handle| assert!(handle.join().is_err()));
        coro::spawn(|| ()).join().unwrap();
    });
}

/// What the child does; a test only in name, run by the others.
#[test]
#[ignore = "the child process of the tests below"]
fn child() {
    match std::env::var("CORING_CHILD").as_deref() {
        Ok("park") => park_and_wake(100_000),
        Ok("park a million") => park_and_wake(1_000_000),
        Ok("spawn") => spawn_a_million(),
        Ok("mappings") => exhaust_mappings(),
        _ => {}
    }
}

fn run_child(case: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "stacks::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("CORING_CHILD", case)
        // What malloc keeps of freed tables is its own affair: let it map them one by one.
        .env("MALLOC_MMAP_THRESHOLD_", "16384")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{text}");
}

#[test]
fn a_hundred_thousand_parked_on_the_default_size() {
    run_child("park");
}

#[test]
#[ignore = "5 GiB of memory: `cargo test -p coring-coro --test it -- --ignored a_million_parked`"]
fn a_million_parked() {
    run_child("park a million");
}

#[test]
fn memory_stays_flat_over_a_million_spawns() {
    run_child("spawn");
}

#[test]
fn guards_by_mprotect_report_the_real_limit() {
    run_child("mappings");
}

/// Goal: stacks of several sizes together are no more than may be in use, also when each size has warm ones. Method: fill the bound
/// with one size, let them end, fill half of it with another, then ask for more of the first than are allowed.
#[test]
fn the_bound_counts_stacks_of_all_sizes() {
    let scheduler = coro::Scheduler::new(coro::SchedulerConfig {
        stack: coro::StackConfig {
            max_coroutines: 40,
            ..coro::StackConfig::default()
        },
        ..coro::SchedulerConfig::default()
    });
    let spawn = |builder: coro::Builder| scheduler.spawn(builder, || ());
    let large = || coro::Builder::new().stack_bytes(1 << 20);
    let all: Vec<_> = (0..40)
        .map(|_| spawn(coro::Builder::new()).unwrap())
        .collect();
    assert!(spawn(large()).is_err() && spawn(coro::Builder::new()).is_err());
    scheduler.turn(&coro::testing::VirtualDriver::default());
    drop(all);
    for _ in 0..3 {
        let large: Vec<_> = (0..20).map(|_| spawn(large()).unwrap()).collect();
        let small: Vec<_> = (0..40)
            .map_while(|_| spawn(coro::Builder::new()).ok())
            .collect();
        assert_eq!(
            (large.len(), small.len(), scheduler.stats().stacks),
            (20, 20, 40)
        );
        scheduler.turn(&coro::testing::VirtualDriver::default());
        drop((large, small));
        assert_eq!(scheduler.stats().stacks, 0);
    }
}

#[test]
fn a_yield_at_any_depth() {
    // Goal: how deep a coroutine is where it switches does not matter, also beyond what the hint for its next run can tell: 65,535 lines.
    // Method: a yield in each of so many frames that they pass that depth with a line each.
    fn deeper(frames: usize) {
        let line = std::hint::black_box([0_u8; 64]);
        coro::yield_now();
        if frames > 0 {
            deeper(frames - 1);
        }
        std::hint::black_box(line);
    }
    coro::testing::run(|| {
        let deep = Builder::new().stack_bytes(64 << 20);
        deep.spawn(|| deeper(65_536)).unwrap().join().unwrap();
    });
}
