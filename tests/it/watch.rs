//! Cores that do not turn: noticed, named, and shown on request. The scenarios are programs of their own.

use coring_tests::command::run;
use coring_tests::running::Running;
use coring_tests::{check, need_locked_kib};

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

#[test]
fn a_core_that_computes_is_noticed_and_named() {
    // Goal: a coroutine that keeps its core is counted each time and reported once, by name, spawn site and backtrace; a core
    // that sleeps is not.
    // Method: it computes until it was counted, three times, on core 1, while core 0 sleeps. Again in a call that blocks.
    check(|| {
        let ended = run([SCENARIO, "stalls"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "stalls (0, 3), true\n");
        let reports = ended.stderr.matches("has not turned for").count();
        assert_eq!(reports, 1, "the rate is bounded: {}", ended.stderr);
        for words in [
            "core 1 has not turned for",
            "coroutine 'cruncher' (spawned at tests/src/bin/scenario/watched.rs:",
            "watched::crunch_numbers",
        ] {
            assert!(ended.stderr.contains(words), "{words:?}: {}", ended.stderr);
        }
        let ended = run([SCENARIO, "stall-in-a-call"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "noticed\n");
        assert!(
            ended.stderr.contains("coroutine 'main'"),
            "{}",
            ended.stderr
        );
    });
}

#[test]
fn a_core_in_a_call_that_blocks_is_told_what_it_waits_for() {
    // Goal: a std Mutex that a coroutine holds while it waits is reported with its cause and cure, by default in debug
    // builds; other calls that block the thread are recognised likewise.
    // Method: real ones, each in a process of its own, which never goes on and is killed.
    check(|| {
        // Side by side, and none knows of the others.
        need_locked_kib!(6 * 16);
        let blocked: Vec<_> = (0..6)
            .map(|call| Running::begin([SCENARIO, "blocked-in", &call.to_string()]))
            .collect();
        let words = [
            "release the lock before waiting",
            "waits for a lock of std",
            "std::sync::Condvar",
            "OnceLock",
            "coring::coro::sleep",
            "coring::coro::park",
        ];
        for (mut running, words) in blocked.into_iter().zip(words) {
            let text = running.until_said(words);
            assert!(text.contains("core 0 has not turned for"), "{text}");
            if words == "release the lock before waiting" {
                let who = "coroutine 'wanting' (spawned at tests/src/bin/scenario/watched.rs:";
                assert!(text.contains(who), "{text}");
                assert!(text.contains("a std Mutex held across a park"), "{text}");
            }
        }
    });
}

#[test]
fn a_signal_shows_all_cores() {
    // Goal: the dump has every coroutine of every core that turns, and what runs on one that does not; again and again.
    // Method: SIGUSR2, twice, to three cores of which one computes for ever.
    check(|| {
        let mut running = Running::start([SCENARIO, "dump"]);
        for _ in 0..2 {
            running.signal("USR2");
            let text =
                running.until_said("core 2 does not turn") + &running.until_said("turn_for_ever");
            for words in [
                "core 0, ",
                "main",
                "core 1, ",
                "sleeper",
                "core 2 does not turn: a coroutine spawned at tests/src/bin/scenario/watched.rs:",
                "waiting for sleep",
            ] {
                assert!(text.contains(words), "{words:?}: {text}");
            }
        }
    });
}
