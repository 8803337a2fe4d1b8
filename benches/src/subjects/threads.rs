//! std's threads: one for each connection or task, all on the CPU of the job, with small stacks.
//!
//! What a runtime is there to beat at many connections, and can hardly beat at one.

use std::convert::Infallible;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread::{self, Builder, JoinHandle};

use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::sleep::sleep;
use crate::work::{Local, batches_a_lap, repeat};

mod files;

pub(super) use files::open_large;

/// The subject.
#[derive(Debug)]
pub(crate) struct Threads;

/// A thread of std's default size would reserve 2 MiB.
const STACK_BYTES: usize = 64 * 1024;
/// More threads than this alive at once would take seconds a batch.
const MOST_THREADS: usize = 1000;

impl Subject for Threads {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::kernel()
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Yield { .. } => Err(Skip::because(
                "sched_yield promises no order, so its turns cannot be counted",
            )),
            Work::SpawnJoin { batch } if batch > MOST_THREADS => {
                Err(Skip::because("so many kernel threads at once take seconds"))
            }
            Work::SpawnJoin { batch } => spawns(job, batch),
            Work::Local(Local::Lock) => {
                let mutex = Mutex::new(0);
                repeat(job, |number| {
                    let mut count = black_box(&mutex).lock().expect("no task panics");
                    assert_eq!(*count, number);
                    *count += 1;
                });
                Ok(())
            }
            Work::Local(Local::Sleep) => sleep(job, thread::sleep),
            Work::Local(_) => Err(Skip::because("is for tasks of one thread")),
            Work::Echo => match serve(job)? {},
            Work::Read { depth, direct } => files::reads(job, depth, direct),
            Work::OpenRead { depth } => files::opens(job, depth),
            Work::WriteSync => files::writes(job),
            _ => job.not_offered(),
        }
    }
}

fn spawn<T: Send + 'static>(
    task: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().stack_size(STACK_BYTES).spawn(task)
}

fn spawns(job: &Job, batch: usize) -> Result<(), Skip> {
    // A thread costs a thousand times a task, so a lap has fewer of them.
    let batches = (batches_a_lap(batch) / 100).max(1);
    let mut handles = Vec::with_capacity(batch);
    let mut meter = job.meter(batches * batch);
    while meter.lap() {
        for _ in 0..batches {
            for value in 0..batch {
                handles.push(spawn(move || black_box(value))?);
            }
            for (value, handle) in handles.drain(..).enumerate() {
                assert_eq!(handle.join().expect("no task panics"), value);
            }
        }
    }
    meter.finish();
    Ok(())
}

fn serve(job: &Job) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    job.listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        spawn(move || echo(stream))?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; ECHO_BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
