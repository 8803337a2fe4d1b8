//! What tokio's tasks do with each other: tokio's own channels and locks, which threads could share as well.

use std::hint::black_box;

use tokio::sync::{Mutex, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::coop::unconstrained;
use tokio::{task, time};

use crate::subject::{Job, Skip};
use crate::work::channel::{CAPACITY, consume_async, ping_async, pong_async};
use crate::work::park::park_async;
use crate::work::sleep::sleep_async;
use crate::work::timers::timers_async;
use crate::work::{Local, repeat_async};

/// Values that a broadcast keeps.
const KEPT: usize = 16;

pub(super) async fn run(job: &Job, what: Local) -> Result<(), Skip> {
    match what {
        Local::PingPong => ping_pong(*job).await,
        Local::Stream => stream(*job).await,
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
        Local::Watch => {
            let (sender, receiver) = watch::channel(0);
            crate::work::repeat(job, |number| {
                black_box(&sender)
                    .send(number)
                    .expect("its receiver is there");
                assert_eq!(*black_box(&receiver).borrow(), number);
            });
        }
        Local::Broadcast => {
            let (sender, mut receiver) = broadcast::channel(KEPT);
            repeat_async(job, async |number| {
                black_box(&sender)
                    .send(number)
                    .expect("its receiver is there");
                assert_eq!(receiver.recv().await, Ok(number));
            })
            .await;
        }
        Local::Timers { live } => {
            // Its futures pretend to be pending when a task has polled many; these are polled in bulk.
            return unconstrained(timers_async(job, live, time::sleep, task::yield_now)).await;
        }
        Local::Sleep => return sleep_async(job, time::sleep).await,
        Local::Park { tasks } => return park_async(tasks, tokio::spawn, task::yield_now).await,
    }
    Ok(())
}

async fn ping_pong(job: Job) {
    let (there, mut from_there) = mpsc::unbounded_channel();
    let (back, mut from_back) = mpsc::unbounded_channel();
    let send = async move |number| there.send(number).expect("the other task receives");
    let receive = async move || from_back.recv().await.expect("the other task answers");
    let answer = async move |number| back.send(number).expect("the other task receives");
    let first = tokio::spawn(ping_async(job, send, receive));
    let second = tokio::spawn(pong_async(answer, async move || from_there.recv().await));
    first.await.expect("no task panics");
    second.await.expect("no task panics");
}

async fn stream(job: Job) {
    let (sender, mut receiver) = mpsc::channel(CAPACITY);
    let producer = tokio::spawn(async move {
        let mut number = 0;
        while sender.send(number).await.is_ok() {
            number += 1;
        }
    });
    let receive = async move || receiver.recv().await.expect("the producer goes on");
    let consumer = tokio::spawn(consume_async(job, receive));
    consumer.await.expect("no task panics");
    producer.await.expect("no task panics");
}
