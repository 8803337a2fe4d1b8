//! A key-value server that speaks the protocol of Redis, on all cores at once.
//!
//! Each core has the keys whose hash falls to it, the connections that the kernel gave to its listener, and a log of its
//! own. Nothing is shared: what a connection asks about a key of another core travels there as a message.
//!
//! ```text
//!            core 0                                core 1
//!   clients --> session.rs                session.rs <-- clients
//!                  | protocol.rs: requests, as they come in the bytes
//!                  v
//!               route.rs  <---- parcels, answers ---->  route.rs      which core a key belongs to
//!                  v                                       v
//!               commands.rs on store.rs                 commands.rs on store.rs
//!                  v                                       v
//!               log.rs --> FILE.1.0                     log.rs --> FILE.1.1      recovery.rs: back from the files
//! ```
//!
//! What it is not: atomic across keys of different cores (MSET, MGET and DEL of several keys are taken apart), a
//! replica, or safe to show to the internet: there are no passwords.

mod commands;
mod info;
mod input;
mod log;
mod protocol;
mod recovery;
mod reply;
mod route;
mod session;
mod shard;
mod store;
mod subscriber;

use coring::logger::error;
use coring_examples::{Arguments, serve};
use log::Policy;
use recovery::Files;
use shard::{Shard, Shards};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "sharded_kv [--port P] [--host ADDRESS] [--cores N] [--appendonly FILE] \
                     [--fsync always|everysec|no]";
/// What clients get to have their last requests answered when the server is told to end.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let names = ["port", "host", "cores", "appendonly", "fsync"];
    let arguments = Arguments::read(USAGE, &names)?;
    let port = arguments.option("port")?.unwrap_or(6380);
    let host: Option<IpAddr> = arguments.option("host")?;
    let host = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let policy = arguments.option("fsync")?.unwrap_or(Policy::EverySecond);
    let files: Option<PathBuf> = arguments.option("appendonly")?;
    let mut builder = coring::Runtime::builder();
    if let Some(cores) = arguments.option("cores")? {
        builder = builder.cores(cores);
    }
    let runtime = builder.build().map_err(|error| error.to_string())?;
    let ended = runtime.run_to_end(|| {
        coring::shutdown_on_signals(DRAIN).map_err(|error| error.to_string())?;
        // Held to the end: it is the claim on the files.
        let files = files.map(Files::claim).transpose()?;
        let shards = start(files.as_ref(), policy)?;
        let there = shards.clone();
        let served = serve(host, port, move |stream| session::serve(stream, &there));
        let closed = close(&shards);
        served.map_err(|error| error.to_string()).and(closed)
    });
    let code = ended.exit_code();
    match ended.outcome {
        Ok(outcome) => outcome.map(|()| ExitCode::from(code)),
        Err(error) => Err(error.to_string()),
    }
}

/// A shard on each core, loaded; and what each does besides serving.
fn start(files: Option<&Files>, policy: Policy) -> Result<Shards, String> {
    let loading = files.is_some();
    let made = Shards::new(move |_| recovery::empty_shard(loading));
    let shards = made.map_err(|error| error.to_string())?;
    if let Some(files) = files {
        files.start(&shards, policy)?;
    }
    let there = shards.clone();
    let started = coring::call_all(move |_| {
        let shard = there.local();
        let name = |name| coring::coro::Builder::new().name(name);
        let cleaner = std::rc::Rc::clone(&shard);
        name("cleaner").spawn(move || cleaner.clean())?;
        if shard.log.get().is_some() {
            let writer = std::rc::Rc::clone(&shard);
            name("log writer").spawn(move || {
                let log = writer.log.get().expect("looked at above");
                give_up(&log.write_behind(&writer.store));
            })?;
        }
        if shard
            .log
            .get()
            .is_some_and(|log| log.policy() == Policy::EverySecond)
        {
            let syncer = std::rc::Rc::clone(&shard);
            name("log syncer").spawn(move || {
                let log = syncer.log.get().expect("looked at above");
                give_up(&log.sync_behind());
            })?;
        }
        Ok::<_, coring::coro::SpawnError>(())
    });
    let started = started.map_err(|error| error.to_string())?;
    for outcome in started {
        outcome.map_err(|error| error.to_string())?;
    }
    Ok(shards)
}

/// A server that cannot write its log ends: what it would go on to acknowledge could be lost.
fn give_up(error: &io::Error) {
    error!("the log cannot be written: {}", error);
    eprintln!("the log cannot be written: {error}");
    coring::shutdown(Duration::ZERO);
}

/// Writes and syncs what is still on its way to the logs.
fn close(shards: &Shards) -> Result<(), String> {
    let closed = shards.map_reduce(Shard::close, Ok(()), io::Result::and);
    match closed {
        Ok(closed) => closed.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
