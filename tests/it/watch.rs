//! Cores that do not turn: noticed, named, shown on request, and ended by force. The scenarios are programs of their own.

use coring_tests::check;
use coring_tests::command::run;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

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
        let blocked: Vec<_> = (0..6)
            .map(|call| Running::begin(&["blocked-in", &call.to_string()]))
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
        let mut running = Running::start(&["dump"]);
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

#[test]
fn a_core_0_that_never_waits_is_ended_by_force() {
    // Goal: signals are heard although core 0 computes. When the time that they leave is over, the process says what runs and
    // ends; a third signal does so at once.
    // Method: no time to drain and one signal; an hour, and three.
    check(|| {
        let running = Running::start(&["core-0-never-waits", "0"]);
        running.signal("TERM");
        let (code, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("the time for that is over"), "{text}");
        assert!(
            text.contains("coroutine 'main'") && text.contains("turn_for_ever"),
            "{text}"
        );

        let mut running = Running::start(&["core-0-never-waits", "3600"]);
        running.signal("TERM");
        running.until_said("signal 15: asked to end");
        running.signal("INT");
        running.until_said("signal 2: main is cancelled");
        running.signal("TERM");
        let (code, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("for the third time") && text.contains("'main'"),
            "{text}"
        );
    });
}

/// A scenario at work, whose two outputs are read line by line.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Starts it and waits until it says that it is ready.
    fn start(arguments: &[&str]) -> Self {
        let mut running = Self::begin(arguments);
        let mut line = String::new();
        running.stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        running
    }

    fn begin(arguments: &[&str]) -> Self {
        let mut child = Command::new(SCENARIO)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the scenario can be started");
        Self {
            stdout: BufReader::new(child.stdout.take().unwrap()),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
    }

    /// The lines of stderr up to one with these words.
    fn until_said(&mut self, words: &str) -> String {
        let mut text = String::new();
        while !text.contains(words) {
            let bytes = self.stderr.read_line(&mut text).unwrap();
            assert!(bytes > 0, "{words:?} was not said: {text}");
        }
        text
    }

    /// Its exit code, and the rest of stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
