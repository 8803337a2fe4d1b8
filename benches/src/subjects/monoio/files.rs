//! monoio's files: a task for each operation under way.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use monoio::fs::{File, OpenOptions};
use monoio::task::JoinHandle;

use crate::files::{BLOCK_BYTES, Blocks, Opens, Reads, SmallFiles, WRITE_BYTES, Writes};
use crate::subject::{Job, Skip};
use crate::subjects::threads;
use crate::sys;

pub(super) async fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let file = Rc::new(File::from_std(threads::open_large(direct)?)?);
    let spawn = |task| monoio::spawn(read(Rc::clone(&file), reads.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    reads.finish()
}

async fn read(file: Rc<File>, blocks: Blocks) -> io::Result<()> {
    let buffer = sys::leak_buffer(BLOCK_BYTES)?;
    let mut buffer: &'static mut [u8; BLOCK_BYTES] =
        buffer.try_into().expect("it was made this long");
    for block in blocks {
        let (count, filled) = file.read_at(buffer, block.offset()).await;
        buffer = filled;
        block.check(&buffer[..count?]);
    }
    Ok(())
}

pub(super) async fn opens(job: &Job, depth: usize) -> Result<(), Skip> {
    let opens = Opens::begin(job, depth)?;
    let spawn = |task| monoio::spawn(open_read(Arc::clone(&opens), opens.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    opens.finish()
}

async fn open_read(opens: Arc<Opens>, files: SmallFiles) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK_BYTES];
    for file in files {
        let opened = File::open(opens.path(file)).await?;
        let (count, filled) = opened.read_at(buffer, 0).await;
        buffer = filled;
        file.check(&buffer[..count?]);
        opened.close().await?;
    }
    Ok(())
}

async fn join(handles: Vec<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    for handle in handles {
        handle.await?;
    }
    Ok(())
}

pub(super) async fn writes(job: &Job) -> Result<(), Skip> {
    let mut writes = Writes::begin(job)?;
    let file = OpenOptions::new().write(true).open(writes.path()).await?;
    let mut buffer = vec![0; WRITE_BYTES];
    while writes.pass() {
        for index in writes.writes() {
            let offset = writes.stamp(index, &mut buffer);
            let (written, sent) = file.write_all_at(buffer, offset).await;
            buffer = sent;
            written?;
        }
        file.sync_all().await?;
    }
    writes.finish()
}
