//! What the server says about itself: HELLO, INFO, CONFIG GET, COMMAND.

use crate::commands::{self, COMMANDS, Command, Keys};
use crate::log::Policy;
use crate::protocol::Request;
use crate::reply::Reply;
use crate::shard::Shards;
use coring::RemoteError;
use std::fmt::Write;
use std::process;

/// The version of Redis whose answers these are; clients look at it.
const VERSION: &str = "7.0.15";

pub(crate) fn hello(reply: &mut Reply<'_>) {
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if reply.resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(0);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// A few lines about each core.
///
/// # Errors
///
/// When a core has stopped.
pub(crate) fn info(shards: &Shards) -> Result<String, RemoteError> {
    let cores = shards.map_reduce(
        |shard| {
            let keys = shard.store.borrow().len();
            (keys, shard.connections.get(), shard.commands.get())
        },
        Vec::new(),
        |mut all, one| {
            all.push(one);
            all
        },
    )?;
    let mut text = format!(
        "# Server\r\nredis_version:{VERSION}\r\nserver:coring sharded_kv\r\nprocess_id:{}\r\ncores:{}\r\n",
        process::id(),
        cores.len()
    );
    let connections: usize = cores.iter().map(|core| core.1).sum();
    let commands: u64 = cores.iter().map(|core| core.2).sum();
    let keys: usize = cores.iter().map(|core| core.0).sum();
    let _ = write!(
        text,
        "# Clients\r\nconnected_clients:{connections}\r\n# Stats\r\ntotal_commands_processed:{commands}\r\n"
    );
    for (core, (keys, connections, commands)) in cores.iter().enumerate() {
        let _ = write!(
            text,
            "core{core}:keys={keys},connections={connections},commands={commands}\r\n"
        );
    }
    let _ = write!(text, "# Keyspace\r\ndb0:keys={keys}\r\n");
    Ok(text)
}

/// CONFIG GET of what there is.
pub(crate) fn config(request: Request<'_>, log: Option<Policy>, reply: &mut Reply<'_>) {
    if !request.get(1).eq_ignore_ascii_case(b"get") {
        let name = String::from_utf8_lossy(request.get(1)).into_owned();
        return reply.error(&format!(
            "ERR unknown subcommand '{name}'. Try CONFIG HELP."
        ));
    }
    let known = [
        ("appendonly", if log.is_some() { "yes" } else { "no" }),
        ("appendfsync", log.map_or("no", Policy::name)),
        ("save", ""),
        ("databases", "1"),
    ];
    let asked = |name: &str| {
        let mut patterns = request.from(2);
        patterns.any(|pattern| pattern == b"*" || pattern.eq_ignore_ascii_case(name.as_bytes()))
    };
    let found: Vec<_> = known.iter().filter(|(name, _)| asked(name)).collect();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

/// COMMAND, with COUNT and INFO; clients that ask for documentation get none.
pub(crate) fn command(request: Request<'_>, reply: &mut Reply<'_>) {
    let about = (request.len() > 1).then(|| request.get(1).to_ascii_lowercase());
    match about.as_deref() {
        None => {
            reply.array(COMMANDS.len());
            COMMANDS.iter().for_each(|command| describe(command, reply));
        }
        Some(b"count") => reply.integer(COMMANDS.len() as i64),
        Some(b"docs") => reply.map(0),
        Some(b"info") => {
            reply.array(request.len() - 2);
            for name in request.from(2) {
                match commands::find(name) {
                    Some(command) => describe(command, reply),
                    None => reply.null_array(),
                }
            }
        }
        Some(_) => {
            let name = String::from_utf8_lossy(request.get(1)).into_owned();
            reply.error(&format!(
                "ERR unknown subcommand '{name}'. Try COMMAND HELP."
            ));
        }
    }
}

/// Name, arity, flags, and where the keys are: first, last, step.
fn describe(command: &Command, reply: &mut Reply<'_>) {
    let (first, last, step) = match command.keys {
        Keys::Session | Keys::All(_) => (0, 0, 0),
        Keys::First => (1, 1, 1),
        Keys::Each(_) => (1, -1, 1),
        Keys::Pairs => (1, -1, 2),
    };
    reply.array(6);
    reply.bulk(command.name.as_bytes());
    reply.integer(command.arity.into());
    reply.array(1);
    reply.simple(if command.writes { "write" } else { "readonly" });
    for number in [first, last, step] {
        reply.integer(number);
    }
}
