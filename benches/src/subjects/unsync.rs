//! `local-channel` and `local-sync`: channels for tasks of one thread, without atomics, which go with any runtime.
//! They stand in where a runtime has none of its own, and where they are the faster ones: `tokio-local`, monoio, compio.
//!
//! `local-channel` is the faster of the two and has no bound.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;

use local_channel::mpsc;
use local_sync::mpsc::bounded;
use local_sync::oneshot;
use local_sync::semaphore::Semaphore;

use crate::subject::{Job, Skip};
use crate::work::channel::{CAPACITY, consume_async, ping_async, pong_async};
use crate::work::{Local, repeat_async};

/// Starts tasks and waits for them.
pub(super) trait Executor: Copy {
    /// Starts a task. What is returned ends with it.
    fn spawn(self, task: impl Future<Output = ()> + 'static) -> impl Future<Output = ()>;
}

pub(super) async fn run(job: &Job, executor: impl Executor, what: Local) -> Result<(), Skip> {
    match what {
        Local::PingPong => ping_pong(*job, executor).await,
        Local::Stream => stream(*job, executor).await,
        Local::Semaphore => {
            let semaphore = Semaphore::new(1);
            repeat_async(job, async |_| {
                let permit = black_box(&semaphore).acquire().await;
                let permit = permit.expect("the semaphore is open");
                black_box(&permit);
            })
            .await;
            assert_eq!(semaphore.available_permits(), 1);
        }
        Local::Oneshot => {
            repeat_async(job, async |number| {
                let (sender, receiver) = oneshot::channel();
                sender
                    .send(black_box(number))
                    .expect("its receiver is there");
                assert_eq!(receiver.await, Ok(number));
            })
            .await;
        }
        _ => return job.not_offered(),
    }
    Ok(())
}

async fn ping_pong(job: Job, executor: impl Executor) {
    let (there, mut from_there) = mpsc::channel();
    let (back, mut from_back) = mpsc::channel();
    let send = async move |number| there.send(number).expect("the other task receives");
    let receive = async move || from_back.recv().await.expect("the other task answers");
    let answer = async move |number| back.send(number).expect("the other task receives");
    let first = executor.spawn(ping_async(job, send, receive));
    let second = executor.spawn(pong_async(answer, async move || from_there.recv().await));
    first.await;
    second.await;
}

/// Through `local-sync`, whose channel has a bound.
async fn stream(job: Job, executor: impl Executor) {
    let (sender, mut receiver) = bounded::channel(CAPACITY);
    let over = Rc::new(Cell::new(false));
    let stop = Rc::clone(&over);
    let producer = executor.spawn(async move {
        let mut number = 0;
        while !over.get() && sender.send(number).await.is_ok() {
            number += 1;
        }
    });
    let consumer = executor.spawn(async move {
        consume_async(job, async || {
            receiver.recv().await.expect("the producer goes on")
        })
        .await;
        // To close it while a sender waits makes the library panic.
        stop.set(true);
        while receiver.recv().await.is_some() {}
    });
    consumer.await;
    producer.await;
}

/// Through `local-channel`; `turn` lets others run, after as many messages as others may have waiting.
pub(super) async fn stream_in_bursts(
    job: Job,
    executor: impl Executor,
    turn: impl AsyncFn() + 'static,
) {
    let (sender, mut receiver) = mpsc::channel();
    let producer = executor.spawn(async move {
        let mut number = 0;
        while sender.send(number).is_ok() {
            number += 1;
            if number % CAPACITY as u64 == 0 {
                turn().await;
            }
        }
    });
    let receive = async move || receiver.recv().await.expect("the producer goes on");
    executor.spawn(consume_async(job, receive)).await;
    producer.await;
}
