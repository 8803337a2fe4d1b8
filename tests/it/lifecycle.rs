//! Starting and stopping: many times, many cores, two runtimes at once, wrong calls.

use coring::coro;
use coring_tests::tcp::{listen, pair, round_trip_of_ours, serve};
use coring_tests::{
    alone, builder, check, need_locked_kib, note, proc, rounds, runtime, until_outside,
};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Far above what a stop takes, far below the grace period: what a lost wake-up would cost.
const TOO_LONG: Duration = Duration::from_secs(5);

#[test]
fn start_and_stop_five_hundred_times() {
    // Goal: a runtime of two cores starts and stops again and again; no core sleeps through the order to stop, no
    // thread, descriptor or memory is left.
    // Method: each stop is timed against the grace period; with work on core 1, without, and without a run at all.
    alone(|| {
        let start_and_stop = |round| {
            note(format!("round {round}"));
            let start = Instant::now();
            let runtime = runtime(2);
            match round % 4 {
                0 => drop(runtime),
                1 => runtime.run(|| ()),
                2 => runtime.run(|| coring::spawn_on(1, || ()).join().unwrap()),
                // Not joined: the message and the stop race.
                _ => runtime.run(|| drop(coring::spawn_on(1, || ()))),
            }
            assert!(start.elapsed() < TOO_LONG, "a core slept through the stop");
        };
        // The first ones settle what the process keeps: thread stacks, arenas.
        (0..50).for_each(start_and_stop);
        let before = (proc::fds(), proc::threads(), proc::rss_kib());
        let mappings = proc::mappings();
        (0..rounds(500, 5000)).for_each(start_and_stop);
        // The kernel takes a thread off its list a moment after who joins it was told.
        until_outside("the threads have ended", || proc::threads() <= before.1);
        let after = (proc::fds(), proc::threads(), proc::rss_kib());
        assert_eq!(after.0, before.0, "descriptors");
        // Rings among them, which are the kernel's memory.
        let more = proc::mappings().saturating_sub(mappings);
        assert!(more < 100, "{more} mappings stay behind");
        assert!(
            after.2 < before.2 + 2560,
            "KiB stay behind: {before:?} {after:?}"
        );
    });
}

#[test]
fn sixty_four_cores() {
    // Goal: far more cores than CPUs start, work together and stop, in about a second. Idle they burn no CPU, though the builder asks
    // for a long look before each sleep. Pairs of them cost memory when they talk, and not before.
    // Method: every core answers; the whole is timed, with a bound that a busy machine keeps, too. The CPU time of a second of
    // nothing. Memory before and after each core has called each other one, and what that is for 64 cores that
    // are there and do nothing.
    alone(|| {
        need_locked_kib!(8 * 64);
        builder(2)
            .build()
            .unwrap()
            .run(|| coring::call_all(|_| ()).unwrap());
        let start = Instant::now();
        let started_kib = proc::rss_kib();
        let builder = builder(64).spin(Duration::from_secs(1));
        let (cores, idle, kib) = builder.build().unwrap().run(|| {
            let handles = coring::spawn_on_each(|core| {
                assert_eq!(coring::current_core(), Some(core));
                core
            });
            let cores = handles.into_iter().map(|handle| handle.join().unwrap());
            let sum = cores.sum::<usize>();
            let worked = start.elapsed();
            assert!(worked < TOO_LONG, "{worked:?}");
            let cpu = proc::cpu_time();
            coro::sleep(Duration::from_secs(1));
            let idle = proc::cpu_time() - cpu;
            let mut kib = vec![proc::rss_kib()];
            coring::call_all(|_| drop(coring::call_all(|_| ()).unwrap())).unwrap();
            kib.push(proc::rss_kib());
            (sum, idle, kib)
        });
        let took = start.elapsed();
        println!(
            "64 cores: started, asked and stopped in {took:?}; {idle:?} of CPU in an idle second"
        );
        println!(
            "{started_kib} KiB at first, {kib:?} KiB with 64 cores, and with 64 x 64 pairs in use"
        );
        assert_eq!(cores, 63 * 64 / 2);
        assert!(idle < Duration::from_millis(200), "{idle:?} of CPU");
        assert!(
            kib[0] - started_kib < 22 << 10,
            "KiB of 64 idle cores: {started_kib} {kib:?}"
        );
        // The kernel takes a thread off its list a moment after who joins it was told.
        while proc::threads() != 3 {
            assert!(start.elapsed() < 2 * TOO_LONG, "harness, test and watchdog");
            thread::yield_now();
        }
    });
}

#[test]
fn two_runtimes_at_once() {
    // Goal: two runtimes in one process, on two threads, do not get in each other's way.
    // Method: both echo with themselves and across, at the same time, with a meeting point before and after.
    check(|| {
        let barrier = Barrier::new(2);
        let life = |seed: usize| {
            barrier.wait();
            let sum = runtime(2).run(|| {
                let (listener, address) = listen();
                let server = coro::spawn(move || serve(&listener, 20));
                let clients = coring::spawn_on(1, move || {
                    for client in 0..20 {
                        let stream = coring::net::TcpStream::connect(address).unwrap();
                        round_trip_of_ours(&stream, seed + client, 5000);
                    }
                });
                clients.join().unwrap();
                server.join().unwrap()
            });
            barrier.wait();
            sum
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| life(1000));
            assert_eq!(life(0), 20 * 5000);
            assert_eq!(other.join().unwrap(), 20 * 5000);
        });
    });
}

#[test]
fn main_borrows_from_the_caller() {
    // Goal: main may use what lives in the caller's frame, mutably, and may return what borrows from it.
    // Method: the types of this function are most of the test.
    check(|| {
        let (mut text, numbers) = (String::from("a"), vec![1, 2, 3]);
        let largest = runtime(1).run(|| {
            text.push('b');
            coro::yield_now();
            numbers.iter().max()
        });
        assert_eq!((text.as_str(), largest), ("ab", Some(&3)));
    });
}

#[test]
fn a_run_inside_a_coroutine_is_refused() {
    // Goal: `Runtime::run` in a coroutine would block the core: it panics with a sentence, and the outer one goes on.
    // Method: the message; then another runtime on a fresh thread is fine while the outer one lives.
    check(|| {
        runtime(1).run(|| {
            let inner = runtime(1);
            let caught = catch_unwind(AssertUnwindSafe(|| inner.run(|| 1)));
            let payload = caught.unwrap_err();
            let text = payload.downcast_ref::<&str>().expect("a message");
            assert!(text.contains("inside a coroutine"), "{text}");
            assert_eq!(coro::spawn(|| 2).join().unwrap(), 2, "the outer one lives");
            let other = thread::spawn(|| runtime(1).run(|| 3));
            coring_tests::until("the other thread", || other.is_finished());
            assert_eq!(other.join().unwrap(), 3);
        });
    });
}

#[test]
fn calls_outside_say_what_is_missing() {
    // Goal: without a runtime, calls that return an error name it, others panic with it; nothing is undefined.
    // Method: one call of each kind on a plain thread.
    check(|| {
        let (mut ours, _theirs) = pair();
        let error = ours.read(&mut [0; 8]).unwrap_err();
        assert!(error.to_string().contains("Runtime::run"), "{error}");
        let error = coring::fs::File::open("/dev/null").unwrap_err();
        assert!(error.to_string().contains("Runtime::run"), "{error}");
        let error = coro::try_spawn(|| ()).unwrap_err();
        assert!(error.to_string().contains("Runtime::run"), "{error}");
        let panics: [(&str, fn()); 5] = [
            ("spawn", || drop(coro::spawn(|| ()))),
            ("yield_now", coro::yield_now),
            ("sleep", || coro::sleep(Duration::from_secs(1))),
            ("park", coro::park),
            ("current", || drop(coro::current())),
        ];
        for (name, call) in panics {
            let payload = catch_unwind(call).expect_err(name);
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| {
                payload
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
            });
            let text = text.expect("a message");
            assert!(
                text.contains("Runtime") || text.contains("outside"),
                "{name}: {text}"
            );
        }
        assert!(coro::try_current().is_none() && !coro::is_cancelled());
        assert!(coring::current_core().is_none() && coring::stats().is_none());
    });
}

#[test]
fn limits_that_cannot_be_are_refused() {
    // Goal: the builder names the limit that is wrong; nothing has started then.
    // Method: one wrong value each.
    check(|| {
        let wrong = [
            ("cores", builder(0)),
            ("cores", builder(100_000)),
            ("inbox_capacity", builder(1).inbox_capacity(0)),
            ("max_coroutines", builder(1).max_coroutines(0)),
            ("stack_bytes", builder(1).stack_bytes(100)),
            ("sq_entries", builder(1).sq_entries(0)),
            ("max_operations", builder(1).max_operations(0)),
        ];
        for (name, builder) in wrong {
            let error = builder.build().expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
    });
}
