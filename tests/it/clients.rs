//! The echo example and clients that none of us wrote: nc, socat, Python's asyncio streams.
//!
//! Other examples and their clients are in `programs`.

use coring_tests::command::{self, example, exists};
use coring_tests::random::pattern;
use coring_tests::server::Server;
use coring_tests::{check, note, skip};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

macro_rules! server {
    ($cores:expr) => {
        match Server::start("echo", &["--port", "0", "--cores", &$cores.to_string()]) {
            Some(server) => server,
            None => skip!("the echo example is not built: run `cargo test` at the root"),
        }
    };
}

fn python(mode: &str, port: u16) {
    note(format!("echo.py {mode}"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/echo.py");
    let ended = command::run(["python3", script, mode, &port.to_string()]);
    ended.assert_success();
}

#[test]
fn asyncio_streams() {
    // Goal: 1,000 connections, 1 B to 1 MiB, half-close and abrupt resets from Python's asyncio; every byte returned.
    // Afterwards the server has no extra descriptor, and its memory is back near the start.
    // Method: clients/echo.py in each mode, once to warm up and once between two looks at /proc/PID.
    check(|| {
        if !exists("python3") {
            skip!("no python3");
        }
        for cores in [1, 2] {
            let server = server!(cores);
            let started = server.usage();
            let modes = ["sizes", "half-close", "reset", "many"];
            modes.into_iter().for_each(|mode| python(mode, server.port));
            server.settles(started);
        }
    });
}

/// Runs a client with a message as its input; what it prints must be the message.
fn echoes_through(program: &str, arguments: &[&str], message: &[u8]) {
    note(format!("{program} with {} bytes", message.len()));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is on the path");
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut back = Vec::new();
    thread::scope(|scope| {
        // Dropped when all is written: the client ends its side.
        scope.spawn(move || input.write_all(message).unwrap());
        output.read_to_end(&mut back).unwrap();
    });
    assert!(child.wait().unwrap().success(), "{program} ends well");
    assert!(
        back == message,
        "{} of {} bytes came back",
        back.len(),
        message.len()
    );
}

const SIZES: [usize; 6] = [1, 64, 4097, 65_536, 300_001, 1 << 20];

#[test]
fn nc() {
    // Goal: nc sends a message, ends its side, and gets all of it back before the end.
    // Method: `nc -N` (shut down after the input's end) with several sizes; three at a time.
    check(|| {
        if !exists("nc") {
            skip!("no nc");
        }
        let server = server!(2);
        let (before, port) = (server.usage(), server.port.to_string());
        thread::scope(|scope| {
            for client in 0..3 {
                let port = &port;
                scope.spawn(move || {
                    for size in SIZES {
                        let message = pattern(client + size, size);
                        echoes_through("nc", &["-N", "127.0.0.1", port], &message);
                    }
                });
            }
        });
        server.settles(before);
    });
}

#[test]
fn socat() {
    // Goal: the same with socat, which also half-closes; and one that is killed in the middle leaves nothing behind.
    // Method: as said.
    check(|| {
        if !exists("socat") {
            skip!("no socat");
        }
        let server = server!(2);
        let (before, target) = (server.usage(), format!("TCP:127.0.0.1:{}", server.port));
        for size in SIZES {
            echoes_through("socat", &["-t", "30", "-", &target], &pattern(size, size));
        }
        for _ in 0..10 {
            let mut child = Command::new("socat")
                .args(["/dev/zero", &target])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let start = Instant::now();
            while server.usage().0 <= before.0 && start.elapsed() < Duration::from_secs(10) {
                thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        server.settles(before);
    });
}

#[test]
fn the_example_under_its_own_load() {
    // Goal: the first command of the README ends by itself, well, and tells what it measured.
    // Method: two seconds with a few connections.
    check(|| {
        let Some(echo) = example("echo") else {
            skip!("the echo example is not built: run `cargo test` at the root");
        };
        let words = ["--load", "16", "--seconds", "2"].map(Into::into);
        let ended = command::run([echo.into_os_string()].into_iter().chain(words));
        ended.assert_success();
        for word in ["p50", "p99"] {
            assert!(ended.stdout.contains(word), "{ended:#?}");
        }
    });
}
