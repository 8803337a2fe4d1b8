//! Signals as something to wait for.

use coring::coro;
use coring::io::is_cancelled;
use coring::signal::Signals;
use coring_tests::{alone, check, runtime, until_in_flight};
use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn signals_arrive_and_handlers_of_others_stay() {
    // Goal: a caught signal is received by every stream of it and by a handler that was there before; its default
    // action does not happen; SIGKILL cannot be caught; a cancelled receive loses none.
    // Method: raise SIGUSR1 in a process of its own, with std's handler installed by libc before.
    alone(|| {
        runtime(1).run(|| {
            install_counter();
            let mut one = Signals::new([libc::SIGUSR1, libc::SIGUSR2]).unwrap();
            let mut other = Signals::new([libc::SIGUSR1]).unwrap();
            raise(libc::SIGUSR1);
            raise(libc::SIGUSR2);
            assert_eq!(one.recv().unwrap(), libc::SIGUSR1);
            assert_eq!(one.recv().unwrap(), libc::SIGUSR2);
            assert_eq!(other.recv().unwrap(), libc::SIGUSR1);
            assert_eq!(COUNT.load(std::sync::atomic::Ordering::SeqCst), 1);
            let waiter = coro::spawn(move || (one.recv(), one));
            until_in_flight(1);
            waiter.cancel();
            let (outcome, mut one) = waiter.join().unwrap();
            assert!(is_cancelled(&outcome.unwrap_err()));
            raise(libc::SIGUSR2);
            assert_eq!(one.recv().unwrap(), libc::SIGUSR2);
            for forbidden in [libc::SIGKILL, libc::SIGSEGV, 0, -1, 1000] {
                let error = Signals::new([forbidden]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
            }
        });
    });
}

static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
}

#[expect(unsafe_code, reason = "installs a handler")]
fn install_counter() {
    let handler: extern "C" fn(i32) = count;
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
}

#[expect(unsafe_code, reason = "sends a signal to this thread")]
fn raise(signal: i32) {
    // SAFETY: it has a handler.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

#[test]
fn signals_of_a_forked_child_are_its_own() {
    // Goal: what a child is sent between fork(2) and execve(2), where it has the handlers and the pipes of its parent, is not told
    // to the parent: not by a stream, and not as a request to end.
    // Method: the child raises both kinds. Then the parent raises its own: the first the stream has is that one, and it is the
    // first request, which leaves time to drain; a second one would force the end.
    alone(|| {
        let ended = runtime(1).run_to_end(|| {
            coring::shutdown_on_signals(Duration::from_secs(30)).unwrap();
            let mut signals = Signals::new([libc::SIGUSR1, libc::SIGUSR2]).unwrap();
            fork_and_raise([libc::SIGUSR1, libc::SIGTERM]);
            raise(libc::SIGUSR2);
            assert_eq!(signals.recv().unwrap(), libc::SIGUSR2);
            assert!(!coring::is_shutting_down());
            raise(libc::SIGTERM);
            coring::shutdown_requested().unwrap();
            coro::sleep(Duration::from_millis(100));
            "drained"
        });
        assert_eq!(ended.outcome.unwrap(), "drained");
    });
}

/// A child that raises these signals and ends.
#[expect(unsafe_code, reason = "fork")]
fn fork_and_raise(signals: [i32; 2]) {
    // SAFETY: the child makes calls only that are allowed after a fork: raise(3) and _exit(2).
    let child = unsafe { libc::fork() };
    if child == 0 {
        signals.into_iter().for_each(raise);
        // SAFETY: it only ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: our own child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "nothing has ended the child");
}

#[test]
fn a_storm_of_one_signal_hides_no_other() {
    // Goal: however many signals nobody has taken yet, one of another number is still told.
    // Method: more of one than a pipe holds, then the other; it is among the first as many.
    alone(|| {
        runtime(1).run(|| {
            let mut signals = Signals::new([libc::SIGUSR1, libc::SIGUSR2]).unwrap();
            (0..70_000).for_each(|_| raise(libc::SIGUSR1));
            raise(libc::SIGUSR2);
            let mut taken = (0..65_536).map(|_| signals.recv().unwrap());
            assert!(taken.any(|signal| signal == libc::SIGUSR2));
        });
    });
}

#[test]
fn ctrl_c_reaches_who_waits_for_it() {
    // Goal: `ctrl_c` returns when SIGINT comes, and not before; from then on the process decides itself what to do; without
    // it SIGINT ends the process.
    // Method: a program as a user would write it; SIGINT as the terminal sends it, three times.
    check(|| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scenario"))
            .arg("ctrl-c")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut expect = |text: &str| assert_eq!(lines.next().unwrap().unwrap(), text);
        let number = child.id().to_string();
        for time in 1..=3 {
            expect("waiting");
            assert!(
                Command::new("kill")
                    .args(["-INT", &number])
                    .status()
                    .unwrap()
                    .success()
            );
            expect(&format!("ctrl-c {time}, others ran"));
        }
        expect("done");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn a_stream_of_signals_to_another_process() {
    // Goal: signals of different kinds sent from outside come in the order they were sent when each is awaited, on a core
    // that is otherwise asleep.
    // Method: a hundred of them, an answer to each.
    check(|| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scenario"))
            .arg("signals")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut expect = |text: &str| assert_eq!(lines.next().unwrap().unwrap(), text);
        let number = child.id().to_string();
        expect("waiting");
        for round in 0..100 {
            let (name, signal) = [("HUP", 1), ("USR1", 10), ("USR2", 12)][round % 3];
            let sent = Command::new("kill")
                .args([&format!("-{name}"), &number])
                .status();
            assert!(sent.unwrap().success());
            expect(&signal.to_string());
        }
        assert!(
            Command::new("kill")
                .args(["-TERM", &number])
                .status()
                .unwrap()
                .success()
        );
        expect("15");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}
