//! Goal: whatever the kernel refuses, and whenever, has its right consequence: a smaller ring, a sentence that names
//! cause and cure, one more attempt, or the end of the process with a message.
//!
//! Method: this test program runs itself again, as a child under a limit or under strace, which makes system calls
//! fail. The children are the ignored tests below. What the machine does not have (strace, privileges to lower) is
//! skipped with a reason on stdout.

#![expect(unsafe_code, reason = "submits operations")]

use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};

use coring_uring::{Carries, RegisteredBuffers, Ring, SetupOptions, Token, Wait, op};

/// What a child prints first: before it, the wrapper failed and not the child.
const STARTED: &str = "the child runs";
/// What a child prints when it got a ring.
const OPENED: &str = "opened a ring with";

#[test]
#[ignore = "a child of the other tests"]
fn child_opens() {
    println!("{STARTED}");
    match Ring::open(&SetupOptions::default()) {
        Ok(ring) => {
            let capabilities = ring.capabilities();
            println!(
                "{OPENED} {} and {}",
                capabilities.sq_entries(),
                capabilities.cq_entries()
            );
        }
        Err(error) => println!("refused: {error}"),
    }
}

#[test]
#[ignore = "a child of the other tests"]
fn child_works() {
    work((8, 16), 15);
}

#[test]
#[ignore = "a child of the other tests"]
fn child_works_in_large_batches() {
    work((512, 1024), 300);
}

/// Twenty batches of operations through a ring of this size.
fn work((sq_entries, cq_entries): (u32, u32), batch: usize) {
    println!("{STARTED}");
    let options = SetupOptions {
        sq_entries,
        cq_entries,
        ..SetupOptions::default()
    };
    let mut ring = Ring::open(&options).expect("it is enters that fail");
    let mut woken = 0;
    for _ in 0..20 {
        let token = Token::from_number(NonZeroUsize::MIN);
        for _ in 0..batch {
            // SAFETY: a nop points at nothing.
            let op = unsafe { ring.submit(op::msg::nop(), token) };
            op.expect("what the kernel does not take now, it takes later");
        }
        while ring.in_flight() != 0 {
            ring.turn(Wait::Until(None), &mut |_| woken += 1)
                .expect("a turn survives this");
        }
    }
    println!("{woken} operations, {} times busy", ring.stats().busy);
}

#[test]
#[ignore = "a child of the other tests"]
fn child_drops_a_busy_ring() {
    println!("{STARTED}");
    let (reader, _writer) = std::io::pipe().expect("there are descriptors");
    let mut buffer = [0; 4];
    let mut ring = Ring::open(&SetupOptions::default()).expect("this test needs io_uring");
    let read = op::fs::read(
        reader.as_raw_fd(),
        buffer.as_mut_ptr(),
        4,
        op::fs::AT_POSITION,
    );
    // SAFETY: the process ends before the buffer does.
    unsafe { ring.submit(read, Token::from_number(NonZeroUsize::MIN)) }.expect("there is room");
}

#[test]
#[ignore = "a child of the other tests"]
fn child_accepts_beyond_its_descriptors() {
    println!("{STARTED}");
    let mut ring = Ring::open(&SetupOptions::default()).expect("this test needs io_uring");
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are descriptors");
    let address = listener.local_addr().expect("it is bound");
    let arm = |ring: &mut Ring, listener: &TcpListener| {
        let sqe = op::net::accept_multishot(listener.as_raw_fd(), 0);
        // SAFETY: an accept points at nothing, and its results are descriptors.
        unsafe { ring.submit_multishot(sqe, Carries::Descriptors) }.expect("there is room")
    };
    let next = |ring: &mut Ring, op| loop {
        if let Some(event) = ring.next_or_watch(op, Token::from_number(NonZeroUsize::MIN)) {
            break event.completion.into_result();
        }
        ring.turn(Wait::Until(None), &mut |_| ()).expect("a turn");
    };
    let idle = TcpListener::bind("127.0.0.1:0").expect("there are descriptors");
    let mut clients = vec![TcpStream::connect(address).expect("the first connects")];
    let mut filler: Vec<_> = std::iter::from_fn(|| listener.try_clone().ok()).collect();
    // The descriptor is looked for before the connection.
    let op = arm(&mut ring, &idle);
    let early = next(&mut ring, op).expect_err("no descriptor is left");
    println!("without a connection: {early}");
    // One for another client and one for the first accept; none for the second.
    filler.truncate(filler.len() - 2);
    clients.push(TcpStream::connect(address).expect("the second connects"));
    let op = arm(&mut ring, &listener);
    let first = next(&mut ring, op);
    let second = next(&mut ring, op).expect_err("no descriptor is left");
    println!("first {}, second {second}", first.is_ok());
    // The connection has stayed in the queue.
    filler.clear();
    let op = arm(&mut ring, &listener);
    println!("then {}", next(&mut ring, op).is_ok());
    ring.abandon(op);
    ring.drain(u64::MAX, &mut |_| ())
        .expect("an accept can be cancelled");
}

#[test]
#[ignore = "a child of the other tests"]
fn child_registers_buffers() {
    println!("{STARTED}");
    let mut ring = Ring::open(&SetupOptions::default()).expect("a ring fits");
    match ring.register_buffers(64, 64 * 1024) {
        Ok(_) => println!("registered 4 MiB"),
        Err(error) => println!("refused: {error}"),
    }
    let fewer = ring.register_buffers(4, 4096);
    println!("fewer {}", fewer.is_ok());
    let buffers = RegisteredBuffers::unregistered(64, 64 * 1024).expect("there is memory");
    println!("unregistered {}", buffers.available());
}

/// Runs a child with `wrapper` in front, and gives what it printed, on both streams; `None` if the wrapper cannot be
/// used here.
fn run(child: &str, wrapper: &[&str]) -> Option<String> {
    let program = std::env::current_exe().expect("a running program has a path");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(program)
        .args(["--ignored", "--exact", child, "--nocapture"])
        .output()
        .map_err(|error| println!("skipped: {} does not run: {error}", wrapper[0]))
        .ok()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    if !text.contains(STARTED) {
        println!("skipped: {wrapper:?} gave {status}: {text}");
        return None;
    }
    Some(text)
}

fn under_strace(child: &str, inject: &str) -> Option<String> {
    run(
        child,
        &[
            "strace",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("inject={inject}"),
        ],
    )
}

fn refused_with(errno: &str) -> Option<String> {
    under_strace("child_opens", &format!("io_uring_setup:error={errno}"))
}

#[test]
fn a_filter_is_named_as_such() {
    if let Some(text) = refused_with("EPERM") {
        assert!(
            text.contains("seccomp") || text.contains("kernel.io_uring_disabled"),
            "{text}"
        );
    }
}

#[test]
fn a_kernel_without_io_uring_is_named_as_such() {
    if let Some(text) = refused_with("ENOSYS") {
        assert!(
            text.contains("offers no io_uring") && text.contains("6.1"),
            "{text}"
        );
    }
}

#[test]
fn a_kernel_that_knows_no_rung_of_the_ladder_is_too_old() {
    if let Some(text) = refused_with("EINVAL") {
        assert!(text.contains("too old"), "{text}");
    }
}

#[test]
fn without_descriptors_the_limit_is_named() {
    if let Some(text) = refused_with("EMFILE") {
        assert!(text.contains("ulimit -n"), "{text}");
    }
}

/// One refused flag costs one feature, not the ring.
#[test]
fn a_refused_rung_is_stepped_down() {
    if let Some(text) = under_strace("child_opens", "io_uring_setup:error=EINVAL:when=1..2") {
        assert!(text.contains(OPENED), "{text}");
    }
}

/// A large batch goes in by portions, of which every other one fails.
#[test]
fn portions_that_fail_in_passing_are_repeated() {
    let child = "child_works_in_large_batches";
    for errno in ["EINTR", "EAGAIN", "EBUSY"] {
        let inject = format!("io_uring_enter:error={errno}:when=6+2");
        if let Some(text) = under_strace(child, &inject) {
            assert!(text.contains("6000 operations"), "{errno}: {text}");
        }
    }
}

/// The first enters are trials of features at setup; from then on every other one fails.
#[test]
fn enters_that_fail_in_passing_are_repeated() {
    for errno in ["EINTR", "EAGAIN", "EBUSY"] {
        if let Some(text) = under_strace(
            "child_works",
            &format!("io_uring_enter:error={errno}:when=6+2"),
        ) {
            assert!(text.contains("300 operations"), "{errno}: {text}");
            assert_eq!(
                text.contains(" 0 times busy"),
                errno == "EINTR",
                "{errno}: {text}"
            );
        }
    }
}

#[test]
fn a_lost_completion_ends_the_process() {
    if let Some(text) = under_strace("child_works", "io_uring_enter:error=EBADR:when=10") {
        assert!(
            text.contains("lost a completion") && !text.contains("300 operations"),
            "{text}"
        );
    }
}

#[test]
fn dropping_a_ring_with_operations_in_flight_ends_the_process() {
    let text = run("child_drops_a_busy_ring", &["env"]).expect("every machine has env");
    assert!(
        text.contains("dropped while operations were in flight (1)"),
        "{text}"
    );
}

#[test]
fn an_accept_without_descriptors_ends_and_loses_no_connection() {
    let child = "child_accepts_beyond_its_descriptors";
    if let Some(text) = run(child, &["prlimit", "--nofile=64"]) {
        assert!(text.contains("first true, second"), "{text}");
        assert_eq!(text.matches("(os error 24)").count(), 2, "EMFILE: {text}");
        assert!(text.contains("then true"), "{text}");
    }
}

#[test]
fn buffers_beyond_the_locked_memory_name_need_and_limit() {
    // A ring fits into 1 MiB, and so do a few buffers.
    if let Some(text) = with_locked_memory("child_registers_buffers", "1048576") {
        assert!(
            text.contains("4096 KiB") && text.contains("1024 KiB") && text.contains("ulimit -l"),
            "{text}"
        );
        assert!(
            text.contains("fewer true") && text.contains("unregistered 64"),
            "{text}"
        );
    }
}

/// Rings are charged to the user unless one has CAP_IPC_LOCK, so the child runs as nobody.
fn with_locked_memory(child: &str, limit_bytes: &str) -> Option<String> {
    let limit = format!("--memlock={limit_bytes}");
    run(
        child,
        &[
            "setpriv",
            "--reuid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            "prlimit",
            &limit,
        ],
    )
}

#[test]
fn a_tight_limit_on_locked_memory_gives_a_smaller_ring() {
    if let Some(text) = with_locked_memory("child_opens", "32768") {
        assert!(
            text.contains(OPENED) && !text.contains("256 and 2048"),
            "{text}"
        );
    }
}

#[test]
fn no_locked_memory_at_all_names_need_and_limit() {
    if let Some(text) = with_locked_memory("child_opens", "4096") {
        assert!(
            text.contains("8 KiB") && text.contains("4 KiB") && text.contains("ulimit -l"),
            "{text}"
        );
    }
}
