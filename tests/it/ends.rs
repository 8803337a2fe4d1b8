//! Ends that do not go by themselves, and starts that do not get far: forced, undone, and what was left is named. The scenarios
//! are programs of their own.

use coring_tests::command::{Ended, as_nobody_else, run, strace_works};
use coring_tests::running::Running;
use coring_tests::{builder, check, runtime, skip};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_second_signal_forces_the_end() {
    // Goal: whatever holds up the end, a second signal ends it at once, with the exit code of an end that is none: a core that
    // computes, a coroutine behind a shield, a blocking call. Each is named; who only waits is not, it unwinds.
    // Method: an hour to drain, and an hour of grace.
    check(|| {
        let mut running = Running::start([SCENARIO, "stuck"]);
        running.signal("TERM");
        running.until_said("signal 15: asked to end");
        running.signal("INT");
        let (code, out, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("signal 2 came again: the end is forced"),
            "{text}"
        );
        for words in [
            "core 1 did not stop in time, since it does not turn",
            "coroutine 'cruncher' (spawned at tests/src/bin/scenario/ending.rs:",
            "core 2 did not stop in time",
            "coroutine 'stubborn'",
            "the blocking call from tests/src/bin/scenario/ending.rs:",
            "thread coring-block-0 is abandoned",
        ] {
            assert!(
                text.contains(words) && out.contains(words),
                "{words:?}: {text}\n{out}"
            );
        }
        assert!(!text.contains("well-behaved"), "{text}");
    });
}

#[test]
fn nobody_reads_what_it_says() {
    // Goal: an end that is forced comes though stderr is a pipe that is full and that nobody reads: what is said there gets lost, and
    // holds nobody up. What was abandoned is still in the report.
    // Method: the end of a runtime that returns, and that of a process whose main computes; the pipe is filled before.
    check(|| {
        for (scenario, said) in [("stuck", "'cruncher'"), ("core-0-never-waits", "")] {
            let (unread, mut full) = std::io::pipe().unwrap();
            full.write_all(&[b'\n'; 1 << 16]).unwrap();
            let mut child = Command::new(SCENARIO)
                .args([scenario, "3600"])
                .stdout(Stdio::piped())
                .stderr(full)
                .spawn()
                .unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut text = String::new();
            out.read_line(&mut text).unwrap();
            assert_eq!(text, "ready\n");
            for signal in ["-TERM", "-INT"] {
                let pid = child.id().to_string();
                let sent = Command::new("kill").args([signal, &pid]).status();
                assert!(sent.unwrap().success());
            }
            out.read_to_string(&mut text).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1));
            assert!(text.contains(said), "{scenario}: {text}");
            drop(unread);
        }
    });
}

#[test]
fn a_main_that_does_not_end_ends_with_the_process() {
    // Goal: main cannot be abandoned, since it may borrow from its caller; when it does not end, the process does. It is named, as is
    // who else lives on its core.
    // Method: main waits behind a shield; and computes, with no time to drain and one signal, and with an hour and two.
    check(|| {
        let mut running = Running::start([SCENARIO, "main-is-stubborn"]);
        running.signal("TERM");
        running.until_said("asked to end");
        running.signal("TERM");
        let (code, out, text) = running.end();
        assert_eq!((code, &*out), (Some(1), ""), "{text}");
        for words in [
            "coroutine 'main'",
            "waiting for sleep",
            "coroutine 'bystander'",
            "the process is ended by force",
        ] {
            assert!(text.contains(words), "{words:?}: {text}");
        }

        let mut running = Running::start([SCENARIO, "core-0-never-waits", "0"]);
        running.signal("TERM");
        let (code, _, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        for words in [
            "the time for that is over",
            "coroutine 'main'",
            "turn_for_ever",
        ] {
            assert!(text.contains(words), "{words:?}: {text}");
        }

        let mut running = Running::start([SCENARIO, "core-0-never-waits", "3600"]);
        running.signal("TERM");
        running.until_said("signal 15: asked to end");
        running.signal("INT");
        let (code, _, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("coroutine 'main'"), "{text}");
    });
}

#[test]
fn a_process_that_was_stopped_ends_when_it_goes_on() {
    // Goal: signals that come while the process is stopped are heard when it goes on.
    // Method: SIGSTOP, the request, a second one, SIGCONT.
    check(|| {
        let mut running = Running::start([SCENARIO, "stuck"]);
        running.signal("STOP");
        running.signal("TERM");
        running.signal("INT");
        running.signal("CONT");
        let (code, _, text) = running.end();
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("'cruncher'") && text.contains("'stubborn'"),
            "{text}"
        );
    });
}

#[test]
fn peers_that_are_dead_or_asleep_hold_nobody_up() {
    // Goal: connections whose peers do not read end with the runtime, cleanly; nothing is abandoned.
    // Method: clients that read no more than that they are served, one of which has closed its end; the server fills their
    // sockets for ever.
    check(|| {
        let mut running = Running::start([SCENARIO, "dead-peers"]);
        let port = running.line().trim().parse().unwrap();
        let connect = || {
            let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            client.read_exact(&mut [0]).unwrap();
            client
        };
        let clients: Vec<_> = (0..8).map(|_| connect()).collect();
        drop(connect());
        running.signal("TERM");
        let (code, out, text) = running.end();
        assert_eq!((code, &*out), (Some(0), "Ok((9, 9)) []\n"), "{text}");
        drop(clients);
    });
}

#[test]
fn signals_in_a_storm_end_it_once() {
    // Goal: signals that come by the thousand before, during and after an end neither hang nor break it.
    // Method: 200 short lives under two signals in a loop.
    check(|| {
        let ended = run([SCENARIO, "storm"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "over\n");
    });
}

#[test]
fn a_start_that_fails_half_way_leaves_nothing() {
    // Goal: wherever a start fails - at any core's ring, at any thread, for want of any descriptor - the reason is told, what
    // had started has stopped, and threads and descriptors are as before: the next start works. With an hour of
    // grace, so nobody waited for it. A pin that is refused is none.
    // Method: a limit on descriptors that grows by one each time; strace makes one clone(2) fail, each in turn, and all
    // sched_setaffinity(2).
    check(|| {
        let ended = run([SCENARIO, "short-of-files"]);
        ended.assert_success();
        assert_eq!(ended.stdout, "refused to core 0: true, to others: true\n");
        if !strace_works() {
            skip!("strace is not to be had here");
        }
        let failing = |inject: &str| -> Ended {
            let inject = format!("inject={inject}");
            run([
                "strace",
                "-f",
                "-o",
                "/dev/null",
                "-e",
                &inject,
                SCENARIO,
                "half-started",
                "4",
            ])
        };
        // The first thread is the stall detector's, which is missed and said.
        assert_eq!(failing("clone3:error=EAGAIN:when=1").stdout, "started\n");
        for thread in 2..=4 {
            let ended = failing(&format!("clone3:error=EAGAIN:when={thread}"));
            ended.assert_success();
            let core = format!(
                "refused: the thread of core {} could not be started",
                thread - 1
            );
            assert!(ended.stdout.starts_with(&core), "{ended:#?}");
            assert!(ended.stdout.ends_with("then 4 cores: 6\n"), "{ended:#?}");
        }
        for error in ["EPERM", "EINVAL"] {
            let ended = failing(&format!("sched_setaffinity:error={error}"));
            ended.assert_success();
            assert_eq!(ended.stdout, "started\n");
        }
    });
}

#[test]
fn as_many_threads_as_the_user_may_have() {
    // Goal: a real limit on threads is told with its cure, and what had started stops.
    // Method: as a user that nobody else is, with `ulimit -u`.
    check(|| {
        let Some(nobody) = as_nobody_else() else {
            skip!("no setpriv, or not the right to become another user");
        };
        let words = nobody.iter().map(String::as_str);
        let limit = ["prlimit", "--nproc=5", SCENARIO, "hello", "16"];
        let ended = run(words.chain(limit));
        ended.assert_refused(&["the thread of core", "could not be started", "ulimit -u"]);
    });
}

#[test]
fn asked_before_it_runs() {
    // Goal: a request may come at any time after the start: before `run`, and when there will be no run. Main sees it; with no time to
    // drain, or by force, main is cancelled before it has begun. Everything stops at once.
    // Method: an hour of grace.
    check(|| {
        let start = || builder(2).shutdown_grace(HOUR).build().unwrap();
        let runtime = start();
        runtime.shutdown_handle().shutdown(HOUR);
        let ended = runtime.run_to_end(coring::is_shutting_down);
        assert_eq!((ended.exit_code(), ended.outcome.unwrap()), (0, true));
        for force in [false, true] {
            let runtime = start();
            let handle = runtime.shutdown_handle();
            match force {
                false => handle.shutdown(Duration::ZERO),
                true => handle.force(),
            }
            let mut begun = false;
            let ended = runtime.run_to_end(|| begun = true);
            assert_eq!((ended.exit_code(), begun), (1, false));
            assert_eq!(ended.abandoned.len(), 0, "{:?}", ended.abandoned);
            let runtime = start();
            let handle = runtime.shutdown_handle();
            handle.shutdown(HOUR);
            drop(runtime);
            handle.force();
        }
    });
}

#[test]
fn one_runtime_ends_and_another_does_not_notice() {
    // Goal: a request is for one runtime, though others live in the same process; a handle works from the other's cores.
    // Method: a coroutine of the second forces the first, whose main waits behind nothing but a sleep; the second goes on.
    check(|| {
        let first = runtime(2);
        let handle = first.shutdown_handle();
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| {
                runtime(2).run_to_end(|| {
                    coring::call(1, move || handle.force()).unwrap();
                    coring::call(1, coring::is_shutting_down).unwrap()
                })
            });
            let first = first.run_to_end(|| coring::coro::sleep(HOUR));
            assert_eq!((first.exit_code(), first.abandoned.len()), (1, 0));
            let second = ended.join().unwrap();
            assert_eq!((second.exit_code(), second.outcome.unwrap()), (0, false));
        });
    });
}
