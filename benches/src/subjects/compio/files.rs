//! compio's files: a task for each operation under way.

use std::io;
use std::sync::Arc;

use compio::BufResult;
use compio::fs::{File, OpenOptions};
use compio::io::{AsyncReadAt, AsyncWriteAtExt};
use compio::runtime::{self, JoinHandle};

use crate::files::{
    BLOCK_BYTES, Blocks, Opens, Reads, SmallFiles, WRITE_BYTES, Writes, large_file,
};
use crate::subject::{Job, Skip};
use crate::sys;

pub(super) async fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let flags = if direct { libc::O_DIRECT } else { 0 };
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(flags)
        .open(large_file(direct)?)
        .await?;
    // Clones share the descriptor.
    let spawn = |task| runtime::spawn(read(file.clone(), reads.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    reads.finish()
}

async fn read(file: File, blocks: Blocks) -> io::Result<()> {
    let mut buffer = sys::leak_buffer(BLOCK_BYTES)?;
    for block in blocks {
        let BufResult(count, filled) = file.read_at(buffer, block.offset()).await;
        buffer = filled;
        block.check(&buffer[..count?]);
    }
    Ok(())
}

pub(super) async fn opens(job: &Job, depth: usize) -> Result<(), Skip> {
    let opens = Opens::begin(job, depth)?;
    let spawn = |task| runtime::spawn(open_read(Arc::clone(&opens), opens.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    opens.finish()
}

async fn open_read(opens: Arc<Opens>, files: SmallFiles) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BLOCK_BYTES);
    for file in files {
        let opened = File::open(opens.path(file)).await?;
        let BufResult(count, filled) = opened.read_at(buffer, 0).await;
        buffer = filled;
        file.check(&buffer[..count?]);
        buffer.clear();
        opened.close().await?;
    }
    Ok(())
}

async fn join(handles: Vec<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    for handle in handles {
        handle.await.expect("no task panics")?;
    }
    Ok(())
}

pub(super) async fn writes(job: &Job) -> Result<(), Skip> {
    let mut writes = Writes::begin(job)?;
    let mut file = OpenOptions::new().write(true).open(writes.path()).await?;
    let mut buffer = vec![0; WRITE_BYTES];
    while writes.pass() {
        for index in writes.writes() {
            let offset = writes.stamp(index, &mut buffer);
            let BufResult(written, sent) = file.write_all_at(buffer, offset).await;
            buffer = sent;
            written?;
        }
        file.sync_all().await?;
    }
    writes.finish()
}
