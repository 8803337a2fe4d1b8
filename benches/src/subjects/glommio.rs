//! glommio: thread-per-core futures over io_uring, one executor fixed to the CPU of the job.

mod between;

use std::convert::Infallible;
use std::hint::black_box;
use std::io;

use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::{Turns, batches_a_lap};

mod files;
mod local;

/// The subject.
#[derive(Debug)]
pub(crate) struct Glommio;

impl Subject for Glommio {
    fn name(&self) -> &'static str {
        "glommio"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("glommio")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        if let Work::Between(work) = job.work {
            return between::work(job, work);
        }
        let executor = LocalExecutorBuilder::new(Placement::Fixed(job.cpu)).make();
        let executor = executor.map_err(|error| Skip::because(error.to_string()))?;
        executor.run(async {
            match job.work {
                Work::Yield { tasks } => yields(job, tasks).await,
                Work::SpawnJoin { batch } => spawns(job, batch).await,
                Work::Local(what) => local::run(job, what).await,
                Work::Echo => match serve(job).await? {},
                Work::Read { depth, direct } => files::reads(job, depth, direct).await,
                Work::OpenRead { depth } => files::opens(job, depth).await,
                Work::WriteSync => files::writes(job).await,
                _ => job.not_offered(),
            }
        })
    }
}

async fn yields(job: &Job, tasks: usize) -> Result<(), Skip> {
    let mut meter = job.meter(0);
    while meter.more() {
        let turns = Turns::new(tasks);
        let spawn = |task| {
            let laps = turns.laps(task);
            glommio::spawn_local(async move {
                for () in laps {
                    glommio::executor().yield_now().await;
                }
            })
        };
        let handles: Vec<_> = (0..tasks).map(spawn).collect();
        for handle in handles {
            handle.await;
        }
        meter.record(turns.per_yield()?);
    }
    meter.finish();
    Ok(())
}

async fn spawns(job: &Job, batch: usize) -> Result<(), Skip> {
    let batches = batches_a_lap(batch);
    let mut handles = Vec::with_capacity(batch);
    let mut meter = job.meter(batches * batch);
    while meter.lap() {
        for _ in 0..batches {
            let spawn = |value| glommio::spawn_local(async move { black_box(value) });
            handles.extend((0..batch).map(spawn));
            for (value, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.await, value);
            }
        }
    }
    meter.finish();
    Ok(())
}

async fn serve(job: &Job) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    job.listening(listener.local_addr()?);
    loop {
        let stream = listener.accept().await?;
        stream.set_nodelay(true)?;
        glommio::spawn_local(echo(stream)).detach();
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; ECHO_BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}
