//! coring's files: a coroutine for each operation under way, std's methods.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use coring::coro;
use coring::fs::{AlignedBuf, File};

use crate::files::{
    BLOCK_BYTES, Blocks, Opens, Reads, SmallFiles, WRITE_BYTES, Writes, large_file,
};
use crate::subject::{Job, Skip};

pub(super) fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let file = File::options()
        .read(true)
        .direct(direct)
        .open(large_file(direct)?)?;
    let file = Rc::new(file);
    in_each_of(depth, |task| {
        let (file, blocks) = (Rc::clone(&file), reads.task(task));
        move || read(&file, blocks)
    })?;
    reads.finish()
}

fn read(file: &File, blocks: Blocks) -> io::Result<()> {
    let mut buffer = AlignedBuf::new(BLOCK_BYTES, BLOCK_BYTES);
    for block in blocks {
        let count = file.read_at(&mut buffer, block.offset())?;
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
        let opened = File::open(opens.path(file))?;
        let count = opened.read_at(&mut buffer, 0)?;
        file.check(&buffer[..count]);
        opened.close()?;
    }
    Ok(())
}

/// Runs a closure in each of so many coroutines and waits for all.
fn in_each_of<F>(count: usize, make: impl Fn(usize) -> F) -> io::Result<()>
where
    F: FnOnce() -> io::Result<()> + 'static,
{
    let handles: Vec<_> = (0..count).map(|task| coro::spawn(make(task))).collect();
    for handle in handles {
        handle.join().expect("no task panics")?;
    }
    Ok(())
}

pub(super) fn writes(job: &Job) -> Result<(), Skip> {
    let mut writes = Writes::begin(job)?;
    let file = File::options().write(true).open(writes.path())?;
    let mut buffer = vec![0; WRITE_BYTES];
    while writes.pass() {
        for index in writes.writes() {
            let offset = writes.stamp(index, &mut buffer);
            let count = file.write_at(&buffer, offset)?;
            assert_eq!(count, WRITE_BYTES, "a regular file takes all");
        }
        file.sync_all()?;
    }
    writes.finish()
}
