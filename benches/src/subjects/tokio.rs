//! tokio on one thread: the `current_thread` runtime, as its documentation has it for one core.
//!
//! Two subjects: `tokio` uses `tokio::spawn`, what most code does; `tokio-local` runs the same inside a
//! `LocalSet` with `spawn_local`, tokio's offer for tasks that are not `Send`. Yielding is `task::yield_now`.

mod between;

use std::convert::Infallible;
use std::hint::black_box;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{self, JoinHandle, LocalSet};

use super::unsync::{self, Executor};
use crate::load::{BULK_REQUEST, bulk};
use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::park::park_async;
use crate::work::{Local as What, Turns, batches_a_lap};

mod files;
mod local;

/// The subject with `tokio::spawn`.
#[derive(Debug)]
pub(crate) struct Tokio;

/// The subject with `spawn_local`.
#[derive(Debug)]
pub(crate) struct TokioLocal;

impl Subject for Tokio {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("tokio")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Between(work) => between::work(job, work),
            Work::Local(what) => runtime_for(what)?.block_on(local::run(job, what)),
            _ => runtime()?.block_on(work(job, Global)),
        }
    }
}

impl Subject for TokioLocal {
    fn name(&self) -> &'static str {
        "tokio-local"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("tokio")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Read { .. } | Work::OpenRead { .. } | Work::WriteSync => {
                Err(Skip::because("has the same files as tokio"))
            }
            Work::Local(what) => LocalSet::new().block_on(&runtime()?, unsync(job, what)),
            _ => LocalSet::new().block_on(&runtime()?, work(job, Local)),
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().build()
}

/// With a timer only where one is needed: without, a turn is cheaper.
fn runtime_for(what: What) -> io::Result<Runtime> {
    match what {
        What::Timers { .. } | What::Sleep => Builder::new_current_thread().enable_all().build(),
        _ => runtime(),
    }
}

/// The one thing in which the two differ.
trait Spawn: Copy {
    fn spawn<T: Send + 'static>(
        self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T>;
}

#[derive(Clone, Copy)]
struct Global;

impl Spawn for Global {
    fn spawn<T: Send + 'static>(
        self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        tokio::spawn(future)
    }
}

#[derive(Clone, Copy)]
struct Local;

impl Spawn for Local {
    fn spawn<T: Send + 'static>(
        self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        task::spawn_local(future)
    }
}

impl Executor for Local {
    fn spawn(self, task: impl Future<Output = ()> + 'static) -> impl Future<Output = ()> {
        let task = task::spawn_local(task);
        async { task.await.expect("no task panics") }
    }
}

/// Tasks that are not `Send` have channels to match.
async fn unsync(job: &Job, what: What) -> Result<(), Skip> {
    match what {
        What::Stream => unsync::stream_in_bursts(*job, Local, task::yield_now).await,
        What::Park { tasks } => return park_async(tasks, task::spawn_local, task::yield_now).await,
        What::PingPong | What::Semaphore | What::Oneshot => {
            return unsync::run(job, Local, what).await;
        }
        _ => return Err(Skip::because("is the same as with `tokio`")),
    }
    Ok(())
}

async fn work(job: &Job, tasks: impl Spawn) -> Result<(), Skip> {
    match job.work {
        Work::Yield { tasks: count } => yields(job, tasks, count).await,
        Work::SpawnJoin { batch } => spawns(job, tasks, batch).await,
        Work::Echo => match serve(job, tasks, echo).await? {},
        Work::Bulk { bytes } => {
            let answer: &[u8] = bulk(bytes).collect::<Vec<u8>>().leak();
            match serve(job, tasks, move |stream| answers(stream, answer)).await? {}
        }
        Work::Read { depth, direct } => files::reads(job, depth, direct).await,
        Work::OpenRead { depth } => files::opens(job, depth).await,
        Work::WriteSync => files::writes(job).await,
        _ => job.not_offered(),
    }
}

async fn yields(job: &Job, tasks: impl Spawn, count: usize) -> Result<(), Skip> {
    let mut meter = job.meter(0);
    while meter.more() {
        let turns = Turns::new(count);
        let spawn = |task| {
            let laps = turns.laps(task);
            tasks.spawn(async move {
                for () in laps {
                    task::yield_now().await;
                }
            })
        };
        let handles: Vec<_> = (0..count).map(spawn).collect();
        for handle in handles {
            handle.await.expect("no task panics");
        }
        meter.record(turns.per_yield()?);
    }
    meter.finish();
    Ok(())
}

async fn spawns(job: &Job, tasks: impl Spawn, batch: usize) -> Result<(), Skip> {
    let batches = batches_a_lap(batch);
    let mut handles = Vec::with_capacity(batch);
    let mut meter = job.meter(batches * batch);
    while meter.lap() {
        for _ in 0..batches {
            handles.extend((0..batch).map(|value| tasks.spawn(async move { black_box(value) })));
            for (value, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.await.expect("no task panics"), value);
            }
        }
    }
    meter.finish();
    Ok(())
}

async fn serve<F: Future<Output = io::Result<()>> + Send + 'static>(
    job: &Job,
    tasks: impl Spawn,
    handle: impl Fn(TcpStream) -> F,
) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    job.listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tasks.spawn(handle(stream));
    }
}

/// Answers each request by one write of all of it.
async fn answers(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut request = [0; BULK_REQUEST.len()];
    loop {
        match stream.read_exact(&mut request).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome?,
        };
        stream.write_all(answer).await?;
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
