//! glommio's files: `BufferedFile` through the page cache, `DmaFile` past it. It brings its own buffers.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use glommio::Task;
use glommio::io::{BufferedFile, DmaFile};

use crate::files::{
    BLOCK_BYTES, Blocks, Opens, Reads, SmallFiles, WRITE_BYTES, Writes, large_file,
};
use crate::subject::{Job, Skip};
use crate::sys;

pub(super) async fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let path = large_file(direct)?;
    let tasks: Vec<Task<io::Result<()>>> = if direct {
        let file = Rc::new(DmaFile::open(path).await.map_err(io::Error::from)?);
        let spawn = |task| glommio::spawn_local(read_direct(Rc::clone(&file), reads.task(task)));
        (0..depth).map(spawn).collect()
    } else {
        let file = Rc::new(BufferedFile::open(path).await.map_err(io::Error::from)?);
        let spawn = |task| glommio::spawn_local(read(Rc::clone(&file), reads.task(task)));
        (0..depth).map(spawn).collect()
    };
    join(tasks).await?;
    reads.finish()
}

async fn read(file: Rc<BufferedFile>, blocks: Blocks) -> io::Result<()> {
    for block in blocks {
        block.check(&file.read_at(block.offset(), BLOCK_BYTES).await?);
    }
    Ok(())
}

async fn read_direct(file: Rc<DmaFile>, blocks: Blocks) -> io::Result<()> {
    for block in blocks {
        block.check(&file.read_at_aligned(block.offset(), BLOCK_BYTES).await?);
    }
    Ok(())
}

pub(super) async fn opens(job: &Job, depth: usize) -> Result<(), Skip> {
    let opens = Opens::begin(job, depth)?;
    let spawn = |task| glommio::spawn_local(open_read(Arc::clone(&opens), opens.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    opens.finish()
}

async fn open_read(opens: Arc<Opens>, files: SmallFiles) -> io::Result<()> {
    for file in files {
        let opened = BufferedFile::open(opens.path(file)).await?;
        file.check(&opened.read_at(0, BLOCK_BYTES).await?);
        opened.close().await?;
    }
    Ok(())
}

async fn join(tasks: Vec<Task<io::Result<()>>>) -> io::Result<()> {
    for task in tasks {
        task.await?;
    }
    Ok(())
}

/// Its only sync is an fdatasync, which for a file of constant length writes the same.
pub(super) async fn writes(job: &Job) -> Result<(), Skip> {
    let mut writes = Writes::begin(job)?;
    // Each write takes its buffer away: the next one comes from the heap.
    sys::map_allocations_from(1 << 30);
    let opened = glommio::io::OpenOptions::new();
    let file = open_for_writing(opened, &writes).await?;
    while writes.pass() {
        for index in writes.writes() {
            let mut buffer = vec![0; WRITE_BYTES];
            let offset = writes.stamp(index, &mut buffer);
            let count = file
                .write_at(buffer, offset)
                .await
                .map_err(io::Error::from)?;
            assert_eq!(count, WRITE_BYTES, "a regular file takes all");
        }
        file.fdatasync().await.map_err(io::Error::from)?;
    }
    writes.finish()
}

async fn open_for_writing(
    mut options: glommio::io::OpenOptions,
    writes: &Writes,
) -> io::Result<BufferedFile> {
    Ok(options.write(true).buffered_open(writes.path()).await?)
}
