//! Limits that cannot be, and limits without an end: what the builder does with them.

use coring::{Builder, Runtime, coro};
use coring_tests::{builder, check};
use std::time::Duration;

#[test]
fn impossible_limits_are_named() {
    // Goal: a limit that would abort, wrap around or never run anything is refused by name, before anything starts.
    // Method: one wrong value at a time.
    check(|| {
        type Spoil = fn(Builder) -> Builder;
        let wrong: [(&str, Spoil); 10] = [
            ("cores", |builder| builder.cores(0)),
            ("cores", |builder| builder.cores(usize::MAX)),
            ("guard_bytes", |builder| builder.guard_bytes(usize::MAX)),
            ("stack_bytes", |builder| builder.stack_bytes(usize::MAX)),
            ("max_coroutines", |builder| builder.max_coroutines(0)),
            ("max_operations", |builder| builder.max_operations(u32::MAX)),
            ("inbox_capacity", |builder| builder.inbox_capacity(1 << 40)),
            ("cq_entries", |builder| builder.cq_entries(0)),
            ("multishot_window", |builder| builder.multishot_window(1)),
            ("time_slice", |builder| builder.time_slice(Duration::ZERO)),
        ];
        for (name, spoil) in wrong {
            let refused = spoil(Runtime::builder()).build().expect_err(name);
            assert!(refused.to_string().contains(name), "{name}: {refused}");
        }
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
