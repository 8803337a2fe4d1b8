//! Limits that cannot be, and limits without an end: what the builder does with them.

use coring::{Builder, Runtime, coro, fs};
use coring_tests::{builder, check};
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn impossible_limits_are_named() {
    // Goal: a limit that would abort, wrap around or never run anything is refused by name, before anything starts.
    // Method: one wrong value at a time.
    check(|| {
        type Spoil = fn(Builder) -> Builder;
        let wrong: [(&str, Spoil); 13] = [
            ("cores", |builder| builder.cores(0)),
            ("cores", |builder| builder.cores(usize::MAX)),
            ("guard_bytes", |builder| builder.guard_bytes(usize::MAX)),
            ("stack_bytes", |builder| builder.stack_bytes(usize::MAX)),
            ("max_coroutines", |builder| builder.max_coroutines(0)),
            ("max_operations", |builder| builder.max_operations(u32::MAX)),
            ("inbox_capacity", |builder| builder.inbox_capacity(1 << 40)),
            ("cq_entries", |builder| builder.cq_entries(0)),
            ("multishot_window", |builder| builder.multishot_window(1)),
            ("sq_poll", |builder| builder.sq_poll(Duration::ZERO)),
            ("sq_poll_cpu", |builder| builder.sq_poll_cpu(1 << 20)),
            ("napi_busy_poll", |builder| {
                builder.napi_busy_poll(Duration::ZERO, false)
            }),
            ("time_slice", |builder| builder.time_slice(Duration::ZERO)),
        ];
        for (name, spoil) in wrong {
            let refused = spoil(Runtime::builder()).build().expect_err(name);
            assert!(refused.to_string().contains(name), "{name}: {refused}");
        }
    });
}

#[test]
fn one_operation_is_enough_for_files() {
    // Goal: with one operation at a time a file can be opened, used, closed and opened again: a close takes no place among them.
    // Method: opens right after closes.
    check(|| {
        let runtime = builder(1).max_operations(1).build().unwrap();
        runtime.run(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            for round in 0..200u32 {
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(&round.to_ne_bytes()).unwrap();
                drop(file);
                let mut bytes = [0; 4];
                let mut file = fs::File::open(&path).unwrap();
                file.read_exact(&mut bytes).unwrap();
                assert_eq!(u32::from_ne_bytes(bytes), round);
            }
        });
    });
}

#[test]
fn a_grace_period_without_an_end() {
    // Goal: "wait as long as it takes" is a grace period like any other: main's value comes back, all cores stop.
    // Method: with coroutines on both cores that are waiting when main ends.
    check(|| {
        let runtime = builder(2).shutdown_grace(Duration::MAX).build().unwrap();
        let value = runtime.run(|| {
            drop(coro::spawn(|| coro::sleep(Duration::from_secs(3600))));
            drop(coring::spawn_on(1, || {
                coro::sleep(Duration::from_secs(3600))
            }));
            7
        });
        assert_eq!(value, 7);
    });
}
