//! The proxy, the file servers and the block device among the examples, under programs that none of us wrote: curl, wrk,
//! redis, iperf3, PostgreSQL, fio, qemu-io, nbdcopy.
//!
//! A test whose program is not installed is skipped and counted. Foreign servers get a free port and are killed at the
//! end.

/// Starts an example, or leaves the test.
macro_rules! server {
    ($name:expr, $($word:expr),*) => {
        match Server::start($name, &[$($word),*]) {
            Some(server) => server,
            None => skip!("the example {} is not built: run `cargo test` at the root", $name),
        }
    };
}

/// The file server over a folder.
macro_rules! file_server {
    ($root:expr) => {
        server!(
            "static_files",
            "--port",
            "0",
            "--root",
            $root.to_str().unwrap()
        )
    };
}

/// Leaves the test when a program is missing.
macro_rules! need {
    ($($program:expr),*) => {
        $(if !exists($program) {
            skip!("no {}", $program);
        })*
    };
}

mod http;
mod nbd;
mod proxy;

use coring_tests::command::{self, Ended};
use coring_tests::note;
use coring_tests::random::pattern;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Runs a program that has to end well; its output.
#[track_caller]
pub(crate) fn run<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    let words: Vec<_> = words
        .into_iter()
        .map(|word| word.as_ref().to_owned())
        .collect();
    note(format!("{words:?}"));
    let ended: Ended = command::run(words);
    ended.assert_success();
    ended.stdout
}

/// The status that curl gets, and the body.
pub(crate) fn curl(arguments: &[&str]) -> (u16, Vec<u8>) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--path-as-is",
            "--max-time",
            "30",
            "--write-out",
            "%{http_code}",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let body = output.stdout.len() - 3;
    let status = std::str::from_utf8(&output.stdout[body..]).unwrap();
    (status.parse().unwrap(), output.stdout[..body].to_vec())
}

/// A folder to serve, with something beside it that must not be served.
pub(crate) fn site() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    fs::write(root.join("index.html"), "<h1>hi</h1>").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("sub/index.html"), "sub").unwrap();
    fs::write(root.join("small"), pattern(1, 65_536)).unwrap();
    fs::write(root.join("big"), pattern(2, 20_000_001)).unwrap();
    (folder, root)
}
