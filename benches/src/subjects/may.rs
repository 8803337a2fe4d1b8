//! may: the peer with stackful coroutines, one worker.
//!
//! The pool of stacks is made as large as the largest batch, so that a spawn reuses one; stacks have may's default
//! size. Tasks that measure themselves run inside a coroutine, as its users' code does.

use std::convert::Infallible;
use std::hint::black_box;
use std::io::{self, Read, Write};

use may::coroutine;
use may::go;
use may::net::{TcpListener, TcpStream};

use crate::machine;
use crate::subject::{ECHO_BUFFER_BYTES, Job, Role, Skip, Subject, Work};
use crate::work::{Turns, batches_a_lap};

mod local;

/// The subject.
#[derive(Debug)]
pub(crate) struct May;

impl Subject for May {
    fn name(&self) -> &'static str {
        "may"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("may")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        may::config().set_workers(1).set_pool_capacity(POOL);
        let job = *job;
        let main = go!(move || match job.work {
            Work::Yield { tasks } => yields(&job, tasks),
            Work::SpawnJoin { batch } => spawns(&job, batch),
            Work::Local(what) => local::run(&job, what),
            Work::Echo => match serve(&job)? {},
            _ => job.not_offered(),
        });
        main.join().expect("no task panics")
    }
}

/// The most coroutines alive at once in any job, and some.
const POOL: usize = 10_100;

fn yields(job: &Job, tasks: usize) -> Result<(), Skip> {
    let mut meter = job.meter(0);
    while meter.more() {
        let turns = Turns::new(tasks);
        let spawn = |task| {
            let laps = turns.laps(task);
            go!(move || {
                for () in laps {
                    coroutine::yield_now();
                }
            })
        };
        let handles: Vec<_> = (0..tasks).map(spawn).collect();
        for handle in handles {
            handle.join().expect("no task panics");
        }
        meter.record(turns.per_yield()?);
    }
    meter.finish();
    Ok(())
}

fn spawns(job: &Job, batch: usize) -> Result<(), Skip> {
    let batches = batches_a_lap(batch);
    let mut handles = Vec::with_capacity(batch);
    let mut meter = job.meter(batches * batch);
    while meter.lap() {
        for _ in 0..batches {
            handles.extend((0..batch).map(|value| go!(move || black_box(value))));
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
        go!(move || echo(stream));
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; ECHO_BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
