//! smol on one thread: a `LocalExecutor` driven by `smol::block_on`.

use std::convert::Infallible;
use std::hint::black_box;
use std::io;

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol::{LocalExecutor, future};

use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::{Turns, batches_a_lap};

mod local;

/// The subject.
#[derive(Debug)]
pub(crate) struct Smol;

impl Subject for Smol {
    fn name(&self) -> &'static str {
        "smol"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("smol")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        let executor = LocalExecutor::new();
        smol::block_on(executor.run(async {
            match job.work {
                Work::Yield { tasks } => yields(job, &executor, tasks).await,
                Work::SpawnJoin { batch } => spawns(job, &executor, batch).await,
                Work::Local(what) => local::run(job, &executor, what).await,
                Work::Echo => match serve(job, &executor).await? {},
                Work::Read { .. } | Work::OpenRead { .. } | Work::WriteSync => {
                    Err(Skip::because("has its files in threads, as tokio"))
                }
                _ => job.not_offered(),
            }
        }))
    }
}

async fn yields(job: &Job, executor: &LocalExecutor<'_>, tasks: usize) -> Result<(), Skip> {
    let mut meter = job.meter(0);
    while meter.more() {
        let turns = Turns::new(tasks);
        let spawn = |task| {
            let laps = turns.laps(task);
            executor.spawn(async move {
                for () in laps {
                    future::yield_now().await;
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

async fn spawns(job: &Job, executor: &LocalExecutor<'_>, batch: usize) -> Result<(), Skip> {
    let batches = batches_a_lap(batch);
    let mut handles = Vec::with_capacity(batch);
    let mut meter = job.meter(batches * batch);
    while meter.lap() {
        for _ in 0..batches {
            let spawn = |value| executor.spawn(async move { black_box(value) });
            handles.extend((0..batch).map(spawn));
            for (value, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.await, value);
            }
        }
    }
    meter.finish();
    Ok(())
}

async fn serve(job: &Job, executor: &LocalExecutor<'_>) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    job.listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        executor.spawn(echo(stream)).detach();
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
