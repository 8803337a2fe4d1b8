//! Scenarios of ends that do not go by themselves.
#![expect(unsafe_code, reason = "a signal to a process is a plain call")]

use coring::net::TcpListener;
use coring::{Runtime, StartError, coro};
use coring_tests::{proc, until};
use std::error::Error;
use std::hint::spin_loop;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Nobody waits for so long: what ends, ends because it was forced.
const HOUR: Duration = Duration::from_secs(3600);

/// A runtime that gives an hour to drain and an hour of grace.
fn patient(cores: usize) -> Result<Runtime, StartError> {
    Runtime::builder().cores(cores).shutdown_grace(HOUR).build()
}

fn name(name: &'static str) -> coro::Builder {
    coro::Builder::new().name(name)
}

/// Main computes on core 0 and hears nothing. `seconds` is what signals leave for draining, and the grace.
pub(crate) fn core_0_never_waits(seconds: usize) -> Result<(), StartError> {
    let time = Duration::from_secs(seconds as u64);
    let runtime = Runtime::builder().cores(2).shutdown_grace(time).build()?;
    runtime.run(|| {
        coring::shutdown_on_signals(time).unwrap();
        println!("ready");
        turn_for_ever();
    });
    println!("not reached");
    Ok(())
}

#[inline(never)]
fn turn_for_ever() {
    loop {
        spin_loop();
    }
}

/// Everything that can hold up an end, but main: a core that computes, one whose coroutine waits under a shield, one that is
/// as it should be, and a blocking call that does not return.
pub(crate) fn stuck() -> Result<ExitCode, Box<dyn Error>> {
    let ended = patient(4)?.run_to_end(|| {
        coring::shutdown_on_signals(HOUR).unwrap();
        let (busy, is_busy) = std::sync::mpsc::channel();
        let compute = move || {
            busy.send(()).unwrap();
            turn_for_ever();
        };
        let crunch = move || drop(name("cruncher").spawn(compute));
        let shielded = || {
            let stubborn = || coro::shield(|| coro::sleep(HOUR));
            drop(name("stubborn").spawn(stubborn));
        };
        coring::call(2, shielded).unwrap();
        let good = || drop(name("well-behaved").spawn(|| coro::sleep(HOUR)));
        coring::call(3, good).unwrap();
        drop(coring::try_spawn_blocking(|| {
            thread::sleep(HOUR);
        }));
        drop(coring::spawn_on(1, crunch));
        until("core 1 computes", || is_busy.try_recv().is_ok());
        until("a call blocks", || {
            coring::blocking_stats().unwrap().started == 1
        });
        println!("ready");
        coro::sleep(HOUR);
    });
    println!("{}", ended.abandoned.join("\n"));
    Ok(ExitCode::from(ended.exit_code()))
}

/// Main waits where it cannot be cancelled, and so does another coroutine of its core.
pub(crate) fn main_is_stubborn() -> Result<(), StartError> {
    patient(2)?.run(|| {
        coring::shutdown_on_signals(HOUR).unwrap();
        drop(name("bystander").spawn(|| coro::shield(|| coro::sleep(HOUR))));
        println!("ready");
        coro::shield(|| coro::sleep(HOUR));
    });
    println!("not reached");
    Ok(())
}

/// Serves clients that do not read, until it is asked to end; tells its port first.
pub(crate) fn dead_peers() -> Result<ExitCode, Box<dyn Error>> {
    let ended = patient(2)?.run_to_end(|| {
        coring::shutdown_on_signals(Duration::from_millis(1)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("ready");
        println!("{}", listener.local_addr().unwrap().port());
        let (accepted, flooded) = (AtomicUsize::new(0), AtomicUsize::new(0));
        coro::scope(|scope| {
            loop {
                let Ok((mut stream, _)) = listener.accept() else {
                    break;
                };
                let (accepted, flooded) = (&accepted, &flooded);
                accepted.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move || {
                    while stream.write_all(&[7; 1 << 16]).is_ok() {}
                    flooded.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        (accepted.into_inner(), flooded.into_inner())
    });
    println!("{:?} {:?}", ended.outcome, ended.abandoned);
    Ok(ExitCode::from(ended.exit_code()))
}

/// Many short lives, each asked to end by a storm of signals that does not stop before, during and after.
pub(crate) fn storm() -> Result<(), StartError> {
    let calm = Arc::new(AtomicBool::new(false));
    let is_calm = Arc::clone(&calm);
    // Caught from the first to the last moment.
    let first = Runtime::builder().cores(1).pin(false).build()?;
    first.run(|| coring::shutdown_on_signals(HOUR).unwrap());
    let process = libc::pid_t::try_from(std::process::id()).expect("it came from one");
    let wind = thread::spawn(move || {
        while !is_calm.load(Ordering::Relaxed) {
            for signal in [libc::SIGTERM, libc::SIGINT] {
                // SAFETY: it sends a signal to this process, which catches it.
                assert_eq!(unsafe { libc::kill(process, signal) }, 0);
            }
        }
    });
    for _ in 0..200 {
        let runtime = Runtime::builder().cores(2).pin(false).build()?;
        let _ = runtime.run_to_end(|| {
            coring::shutdown_on_signals(HOUR).unwrap();
            let _ = coring::shutdown_requested();
        });
    }
    calm.store(true, Ordering::Relaxed);
    wind.join().unwrap();
    println!("over");
    Ok(())
}

/// A start that fails the first time, for whatever reason, leaves nothing behind; the second one works.
pub(crate) fn half_started(cores: usize) -> Result<(), Box<dyn Error>> {
    let before = (proc::fds(), proc::threads());
    let start = || {
        let builder = Runtime::builder().cores(cores).shutdown_grace(HOUR);
        builder.stall_detector(HOUR).build()
    };
    let Err(error) = start() else {
        println!("started");
        return Ok(());
    };
    println!("refused: {error}");
    // The kernel takes a thread off its list a moment after who joins it was told.
    while (proc::fds(), proc::threads()) != before {
        thread::yield_now();
    }
    start()?.run(|| {
        let cores = coring::spawn_on_each(|core| core);
        let sum: usize = cores.into_iter().map(|core| core.join().unwrap()).sum();
        println!("then {} cores: {sum}", coring::cores());
    });
    Ok(())
}

/// The same for want of descriptors, with one more each time, until they are enough.
pub(crate) fn short_of_files() -> Result<(), Box<dyn Error>> {
    let start = || {
        let builder = Runtime::builder().cores(3).pin(false);
        builder.shutdown_grace(HOUR).build()
    };
    let before = (proc::fds(), proc::threads());
    let mut refusals = [0; 3];
    for files in 3.. {
        proc::limit_files(files);
        let started = start();
        proc::raise_file_limit();
        match started {
            Ok(runtime) => {
                runtime.run(|| ());
                break;
            }
            Err(coring::StartError::Ring { core, source }) => {
                refusals[core] += 1;
                assert!(source.to_string().contains("ulimit -n"), "{source}");
            }
            Err(error) => return Err(error.into()),
        }
        // The kernel takes a thread off its list a moment after who joins it was told.
        while (proc::fds(), proc::threads()) != before {
            thread::yield_now();
        }
        start()?.run(|| ());
    }
    // Those but core 0 open their rings at the same time.
    let others = refusals[1] + refusals[2];
    println!(
        "refused to core 0: {}, to others: {}",
        refusals[0] > 0,
        others > 0
    );
    Ok(())
}
