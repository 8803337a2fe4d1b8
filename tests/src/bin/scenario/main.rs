//! The program that the child-process tests run: one scenario a run, chosen by the first argument.
//!
//! It is written as a user's program would be: `main` returns a `Result`, so that what a failing start prints here
//! is what a user reads.
#![expect(
    unsafe_code,
    reason = "crashes on purpose; sets an interval timer; maps a file"
)]

mod ending;
mod outside;
mod watched;

use coring::coro;
use coring_tests::random::pattern;
use coring_tests::tcp::{listen, pair, pair_of_ours, round_trip_of_ours, serve};
use coring_tests::{runtime, until, until_in_flight};
use std::error::Error;
use std::hint::black_box;
use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().ok_or("which scenario?")?;
    let number = arguments.next().map(|number| number.parse()).transpose()?;
    match scenario.as_str() {
        "features" => coring::uring::TABLE
            .iter()
            .filter(|row| !row.feature.is_opt_in())
            .for_each(|row| println!("{}", row.name)),
        "hello" => hello(number.unwrap_or(2))?,
        "echo" => echo()?,
        "echo-under-signals" => echo_under_signals()?,
        "out-of-files" => out_of_files()?,
        "zero-copy" => zero_copy()?,
        "fixed-buffers" => fixed_buffers()?,
        "mapped-and-cut" => mapped_and_cut()?,
        "overflow" => runtime(1).run(|| overflow("deep", 128 * 1024)),
        "overflow-on-core-1" => runtime(2).run(|| {
            let there = coring::spawn_on(1, || overflow("far away", 64 * 1024));
            let _ = there.join();
        }),
        "overflow-of-main" => println!("not reached: {}", runtime(1).run(|| recurse(0))),
        "overflow-by-one-frame" => runtime(1).run(overflow_by_one_frame),
        "overflow-of-a-thread" => {
            // After the runtime has installed its handler.
            runtime(1).run(|| ());
            drop(std::thread::spawn(|| recurse(0)).join());
        }
        "segv-in-coroutine" => runtime(1).run(|| drop(coro::spawn(crash).join())),
        "segv-in-thread" => {
            runtime(1).run(|| ());
            crash();
        }
        "panic-detached" => panic_detached(),
        "panic-in-main" => runtime(2).run(|| panic!("main gives up")),
        "never-waits" => never_waits()?,
        "stalls" => watched::stalls()?,
        "stall-in-a-call" => watched::stall_in_a_call()?,
        "blocked-in" => watched::blocked_in(number.unwrap_or(0))?,
        "dump" => watched::dump()?,
        "ctrl-c" => outside::on_ctrl_c()?,
        "signals" => outside::on_signals()?,
        "lines" => outside::lines()?,
        "full-output" => outside::full_output()?,
        "copy-input" => outside::copy_input()?,
        "shared-output" => outside::shared_output()?,
        "shared-input" => outside::shared_input()?,
        "output-then-status" => outside::output_then_status()?,
        "core-0-never-waits" => ending::core_0_never_waits(number.unwrap_or(0))?,
        "stuck" => return ending::stuck(),
        "main-is-stubborn" => ending::main_is_stubborn()?,
        "dead-peers" => return ending::dead_peers(),
        "storm" => ending::storm()?,
        "half-started" => ending::half_started(number.unwrap_or(4))?,
        "short-of-files" => ending::short_of_files()?,
        other => return Err(format!("no scenario {other}").into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn hello(cores: usize) -> Result<(), coring::StartError> {
    let runtime = coring::Runtime::builder().cores(cores).build()?;
    let sum: usize = runtime.run(|| {
        let handles = coring::spawn_on_each(|core| core + 1);
        let values = handles.into_iter().map(|handle| handle.join().unwrap());
        values.sum()
    });
    println!("hello from {cores} cores: {sum}");
    Ok(())
}

/// Echoes with itself, on two cores, some of it larger than the socket buffers.
fn echo() -> Result<(), coring::StartError> {
    let runtime = coring::Runtime::builder().cores(2).build()?;
    let echoed = runtime.run(|| {
        let (listener, address) = listen();
        let clients = coring::spawn_on(1, move || {
            let clients: Vec<_> = (0..20)
                .map(|client| {
                    coro::spawn(move || {
                        let stream = coring::net::TcpStream::connect(address).unwrap();
                        for length in [1, 1000, 100_000] {
                            round_trip_of_ours(&stream, client, length);
                            coro::sleep(Duration::from_micros(500));
                        }
                    })
                })
                .collect();
            clients
                .into_iter()
                .for_each(|client| client.join().unwrap());
        });
        let echoed = serve(&listener, 20);
        clients.join().unwrap();
        echoed
    });
    println!("echoed {echoed} bytes");
    Ok(())
}

/// The same, while a timer interrupts whatever the process does, a thousand times a second.
fn echo_under_signals() -> Result<(), Box<dyn Error>> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: a zeroed sigaction is a valid value of this plain C struct: no flags, so no SA_RESTART.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: both structs are valid; the handler does nothing.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    let millisecond = libc::timeval {
        tv_sec: 0,
        tv_usec: 1000,
    };
    let timer = libc::itimerval {
        it_interval: millisecond,
        it_value: millisecond,
    };
    // SAFETY: reads a valid struct.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        echo()?;
    }
    Ok(())
}

/// Takes descriptors until there are none, and goes on when there are some again.
fn out_of_files() -> Result<(), Box<dyn Error>> {
    let runtime = coring::Runtime::builder().cores(2).build()?;
    runtime.run(|| {
        let mut files = Vec::new();
        let error = loop {
            match coring::fs::File::open("/dev/null") {
                Ok(file) => files.push(file),
                Err(error) => break error,
            }
        };
        println!("after {} files: {error}", files.len());
        let (refused, listener) = {
            // Room for the listener and the client, none for what is accepted.
            files.truncate(files.len() - 2);
            until_in_flight(0);
            let (listener, address) = listen();
            let client = std::net::TcpStream::connect(address)?;
            let refused = listener.accept().unwrap_err();
            println!("accept: {refused}");
            drop(client);
            (refused, listener)
        };
        assert_eq!(refused.raw_os_error(), Some(libc::EMFILE));
        files.clear();
        until_in_flight(0);
        // The connection waited in the backlog.
        listener.accept()?;
        println!("accepted later");
        Ok(())
    })
}

/// Takes and uses more registered memory than a small limit allows.
fn fixed_buffers() -> Result<(), Box<dyn Error>> {
    let builder = coring::Runtime::builder().cores(1);
    builder.fixed_buffers(16, 64 * 1024).build()?.run(|| {
        let mut buffer = coring::fs::FixedBuf::take()?;
        let zero = coring::fs::File::open("/dev/zero")?;
        buffer.fill(1);
        let read = zero.read_at(&mut buffer, 0)?;
        assert!(read == buffer.len() && buffer.iter().all(|&byte| byte == 0));
        println!("registered: {}", buffer.is_registered());
        Ok(())
    })
}

/// Touches what a mapped file has no more.
fn mapped_and_cut() -> Result<(), Box<dyn Error>> {
    runtime(1).run(|| {
        let file = coring::fs::File::from(tempfile::tempfile()?);
        file.set_len(1 << 20)?;
        // SAFETY: none: to cut the file off below is the bug that the test is about.
        let map = unsafe { coring::fs::Mmap::map(&file) }?;
        println!("last byte: {}", map[(1 << 20) - 1]);
        file.set_len(0)?;
        println!("populate: {}", map.populate(0..1 << 20).unwrap_err());
        println!("not reached: {}", black_box(map[black_box(0)]));
        Ok(())
    })
}

/// Lends more to the kernel than it may lock.
fn zero_copy() -> Result<(), Box<dyn Error>> {
    let runtime = coring::Runtime::builder().cores(1).build()?;
    runtime.run(|| {
        let (one, mut other) = pair_of_ours();
        let reader = coro::spawn(move || {
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut sent = Vec::new();
        for number in 0..8 {
            let bytes = pattern(number, 300_000);
            sent.extend_from_slice(&bytes);
            let (taken, lent) = one.send_zero_copy(bytes);
            assert_eq!(taken?, 300_000);
            lent.reclaim()?;
        }
        drop(one);
        assert!(reader.join().unwrap()? == sent);
        println!("sent {} bytes", sent.len());
        Ok(())
    })
}

fn overflow(name: &'static str, stack_bytes: usize) {
    let builder = coro::Builder::new().name(name).stack_bytes(stack_bytes);
    let victim = builder.spawn(|| recurse(0)).unwrap();
    println!("not reached: {:?}", victim.join());
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut frame = [0u8; 512];
    black_box(&mut frame)[0] = 1;
    if depth == usize::MAX {
        return 0;
    }
    recurse(depth + 1) + usize::from(black_box(&frame)[0])
}

/// One frame larger than the whole stack: the compiler's probes walk into the guard.
fn overflow_by_one_frame() {
    let builder = coro::Builder::new()
        .name("huge frame")
        .stack_bytes(64 * 1024);
    let victim = builder.spawn(|| {
        let mut frame = [0u8; 1 << 20];
        black_box(&mut frame)[0] = 1;
    });
    println!("not reached: {:?}", victim.unwrap().join());
}

/// A plain bug, far from any stack.
fn crash() {
    let address: *mut u8 = std::ptr::without_provenance_mut(black_box(0x10));
    // SAFETY: none: this is the bug that the test is about. Nothing is mapped there.
    unsafe { address.write_volatile(1) };
}

fn panic_detached() {
    runtime(1).run(|| {
        let (mut ours, _theirs) = pair();
        drop(
            coro::Builder::new()
                .name("careless")
                .spawn(|| panic!("nobody joins me"))
                .unwrap(),
        );
        let other = coro::spawn(move || ours.read(&mut [0; 8]).map(drop));
        until_in_flight(1);
        other.cancel();
        assert!(other.join().unwrap().is_err());
        println!("went on");
    });
}

/// A coroutine on core 1 computes for ever and does not see that all is being stopped.
fn never_waits() -> Result<(), coring::StartError> {
    let grace = Duration::from_millis(100);
    let builder = coring::Runtime::builder().cores(2).shutdown_grace(grace);
    builder.build()?.run(|| {
        let begun = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let tell = std::sync::Arc::clone(&begun);
        drop(coring::spawn_on(1, move || {
            tell.store(true, std::sync::atomic::Ordering::Release);
            loop {
                std::hint::spin_loop();
            }
        }));
        until("core 1 computes", || {
            begun.load(std::sync::atomic::Ordering::Acquire)
        });
    });
    println!("run has returned");
    Ok(())
}
