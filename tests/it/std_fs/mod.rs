//! Files and their names as std documents them: about a test for each case that std's own suite has.

mod contents;
mod copies;
mod directories;
mod fifo;
mod locks;
mod metadata;
mod names;
mod open;
mod positions;
mod removing;
mod special;

use coring_tests::runtime;
use std::io::ErrorKind;
use std::path::Path;
use tempfile::TempDir;

/// A runtime and a scratch directory.
fn with_scratch(body: impl FnOnce(&Path)) {
    let scratch: TempDir = tempfile::tempdir().unwrap();
    runtime(1).run(|| body(scratch.path()));
}

fn kind<T>(outcome: std::io::Result<T>) -> ErrorKind {
    outcome.err().expect("it fails").kind()
}
