//! tokio's files: system calls in its pool of blocking threads.
//!
//! Random reads are `read_at` of std in `spawn_blocking`, which tokio recommends where its own `File` would do two
//! hops, a seek and a read, and copy. The rest is `tokio::fs`.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::fs::OpenOptions;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::task::{self, JoinHandle};

use crate::files::{BLOCK_BYTES, Blocks, Opens, Reads, SmallFiles, WRITE_BYTES, Writes};
use crate::subject::{Job, Skip};
use crate::subjects::threads;
use crate::sys;

pub(super) async fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let file = Arc::new(threads::open_large(direct)?);
    let spawn = |task| tokio::spawn(read(Arc::clone(&file), reads.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    reads.finish()
}

async fn read(file: Arc<std::fs::File>, blocks: Blocks) -> io::Result<()> {
    let mut buffer = sys::leak_buffer(BLOCK_BYTES)?;
    for block in blocks {
        let file = Arc::clone(&file);
        let read = move || (file.read_at(buffer, block.offset()), buffer);
        let (count, filled) = task::spawn_blocking(read).await?;
        buffer = filled;
        block.check(&buffer[..count?]);
    }
    Ok(())
}

pub(super) async fn opens(job: &Job, depth: usize) -> Result<(), Skip> {
    let opens = Opens::begin(job, depth)?;
    let spawn = |task| tokio::spawn(open_read(Arc::clone(&opens), opens.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    opens.finish()
}

async fn open_read(opens: Arc<Opens>, files: SmallFiles) -> io::Result<()> {
    for file in files {
        file.check(&tokio::fs::read(opens.path(file)).await?);
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
        file.rewind().await?;
        for index in writes.writes() {
            writes.stamp(index, &mut buffer);
            file.write_all(&buffer).await?;
        }
        file.sync_all().await?;
    }
    writes.finish()
}
