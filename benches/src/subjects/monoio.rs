//! monoio: thread-per-core futures over io_uring.
//!
//! Two subjects: `monoio` is the runtime as `RuntimeBuilder` makes it; `monoio-tuned` gives it a ring with the flags
//! that suit one thread (SINGLE_ISSUER, COOP_TASKRUN), which it accepts but does not set itself.
//! It offers no `yield_now`; a future that wakes itself stands in for it.

use std::convert::Infallible;
use std::hint::black_box;
use std::io;
use std::time::Duration;

use ::smol::future::yield_now;
use io_uring_06 as io_uring;
use monoio::io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::time;
use monoio::{IoUringDriver, RuntimeBuilder};

use super::unsync::{self, Executor};
use crate::load::{BULK_REQUEST, bulk};
use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::park::park_async;
use crate::work::sleep::sleep_async;
use crate::work::timers::timers_async;
use crate::work::{Local, Turns, batches_a_lap};

mod files;

/// The subject.
#[derive(Debug)]
pub(crate) struct Monoio {
    name: &'static str,
    tuned: bool,
}

/// Without any option.
pub(crate) static AS_IT_COMES: Monoio = Monoio {
    name: "monoio",
    tuned: false,
};

/// With the flags for its ring.
pub(crate) static TUNED: Monoio = Monoio {
    name: "monoio-tuned",
    tuned: true,
};

impl Subject for Monoio {
    fn name(&self) -> &'static str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("monoio")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        let mut builder = RuntimeBuilder::<IoUringDriver>::new();
        if self.tuned {
            let mut ring = io_uring::IoUring::builder();
            ring.setup_single_issuer().setup_coop_taskrun();
            builder = builder.uring_builder(ring);
        }
        if let Work::Local(what @ (Local::Timers { .. } | Local::Sleep)) = job.work {
            return builder.enable_timer().build()?.block_on(timed(job, what));
        }
        builder.build()?.block_on(async {
            match job.work {
                Work::Yield { tasks } => yields(job, tasks).await,
                Work::SpawnJoin { batch } => spawns(job, batch).await,
                Work::Local(what) => local(job, what).await,
                Work::Echo => match serve(job, echo).await? {},
                Work::Bulk { bytes } => {
                    let answer: &[u8] = bulk(bytes).collect::<Vec<u8>>().leak();
                    match serve(job, move |stream| answers(stream, answer)).await? {}
                }
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
            monoio::spawn(async move {
                for () in laps {
                    yield_now().await;
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
            handles.extend((0..batch).map(|value| monoio::spawn(async move { black_box(value) })));
            for (value, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.await, value);
            }
        }
    }
    meter.finish();
    Ok(())
}

/// What needs the runtime's timer.
async fn timed(job: &Job, what: Local) -> Result<(), Skip> {
    match what {
        Local::Timers { live } => timers_async(job, live, time::sleep, turn).await,
        _ => sleep_async(job, time::sleep).await,
    }
}

/// It looks at its timers when it has nothing else to do.
async fn turn() {
    time::sleep(Duration::from_millis(1)).await;
}

/// Channels from elsewhere: it has none.
async fn local(job: &Job, what: Local) -> Result<(), Skip> {
    match what {
        Local::Park { tasks } => {
            park_async(tasks, monoio::spawn, async || monoio::spawn(async {}).await).await
        }
        _ => unsync::run(job, Tasks, what).await,
    }
}

#[derive(Clone, Copy)]
struct Tasks;

impl Executor for Tasks {
    fn spawn(self, task: impl Future<Output = ()> + 'static) -> impl Future<Output = ()> {
        monoio::spawn(task)
    }
}

async fn serve<F: Future<Output = io::Result<()>> + 'static>(
    job: &Job,
    handle: impl Fn(TcpStream) -> F,
) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    job.listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        monoio::spawn(handle(stream));
    }
}

/// Answers each request by one write of all of it.
async fn answers(mut stream: TcpStream, answer: &'static [u8]) -> io::Result<()> {
    let mut request = vec![0; BULK_REQUEST.len()];
    let mut result;
    loop {
        (result, request) = stream.read_exact(request).await;
        match result {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome?,
        };
        stream.write_all(answer).await.0?;
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(ECHO_BUFFER_BYTES);
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        (result, buffer) = stream.write_all(buffer).await;
        result?;
        buffer.clear();
    }
}
