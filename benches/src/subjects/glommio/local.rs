//! What glommio's tasks do with each other. Its lock is an `RwLock`: there is no plain mutex.

use std::hint::black_box;

use glommio::channels::local_channel;
use glommio::sync::{RwLock, Semaphore};
use glommio::timer::{self, Timer};

use crate::subject::{Job, Skip};
use crate::work::channel::{CAPACITY, consume_async, ping_async, pong_async};
use crate::work::park::park_async;
use crate::work::sleep::sleep_async;
use crate::work::timers::timers_async;
use crate::work::{Local, repeat_async};

pub(super) async fn run(job: &Job, what: Local) -> Result<(), Skip> {
    match what {
        Local::PingPong => ping_pong(*job).await,
        Local::Stream => stream(*job).await,
        Local::Lock => {
            let lock = RwLock::new(0);
            repeat_async(job, async |number| {
                let count = black_box(&lock).write().await;
                let mut count = black_box(count.expect("the lock is open"));
                assert_eq!(*count, number);
                *count += 1;
            })
            .await;
        }
        Local::Semaphore => {
            let semaphore = Semaphore::new(1);
            repeat_async(job, async |_| {
                let permit = black_box(&semaphore).acquire_permit(1).await;
                let permit = permit.expect("the semaphore is open");
                black_box(&permit);
            })
            .await;
            assert_eq!(semaphore.available(), 1);
        }
        Local::Timers { live } => return timers_async(job, live, Timer::new, turn).await,
        Local::Sleep => return sleep_async(job, timer::sleep).await,
        Local::Park { tasks } => return park_async(tasks, glommio::spawn_local, turn).await,
        _ => return job.not_offered(),
    }
    Ok(())
}

async fn turn() {
    glommio::executor().yield_now().await;
}

async fn ping_pong(job: Job) {
    let (there, from_there) = local_channel::new_unbounded();
    let (back, from_back) = local_channel::new_unbounded();
    let send = async move |number| there.send(number).await.expect("the other task receives");
    let receive = async move || from_back.recv().await.expect("the other task answers");
    let answer = async move |number| back.send(number).await.expect("the other task receives");
    let first = glommio::spawn_local(ping_async(job, send, receive));
    let second = glommio::spawn_local(pong_async(answer, async move || from_there.recv().await));
    first.await;
    second.await;
}

async fn stream(job: Job) {
    let (sender, receiver) = local_channel::new_bounded(CAPACITY);
    let producer = glommio::spawn_local(async move {
        let mut number = 0;
        while sender.send(number).await.is_ok() {
            number += 1;
        }
    });
    let receive = async move || receiver.recv().await.expect("the producer goes on");
    glommio::spawn_local(consume_async(job, receive)).await;
    producer.await;
}
