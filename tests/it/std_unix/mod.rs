//! Unix sockets as std documents them, and descriptors that travel. About a test for each case that std's own suite has.

mod addresses;
mod datagrams;
mod descriptors;
mod streams;

use coring::net::UnixSocketAddr;
use coring_tests::runtime;
use std::os::linux::net::SocketAddrExt;
use std::path::Path;

/// A runtime and a scratch directory, whose path is short enough for a socket.
fn with_scratch(body: impl FnOnce(&Path)) {
    let scratch = tempfile::tempdir().unwrap();
    runtime(1).run(|| body(scratch.path()));
}

/// An abstract name that no other process has.
fn name(text: &str) -> UnixSocketAddr {
    UnixSocketAddr::from_abstract_name(format!("coring-{}-{text}", std::process::id())).unwrap()
}

/// A path in this directory of this many bytes.
fn path_of(bytes: usize, scratch: &Path, letter: &str) -> std::path::PathBuf {
    let taken = scratch.as_os_str().len() + 1;
    scratch.join(letter.repeat(bytes - taken))
}
