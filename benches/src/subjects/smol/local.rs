//! What smol's tasks do with each other: its channels and locks (`async-channel`, `async-lock`, `async-broadcast`),
//! which threads could share as well.

use std::hint::black_box;

use smol::channel::bounded;
use smol::lock::{Mutex, Semaphore};
use smol::{LocalExecutor, Timer, future};

use crate::subject::{Job, Skip};
use crate::work::channel::{CAPACITY, consume_async, ping_async, pong_async};
use crate::work::park::park_async;
use crate::work::sleep::sleep_async;
use crate::work::timers::timers_async;
use crate::work::{Local, repeat_async};

/// Values that a broadcast keeps.
const KEPT: usize = 16;

pub(super) async fn run(job: &Job, executor: &LocalExecutor<'_>, what: Local) -> Result<(), Skip> {
    let turn = future::yield_now;
    match what {
        Local::PingPong => ping_pong(*job, executor).await,
        Local::Stream => stream(*job, executor).await,
        Local::Lock => {
            let mutex = Mutex::new(0);
            repeat_async(job, async |number| {
                let mut count = black_box(black_box(&mutex).lock().await);
                assert_eq!(*count, number);
                *count += 1;
            })
            .await;
        }
        Local::Semaphore => {
            let semaphore = Semaphore::new(1);
            repeat_async(job, async |_| {
                let permit = black_box(&semaphore).acquire().await;
                black_box(&permit);
            })
            .await;
            assert!(semaphore.try_acquire().is_some());
        }
        Local::Oneshot => {
            repeat_async(job, async |number| {
                let (sender, receiver) = bounded(1);
                let sent = sender.send(black_box(number)).await;
                sent.expect("its receiver is there");
                assert_eq!(receiver.recv().await, Ok(number));
            })
            .await;
        }
        Local::Broadcast => {
            let (sender, mut receiver) = async_broadcast::broadcast(KEPT);
            repeat_async(job, async |number| {
                let sent = black_box(&sender).broadcast_direct(number).await;
                sent.expect("its receiver is there");
                assert_eq!(receiver.recv_direct().await, Ok(number));
            })
            .await;
        }
        Local::Timers { live } => return timers_async(job, live, Timer::after, turn).await,
        Local::Sleep => {
            let sleep = async |nap| {
                Timer::after(nap).await;
            };
            return sleep_async(job, sleep).await;
        }
        Local::Park { tasks } => {
            return park_async(tasks, |parked| executor.spawn(parked), turn).await;
        }
        Local::Watch => return job.not_offered(),
    }
    Ok(())
}

async fn ping_pong(job: Job, executor: &LocalExecutor<'_>) {
    let (there, from_there) = bounded(1);
    let (back, from_back) = bounded(1);
    let send = async move |number| there.send(number).await.expect("the other task receives");
    let receive = async move || from_back.recv().await.expect("the other task answers");
    let answer = async move |number| back.send(number).await.expect("the other task receives");
    let first = executor.spawn(ping_async(job, send, receive));
    let second = executor.spawn(pong_async(answer, async move || {
        from_there.recv().await.ok()
    }));
    first.await;
    second.await;
}

async fn stream(job: Job, executor: &LocalExecutor<'_>) {
    let (sender, receiver) = bounded(CAPACITY);
    let producer = executor.spawn(async move {
        let mut number = 0;
        while sender.send(number).await.is_ok() {
            number += 1;
        }
    });
    let receive = async move || receiver.recv().await.expect("the producer goes on");
    executor.spawn(consume_async(job, receive)).await;
    producer.await;
}
