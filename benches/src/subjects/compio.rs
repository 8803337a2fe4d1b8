//! compio: completion-based futures on one thread, over io_uring.
//!
//! Two subjects: `compio` is the runtime as it comes; `compio-tuned` switches on the ring flags it offers, those
//! that suit one thread. It offers no `yield_now`; a future that wakes itself stands in for it.

use std::convert::Infallible;
use std::hint::black_box;
use std::io;

use compio::BufResult;
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{self, RuntimeBuilder};
use compio::time;

use super::unsync::{self, Executor};
use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::park::park_async;
use crate::work::sleep::sleep_async;
use crate::work::timers::timers_async;
use crate::work::{Local, Turns, batches_a_lap};

mod files;

/// The subject.
#[derive(Debug)]
pub(crate) struct Compio {
    name: &'static str,
    tuned: bool,
}

/// Without any option.
pub(crate) static AS_IT_COMES: Compio = Compio {
    name: "compio",
    tuned: false,
};

/// With the flags for its ring.
pub(crate) static TUNED: Compio = Compio {
    name: "compio-tuned",
    tuned: true,
};

impl Subject for Compio {
    fn name(&self) -> &'static str {
        self.name
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("compio")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        let mut proactor = ProactorBuilder::new();
        if self.tuned {
            proactor.single_issuer(true).coop_taskrun(true);
            proactor.taskrun_flag(true).defer_taskrun(true);
        }
        let runtime = RuntimeBuilder::new().with_proactor(proactor).build()?;
        runtime.block_on(async {
            match job.work {
                Work::Yield { tasks } => yields(job, tasks).await,
                Work::SpawnJoin { batch } => spawns(job, batch).await,
                Work::Local(what) => local(job, what).await,
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
            runtime::spawn(async move {
                for () in laps {
                    ::smol::future::yield_now().await;
                }
            })
        };
        let handles: Vec<_> = (0..tasks).map(spawn).collect();
        for handle in handles {
            handle.await.expect("no task panics");
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
            let spawn = |value| runtime::spawn(async move { black_box(value) });
            handles.extend((0..batch).map(spawn));
            for (value, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.await.expect("no task panics"), value);
            }
        }
    }
    meter.finish();
    Ok(())
}

/// Its own sleep and timers; channels from elsewhere.
async fn local(job: &Job, what: Local) -> Result<(), Skip> {
    let turn = ::smol::future::yield_now;
    match what {
        Local::Timers { live } => timers_async(job, live, time::sleep, turn).await,
        Local::Sleep => sleep_async(job, time::sleep).await,
        Local::Park { tasks } => park_async(tasks, runtime::spawn, turn).await,
        _ => unsync::run(job, Tasks, what).await,
    }
}

#[derive(Clone, Copy)]
struct Tasks;

impl Executor for Tasks {
    fn spawn(self, task: impl Future<Output = ()> + 'static) -> impl Future<Output = ()> {
        let task = runtime::spawn(task);
        async { task.await.expect("no task panics") }
    }
}

async fn serve(job: &Job) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    job.listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        runtime::spawn(echo(stream)).detach();
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(ECHO_BUFFER_BYTES);
    loop {
        let BufResult(count, filled) = stream.read(buffer).await;
        if count? == 0 {
            return Ok(());
        }
        let BufResult(written, sent) = stream.write_all(filled).await;
        written?;
        buffer = sent;
        buffer.clear();
    }
}
