//! std's files: a thread for each operation under way, plain system calls.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use super::spawn;
use crate::files::{
    BLOCK_BYTES, Blocks, Opens, Reads, SmallFiles, WRITE_BYTES, Writes, large_file,
};
use crate::subject::{Job, Skip};
use crate::sys;

pub(super) fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let file = Arc::new(open_large(direct)?);
    in_each_of(depth, |task| {
        let (file, blocks) = (Arc::clone(&file), reads.task(task));
        move || read(&file, blocks)
    })?;
    reads.finish()
}

/// The file to read, for whoever takes one that std has opened.
pub(in super::super) fn open_large(direct: bool) -> io::Result<File> {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(flags)
        .open(large_file(direct)?)
}

fn read(file: &File, blocks: Blocks) -> io::Result<()> {
    let buffer = sys::leak_buffer(BLOCK_BYTES)?;
    for block in blocks {
        let count = file.read_at(buffer, block.offset())?;
        block.check(&buffer[..count]);
    }
    Ok(())
}

pub(super) fn opens(job: &Job, depth: usize) -> Result<(), Skip> {
    let opens = Opens::begin(job, depth)?;
    in_each_of(depth, |task| {
        let (opens, files) = (Arc::clone(&opens), opens.task(task));
        move || open_read(&opens, files)
    })?;
    opens.finish()
}

fn open_read(opens: &Opens, files: SmallFiles) -> io::Result<()> {
    let mut buffer = [0; BLOCK_BYTES];
    for file in files {
        let count = File::open(opens.path(file))?.read(&mut buffer)?;
        file.check(&buffer[..count]);
    }
    Ok(())
}

/// Runs a closure in each of so many threads and waits for all.
fn in_each_of<F>(count: usize, make: impl Fn(usize) -> F) -> io::Result<()>
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    let handles: io::Result<Vec<_>> = (0..count).map(|task| spawn(make(task))).collect();
    for handle in handles? {
        handle.join().expect("no task panics")?;
    }
    Ok(())
}

pub(super) fn writes(job: &Job) -> Result<(), Skip> {
    let mut writes = Writes::begin(job)?;
    let file = OpenOptions::new().write(true).open(writes.path())?;
    let mut buffer = vec![0; WRITE_BYTES];
    while writes.pass() {
        for index in writes.writes() {
            let offset = writes.stamp(index, &mut buffer);
            file.write_all_at(&buffer, offset)?;
        }
        file.sync_all()?;
    }
    writes.finish()
}
