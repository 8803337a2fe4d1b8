//! A TCP echo server on every core, and a load client to look at it with.
//!
//! ```text
//! cargo run --release --example echo -- --port 7777               serve until killed; try: nc 127.0.0.1 7777
//! cargo run --release --example echo -- --load 64 --seconds 5     serve, and load it with 64 connections
//! ```
//!
//! It logs warnings to stderr, or with `--log FILE` everything from info on to a file, through a ring.
//!
//! Each core has a listener of its own on the same port (`SO_REUSEPORT`): the kernel spreads new connections over
//! them, and a connection never leaves the core that accepted it. The alternative, one acceptor that hands
//! connections over, balances better when there are few and long-lived ones, but every accept then crosses cores
//! and one core does all of them.

mod load;
mod server;

use coring::Runtime;
use coring::logger::Level;
use coring::logging::RingFile;
use coring_examples::{Arguments, exit};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "echo [--port P] [--cores N] [--load CONNECTIONS [--seconds S] [--size BYTES]] [--log FILE]";

fn main() -> ExitCode {
    exit(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read(USAGE, &["port", "cores", "load", "seconds", "size", "log"])?;
    let port = arguments.option("port")?;
    let load: Option<usize> = arguments.option("load")?;
    let seconds = arguments.option("seconds")?.unwrap_or(5);
    let size = arguments.option("size")?.unwrap_or(64);
    let _logger = match arguments.option::<String>("log")? {
        Some(path) => coring::logging::builder()
            .sink(RingFile::open(&path)?)
            .start()?,
        None => coring::logging::builder()
            .filter(Level::Warn.to_level_filter())
            .stderr()
            .start()?,
    };
    let mut builder = Runtime::builder();
    if let Some(cores) = arguments.option("cores")? {
        builder = builder.cores(cores);
    }
    let runtime = builder.build()?;
    let cores = runtime.cores();
    runtime.run(|| match load {
        None => server::serve(port.unwrap_or(7777), cores),
        Some(connections) => {
            // The last core is the client's, where there is more than one.
            let address = server::start(port.unwrap_or(0), (cores - 1).max(1))?;
            load::run(address, connections, Duration::from_secs(seconds), size)
        }
    })
}
