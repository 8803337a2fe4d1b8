//! tokio-uring: tokio with a ring beside its epoll. Its files are measured; its sockets are slower than tokio's.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::{File, OpenOptions};

use super::threads;
use crate::files::{BLOCK_BYTES, Blocks, Opens, Reads, SmallFiles, WRITE_BYTES, Writes};
use crate::machine;
use crate::subject::{Job, Role, Skip, Subject, Work};

/// The subject.
#[derive(Debug)]
pub(crate) struct TokioUring;

impl Subject for TokioUring {
    fn name(&self) -> &'static str {
        "tokio-uring"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("tokio-uring")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        tokio_uring::start(async {
            match job.work {
                Work::Read { depth, direct } => reads(job, depth, direct).await,
                Work::OpenRead { depth } => opens(job, depth).await,
                Work::WriteSync => writes(job).await,
                _ => Err(Skip::because("is measured in suite file only")),
            }
        })
    }
}

async fn reads(job: &Job, depth: usize, direct: bool) -> Result<(), Skip> {
    let reads = Reads::begin(job, direct)?;
    let file = Rc::new(File::from_std(threads::open_large(direct)?));
    let spawn = |task| tokio_uring::spawn(read(Rc::clone(&file), reads.task(task)));
    join((0..depth).map(spawn).collect()).await?;
    reads.finish()
}

/// It takes no borrowed memory, so the aligned part of a larger vector has to do.
async fn read(file: Rc<File>, blocks: Blocks) -> io::Result<()> {
    let mut buffer = vec![0; 2 * BLOCK_BYTES];
    let begin = buffer.as_ptr().align_offset(BLOCK_BYTES);
    for block in blocks {
        let part = buffer.slice(begin..begin + BLOCK_BYTES);
        let (count, filled) = file.read_at(part, block.offset()).await;
        block.check(&filled[..count?]);
        buffer = filled.into_inner();
    }
    Ok(())
}

async fn opens(job: &Job, depth: usize) -> Result<(), Skip> {
    let opens = Opens::begin(job, depth)?;
    let spawn = |task| tokio_uring::spawn(open_read(Arc::clone(&opens), opens.task(task)));
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
        handle.await.expect("no task panics")?;
    }
    Ok(())
}

async fn writes(job: &Job) -> Result<(), Skip> {
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
